"""A verdict: what the policy says at one stage, and the interface of whoever says it.

Methods of `Policy` may answer at once or with an awaitable: the connection awaits only when it must, for
a task per command would double the cost of a message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from mta.address import Address
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message


@dataclass(slots=True, frozen=True)
class Orders:
    """What is to be done with a message that is not refused. Causes say who ordered it, for the log."""

    message: Message | None = None
    """The message as edited; None leaves it as it is."""
    discarded: str = ""
    """The cause of answering 250 and giving it to nobody; "" delivers it."""
    held: str = ""
    """The cause of queueing it without a try; "" tries at once."""
    sender: Address | None = None
    """Another sender, None for the one of MAIL."""
    added: tuple[Recipient, ...] = ()
    """Recipients that the client does not know of."""
    removed: Mapping[int, str] | None = None
    """Positions in the envelope of recipients that do not get it, with the causes."""
    repeated: Mapping[int, int] | None = None
    """Positions of recipients that are, once rewritten, the one at an earlier position: it gets one copy, and
    both have its reply."""
    priority: int | None = None
    """MT-PRIORITY in place of the client's, -9 to 9."""
    lifetime: float = 0.0
    """Seconds after which the queue gives it up; 0: those of the configuration."""
    tags: tuple[str, ...] = ()
    """Words that the queue keeps with it."""
    signing: tuple[object, ...] = ()
    """What stage "sign" has asked for, in order; who signs knows what it means."""
    above: bytes = b""
    """Header fields that stand above our trace fields, each with its CRLF."""
    new_body: bool = False
    """The edited message has another body: what is known of the lines of the old one holds no more."""
    ret: str | None = None
    """RET in place of the client's (RFC 3461), None for that."""
    envid: str | None = None
    """ENVID in place of the client's (RFC 3461), None for that."""
    journal: tuple[Address, ...] = ()
    """Archives that get a report of the message, with the message in it, once it is accepted."""
    postponed: float = 0.0
    """Seconds until the queue tries it for the first time; 0: it is tried at once."""


class Verdict(Struct, frozen=True):
    """Go on (`reply` is None) or answer the stage with `reply`; `delay` seconds first (tarpit)."""

    reply: Reply | None = None
    delay: float = 0.0
    orders: Orders | None = None
    """At the end of the data, for a message that is not refused."""


@dataclass(slots=True, frozen=True)
class Tried:
    """What stages retry and bounce know of the delivery to one recipient."""

    reply: Reply
    """The last one: of the next hop, or ours when there was none."""
    attempts: int
    """Tries so far, this one included."""
    age: float
    """Seconds since the message was accepted."""
    next_hop: str
    """Name of the transport, "" when there is no way."""
    header: bytes
    """The header of the message, with the empty line."""
    queue_id: str = ""
    """"" when the message is not in the queue yet."""
    report: str = ""
    """Stage bounce: what would be reported: failed, expired, delayed, late, delivered, relayed."""


@dataclass(slots=True, frozen=True)
class Advice:
    """How the queue goes on with a recipient that could not be reached."""

    after: float = 0.0
    """Seconds until the next try; 0: as configured."""
    lifetime: float = 0.0
    """Seconds since it was accepted after which it is given up; 0: as configured, which is the most."""
    refusal: Reply | None = None
    """A permanent reply with which it is given up now."""
    held: str = ""
    """Why it waits until somebody releases it; "" it does not."""


NO_ADVICE = Advice()

SCRIPT_FAILED = "script failed"
"""What a policy with scripts calls that in the log."""
CONTINUE = Verdict()
"""The stage is passed."""


async def or_else(verdict: Verdict | Awaitable[Verdict], reply: Reply) -> Verdict:
    """The verdict, with `reply` where it has none."""
    if not isinstance(verdict, Verdict):
        verdict = await verdict
    return verdict if verdict.reply is not None else replace(verdict, reply=reply)


class Policy(Protocol):
    """Decides at each stage of a session."""

    @property
    def hears_unknown(self) -> bool:
        """Whether `unknown` is to be asked."""

    def connect(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A client has connected; nothing has been said yet."""

    def helo(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """EHLO, HELO or LHLO; its argument is in the session."""

    def auth(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A user has proved who it is: the session has its name; refused, it has not."""

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """MAIL: sender and parameters are in the envelope."""

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """RCPT: `recipient` is not yet in the envelope."""

    def begin(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """DATA or the first BDAT: a message is about to come."""

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is complete; recipients are those that were accepted."""

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is about to leave, with all edits and orders carried out.

        May set `route` and `refusal` of recipients; the verdict's only orders are `signing`.
        """

    def retry(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> Advice | Awaitable[Advice]:
        """A try has failed for now; `session` is as much of the original one as the queue keeps."""

    def bounce(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> bool | Awaitable[bool]:
        """A report to the sender is due; False: none is sent."""

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
        """Where an accepted recipient's copy goes; a Reply refuses it."""

    def unknown(self, session: Session, line: bytes) -> Verdict | Awaitable[Verdict]:
        """A line that is no command: it is refused in any case, with the verdict's reply if there is one."""

    def aborted(self, session: Session) -> None:
        """The transaction is over, if there was one: given up (RSET, EHLO...), refused or answered."""

    def ended(self, session: Session) -> None:
        """The session is over, or becomes another client's (XCLIENT); a stage may still be going on."""


class Indifferent:
    """The part of `Policy` that most policies have nothing to say about."""

    __slots__ = ()
    hears_unknown = False

    def begin(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """Go on."""
        return CONTINUE

    def unknown(self, session: Session, line: bytes) -> Verdict | Awaitable[Verdict]:
        """As usual."""
        return CONTINUE

    def aborted(self, session: Session) -> None:
        """Nothing was kept."""

    def ended(self, session: Session) -> None:
        """Nothing was kept."""
