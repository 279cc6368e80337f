"""What a table is: a key goes in, a value or None comes out, at once or later.

A source that cannot answer raises `TableUnavailable`: it is away, too slow, or says what makes no sense. That
is never "not there", for then mail would be refused because a server was down.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

Found = str | None
"""The value, None when the key is not there. A key without a value has the value ""."""

VALUE_MOST = 64 * 1024
"""Octets of the longest value that is taken from a server."""
KEY_MOST = 1024
"""Octets of the longest key that is looked up; a longer one is in no table."""


class TableUnavailable(Exception):
    """A table cannot say; the text is for the log."""


class Table(Protocol):
    """Something that is looked up in."""

    def get(self, key: str) -> Found | Awaitable[Found]:
        """The value of `key`. Raises TableUnavailable, at once or when it is awaited."""

    async def close(self) -> None:
        """Give connections and files back; nothing is looked up afterwards."""
