"""What a transaction hands to others when a message has been tried once: to the queue, to log and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from mta.authn.results import MethodResult
from mta.content import MessageBuffer
from mta.delivery.fold import Answer
from mta.delivery.outcome import NextHop, Outcome
from mta.envelope import Envelope, Recipient
from mta.policy.verdict import Orders
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message


class Completed(Struct, frozen=True):
    """What a transaction came to: the answer, and the facts for log and metrics."""

    answer: Answer
    outcomes: Sequence[Outcome]
    message_id: str
    """The message's own, or the one that we gave it; "" without one."""
    size: int
    seconds: float
    """From the end of the data to the answer."""
    results: Sequence[MethodResult] = ()
    """Who sent it, as far as somebody wanted to know."""
    signed: Sequence[str] = ()
    """Who signed it for us: "dkim" or "arc", domain and selector."""


@dataclass(slots=True, frozen=True)
class Parcel:
    """A message after its first try: what the queue needs to go on with it."""

    session: Session
    envelope: Envelope
    transaction: str
    outcomes: list[Outcome]
    """One for each recipient of the envelope, in order."""
    prefix: bytes
    """The header fields that we put in front of it."""
    content: MessageBuffer
    message: Message
    message_id: str
    per_recipient: bool
    """The client reads a reply for each recipient, so that it needs no report of a refusal."""
    orders: Orders | None = None
    """What the policy wants done with it."""
    expanded: Sequence[Recipient] = ()
    """Aliases in whose place the envelope has several recipients."""


class Stamped(Struct, frozen=True):
    """What sender authentication puts in front of a message."""

    fields: bytes = b""
    """Whole header fields."""
    results: Sequence[MethodResult] = ()
    signed: Sequence[str] = ()
    refusal: Reply | None = None
    """Why it cannot be sent: it should be signed and cannot be."""


class Stamps(Protocol):
    """Sender authentication, as a transaction sees it."""

    def cleaned(self, session: Session, message: Message) -> Message | None:
        """The message without header fields that claim to be ours, None when it has none."""

    def answered(self, session: Session, reply: Reply) -> None:
        """The message of the current transaction was answered so."""

    async def stamp(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        fields: bytes,
        signing: Sequence[object],
        leaves: Callable[[], bool],
    ) -> Stamped:
        """What goes in front of an accepted message before anybody gets it.

        `fields` are those that we add and sign with it; `signing` is what the policy wants of signatures
        (`Orders.signing`); `leaves` tells, if it is asked, whether it goes to somebody outside.
        """


class Spool(Protocol):
    """Keeps what could not be delivered now."""

    def postpones(self, envelope: Envelope) -> Reply | None:
        """Why a message must not be tried yet (FUTURERELEASE), None when it may be."""

    def concerns(self, envelope: Envelope, outcomes: Sequence[Outcome], orders: Orders | None = None) -> bool:
        """False in the usual case, in which everything is delivered and nobody asked for a report."""

    def refuses(self, session: Session) -> Reply | None:
        """Why nothing of this session would be kept now, such as a full queue; None when it would."""

    async def keep(self, parcel: Parcel) -> tuple[list[Outcome], bool]:
        """Keep what waits. Returns the outcomes after it, durable by then, and whether refusals are reported.

        What is kept has a 250 of ours; what could not be kept has its temporary reply still.
        """


class Gate(Protocol):
    """The limits of next hops, which first tries and the queue have in common."""

    async def prepare(self, next_hop: NextHop, deadline: float) -> None:
        """Know what the limits of a next hop in the world are; `deadline` is loop time."""

    def enter(self, next_hop: NextHop) -> Permit | Reply | None:
        """Begin a try now, or say why not. None lets it begin, too: it is not counted."""

    def any_dead(self) -> bool:
        """False when all next hops answer, as far as is known."""

    def is_dead(self, next_hop: NextHop) -> bool:
        """True when a next hop is known not to answer."""


class Permit(Protocol):
    """The right to one try of a next hop."""

    def leave(self, outcomes: Sequence[Outcome]) -> None:
        """The try is over; no outcomes when it was given up."""


class Record(Protocol):
    """Told about every transaction (log and metrics)."""

    def completed(self, session: Session, envelope: Envelope, transaction: str, result: Completed) -> None:
        """A message was answered."""

    def unacknowledged(self, session: Session, transaction: str, recipients: int) -> None:
        """Recipients have a message that the client does not know of."""
