"""What a table is: a key goes in, a value or None comes out, at once or later.

A source that cannot answer raises `TableUnavailable`: it is away, too slow, or says what makes no sense. That
is never "not there", for then mail would be refused because a server was down.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Awaitable
from typing import Protocol

from mta.address import AddressError, domain_key

Found = str | None
"""The value, None when the key is not there. A key without a value has the value ""."""

VALUE_MOST = 64 * 1024
"""Octets of the longest value that is taken from a server."""
KEY_MOST = 1024
"""Octets of the longest key that is looked up; a longer one is in no table."""


def folded(key: str) -> str:
    """A key as files have it: in lower case, composed (NFC), a domain beyond ASCII in A-labels.

    So whoever writes a file need not know in which of its spellings a client says an address.
    """
    key = key.lower()
    if key.isascii():
        return key
    local, at, domain = unicodedata.normalize("NFC", key).rpartition("@")
    if not domain.isascii() and (at or "." in domain):
        with contextlib.suppress(AddressError):
            domain = domain_key(domain)
    return f"{local}{at}{domain}"


class TableUnavailable(Exception):
    """A table cannot say; the text is for the log."""


class Table(Protocol):
    """Something that is looked up in."""

    def get(self, key: str) -> Found | Awaitable[Found]:
        """The value of `key`. Raises TableUnavailable, at once or when it is awaited."""

    async def close(self) -> None:
        """Give connections and files back; nothing is looked up afterwards."""
