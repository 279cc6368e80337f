"""vnd.tamis.net, what asks the DNS. Status: complete.

    reverse_dns [:on_error <way>] [COMPARATOR] [MATCH-TYPE] <keys>
    dns [:on_error <way>] [:type <type>] [COMPARATOR] [MATCH-TYPE] <name> <keys>
    dnsbl [:on_error <way>] [:threshold <n>] [:domain <domain>] [:value <variable>] <lists>

`reverse_dns` compares the name of the client that leads back to its address. `dns` compares what records
say. `dnsbl` adds the weights of the lists that have the client (or a domain), each "zone", "zone=answers"
or "zone=answers*weight"; answers are as 127.0.0.[2..11] or 127.0.0.2;127.0.0.4.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from mta.policy.sieve.asking import Services, Unavailable
from mta.policy.sieve.facts import IN_SESSION, Facts
from mta.policy.sieve.onerror import ON_ERROR, check_on_error, unavailable, way_of
from sieve_ext.extend import (
    MATCHING,
    NUMBER,
    STRING,
    Checker,
    Compiler,
    Node,
    Request,
    Run,
    Step,
    Test,
    string,
    strings,
    tag,
    texts,
    warn_of_wildcards,
)

DNS = "tamis_dns"
"""The setting that is "no" where the configuration names no resolver."""
TYPES = ("A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT")
RECORDS_MOST = 100
"""Records of one answer that are compared."""
WEIGHT_MOST = 1000
REFUSALS = "127.255.255."
"""Begins the answers with which Spamhaus and others tell a mistyped zone, a resolver that they do not serve,
and too many queries: about every address."""
NO_RESOLVER = Unavailable("dns.resolvers names no resolver")


@dataclass(frozen=True)
class ReverseName(Request):
    """The confirmed name of the client, "" without one, or Unavailable."""

    def unanswered(self) -> Any:
        """No DNS, no answer."""
        return NO_RESOLVER


@dataclass(frozen=True)
class Records(Request):
    """What the records of a name say: a list of texts, or Unavailable."""

    name: str
    type: str

    def unanswered(self) -> Any:
        """No DNS, no answer."""
        return NO_RESOLVER


@dataclass(frozen=True)
class DnsList:
    """A DNS list, and the domain that is looked for; None: the client."""

    zone: str
    domain: str | None


@dataclass(frozen=True)
class DnsLists(Request):
    """Which addresses do lists answer? For each a list of texts, or Unavailable."""

    lists: tuple[DnsList, ...]

    def unanswered(self) -> Any:
        """No DNS, no answer."""
        return [NO_RESOLVER] * len(self.lists)


def dns_services(resolver: Any, timeout: float) -> Services:
    """Who asks; `resolver` is a `mta.net.resolver.base.Resolver`."""
    from mta.authn import iprev
    from mta.authn.results import Result
    from mta.tables.dns import record_text
    from mta.tables.template import reversed_address

    def until() -> float:
        return asyncio.get_running_loop().time() + timeout

    async def reverse(request: ReverseName, facts: Facts) -> Any:
        found = await iprev.check(resolver, facts.session.client_address, deadline=until())
        if found.result.result is Result.TEMPERROR:
            return Unavailable(found.result.reason)
        return found.name

    async def records(request: Records, facts: Facts) -> Any:
        answer = await resolver.query(request.name, request.type, until())
        if not answer.usable:
            return Unavailable(f"{request.name} {request.type}: {answer.reason or answer.status.value}")
        return [record_text(one) for one in answer.records[:RECORDS_MOST]]

    async def listed(request: DnsList, facts: Facts) -> Any:
        name = (
            request.domain if request.domain is not None else reversed_address(facts.session.client_address)
        )
        if not name:
            return []
        return await records(Records(f"{name.rstrip('.')}.{request.zone}", "A"), facts)

    async def lists(request: DnsLists, facts: Facts) -> Any:
        return await asyncio.gather(*(listed(one, facts) for one in request.lists))

    return {ReverseName: reverse, Records: records, DnsLists: lists}


def _check_dns(node: Node, checker: Checker) -> None:
    check_on_error(node, checker)
    if checker.unit.settings.text(DNS) == "no":
        checker.error(
            node, "no-resolver", f"the {node.name} test asks the DNS, and dns.resolvers names no resolver",
            'in tamis.toml: [dns] resolvers = ["127.0.0.1"]',
        )  # fmt: skip


def _asked(run: Run, request: Request, way: str, what: str) -> Generator[Request, Any, Any]:
    """The answer, asked once in a run; None when it is not to be had and that is to be ignored."""
    known = run.state.setdefault(DNS, {})
    if request not in known:
        known[request] = yield request
    answer = known[request]
    if isinstance(answer, Unavailable):
        unavailable(run, way, what, answer)
        return None
    return answer


class ReverseDnsTest(Test):
    """reverse_dns [:on_error w] [COMPARATOR] [MATCH-TYPE] <keys: string-list>."""

    word = "reverse_dns"
    stages = IN_SESSION
    args_definition = (ON_ERROR, *MATCHING, strings("keys"))

    def check(self, checker: Checker) -> None:
        """There is a resolver."""
        _check_dns(self, checker)
        warn_of_wildcards(self, checker, alone=True)

    def compile(self, compiler: Compiler) -> Step:
        """Compare the name; there is no value where no name leads back."""
        way = way_of(self)

        def values(run: Run) -> Generator[Request, Any, list[str]]:
            name = yield from _asked(run, ReverseName(), way, "reverse_dns")
            return [name] if name else []

        return compiler.match(self, values)


class DnsTest(Test):
    """dns [:on_error w] [:type t] [COMPARATOR] [MATCH-TYPE] <name: string> <keys: string-list>."""

    word = "dns"
    stages = IN_SESSION
    args_definition = (
        ON_ERROR,
        tag("type", ":type", value=STRING),
        *MATCHING,
        string("name"),
        strings("keys"),
    )

    def check(self, checker: Checker) -> None:
        """There is a resolver, and the type is one."""
        _check_dns(self, checker)
        given = self.text("type")
        if given is not None and (checker.constant(given) or "").upper() not in TYPES:
            checker.error(given, "bad-type", f"'{given.value}' is no type of records", ", ".join(TYPES))
        warn_of_wildcards(self, checker, alone=True)

    def compile(self, compiler: Compiler) -> Step:
        """Compare what the records say."""
        way, name = way_of(self), compiler.text(self.given["name"])
        given = self.text("type")
        rdtype = "A" if given is None else given.value.upper()

        def values(run: Run) -> Generator[Request, Any, list[str]]:
            found = yield from _asked(run, Records(name.expand(run), rdtype), way, "dns")
            run.spend(len(found or ()))
            return list(found or ())

        return compiler.match(self, values)


@dataclass(frozen=True)
class Listing:
    """One list of `dnsbl`."""

    zone: str
    answers: tuple[tuple[tuple[int, ...], ...], ...]
    """What counts as listed, octet by octet; empty: any 127.0.0.0/8."""
    weight: int

    def has(self, addresses: list[str]) -> bool:
        """One of the addresses means that it is listed."""
        for address in addresses:
            octets = address.split(".")
            if len(octets) != 4 or octets[0] != "127":
                continue  # a list that has gone answers anything: RFC 5782 section 2.1 allows 127/8 only
            numbers = [int(one) for one in octets]
            if self.answers:
                is_meant = any(
                    all(number in allowed for number, allowed in zip(numbers, pattern, strict=True))
                    for pattern in self.answers
                )
            else:
                is_meant = not address.startswith(REFUSALS)
            if is_meant:
                return True
        return False

    def refusal(self, addresses: list[str]) -> Unavailable | None:
        """Why the list has not been asked in truth, None if it has: so it answers resolvers of the public."""
        found = next((one for one in addresses if one.startswith(REFUSALS)), None)
        if found is None or self.has(addresses):
            return None
        return Unavailable(f"{self.zone} does not serve this resolver: it answers {found}")


def parse_listing(text: str) -> Listing:
    """Read "zone=answers*weight". Raises ValueError."""
    rest, star, weight = text.partition("*")
    zone, equals, answers = rest.partition("=")
    zone = zone.strip().rstrip(".").lower()
    if not zone or any(not (c.isalnum() or c in "-_.") for c in zone) or "" in zone.split("."):
        raise ValueError(f"'{zone}' is no name of a DNS list")
    if star and not re.fullmatch(r"-?\d{1,4}", weight.strip()):
        raise ValueError(f"'{weight}' is no weight")
    number = int(weight) if star else 1
    if not number or abs(number) > WEIGHT_MOST:
        raise ValueError(f"a weight is up to {WEIGHT_MOST}, and not 0")
    patterns = tuple(_pattern(one.strip()) for one in answers.split(";")) if equals else ()
    return Listing(zone, patterns, number)


def _pattern(text: str) -> tuple[tuple[int, ...], ...]:
    parts = re.findall(r"\d+|\[[^]]*\]|.", text)
    octets, dots = parts[::2], parts[1::2]
    if len(octets) != 4 or dots != ["."] * 3:
        raise ValueError(f"'{text}' is no answer such as 127.0.0.2 or 127.0.0.[2..11]")
    return tuple(_octet(one, text) for one in octets)


def _octet(text: str, whole: str) -> tuple[int, ...]:
    found: list[int] = []
    for piece in text.strip("[]").split(","):
        first, dots, last = piece.strip().partition("..")
        if not first.isdigit() or (dots and not last.isdigit()):
            raise ValueError(f"'{whole}' is no answer such as 127.0.0.2 or 127.0.0.[2..11]")
        low, high = int(first), int(last if dots else first)
        if not low <= high <= 255:
            raise ValueError(f"'{piece}' is no part of an address")
        found += range(low, high + 1)
    return tuple(found)


def bad_listing(text: str) -> str | None:
    """What is wrong with a list of `dnsbl`."""
    try:
        parse_listing(text)
    except ValueError as error:
        return str(error)
    return None


class DnsblTest(Test):
    """dnsbl [:on_error w] [:threshold n] [:domain d] [:value variable] <lists: string-list>."""

    word = "dnsbl"
    stages = IN_SESSION
    args_definition = (
        ON_ERROR,
        tag("threshold", ":threshold", value=NUMBER),
        tag("domain", ":domain", value=STRING),
        tag("value", ":value", value=STRING),
        strings("lists", check=bad_listing),
    )

    def check(self, checker: Checker) -> None:
        """There is a resolver; lists are constant."""
        _check_dns(self, checker)
        for text in texts(self.given["lists"]):
            if checker.constant(text) is None:
                checker.error(text, "bad-argument", "DNS lists are constant")
        if self.number("threshold", 1) == 0:
            checker.error(self.tags["threshold"], "bad-limit", "a threshold is at least 1")
        if self.text("value") is not None:
            checker.variable(self.text("value"))

    def compile(self, compiler: Compiler) -> Step:
        """Ask all at the same time, and add."""
        way, threshold = way_of(self), self.number("threshold", 1) or 1
        listings = [parse_listing(text.value) for text in texts(self.given["lists"])]
        given, named = self.text("domain"), self.text("value")
        domain = None if given is None else compiler.text(given)
        write = None if named is None else compiler.variable(named).write

        def test(run: Run) -> Generator[Request, Any, bool]:
            run.spend(len(listings))
            about = None if domain is None else domain.expand(run).strip().lower()
            request = DnsLists(tuple(DnsList(one.zone, about) for one in listings))
            answers = yield from _asked(run, request, way, "dnsbl")
            if answers is None:
                return False
            score, names, failed = 0, [], None
            more = less = 0
            for listing, answer in zip(listings, answers, strict=True):
                problem = answer if isinstance(answer, Unavailable) else listing.refusal(answer)
                if problem is not None:
                    failed = failed or problem
                    more += max(listing.weight, 0)
                    less += min(listing.weight, 0)
                elif listing.has(answer):
                    score += listing.weight
                    names.append(listing.zone)
            if failed is not None and score + less < threshold <= score + more:
                unavailable(run, way, "dnsbl", failed)  # what did not answer might decide
                return False
            if score < threshold:
                return False
            if write is not None:
                write(run, run.limit_value(", ".join(names)))
            return True

        return test


WORDS = (ReverseDnsTest, DnsTest, DnsblTest)
