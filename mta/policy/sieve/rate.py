"""vnd.tamis.rate: how often something happens. Status: complete.

    rate [:on_error <way>] [:cost <n>] [:window] [:peek] :limit <n> :per <period> <name> <key>

True when the limit is exceeded. By default a bucket of `limit` that is filled again evenly within `per`:
what is refused is not counted. With `:window` everything is counted, for a period from the first event on.
`:peek` asks and counts nothing. Counters are those of all workers of the node, and of all nodes with
`policy.counters`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from mta.config.units import parse_duration
from mta.policy.counting import bucket, window
from mta.policy.ledger import Change, Ledger, LedgerUnavailable
from mta.policy.sieve.asking import Services, Unavailable
from mta.policy.sieve.facts import IN_SESSION, Facts
from mta.policy.sieve.onerror import ON_ERROR, check_on_error, unavailable, way_of
from sieve_ext.extend import (
    NUMBER,
    STRING,
    Capability,
    Checker,
    Compiler,
    Request,
    Run,
    Step,
    Test,
    string,
    tag,
)

PERIOD_MOST = 31 * 86400.0


@dataclass(frozen=True)
class Count(Request):
    """Has something happened too often? Answered by a bool, or Unavailable."""

    name: str
    key: str
    limit: int
    per: float
    cost: int
    windowed: bool
    peek: bool

    def unanswered(self) -> Any:
        """Nobody counts: that is no "no"."""
        return Unavailable("nobody counts")


def rate_services(ledger: Ledger, clock: Callable[[], float]) -> Services:
    """Who counts; `clock` gives the time of day in seconds."""

    def count(request: Count, facts: Facts) -> Any:
        make = window if request.windowed else bucket
        change = make(request.limit, request.per, request.cost, clock(), peek=request.peek)
        kind = "w" if request.windowed else "b"
        return ask(ledger, f"{kind}:{request.name}:{digest(request.key)}", change)

    return {Count: count}


async def ask(ledger: Ledger, key: str, change: Change) -> Any:
    """The answer of a change, or Unavailable."""
    try:
        return await ledger.update(key, change)
    except LedgerUnavailable as error:
        return Unavailable(str(error))


def digest(*parts: str) -> str:
    """A key of fixed length for texts of any length and content."""
    hashed = blake2b(digest_size=16)
    for part in parts:
        octets = part.lower().encode("utf-8", "surrogateescape")
        hashed.update(len(octets).to_bytes(4, "big") + octets)
    return hashed.hexdigest()


def period(text: str, most: float = PERIOD_MOST) -> float | str:
    """Seconds of a period, or what is wrong with it."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        return f"'{text[:40]}' is no period: {error}"
    return (
        seconds if 1 <= seconds <= most else f"'{text[:40]}' is not within a second and {most / 86400:g} days"
    )


class RateTest(Test):
    """rate [:on_error w] [:cost n] [:window] [:peek] :limit n :per <period> <name> <key>."""

    word = "rate"
    stages = IN_SESSION
    args_definition = (
        ON_ERROR,
        tag("limit", ":limit", value=NUMBER),
        tag("per", ":per", value=STRING),
        tag("cost", ":cost", value=NUMBER),
        tag("window", ":window"),
        tag("peek", ":peek"),
        string("name"),
        string("key"),
    )

    def check(self, checker: Checker) -> None:
        """Limit and period are there; the name is constant."""
        check_on_error(self, checker)
        limit, cost = self.number("limit"), self.number("cost", 1) or 0
        if limit is None or limit < 1 or not 1 <= cost <= limit:
            checker.error(
                self, "bad-limit", "rate needs :limit of at least 1, and :cost is 1 up to it",
                'rate :limit 100 :per "1h" "mails" "${env.remote_ip}"',
            )  # fmt: skip
        given = self.text("per")
        text = checker.constant(given)
        if text is None:
            checker.error(given or self, "bad-period", 'rate needs :per and a constant period such as "1h"')
        elif isinstance(problem := period(text), str):
            checker.error(given or self, "bad-period", problem)
        if not checker.constant(self.given["name"]):
            checker.error(self.given["name"], "bad-name", "the name of a rate is a constant, and not empty")

    def compile(self, compiler: Compiler) -> Step:
        """Ask."""
        per = period(compiler.text(self.text("per")).constant or "")
        assert isinstance(per, float | int)
        limit, cost = self.number("limit") or 1, self.number("cost", 1) or 1
        name = compiler.text(self.given["name"]).constant or ""
        key, way = compiler.text(self.given["key"]), way_of(self)
        windowed, peek = "window" in self.tags, "peek" in self.tags

        def test(run: Run) -> Generator[Request, Any, bool]:
            run.spend(1)
            answer = yield Count(name, key.expand(run), limit, per, cost, windowed, peek)
            if isinstance(answer, Unavailable):
                unavailable(run, way, "rate", answer)
                return False
            return bool(answer)

        return test


CAPABILITIES = (Capability("vnd.tamis.rate", words=(RateTest,), specification="docs/policy/rate.md"),)
