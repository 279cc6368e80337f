"""What a try to deliver must fulfil before mail may flow: values, and the protocols between routing and us.

The way of a delivery to a domain:

    found = await security.for_domain(MxSet("example.org", answer.status, hosts, reason=answer.reason),
                                      Wishes(require_tls=envelope.require_tls, ...), deadline)
    if isinstance(found, Reply):  # the domain may not be served now; temporary, or permanent for REQUIRETLS
        ...
    for host in hosts:            # in the order of routing
        what = await found.for_host(HostAddresses(host, status, canonical, ...), deadline)
        if isinstance(what, Reply):  # not this host; the reply stands if no other host takes the message
            continue
        tls = security.client_tls(what)    # mta.net.connect.ClientTls, None for no TLS at all
        try:
            connection = await connect(Endpoint(address, 25), settings, tls, timeouts, limit)
        except ConnectFailure as failure:
            if failure.tls_failure is not None:
                found.report(Result(what, address, failure.tls_failure, failure.reply.cause))
            ...
        found.report(Result(what, address, connection.tls_failure, connection.tls_detail))

The endpoint is an IP address; `ClientTls.name` is the name for SNI and verification already.

Ask before each delivery, also when a connection is open already: answers come from caches and cost a few
microseconds when nothing has changed. An open connection may be used when `Requirement.is_met_by` says so
of the requirement that it was opened with. Handshakes are reported, deliveries over an open connection are
not (RFC 8460 section 4.3 counts sessions).

Nothing here does I/O. `mta.delivery.security.provider` is the real `Security`; `OpportunisticSecurity`
below is one that knows nothing, for tests and for set-ups without a validating resolver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Protocol

from mta.net.resolver.base import Status
from mta.net.tlsfailure import FailureType
from mta.reply import Reply

if TYPE_CHECKING:
    from mta.net.connect import ClientTls


class Level(IntEnum):
    """How a connection is protected; a higher one fulfils a lower one."""

    NONE = 0
    """Clear text, STARTTLS is not even tried."""
    MAY = 1
    """TLS if it is offered and works, else clear text (RFC 7435)."""
    ENCRYPT = 2
    """TLS or no mail; nobody is authenticated."""
    VERIFY = 3
    """TLS with a certificate of a known authority for the host's name."""
    STS = 4
    """As VERIFY, for the domain's MTA-STS policy demands it of hosts that it names (RFC 8461)."""
    DANE = 5
    """TLS with a certificate that the host's TLSA records vouch for (RFC 7672)."""

    @property
    def authenticates(self) -> bool:
        """True when the server has to prove who it is."""
        return self >= Level.VERIFY


class PolicyType(StrEnum):
    """The `policy-type` of TLS reports (RFC 8460 section 4.4)."""

    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


@dataclass(slots=True, frozen=True)
class Tlsa:
    """One TLSA record (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


@dataclass(slots=True, frozen=True)
class Policy:
    """The policy that a session is judged by, as TLS reports name it (RFC 8460 section 4.4)."""

    type: PolicyType = PolicyType.NONE
    domain: str = ""
    """The recipient's domain for `sts` and `no-policy-found`, the TLSA base domain for `tlsa`."""
    lines: tuple[str, ...] = ()
    """`policy-string`: the TLSA records or the lines of the MTA-STS policy."""
    mx: tuple[str, ...] = ()
    """`mx-host` patterns of an MTA-STS policy."""


@dataclass(slots=True, frozen=True)
class Requirement:
    """What a connection to one host must fulfil. Compares by value, so it can be part of a pool's key."""

    host: str
    """The MX host (A-labels, lower case) that it is for: SNI, and the name to verify at VERIFY and STS."""
    level: Level = Level.MAY
    names: tuple[str, ...] = ()
    """DANE-TA(2): the reference identifiers, of which the certificate must have one (RFC 7672 section 3.2.2).
    The first one is the TLSA base domain and is sent as SNI."""
    tlsa: tuple[Tlsa, ...] = ()
    """DANE: the usable records."""
    promised: frozenset[str] = frozenset()
    """EHLO keywords that the host's capability record promises: their absence after STARTTLS is an attack."""
    floor: str = ""
    """The least version of TLS that the capability record promises, "1.2" or "1.3"; "" for our own least."""
    testing: bool = False
    """An MTA-STS policy in mode "testing" (RFC 8461 section 5): verification is tried and reported, mail
    flows at `level` (MAY or ENCRYPT) whatever comes of it."""
    reason: str = ""
    """Where the level comes from, for log and queue, such as "DANE: 2 usable TLSA records"."""
    policy: Policy = field(default_factory=Policy, compare=False)

    def is_met_by(self, other: Requirement) -> bool:
        """Whether a connection that was opened under `other` may carry mail that needs `self`.

        Only connections of the same host are compared; NONE is met by any of them, MAY by all where TLS was
        tried.
        """
        if self.host != other.host or not self.promised <= other.promised or self.floor > other.floor:
            return False
        if self.testing:
            return other.level >= (self.level if other.testing else Level.VERIFY)
        if self.level <= Level.MAY:
            return other.level >= self.level
        if other.testing:
            return False
        if self.level is Level.DANE:
            return other.level is Level.DANE and self.tlsa == other.tlsa and self.names == other.names
        if self.level in (Level.VERIFY, Level.STS):
            # DANE's proof is another one than the web's authorities: STS asks for the latter, VERIFY for any.
            return other.level in (Level.VERIFY, Level.STS) or (
                self.level is Level.VERIFY and other.level is Level.DANE
            )
        return other.level >= self.level


@dataclass(slots=True, frozen=True)
class MxSet:
    """The domain and what the DNS said about its MX records."""

    domain: str
    """The next hop's domain, A-labels, lower case: the recipient's, or what a route named."""
    status: Status
    """Of the answer to the MX question, also where there are none (implicit MX). Pass BOGUS and FAIL, too:
    `for_domain` answers with the reply that explains it."""
    hosts: tuple[str, ...] = ()
    """The hosts by preference; (domain,) for the implicit MX; A-labels, lower case, no final dot."""
    reason: str = ""
    """`Answer.reason`, for BOGUS and FAIL."""
    canonical: str = ""
    """`Answer.canonical`: where CNAMEs of the domain led, "" without any."""
    routed: bool = False
    """True when a route names the host and no MX was asked (`smtp:[host]`): the name comes from our own
    configuration, so it is as good as secure; `domain` and the only host are that name."""


@dataclass(slots=True, frozen=True)
class Wishes:
    """What the message and our own policy ask for."""

    require_tls: bool = False
    """REQUIRETLS was given with MAIL (RFC 8689)."""
    tls_optional: bool = False
    """The header `TLS-Required: No` is there (RFC 8689 section 4.3; `mta.delivery.security.tlsrequired` reads
    it): DANE, MTA-STS and capability records of the recipient are passed over. REQUIRETLS beats it, and so
    does `minimum`."""
    minimum: Level = Level.MAY
    """The least that our policy's route demands. NONE: TLS is not tried where nothing is proven."""


@dataclass(slots=True, frozen=True)
class HostAddresses:
    """One MX host and what the DNS said about its addresses."""

    host: str
    status: Status
    """SECURE when the answer for A *or* for AAAA is SECURE (denials of AAAA are often broken), else
    INSECURE. A host whose questions all failed has no addresses and is not asked about."""
    canonical: str = ""
    """`Answer.canonical`: where CNAMEs led, "" without any. For an alias that leads to an unsigned zone
    `for_host` itself asks whether the alias is signed (RFC 7672 section 2.2.2)."""
    port: int = 25
    """The port that will be connected to: TLSA and capability records are about one port."""


@dataclass(slots=True, frozen=True)
class Result:
    """How a handshake ended."""

    requirement: Requirement
    address: str = ""
    """The server's IP address."""
    failure: FailureType | None = None
    """What `ConnectFailure.tls_failure` or `OutboundConnection.tls_failure` holds: None for success. A
    ConnectFailure without it has nothing to do with TLS (refused, timeout before the greeting) and is not
    reported."""
    detail: str = ""
    """For `failure-reason-code`: words without addresses of people."""
    helo: str = ""
    """The name in the server's greeting."""
    local: str = ""
    """Our IP address."""


class DomainSecurity(Protocol):
    """What holds for one delivery to one domain."""

    async def for_host(self, addresses: HostAddresses, deadline: float) -> Requirement | Reply:
        """What a connection to the host must fulfil, or why it may not be used (temporary, unless REQUIRETLS
        or a policy can never be met). Raises nothing but CancelledError."""

    def report(self, result: Result) -> None:
        """Take notice of a handshake, good or bad: pins, TLS reports, metrics."""


class Security(Protocol):
    """Knows what domains prove and demand."""

    async def for_domain(self, mx: MxSet, wishes: Wishes, deadline: float) -> DomainSecurity | Reply:
        """What holds for deliveries to the domain now; a Reply when there can be none, with the reason in its
        text (for client, queue and DSN). `deadline` is loop time. Raises nothing but CancelledError."""

    def client_tls(self, requirement: Requirement) -> ClientTls | None:
        """How to connect under a requirement; contexts are shared, so call it for each connection."""


class OpportunisticSecurity:
    """A `Security` without proof: MAY, or the route's minimum up to VERIFY; REQUIRETLS finds nothing here."""

    def __init__(self, tls: Mapping[Level, ClientTls]) -> None:
        """`tls` has what MAY, ENCRYPT and VERIFY connect with."""
        self._tls = tls

    async def for_domain(self, mx: MxSet, wishes: Wishes, deadline: float) -> DomainSecurity | Reply:
        """See `Security`."""
        if mx.status in (Status.BOGUS, Status.FAIL):
            return Reply(451, "4.4.3", "The next server cannot be looked up at the moment", mx.reason)
        if wishes.require_tls:
            return Reply(550, "5.7.30", "The recipient's domain does not prove its servers (REQUIRETLS)")
        return _Opportunistic(min(wishes.minimum, Level.VERIFY))

    def client_tls(self, requirement: Requirement) -> ClientTls | None:
        """See `Security`."""
        tls = self._tls.get(requirement.level)
        return None if tls is None else replace(tls, name=requirement.host)


@dataclass(slots=True, frozen=True)
class _Opportunistic:
    """A `DomainSecurity` that knows one level."""

    level: Level

    async def for_host(self, addresses: HostAddresses, deadline: float) -> Requirement | Reply:
        """See `DomainSecurity`."""
        return Requirement(addresses.host, self.level)

    def report(self, result: Result) -> None:
        """Nobody is told."""
