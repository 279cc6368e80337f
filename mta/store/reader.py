"""Reading the store: which mailboxes there are, which messages they hold, what arrives.

For the command line and for tests. Nothing is changed: a message that is looked at stays new, until a mail
reader moves it. Deliveries and other readers may go on meanwhile; what disappears between two looks is left
out.

Failure: OSError where a folder cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mta.address import parse_address
from mta.content import CHUNK, MEMORY_LIMIT
from mta.folders import FOLDER_FLAGS
from mta.store import quota
from mta.store.mailboxes import address_of, mailbox_path
from mta.store.maildir import size_in_name
from mta.store.quota import Quota
from sieve_ext.message import Message

RECENT = 1.0
"""Seconds within which a change of a folder may not show in its time stamp yet."""


class NoMailbox(Exception):
    """There is no such mailbox."""


@dataclass(slots=True, frozen=True)
class StoredFile:
    """One message in a mailbox."""

    path: Path
    folder: str
    """Name of the Maildir folder without its dot, "" for the inbox."""
    is_new: bool
    """No reader has taken notice of it: it lies in `new/`."""
    flags: str
    """Maildir flags, "S" for seen, "R" replied, "F" flagged, "D" draft, "T" trashed."""
    size: int
    received: float
    """Seconds since 1970."""

    @property
    def key(self) -> str:
        """The unique name, which stays when the message is moved or flagged."""
        return self.path.name.partition(":")[0]

    @property
    def state(self) -> str:
        """ "new", "seen" or "unseen" (a reader knows it and has not shown it)."""
        if self.is_new:
            return "new"
        return "seen" if "S" in self.flags else "unseen"


@dataclass(slots=True, frozen=True)
class Summary:
    """A mailbox at a glance."""

    address: str
    messages: int
    new: int
    octets: int
    quota: Quota
    """As last recorded by a delivery; without limits when none is."""


def mailboxes(root: Path) -> list[Path]:
    """All mailboxes below `root`, by domain and name."""
    return sorted(path.parent for path in root.glob("*/*/new"))


def mailbox(root: Path, user: str) -> Path:
    """The mailbox of an address. Raises NoMailbox when it has had no message, ValueError for no address."""
    path = mailbox_path(root, parse_address(user))
    if not (path / "new").is_dir():
        raise NoMailbox(user)
    return path


def summary(path: Path) -> Summary:
    """What is in the mailbox at `path`."""
    found = messages(path)
    fd = os.open(path, FOLDER_FLAGS)
    try:
        recorded = quota.read_with_quota(fd)
    finally:
        os.close(fd)
    return Summary(
        address_of(path),
        len(found),
        sum(message.is_new for message in found),
        sum(message.size for message in found),
        recorded[0] if recorded else Quota(),
    )


def messages(path: Path) -> list[StoredFile]:
    """The messages of the mailbox at `path` and of its folders, oldest first."""
    found = [message for folder in _folders(path) for message in _messages_in(path, folder)]
    found.sort(key=lambda message: (message.received, message.key))
    return found


def read(stored: StoredFile) -> Message:
    """The message, with its content read on demand. Raises OSError."""
    with open(stored.path, "rb") as file:
        head = file.read(MEMORY_LIMIT)
        size = os.fstat(file.fileno()).st_size

    def chunks() -> Iterator[bytes]:
        with open(stored.path, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    return Message(head, size, chunks)


class Watcher:
    """Finds what has arrived since the last look."""

    def __init__(self, root: Path, user: str = "") -> None:
        """Watch one mailbox, which need not exist yet, or with "" all. What is there now is old."""
        self._root = root
        self._only = mailbox_path(root, parse_address(user)) if user else None
        self._known: dict[Path, set[str]] = {}
        self._stamps: dict[Path, tuple[int, ...]] = {}
        self.poll(now=0.0)

    def poll(self, now: float) -> list[tuple[str, StoredFile]]:
        """New messages with their address, oldest first; `now` is in seconds since 1970."""
        arrived: list[tuple[str, StoredFile]] = []
        for path in mailboxes(self._root) if self._only is None else [self._only]:
            stamps = self._changes(path)
            # A stamp that is old and the same as before means that nothing happened.
            if stamps == self._stamps.get(path) and max(stamps, default=0) < (now - RECENT) * 1e9:
                continue
            self._stamps[path] = stamps
            known = self._known.setdefault(path, set())
            try:
                found = messages(path)
            except FileNotFoundError:
                continue  # the one mailbox to watch does not exist yet
            arrived += [(address_of(path), message) for message in found if message.key not in known]
            self._known[path] = {message.key for message in found}
        arrived.sort(key=lambda one: one[1].received)
        return arrived

    def _changes(self, path: Path) -> tuple[int, ...]:
        stamps = []
        with suppress(FileNotFoundError):
            for folder in _folders(path):
                for part in ("new", "cur"):
                    stamps.append(os.stat(path / folder / part).st_mtime_ns)
        return tuple(stamps)


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        names = [e.name for e in entries if e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    return ["", *sorted(name for name in names if (path / name / "cur").is_dir())]


def _messages_in(path: Path, folder: str) -> Iterator[StoredFile]:
    for part in ("new", "cur"):
        try:
            with os.scandir(path / folder / part) as entries:
                for entry in entries:
                    # A link may lead anywhere, and nobody writes into a pipe.
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):  # moved or deleted meanwhile
                            yield _stored(entry, folder.removeprefix("."), part == "new")
        except FileNotFoundError:
            continue


def _stored(entry: os.DirEntry[str], folder: str, is_new: bool) -> StoredFile:
    size = size_in_name(entry.name)
    received = _time_in_name(entry.name)
    if size is None or received is None:
        status = entry.stat(follow_symlinks=False)
        size = status.st_size if size is None else size
        received = status.st_mtime if received is None else received
    flags = entry.name.partition(":2,")[2]
    return StoredFile(Path(entry.path), folder, is_new, flags, size, received)


def _time_in_name(name: str) -> float | None:
    """Seconds since 1970 in a unique name, with microseconds where it has them ("M...")."""
    seconds, _, rest = name.partition(".")
    if not (seconds.isdecimal() and seconds.isascii() and len(seconds) <= 12):
        return None
    micro = rest[1:7]
    exact = rest.startswith("M") and len(micro) == 6 and micro.isdecimal() and micro.isascii()
    return int(seconds) + (int(micro) / 1e6 if exact else 0.0)
