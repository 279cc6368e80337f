"""Which mailbox an address has, and where it lies.

The store asks one narrow interface, `Mailboxes`; the users file answers it in daily life
(`UsersFileMailboxes`), a table in tests. Nothing is caught here: an address without a mailbox is unknown.

The folder of a mailbox is `DOMAIN/LOCAL` below the store's root. Each part is made by `folder_name`, which
lets through lower-case letters, digits and a few signs and escapes every other octet, a dot in front
included. No local part whatsoever yields ".", "..", "/", a hidden file or two mailboxes in one folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from mta.address import Address, split_subaddress
from mta.store.quota import Quota

LONGEST_NAME = 200
"""Octets of a folder name; file systems allow 255, and tools add suffixes."""
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_+=.@")


@dataclass(slots=True, frozen=True)
class MailboxInfo:
    """A mailbox: where it is and what may be in it."""

    path: Path
    quota: Quota
    disabled: bool = False
    """The account exists but takes no mail (550 5.2.1)."""


class Mailboxes(Protocol):
    """Knows the mailboxes."""

    def find(self, address: Address) -> MailboxInfo | None:
        """The mailbox of exactly this address, None when there is none.

        Called for each RCPT in the event loop: it must not wait. Raises OSError when the answer cannot be
        had (the recipient is then answered 451).
        """


@dataclass(slots=True, frozen=True)
class Destination:
    """Where mail for one recipient goes: a mailbox, and the detail of a subaddress ("" when none)."""

    mailbox: MailboxInfo
    detail: str


def destination(mailboxes: Mailboxes, address: Address, delimiters: str) -> Destination | None:
    """Find the mailbox of `address`: of itself, else of the user in `user+detail` (RFC 5233).

    Raises OSError as `Mailboxes.find` does.
    """
    mailbox = mailboxes.find(address)
    if mailbox is not None:
        return Destination(mailbox, "")
    user, detail = split_subaddress(address.local, delimiters)
    if detail is None:
        return None
    mailbox = mailboxes.find(address.with_local(user))
    return None if mailbox is None else Destination(mailbox, detail)


def mailbox_path(root: Path, address: Address) -> Path:
    """The folder of the mailbox of `address`, below `root`."""
    local, _, domain = address.key.rpartition("@")
    return root / folder_name(domain) / folder_name(local)


def folder_name(text: str) -> str:
    """A name that is safe as one folder, different for different texts.

    Octets other than lower-case letters, digits and ``-_+=.@`` become ``%XX``, a leading dot too. What
    would be longer than `LONGEST_NAME` is cut and ends with a digest. Raises ValueError for "".
    """
    if not text:
        raise ValueError("a folder needs a name")
    octets = text.encode("utf-8", "surrogateescape")
    name = "".join(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in octets)
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > LONGEST_NAME:
        # "%-" cannot come from an escape, so no other address has this name.
        digest = hashlib.sha256(octets).hexdigest()
        name = f"{name[: LONGEST_NAME - len(digest) - 2]}%-{digest}"
    return name


def address_of(folder: Path) -> str:
    """The address whose mailbox lies in `folder` (the other way round of `mailbox_path`), for display."""
    return f"{unquote(folder.name)}@{unquote(folder.parent.name)}"
