"""vnd.tamis.greylist: strangers have to come twice (RFC 6647). Status: complete.

    greylist [:on_error <way>] [:delay <period>] [:within <period>] [:lifetime <period>]
             [:prefix <bits>] [:prefix6 <bits>] [:clients <n>]

A test and a command of stage "rcpt". True while the triplet of client network, sender and recipient has to
wait; as a command it then answers 451 4.7.1. What passed is remembered for `lifetime`, and a network from
which `clients` triplets passed is let pass altogether.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from mta.policy.counting import Greylist, passes, triplet
from mta.policy.ledger import Ledger, LedgerUnavailable
from mta.policy.sieve.asking import Services, Unavailable
from mta.policy.sieve.facts import RCPT, Facts
from mta.policy.sieve.networks import PREFIXES, network
from mta.policy.sieve.onerror import ON_ERROR, check_on_error, unavailable, way_of
from mta.policy.sieve.rate import digest, period
from mta.policy.sieve.reply import Answer
from mta.reply import Reply
from sieve_ext.extend import (
    NUMBER,
    STRING,
    Act,
    Capability,
    Checker,
    Compiler,
    Node,
    Request,
    Run,
    Step,
    Test,
    tag,
)

LONGEST = 366 * 86400.0
_DEFAULT = Greylist()
ARGUMENTS = (
    ON_ERROR,
    tag("delay", ":delay", value=STRING),
    tag("within", ":within", value=STRING),
    tag("lifetime", ":lifetime", value=STRING),
    tag("prefix", ":prefix", value=NUMBER),
    tag("prefix6", ":prefix6", value=NUMBER),
    tag("clients", ":clients", value=NUMBER),
)


@dataclass(frozen=True)
class AskGreylist(Request):
    """How many seconds has this recipient's mail still to wait? 0: not at all; or Unavailable."""

    rules: Greylist
    prefixes: tuple[int, int]

    def unanswered(self) -> Any:
        """Nobody remembers: that is no "passes"."""
        return Unavailable("nobody keeps a greylist")


def greylist_services(ledger: Ledger, clock: Callable[[], float]) -> Services:
    """Who remembers; `clock` gives the time of day in seconds."""

    async def wait(request: AskGreylist, facts: Facts) -> Any:
        assert facts.envelope is not None  # the words are legal in stage "rcpt" only
        assert facts.recipient is not None
        now, rules = clock(), request.rules
        client = network(facts.session.client_address, request.prefixes)
        whole = digest(client, facts.envelope.sender.text, facts.recipient.address.key)
        try:
            if rules.clients and await ledger.update(f"gn:{digest(client)}", passes(rules, now, more=0)):
                return 0.0
            left, is_new = await ledger.update(f"gt:{whole}", triplet(rules, now))
            if is_new and rules.clients:
                await ledger.update(f"gn:{digest(client)}", passes(rules, now, more=1))
        except LedgerUnavailable as error:
            return Unavailable(str(error))
        return left

    return {AskGreylist: wait}


def _check(node: Node, checker: Checker) -> None:
    check_on_error(node, checker)
    for name in ("delay", "within", "lifetime"):
        given = node.text(name)
        if given is None:
            continue
        text = checker.constant(given)
        problem = "a period is constant" if text is None else period(text, LONGEST)
        if isinstance(problem, str):
            checker.error(given, "bad-period", problem)
    for name, most in (("prefix", 32), ("prefix6", 128)):
        bits = node.number(name)
        if bits is not None and not 8 <= bits <= most:
            checker.error(node.tags[name], "bad-prefix", f"a prefix is 8 to {most} bits, not {bits}")
    delay, within = _seconds(node, "delay", _DEFAULT.delay), _seconds(node, "within", _DEFAULT.within)
    if delay >= within:
        checker.error(node, "bad-period", "nothing would ever pass: :delay is not less than :within")


def _seconds(node: Node, name: str, default: float) -> float:
    given = node.text(name)
    found = default if given is None else period(given.value, LONGEST)
    return default if isinstance(found, str) else found


def _compile(node: Node, compiler: Compiler) -> Callable[[Run], Generator[Request, Any, float]]:
    clients = node.number("clients")
    rules = Greylist(
        _seconds(node, "delay", _DEFAULT.delay),
        _seconds(node, "within", _DEFAULT.within),
        _seconds(node, "lifetime", _DEFAULT.lifetime),
        _DEFAULT.clients if clients is None else clients,
    )
    prefixes = (node.number("prefix") or PREFIXES[0], node.number("prefix6") or PREFIXES[1])
    way = way_of(node)

    def ask(run: Run) -> Generator[Request, Any, float]:
        answer = yield AskGreylist(rules, prefixes)
        if isinstance(answer, Unavailable):
            unavailable(run, way, "greylist", answer)
            return 0.0
        return float(answer)

    return ask


class GreylistTest(Test):
    """greylist [tags]: it has to wait."""

    word = "greylist"
    stages = RCPT
    args_definition = ARGUMENTS

    def check(self, checker: Checker) -> None:
        """Periods and prefixes make sense."""
        _check(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """True while it has to wait."""
        ask = _compile(self, compiler)

        def test(run: Run) -> Generator[Request, Any, bool]:
            return (yield from ask(run)) > 0

        return test


class GreylistCommand(Act):
    """greylist [tags]: 451 4.7.1 while it has to wait."""

    word = "greylist"
    stages = RCPT
    args_definition = ARGUMENTS

    def check(self, checker: Checker) -> None:
        """Periods and prefixes make sense."""
        _check(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Refuse for now."""
        ask = _compile(self, compiler)

        def make(run: Run) -> Any:
            left = yield from ask(run)
            if left <= 0:
                return None
            return Answer(Reply(451, "4.7.1", f"greylisted, try again in {math.ceil(left)} seconds"))

        return compiler.action(self, make)


CAPABILITIES = (
    Capability(
        "vnd.tamis.greylist", words=(GreylistTest, GreylistCommand), specification="docs/policy/greylist.md"
    ),
)
