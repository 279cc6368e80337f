"""The narrow waist of delivery: one call in, one outcome per recipient out.

A transport never raises for what a peer said or did: a refused connection, a timeout, a broken TLS
handshake and a 550 all become an `Outcome` with the reply that the client or the queue needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from mta.content import Content
from mta.envelope import Envelope, Recipient
from mta.net.pool import PoolStats
from mta.reply import Reply
from mta.smtp.relaying import CANNOT

BACKEND, RELAY, FILTER = "backend:", "relay:", "filter:"
"""How names of configured transports begin: our own mail stores, relays, content filters. Scripts and queued
messages name them so."""


class NextHop(Struct, frozen=True):
    """Where recipients are delivered; those with equal next hops share a try."""

    transport: str
    """A configured transport, as "relay:NAME", or "mx" or "smtp" for the world."""
    host: str = ""
    """For delivery to the world: the domain or the host, with the options of the route (`mta.delivery.way`);
    "" for a configured transport."""


@dataclass(slots=True, frozen=True)
class Passage:
    """How a message went, or was to go, to a server of the world."""

    site: str
    """The set of hosts that serve the domain."""
    tls: str
    """How the connection was protected: "dane", "sts", "verify", "encrypt", "may", "none"; "clear" for a
    session without TLS; "" when none came to stand."""


class Late:
    """The reply about one recipient that had not come by the deadline, and may still come."""

    __slots__ = ("_heard", "_reply")

    def __init__(self) -> None:
        self._reply: Reply | None = None
        self._heard: Callable[[Reply], None] | None = None

    def come(self, reply: Reply) -> None:
        """The next hop has answered after all."""
        self._reply = reply
        if self._heard is not None:
            self._heard(reply)

    def tell(self, heard: Callable[[Reply], None]) -> None:
        """`heard` is called with the reply if it comes, at once when it is there."""
        self._heard = heard
        if self._reply is not None:
            heard(self._reply)


class Outcome(Struct, frozen=True):
    """What happened to one recipient: the reply of the next hop, or ours when there was none."""

    recipient: Recipient
    reply: Reply
    peer: str
    """ "host:port" or path of the server that answered, "" when none was reached."""
    sent: bool = False
    """True when the whole message had been handed over and only its reply is missing or late: the
    recipient may have it although the outcome is temporary."""
    took_dsn: bool = False
    """True when the next hop offers DSN, so that it was told what the sender wants to hear and reports on
    what it accepts are its business (RFC 3461 section 5.2.2)."""
    took_deliver_by: bool = False
    """True when the next hop offers DELIVERBY, so that it was told of the time (RFC 2852)."""
    queue_id: str = ""
    """The name under which the message waits in the queue for this recipient; the reply is our 250 then,
    and its cause the next hop's reply. "" when it does not wait."""
    passage: Passage | None = None
    """For servers of the world; None for configured ones."""
    late: Late | None = None
    """What is still waited for of a recipient that is `sent`; None for nothing."""

    @property
    def speaker(self) -> str:
        """The server whose words the reply is; "" when it is ours: nobody has answered, or was asked."""
        return "" if self.reply.cause or self.reply in CANNOT else self.peer

    @property
    def label(self) -> str:
        """The peer as metrics name it: there are too many servers in the world for a series each."""
        return self.peer if self.passage is None else "mx"


Told = Callable[[Sequence[tuple[int, Outcome]]], None]
"""Hears what is settled of a delivery that goes on with other recipients: their places, and outcomes."""


def placed(told: Told | None, places: Sequence[int]) -> Told | None:
    """For a delivery to some of the recipients, who stand at `places` among all."""
    if told is None:
        return None
    return lambda known: told([(places[index], outcome) for index, outcome in known])


class Transport(Protocol):
    """Hands one message to one next hop."""

    @property
    def introduces(self) -> bool:
        """True when the next hop is told who our client is (XCLIENT, XFORWARD)."""

    async def deliver(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        content: Content,
        deadline: float,
        client: Mapping[str, str] | None = None,
        told: Told | None = None,
    ) -> list[Outcome]:
        """Try once; outcomes in the order of `recipients`. `client` is what `introduces` asks for.

        `deadline` is in seconds of the running loop's clock; what is not answered by then is a temporary
        outcome. Raises nothing but CancelledError.

        `told` is called after each transaction but the last one, and with what was answered when the delivery
        is cut off; what ends in one transaction is only returned. Of what it hears, what is not temporary is
        the last word.
        """

    async def close(self) -> None:
        """End idle connections politely, then all others."""


class PoolFigures(Protocol):
    """What metrics show of connections."""

    @property
    def size(self) -> int:
        """Open or being opened."""

    @property
    def idle(self) -> int:
        """Waiting for use."""

    @property
    def waiting(self) -> int:
        """Callers that wait for one."""

    @property
    def stats(self) -> PoolStats:
        """Counters."""


class PooledTransport(Transport, Protocol):
    """A transport that keeps connections."""

    @property
    def pools(self) -> Mapping[str, PoolFigures]:
        """The pools by the name of the peer."""
