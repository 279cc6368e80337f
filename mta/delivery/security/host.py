"""What a connection to one mail host must fulfil (RFC 7672 section 2.2, RFC 8461 section 4, RFC 8689).

The order of things:

1. Addresses that were signed and are not any more: the host waits (pin).
2. TLSA records are asked for only where the host's addresses are SECURE, at the end of its CNAMEs first and
   at its own name then; for an alias that leads out of signed zones, at its own name if the alias is signed.
   No usable answer to the question, other than that there is nothing, and the host may not be used.
3. A domain whose MX is secure and whose host has usable TLSA records needs nothing else: DANE wins. Otherwise
   the MTA-STS policy counts: a host that it does not name may not be used, others must verify.
4. The capability record of a signed host can raise what came out, never lower it.
5. Then our own demands and REQUIRETLS, which the host fulfils or not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mta.delivery.security import wording
from mta.delivery.security.capability import Capabilities, owner_name, read_capabilities
from mta.delivery.security.requirement import HostAddresses, Level, Policy, PolicyType, Requirement, Tlsa
from mta.delivery.security.tlsa import read_tlsa, usable
from mta.net.resolver.base import Answer, Status
from mta.net.tlsfailure import FailureType
from mta.reply import Reply

if TYPE_CHECKING:
    from mta.delivery.security.provider import Domain


@dataclass(slots=True, frozen=True)
class _Records:
    """TLSA records and where they are."""

    base: str
    all: tuple[Tlsa, ...]
    usable: tuple[Tlsa, ...]


class Host:
    """One host on the way of one delivery."""

    def __init__(self, domain: Domain, addresses: HostAddresses, deadline: float) -> None:
        self._domain = domain
        self._security = domain.security
        self._addresses = addresses
        self._host = addresses.host
        self._deadline = deadline
        self._signed = self._security.believes(addresses.status)

    async def decide(self) -> Requirement | Reply:
        """What must be fulfilled, or why the host may not be used."""
        if not self._domain.mx.routed or self._signed:
            held = self._pinned()
            if held is not None:
                return held
        capabilities: Capabilities | Reply | None = None
        if self._signed and self._security.settings.capabilities:
            records, capabilities = await asyncio.gather(self._tlsa(), self._capabilities())
        else:
            records = await self._tlsa()
        if isinstance(records, Reply):
            return records
        if isinstance(capabilities, Reply):
            return capabilities
        found = self._by_dane(records)
        if found.level is not Level.DANE or not self._domain.secure:
            raised = await self._by_sts(found)
            if isinstance(raised, Reply):
                return raised
            found = raised
        if capabilities is not None and capabilities.demands:
            found = _raise_by(found, capabilities)
        return self._by_ourselves(found)

    def _pinned(self) -> Reply | None:
        pins, host = self._security.pins, self._host
        if self._signed:
            pins.proven("host", host)
            return None
        held = pins.missing("host", host, "the addresses are unsigned")
        if held is None:
            return None
        self._fail(FailureType.DNSSEC_INVALID, f"{host} was signed and is not any more")
        return wording.unsigned(f"The mail host {host}", held)

    # --- DANE --------------------------------------------------------------------------------------

    async def _tlsa(self) -> _Records | Reply | None:
        """The TLSA records of the host; None where there are none that count."""
        if not self._security.settings.dane:
            return None
        bases = await self._bases()
        if isinstance(bases, Reply):
            return bases
        for base in bases:
            answer = await self._ask(f"_{self._addresses.port}._tcp.{base}", "TLSA")
            if not answer.usable:
                self._fail(FailureType.DNSSEC_INVALID, f"TLSA of {base}: {answer.reason}")
                if answer.status is Status.BOGUS:
                    return wording.bogus(f"the TLSA records of {base}", answer.reason)
                return wording.no_tlsa(base, answer.reason)
            if self._security.believes(answer.status) and answer.records:
                found = read_tlsa(answer.records)
                return _Records(base, tuple(found), usable(found))
        return None

    async def _bases(self) -> list[str] | Reply:
        """The TLSA base domains to ask at, in order (RFC 7672 section 2.2.3)."""
        host, canonical = self._host, self._addresses.canonical
        if self._signed:
            return [canonical, host] if canonical and canonical != host else [host]
        if not canonical or canonical == host:
            return []
        alias = await self._ask(host, "CNAME")
        if not alias.usable:
            self._fail(FailureType.DNSSEC_INVALID, f"CNAME of {host}: {alias.reason}")
            if alias.status is Status.BOGUS:
                return wording.bogus(f"the alias {host}", alias.reason)
            return wording.no_answer(f"the alias {host}", alias.reason)
        return [host] if self._security.believes(alias.status) and alias.records else []

    def _by_dane(self, records: _Records | None) -> Requirement:
        mx = self._domain.mx
        if records is None:
            return Requirement(self._host, Level.MAY, policy=Policy(PolicyType.NONE, mx.domain))
        policy = Policy(PolicyType.TLSA, records.base, tuple(map(str, records.all)))
        if not records.usable:
            reason = "DANE: TLSA records, none of them usable"
            self._security.failed(
                mx.domain, FailureType.TLSA_INVALID, f"{records.base}: no TLSA record is usable", policy
            )
            return Requirement(self._host, Level.ENCRYPT, reason=reason, policy=policy)
        names = [records.base]
        if self._domain.secure and not mx.routed:
            # RFC 7672 section 3.2.2: the name of the mail domain does as well where its MX is secure.
            names += [mx.domain, mx.canonical]
        return Requirement(
            self._host,
            Level.DANE,
            names=tuple(dict.fromkeys(name for name in names if name)),
            tlsa=records.usable,
            reason=f"DANE: TLSA records of {records.base}",
            policy=policy,
        )

    # --- MTA-STS -----------------------------------------------------------------------------------

    async def _by_sts(self, found: Requirement) -> Requirement | Reply:
        """What the MTA-STS policy makes of it."""
        sts = await self._domain.sts(self._deadline)
        if isinstance(sts, Reply):
            return sts
        if sts.policy is None:
            return found
        domain = self._domain.mx.domain
        policy = Policy(PolicyType.STS, domain, sts.policy.lines, sts.policy.mx)
        reason = f"MTA-STS policy of {domain}"
        named = sts.policy.matches(self._host)
        if not named:
            self._security.failed(
                domain, FailureType.VALIDATION_FAILURE, f"{self._host} is not in the MTA-STS policy", policy
            )
        if sts.policy.mode == "enforce":
            if not named:
                return wording.not_in_policy(self._host, domain)
            if found.level is Level.DANE:
                return found
            return replace(found, level=Level.STS, reason=reason, policy=policy)
        if named and found.level is Level.MAY:
            return replace(found, testing=True, reason=f"{reason} (testing)", policy=policy)
        return found

    # --- capability record -------------------------------------------------------------------------

    async def _capabilities(self) -> Capabilities | Reply | None:
        """What the host promises; a Reply when a promise has been taken away by force."""
        pins, host = self._security.pins, self._host
        answer = await self._ask(owner_name(host, self._addresses.port), "SVCB")
        what = f"the capability record of {host}"
        if answer.status is Status.BOGUS:
            self._fail(FailureType.DNSSEC_INVALID, f"capability record of {host}: {answer.reason}")
            return wording.bogus(what, answer.reason)
        if answer.status is Status.FAIL:
            # Servers that drop questions of a type they do not know are no attack; one that answered is.
            return wording.no_answer(what, answer.reason) if pins.known("capability", host) else None
        if not self._security.believes(answer.status):
            held = pins.missing("capability", host, "the answer is unsigned")
            return None if held is None else wording.lost(f"The capability record of {host}", held)
        capabilities = read_capabilities(answer.records)
        if capabilities is None:
            pins.forget("capability", host)
        else:
            pins.proven("capability", host)
        return capabilities

    # --- our own demands ---------------------------------------------------------------------------

    def _by_ourselves(self, found: Requirement) -> Requirement | Reply:
        wishes, host = self._domain.wishes, self._host
        least = max(wishes.minimum, self._security.settings.level)
        if wishes.minimum is Level.NONE and not wishes.require_tls:
            return replace(found, level=Level.NONE, reason="our policy") if _is_free(found) else found
        if wishes.require_tls:
            least = max(least, Level.VERIFY)
        if found.level >= least:
            return found
        if least in (Level.DANE, Level.STS):
            if least is Level.DANE:
                self._fail(FailureType.DANE_REQUIRED, f"{host} has no usable TLSA records")
            return wording.demanded(host, "DANE" if least is Level.DANE else "MTA-STS or DANE")
        reason = "REQUIRETLS" if wishes.require_tls and least is Level.VERIFY else "our policy"
        # What is reported under a policy must have been looked at, also where it is only tested.
        testing = found.testing and not least.authenticates
        return replace(found, level=least, testing=testing, reason=reason)

    # --- inside ------------------------------------------------------------------------------------

    async def _ask(self, name: str, rdtype: str) -> Answer:
        return await self._security.resolver.query(name, rdtype, self._deadline)

    def _fail(self, failure: FailureType, detail: str) -> None:
        self._security.failed(self._domain.mx.domain, failure, detail)


def _is_free(found: Requirement) -> bool:
    """Whether nothing was proven or demanded."""
    return found.level is Level.MAY and not found.testing


def _raise_by(found: Requirement, capabilities: Capabilities) -> Requirement:
    """The requirement with what the host promises."""
    raised = replace(found, floor=capabilities.tls_floor, promised=capabilities.promised)
    if found.level > Level.MAY:
        return raised
    return replace(raised, level=Level.ENCRYPT, reason=f"capability record of {found.host}")
