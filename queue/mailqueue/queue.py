"""`MailQueue`: what a daemon holds of the queue. One instance owns one stream, its log, for a process
life."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mailqueue.clock import Clock, SystemClock
from mailqueue.model import Change, NewMessage, QueuedMessage, RecipientState, Row
from mailqueue.settings import QueueSettings
from mailqueue.store.base import Store


SYSTEM_CLOCK = SystemClock()


@dataclass(slots=True, frozen=True)
class QueueStats:
    """Figures for high-water marks and metrics."""

    messages: int
    """Live messages in this stream."""
    recipients: int
    """Live recipients."""
    size: int
    """Octets of the live messages."""
    pending: int
    """Octets that wait for the store."""
    latency: float
    """Seconds from handing over to commit, smoothed, or the age of the oldest entry under way when that is
    more."""
    entries: int
    """Entries written since the start."""


class Live:
    """The messages of this stream in memory, by handle. A handle is a small number, reused after its
    message."""

    def __len__(self) -> int:
        """Live messages."""
        raise NotImplementedError

    def handles(self) -> Iterator[int]:
        """All of them; nothing may change while iterating."""
        raise NotImplementedError

    def handle_of(self, id: str) -> int:
        """The handle of an id. Raises UnknownMessage."""
        raise NotImplementedError

    def row(self, handle: int) -> Row:
        """The message at a glance. Raises UnknownMessage."""
        raise NotImplementedError

    def recipients(self, handle: int) -> Sequence[RecipientState]:
        """All recipients in order. Raises UnknownMessage."""
        raise NotImplementedError


class MailQueue:
    """The queue of one process."""

    live: Live
    stream: str
    """Name of our stream."""

    @classmethod
    async def open(
        cls,
        store: Store,
        settings: QueueSettings,
        clock: Clock = SYSTEM_CLOCK,
        on_adopted: Callable[[Sequence[int]], None] = lambda handles: None,
    ) -> MailQueue:
        """Announce a new stream and start its tasks; messages of dead streams arrive by `on_adopted`.

        Raises StoreError and FormatError.
        """
        raise NotImplementedError

    def new_id(self) -> str:
        """A queue id for a message to come, to be put into its trace field."""
        raise NotImplementedError

    async def enqueue(self, new: NewMessage) -> str:
        """Keep a message: durable on return, in `live` from then on. Returns its queue id.

        Raises QueueUnavailable (nothing is kept; a message that gets stored nevertheless is cancelled) and
        Fenced.
        """
        raise NotImplementedError

    async def settle(
        self,
        message: int | str,
        changes: Sequence[Change],
        *,
        urgent: bool,
        follow: Sequence[NewMessage] = (),
    ) -> list[str]:
        """Record what became of recipients; the message leaves the queue when none of them is live.

        Seen in `live` at once. `urgent`: written at once, and durable on return, unless the store does not
        take it in `commit_timeout`: then it is written when the store is back. Not urgent (deferrals):
        returns at once, written within `defer_flush`. `follow` are messages (reports) queued in the same
        write, all or nothing: their ids are returned. Raises UnknownMessage and Fenced.
        """
        raise NotImplementedError

    async def load(self, message: int | str) -> QueuedMessage:
        """Everything about a message but a large body. Raises UnknownMessage, CorruptMessage,
        QueueUnavailable."""
        raise NotImplementedError

    def may_deliver(self) -> bool:
        """False when others may take us for dead: asked before each attempt and before the final dot."""
        raise NotImplementedError

    @property
    def fenced(self) -> bool:
        """True when the stream has been taken over: everything raises Fenced; close this queue, open
        another."""
        raise NotImplementedError

    def on_fenced(self, call: Callable[[], None]) -> None:
        """Have `call` called once when the stream turns out to be taken over."""
        raise NotImplementedError

    def stats(self) -> QueueStats:
        """Figures now."""
        raise NotImplementedError

    async def close(self) -> None:
        """Write what waits, take a snapshot and seal our stream, so that others may have its messages at
        once."""
        raise NotImplementedError
