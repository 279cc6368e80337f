"""The `Security` of a worker: DNSSEC, DANE, MTA-STS, pins, capability records and REQUIRETLS put together.

What holds for a domain (`for_domain`) is decided here, what holds for one of its hosts in
`mta.delivery.security.host`. Both ask the resolver, whose answers are cached; without changes a delivery
costs no I/O.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mta.delivery.security import wording
from mta.delivery.security.clienttls import ClientContexts
from mta.delivery.security.honesty import Honesty, Verdict, probe
from mta.delivery.security.host import Host
from mta.delivery.security.memory import Memory
from mta.delivery.security.pins import Log, Pins
from mta.delivery.security.requirement import (
    DomainSecurity,
    HostAddresses,
    Level,
    MxSet,
    Policy,
    PolicyType,
    Requirement,
    Result,
    Wishes,
)
from mta.delivery.security.sts import NOTHING, Fetch, Found, StsPolicies, fetcher
from mta.net.connect import ClientTls
from mta.net.https import IsRefused
from mta.net.resolver.base import Resolver, Status
from mta.net.resolver.patient import Patient
from mta.net.tlsfailure import FailureType
from mta.reply import Reply

PROBE_INTERVAL = 600.0
"""Seconds between two probes of the resolver."""
PROBE_TIME = 10.0
"""Seconds for a probe."""
PROBE_AGAIN = 60.0
"""Seconds after which a missing proof makes us probe anew."""
NOT_ASKED = Verdict(Honesty.UNKNOWN, "not asked yet")
"""What is known of the resolver before the first probe."""

Row = Mapping[str, Any]
Record = Callable[[str, Row], None]
"""Takes a row of a TLS report: the recipient's domain, and the row (`mta.delivery.security.tlsrpt`)."""


@dataclass(slots=True, frozen=True)
class SecuritySettings:
    """What the configuration says."""

    level: Level = Level.MAY
    """The least for every destination, up to VERIFY."""
    dane: bool = True
    mta_sts: bool = True
    capabilities: bool = True
    pin_hold: float = 48 * 3600.0
    """Seconds; 0: no pins."""
    pin_release: bool = True
    signed_names: tuple[str, ...] = (".", "org")
    """Positive controls of the resolver."""
    broken_names: tuple[str, ...] = ("dnssec-failed.org",)
    """Negative controls of the resolver."""
    ca_file: str = ""
    dns_time: float = 5.0
    """Seconds for one answer of the DNS, of all the time that a delivery has."""
    https_port: int = 443
    """Of policy hosts; another one in tests only."""
    is_refused: IsRefused = lambda address: False
    """Tells where policy hosts may not be."""


class OutboundSecurity:
    """See `mta.delivery.security.requirement.Security`."""

    def __init__(
        self,
        settings: SecuritySettings,
        resolver: Resolver,
        memory: Memory,
        log: Log,
        *,
        now: Callable[[], float],
        record: Record = lambda domain, row: None,
        fetch: Fetch | None = None,
    ) -> None:
        """`now` is the time of the epoch; `fetch` is another way to policies, for tests."""
        self.settings = settings
        self.resolver: Resolver = Patient(resolver, settings.dns_time)
        self.counters: Counter[str] = Counter()
        """For metrics: "level:dane" for handshakes that stand, "failure:certificate-expired" for others,
        "downgrade:mx" for pins that broke, "resolver:blind" for probes."""
        self.pins = Pins(
            memory,
            log,
            hold=settings.pin_hold,
            release=settings.pin_release,
            now=now,
            alarm=lambda kind: self._count(f"downgrade:{kind}"),
        )
        self._memory = memory
        self._now = now
        self._log = log
        self._record = record
        self.contexts = ClientContexts(settings.ca_file)
        self._sts = StsPolicies(memory, self.pins, self.resolver, fetch or self._fetch, log, now=now)
        self._real_fetch: Fetch | None = None
        self._verdict = NOT_ASKED
        self._probed = float("-inf")
        self._probing: asyncio.Task[None] | None = None

    async def for_domain(self, mx: MxSet, wishes: Wishes, deadline: float) -> DomainSecurity | Reply:
        """See `Security.for_domain`."""
        domain = mx.domain
        least = max(wishes.minimum, self.settings.level)
        if wishes.tls_optional and not wishes.require_tls and least <= Level.MAY:
            # RFC 8689 section 4.3: no policy of the recipient stands in the way.
            return Domain(self, mx, wishes, secure=False, optional=True)
        if mx.status is Status.BOGUS:
            self.failed(domain, FailureType.DNSSEC_INVALID, f"MX: {mx.reason}")
            return wording.bogus(f"the MX records of {domain}", mx.reason)
        if mx.status is Status.FAIL:
            return wording.no_answer(f"the MX records of {domain}", mx.reason)
        secure = mx.routed or self.believes(mx.status)
        if not mx.routed:
            if secure:
                if mx.hosts:  # names that do not exist would fill the disk
                    self.pins.proven("mx", domain)
            else:
                held = self.pins.missing("mx", domain, "the MX answer is unsigned")
                if held is not None:
                    await self.probe(deadline)
                    self.failed(domain, FailureType.DNSSEC_INVALID, "the zone was signed and is not any more")
                    return wording.unsigned(domain, held, self._complaint())
        found = Domain(self, mx, wishes, secure=secure)
        if wishes.require_tls and not secure:
            sts = await found.sts(deadline)
            if isinstance(sts, Reply):
                return sts
            if sts.policy is None or sts.policy.mode != "enforce":
                # Only what is known to be missing is a reason to return the message.
                await self.probe(deadline)
                doubt = sts.doubt or self._complaint()
                return wording.doubted(domain, doubt) if doubt else wording.unproven(domain)
        return found

    def client_tls(self, requirement: Requirement) -> ClientTls | None:
        """See `Security.client_tls`. Raises CertificateError when `ca_file` cannot be used."""
        return self.contexts.client_tls(requirement)

    def believes(self, status: Status) -> bool:
        """Whether an answer is SECURE, from a resolver that can be believed."""
        return status is Status.SECURE and self._verdict.honesty is not Honesty.BLIND

    @property
    def verdict(self) -> Verdict:
        """What the last probe of the resolver said."""
        return self._verdict

    async def run(self) -> None:
        """Probe the resolver and forget what is long past, now and then; run it as a task."""
        loop = asyncio.get_running_loop()
        while True:
            self._memory.prune(self._now())
            self._probed = float("-inf")
            await self.probe(loop.time() + PROBE_TIME)
            await asyncio.sleep(PROBE_INTERVAL)

    async def probe(self, deadline: float) -> Verdict:
        """Probe the resolver unless that was done lately, and tell the administrator what has changed."""
        if asyncio.get_running_loop().time() - self._probed < PROBE_AGAIN:
            return self._verdict
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._probe())
        timeout = max(0.0, deadline - asyncio.get_running_loop().time())
        await asyncio.wait([self._probing], timeout=timeout)
        return self._verdict

    async def _probe(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self.settings
        verdict = await probe(
            self.resolver, settings.signed_names, settings.broken_names, loop.time() + PROBE_TIME
        )
        self._probed = loop.time()
        before, self._verdict = self._verdict, verdict
        self._count(f"resolver:{verdict.honesty.name.lower()}")
        if verdict.honesty is not before.honesty:
            if not verdict.validates:
                self._log.error("resolver", state=verdict.honesty.value, reason=verdict.text)
            elif before is not NOT_ASKED:  # it is as it should be again
                self._log.warning("resolver", state=verdict.honesty.value, reason=verdict.text)

    async def close(self) -> None:
        """Give up what runs and finish writing."""
        await self._sts.close()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        await self._memory.settled()
        self._memory.close()

    @property
    def figures(self) -> dict[tuple[str, str], int]:
        """The counters by kind and name."""
        found: dict[tuple[str, str], int] = {}
        for counter, number in self.counters.items():
            kind, _, name = counter.partition(":")
            found[kind, name] = number
        return found

    async def find_policy(self, domain: str, deadline: float) -> Found:
        """The MTA-STS policy of a domain."""
        return await self._sts.find(domain, deadline) if self.settings.mta_sts else NOTHING

    def failed(self, domain: str, failure: FailureType, detail: str, policy: Policy | None = None) -> None:
        """Something is wrong with a domain's proofs, before any handshake."""
        self._count(f"failure:{failure.value}")
        policy = policy or Policy(domain=domain)
        self._record(domain, {"policy": policy_row(policy), "failure": failure.value, "reason": detail[:200]})

    def ended(self, domain: str, result: Result) -> None:
        """A handshake ended, well or badly."""
        requirement = result.requirement
        row: dict[str, Any] = {"policy": policy_row(requirement.policy)}
        if result.failure is None:
            self._count(f"level:{requirement.level.name.lower()}")
        else:
            self._count(f"failure:{result.failure.value}")
            row |= {
                "failure": result.failure.value,
                "mx": requirement.host,
                "helo": result.helo[:100],
                "ip": result.address,
                "local": result.local,
                "reason": result.detail[:200],
            }
            if requirement.promised or requirement.floor:
                self._log.error(
                    "capability record not kept", host=requirement.host, domain=domain, reason=result.detail
                )
        self._record(domain, row)

    def _complaint(self) -> str:
        return "" if self._verdict.validates else self._verdict.text

    def _count(self, name: str) -> None:
        self.counters[name] += 1

    async def _fetch(self, domain: str, deadline: float) -> bytes:
        if self._real_fetch is None:
            context = self.contexts.context(verify=True)
            self._real_fetch = fetcher(
                self.resolver, context, self.settings.https_port, self.settings.is_refused
            )
        return await self._real_fetch(domain, deadline)


class Domain:
    """See `mta.delivery.security.requirement.DomainSecurity`."""

    def __init__(
        self, security: OutboundSecurity, mx: MxSet, wishes: Wishes, *, secure: bool, optional: bool = False
    ) -> None:
        """`secure`: the hosts are the domain's own, by DNSSEC or by our own route."""
        self.security = security
        self.mx = mx
        self.wishes = wishes
        self.secure = secure
        self._optional = optional
        self._found: Found | Reply | None = None

    async def for_host(self, addresses: HostAddresses, deadline: float) -> Requirement | Reply:
        """See `DomainSecurity.for_host`."""
        if self._optional:
            policy = Policy(PolicyType.NONE, self.mx.domain)
            return Requirement(addresses.host, Level.MAY, reason="TLS-Required: No", policy=policy)
        return await Host(self, addresses, deadline).decide()

    def report(self, result: Result) -> None:
        """See `DomainSecurity.report`."""
        self.security.ended(self.mx.domain, result)

    async def sts(self, deadline: float) -> Found | Reply:
        """The MTA-STS policy that holds for the domain, looked for once; a Reply when mail must wait."""
        if self._found is None:
            self._found = await self._find(deadline)
        return self._found

    async def _find(self, deadline: float) -> Found | Reply:
        domain, security = self.mx.domain, self.security
        if self.mx.routed:
            return NOTHING  # a route of ours names a host, no domain
        found = await security.find_policy(domain, deadline)
        if found.bogus:
            security.failed(domain, FailureType.DNSSEC_INVALID, f"_mta-sts: {found.bogus}")
            return wording.bogus(f"the MTA-STS record of {domain}", found.bogus)
        if found.failure is not None:
            policy = Policy(PolicyType.STS, domain)
            if found.policy is not None:
                policy = Policy(PolicyType.STS, domain, found.policy.lines, found.policy.mx)
            security.failed(domain, found.failure, found.detail, policy)
        if found.held is not None:
            return wording.lost(f"The MTA-STS policy of {domain}", found.held)
        return found


def policy_row(policy: Policy) -> Row:
    """A policy as a TLS report has it (RFC 8460 section 4.4)."""
    row: dict[str, Any] = {"policy-type": policy.type.value}
    if policy.lines:
        row["policy-string"] = list(policy.lines)
    row["policy-domain"] = policy.domain
    if policy.mx:
        row["mx-host"] = list(policy.mx)
    return row
