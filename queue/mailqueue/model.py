"""The values that go into the queue and come out of it; no I/O.

`NewMessage` is what a caller hands over, `QueuedMessage` what `MailQueue.load` returns, `Change` what became
of one recipient. Times are epoch seconds of the wall clock. Recipients of a message are named by their
position (0, 1, ...), which never changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import msgspec

from mailqueue.ids import id_text
from mailqueue.store.base import Blob

MIN_PRIORITY, MAX_PRIORITY = -9, 9
"""MT-PRIORITY values (RFC 6710 section 5)."""


class QueueError(Exception):
    """Base of what the queue raises."""


class QueueUnavailable(QueueError):
    """The store did not take it in time (environment). Nothing is kept: answer 4xx and let the client
    retry."""


class Fenced(QueueError):
    """Another process has taken this stream over: stop delivering, drop this queue and open a new one."""


class UnknownMessage(QueueError, KeyError):
    """No live message has this id or handle: it is done, cancelled, or in another stream."""

    def __str__(self) -> str:
        return f"there is no message {self.args[0]} in the queue" if self.args else "no such message"


class CorruptMessage(QueueError):
    """A message's stored octets fail their check; the text names the key. The message stays in the queue."""


class Status(IntEnum):
    """What is known of one recipient. Stored as these numbers: never renumber."""

    QUEUED = 0
    """Not tried yet."""
    DEFERRED = 1
    """Tried, to be tried again when due."""
    HELD = 2
    """Not to be tried until somebody releases it."""
    DELIVERED = 3
    FAILED = 4
    """Refused for good, or expired; the sender is told where the rules ask for it."""
    CANCELLED = 5
    """Deleted by an administrator."""
    EXPANDED = 6
    """Replaced by other recipients or another message."""

    @property
    def is_live(self) -> bool:
        """True while the recipient may still get the message."""
        return self <= Status.HELD


@dataclass(slots=True)
class QueuedRecipient:
    """One recipient and its state."""

    address: str
    site: str = ""
    """The destination whose limits it shares (MX set, next hop); an opaque name."""
    status: Status = Status.QUEUED
    due: float = 0.0
    """Time of the next try."""
    attempts: int = 0
    reply: str = ""
    """The last answer, as "451 4.4.1 text"."""
    last: float = 0.0
    """Time of the last attempt, 0 for none."""
    data: bytes = b""
    """Opaque to the queue: DSN parameters and the like."""


@dataclass(slots=True)
class NewMessage:
    """A message to be queued."""

    sender: str
    recipients: Sequence[QueuedRecipient]
    """At least one. Those already settled may be among them; they are kept as history."""
    header: bytes
    """The header block with its trace fields, CRLF line ends, and the blank line that ends it."""
    body: bytes | Blob
    """All octets after the header block."""
    envelope: bytes = b""
    """Opaque to the queue: what else the daemon needs to send it (ENVID, RET, BODY, ...)."""
    created: float = 0.0
    """When the message came in; 0: now."""
    expires: float = 0.0
    """When to give up; 0: `QueueSettings.lifetime` after `created`."""
    priority: int = 0
    """-9 (least) to 9 (most urgent)."""
    tags: tuple[str, ...] = ()
    """Words that a policy put on it, for filters."""
    id: str | None = None
    """A queue id from `MailQueue.new_id`, when the header block names it; None: one is made."""


class Change(msgspec.Struct, frozen=True):
    """What became of one recipient."""

    recipient: int
    """Position."""
    status: Status
    due: float = 0.0
    """Next try, of a live status."""
    reply: str | None = None
    """The answer that said so; None keeps the one before."""
    attempted: float = 0.0
    """When it was tried; 0: it was not (hold, release, cancel), and is not counted as an attempt."""
    site: str | None = None
    """A new destination, None to keep it."""


class RecipientState(NamedTuple):
    """What the index knows of one recipient in memory (no address)."""

    position: int
    site: str
    status: Status
    due: float
    attempts: int
    reply: str
    last: float


class Row(NamedTuple):
    """What the index knows of one message in memory."""

    handle: int
    octets: bytes
    """The id as the index holds it."""
    due: float
    """The earliest due time of a recipient that is QUEUED or DEFERRED; infinity when there is none (all
    held)."""
    site: str
    """The destination when all live recipients share one, else ""."""
    priority: int
    size: int
    """Octets of header block and body."""
    created: float
    expires: float
    recipients: int
    """All of them, settled ones included."""
    live: int
    """Recipients QUEUED, DEFERRED or HELD."""
    status: Status
    """DEFERRED if any recipient is, else QUEUED if any is, else HELD."""

    @property
    def id(self) -> str:
        """The queue id."""
        return id_text(self.octets)


@dataclass(slots=True, frozen=True)
class BytesBlob:
    """Octets in memory as a `Blob`."""

    data: bytes

    @property
    def size(self) -> int:
        """Octets."""
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        """All of them at once."""
        if self.data:
            yield self.data


@dataclass(slots=True, frozen=True)
class StoredBody:
    """The body of a queued message, read from the store only when it is asked for."""

    size: int
    """Octets."""
    _fetch: Callable[[], Awaitable[Blob]]

    async def fetch(self) -> Blob:
        """The octets: in memory when small, else in an unlinked temporary file that ends with the object.

        Raises QueueUnavailable and CorruptMessage.
        """
        return await self._fetch()


@dataclass(slots=True)
class QueuedMessage:
    """A message as `MailQueue.load` returns it: a copy, changes are made with `MailQueue.settle`."""

    id: str
    handle: int
    sender: str
    recipients: list[QueuedRecipient]
    header: bytes
    body: StoredBody
    envelope: bytes
    created: float
    expires: float
    priority: int
    tags: tuple[str, ...]

    @property
    def size(self) -> int:
        """Octets of header block and body."""
        return len(self.header) + self.body.size
