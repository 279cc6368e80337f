"""DMARC: whether a message may carry its From (RFC 9989, or RFC 7489 by option).

    found = await check(resolver, message, spf, dkim, deadline=loop.time() + 10)
    found.result.result      # Result.PASS, FAIL, NONE, TEMPERROR, PERMERROR
    found.disposition        # what the author's domain asks to be done with a failed message

SPF counts with the identity of MAIL FROM only, DKIM with the "d" of each good signature. No pass while SPF or
DKIM of an aligned domain is a temperror is no fail: it is TEMPERROR, as it is when the DNS keeps the policy
back. Several author domains are checked one by one, and the worst counts (RFC 9989 section 11.5). From that
several readers would read in several ways (`mta.authn.dmarcauthor`) never passes: it is PERMERROR, or FAIL
where a domain that one of them could see says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from mta.address import AddressError, domain_key
from mta.authn.dmarcauthor import Author, find_author, suspected_domains
from mta.authn.dmarcrecord import DmarcRecord, Policy
from mta.authn.dmarcwalk import Walk, lookup, organizational_by_list, walk
from mta.authn.results import MethodResult, Result
from mta.authn.spf import SpfResult
from mta.net.resolver.base import Resolver
from sieve_ext.message.header import Header

MAX_AUTHORS = 4
"""Author domains of one message that are checked; with more it is PERMERROR at best."""
MAX_IDENTIFIERS = 10
"""Signing domains that are compared; further ones do not count."""


@dataclass(slots=True, frozen=True)
class DmarcSettings:
    """How to evaluate."""

    public_suffixes: bool = False
    """The way of RFC 7489: the public suffix list instead of the tree walk, "pct" counts, "np", "psd" and "t"
    do not."""


@dataclass(slots=True, frozen=True)
class DmarcResult:
    """What DMARC says about a message."""

    result: MethodResult
    author: Author
    domain: str = ""
    """The author domain that decided, "" without one."""
    organizational: str = ""
    """Its organizational domain, as far as it had to be found out."""
    policy_domain: str = ""
    """Where the policy is published, "" without one."""
    record: DmarcRecord | None = None
    policy: Policy = Policy.NONE
    """What the record asks for this domain: "p", "sp" or "np"."""
    disposition: Policy = Policy.NONE
    """What is to be done with a failed message after test mode and sampling; NONE unless it failed."""
    spf_aligned: bool = False
    dkim_aligned: tuple[str, ...] = ()
    """Signing domains that are aligned and passed."""
    identifiers: tuple[str, ...] = field(default=())
    """Domains that passed SPF or DKIM, aligned or not."""

    @property
    def passed(self) -> bool:
        """True for "pass"."""
        return self.result.passed


@dataclass(slots=True, frozen=True)
class _Identifier:
    """A domain with what its method said."""

    domain: str
    result: Result
    is_dkim: bool


async def check(
    resolver: Resolver,
    header: Header,
    spf: SpfResult | None,
    dkim: Sequence[MethodResult],
    *,
    deadline: float,
    settings: DmarcSettings | None = None,
    draw: float = 0.0,
) -> DmarcResult:
    """Evaluate DMARC for a message.

    `spf` is the result for MAIL FROM, None when it was not checked; `dkim` has one result with "header.d" for
    each signature. `draw` is a random number from 0 up to 100 for "pct" (RFC 7489 section 6.6.4). `deadline`
    is in seconds of the running loop's clock. Raises nothing but CancelledError.
    """
    author = find_author(header)
    domains = author.domains if not author.domain else (author.domain,)
    is_sure = 0 < len(domains) <= MAX_AUTHORS
    domains = domains if is_sure else suspected_domains(header)[:MAX_AUTHORS]
    evaluation = _Evaluation(resolver, _identifiers(spf, dkim), deadline, settings or DmarcSettings(), draw)
    # It was we who could not look at the signatures: whose they are is not known.
    evaluation.unread = any(
        one.result is Result.TEMPERROR and "header.d" not in one.properties for one in dkim
    )
    found = [await evaluation.check(author, domain) for domain in domains]
    if not is_sure:
        found.append(DmarcResult(MethodResult("dmarc", Result.PERMERROR, author.reason), author))
    return max(found, key=_badness)


def _identifiers(spf: SpfResult | None, dkim: Sequence[MethodResult]) -> list[_Identifier]:
    found: dict[_Identifier, None] = {}
    usable = (Result.PASS, Result.TEMPERROR)
    if spf is not None and spf.identity == "mailfrom" and spf.result.result in usable:
        found[_Identifier(_key(spf.domain), spf.result.result, False)] = None
    for one in dkim:
        domain = _key(one.properties.get("header.d", ""))
        if domain and one.result in usable and len(found) <= MAX_IDENTIFIERS:
            found[_Identifier(domain, one.result, True)] = None
    return list(found)


def _key(domain: str) -> str:
    """A domain in the form of author domains, "" for none."""
    try:
        return domain_key(domain)
    except AddressError:
        return ""


def _badness(found: DmarcResult) -> tuple[int, int]:
    order = (Result.PASS, Result.NONE, Result.PERMERROR, Result.TEMPERROR, Result.FAIL)
    return order.index(found.result.result), list(Policy).index(found.disposition)


class _Evaluation:
    """The check of one message; remembers the walks."""

    def __init__(
        self,
        resolver: Resolver,
        identifiers: Sequence[_Identifier],
        deadline: float,
        settings: DmarcSettings,
        draw: float,
    ) -> None:
        self.resolver = resolver
        self.identifiers = identifiers
        self.deadline = deadline
        self.settings = settings
        self.draw = draw
        self.walks: dict[str, Walk] = {}
        self.unread = False
        """Signatures could not be looked at."""

    async def check(self, author: Author, domain: str) -> DmarcResult:
        """DMARC for one author domain."""
        if self.settings.public_suffixes:
            policy = await lookup(self.resolver, domain, self.deadline)
        else:
            policy = await walk(self.resolver, domain, self.deadline, whole=False)
        identifiers = tuple(one.domain for one in self.identifiers if one.result is Result.PASS)

        def end(result: Result, reason: str, **others: object) -> DmarcResult:
            properties = {"header.from": domain}
            if result in (Result.PASS, Result.FAIL):
                properties["policy.dmarc"] = str(others.get("disposition", Policy.NONE))
            whole = MethodResult("dmarc", result, reason, properties)
            return DmarcResult(whole, author, domain, identifiers=identifiers, **others)  # type: ignore[arg-type]

        if policy.error:
            return end(Result.TEMPERROR, f"policy of the author's domain: {policy.error}")
        record = policy.policy
        if record is None:
            return end(Result.NONE, "no policy", organizational=policy.organizational)
        if not record.applies:
            return end(Result.NONE, "the policy record asks for nothing", policy_domain=policy.policy_domain)
        if policy.inherited:
            self.walks[domain] = policy
        aligned, waiting, error = await self.align(domain, record)
        organizational = self.walks[domain].organizational if domain in self.walks else ""
        known = {
            "record": record,
            "policy_domain": policy.policy_domain,
            "organizational": organizational,
            "spf_aligned": any(not one.is_dkim for one in aligned),
            "dkim_aligned": tuple(one.domain for one in aligned if one.is_dkim),
        }
        published = f"p={record.p} at {policy.policy_domain}"
        if aligned:
            return end(Result.PASS, published, **known)
        if waiting or error or self.unread:
            return end(Result.TEMPERROR, error or "SPF or DKIM of an aligned domain: temperror", **known)
        exists = True
        if policy.inherited and record.np is not None and not self.settings.public_suffixes:
            answer = await self.resolver.query(domain, "A", self.deadline)
            if not answer.usable:
                return end(Result.TEMPERROR, f"whether the author's domain exists: {answer.reason}", **known)
            exists = answer.exists
        wanted = record.policy_for(inherited=policy.inherited, exists=exists)
        lowered = self.draw >= record.percent if self.settings.public_suffixes else record.testing
        disposition = wanted.lowered if lowered else wanted
        return end(
            Result.FAIL, f"{published}: {self.failure()}", policy=wanted, disposition=disposition, **known
        )

    async def align(
        self, domain: str, record: DmarcRecord
    ) -> tuple[list[_Identifier], list[_Identifier], str]:
        """Aligned identifiers that passed, those that may yet pass, and why something is not known."""
        aligned: list[_Identifier] = []
        near: list[_Identifier] = []
        for one in self.identifiers:
            if one.domain == domain:
                aligned.append(one)
            elif not (record.strict_dkim if one.is_dkim else record.strict_spf):
                near.append(one)
        error = ""
        if any(one.domain.rpartition(".")[2] == domain.rpartition(".")[2] for one in near):
            await self.learn([domain])
            home = self.walks[domain]
            error = home.error
            # An organizational domain is the domain or above it. So only what is below the author's can have
            # the same, and no DNS but that of the author's organization has a say in the result.
            suffix = "." + home.organizational
            near = [] if error else [one for one in near if f".{one.domain}".endswith(suffix)]
            await self.learn([one.domain for one in near])
            for one in near:
                there = self.walks[one.domain]
                if there.error:
                    error = there.error
                elif there.organizational == home.organizational:
                    aligned.append(one)
        passed = [one for one in aligned if one.result is Result.PASS]
        waiting = [one for one in aligned if one.result is Result.TEMPERROR]
        return passed, waiting, f"organizational domain: {error}" if error else ""

    async def learn(self, domains: Sequence[str]) -> None:
        """Find the organizational domains."""
        missing = [domain for domain in dict.fromkeys(domains) if domain not in self.walks]
        if self.settings.public_suffixes:
            for domain in missing:
                self.walks[domain] = Walk(domain, organizational_by_list(domain))
            return
        found = await asyncio.gather(*(walk(self.resolver, name, self.deadline) for name in missing))
        self.walks.update(zip(missing, found, strict=True))

    def failure(self) -> str:
        """Why nothing passed, in words."""
        if not any(one.result is Result.PASS for one in self.identifiers):
            return "neither SPF nor DKIM passed"
        return "no domain that passed SPF or DKIM is aligned"
