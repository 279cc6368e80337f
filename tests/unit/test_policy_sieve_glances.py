"""Stages that are told at a glance to have nothing to say come to the same as when they are run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import NULL, parse_address
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.policy.ground import DomainRule, Ground, PolicySettings
from mta.policy.recipients import Everybody
from mta.policy.sieve.asking import Services, asked
from mta.policy.sieve.auth import Authenticate
from mta.policy.sieve.facts import Facts, Surroundings
from mta.policy.sieve.local import EXISTS, CheckRecipient, Found, OwnsSender
from mta.policy.sieve.outcome import NOTHING, Outcome
from mta.policy.sieve.policy import script_envelope
from mta.policy.sieve.program import Program, load, settings_for
from mta.reply import Reply
from sieve_ext import Request
from sieve_ext.message import Message
from tests.unit.policy_tables import MESSAGE, session

BASE = Path("conf/policy.sieve")
REQUIRE = (
    'require ["vnd.tamis.stage", "vnd.tamis.site", "vnd.tamis.auth", "vnd.tamis.reply", "environment",'
    ' "envelope", "vnd.tamis.envelope", "variables"];\n'
)


def made(text: str) -> Program:
    program, found = load([("t.sieve", text.encode())], settings_for(("mx",), has_queue=True))
    assert program is not None, [str(one) for one in found]
    return program


class Site:
    """A site that notes what it is asked."""

    def __init__(self, **said: Any) -> None:
        self.said: dict[type[Request], Any] = {
            OwnsSender: said.get("owns", True),
            CheckRecipient: said.get("found", EXISTS),
            Authenticate: said.get("result"),
        }
        self.asked: list[Request] = []
        self.waits = said.get("waits", False)

    def services(self) -> Services:
        return dict.fromkeys(self.said, self._answer)

    def _answer(self, request: Request, facts: Facts) -> Any:
        self.asked.append(request)
        answer = self.said[type(request)]
        if isinstance(answer, Exception):
            raise answer
        return self._later(answer) if self.waits else answer

    @staticmethod
    async def _later(answer: Any) -> Any:
        await asyncio.sleep(0)
        return answer


def facts_of(stage: str, *, user: str = "", to: str = "b@x.test", listener: str = "smtp") -> Facts:
    client = session()
    client.user, client.listener = user, listener
    ground = Ground(
        PolicySettings(
            {"x.test": DomainRule(NextHop("backend", "store"), Everybody())},
            parse_address("postmaster@x.test"),
            auth_required=frozenset({"submission"}),
        )
    )
    recipient = Recipient(parse_address(to))
    envelope = Envelope(parse_address("a@x.test") if user else NULL, [recipient])
    return Facts(
        stage,
        client,
        "mx.test",
        envelope,
        recipient if stage == "rcpt" else None,
        Message(MESSAGE) if stage == "data" else None,
        ground=ground,
    )


def come_to(program: Program, facts: Facts, services: Services) -> Outcome:
    """What a stage comes to."""

    async def wait() -> Outcome:
        seen = script_envelope(facts.session, facts.envelope, facts.recipient)
        found: Outcome | Awaitable[Outcome] = asked(
            program, facts.stage, Surroundings(facts), lambda: seen, facts.message, services, facts
        )
        return found if isinstance(found, Outcome) else await found

    return asyncio.run(wait())


def told(outcome: Outcome) -> tuple[list[tuple[str, str]], str, list[str]]:
    return [(where, one.describe()) for where, one in outcome.actions], outcome.fault, outcome.notes


def compare(text: str, facts: Facts, **said: Any) -> tuple[Outcome, Site]:
    """With glances and without them; returns the outcome with them."""
    program, plain = made(text), made(text)
    plain.glances.clear()
    site, other = Site(**said), Site(**said)
    found, expected = (
        come_to(program, facts, site.services()),
        come_to(plain, facts, other.services()),
    )
    assert told(found) == told(expected)
    assert set(map(repr, site.asked)) == set(map(repr, other.asked))
    return found, site


IDLE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("mail", {}, {}),
    ("mail", {"user": "a@x.test", "listener": "submission"}, {}),
    ("rcpt", {}, {}),
    ("rcpt", {"to": "postmaster@[198.51.100.1]"}, {}),
    ("data", {}, {}),
]


@pytest.mark.parametrize(("stage", "client", "said"), IDLE, ids=str)
def test_base_policy_has_nothing_to_say_without_a_run(
    stage: str, client: dict[str, Any], said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = made(BASE.read_text())
    monkeypatch.setattr(program, "run_at_once", None)
    assert come_to(program, facts_of(stage, **client), Site(**said).services()) is NOTHING


HEARD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("mail", {"listener": "submission"}, {}, "authentication required"),
    ("mail", {"user": "a@x.test"}, {"owns": False}, "does not belong to you"),
    ("rcpt", {}, {"found": Found(Reply(550, "5.1.1", "no such user"))}, "no such user"),
    ("rcpt", {}, {"found": Found(stand_in=parse_address("c@x.test"))}, "c@x.test"),
    ("rcpt", {"to": "b@elsewhere.test"}, {}, "relaying denied"),
]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(("stage", "client", "said", "words"), HEARD, ids=str)
def test_base_policy_says_what_a_run_says(
    stage: str, client: dict[str, Any], said: dict[str, Any], words: str, waits: bool
) -> None:
    found, _ = compare(BASE.read_text(), facts_of(stage, **client), waits=waits, **said)
    assert words in repr(told(found))


def test_service_that_fails_is_a_fault_of_the_line_that_asks() -> None:
    found, _ = compare(BASE.read_text(), facts_of("rcpt"), found=ZeroDivisionError("broken"))
    line = BASE.read_text()[: BASE.read_text().index("check_recipient;")].count("\n") + 1
    assert found.fault.startswith(f"t.sieve:{line}:")


def test_answer_that_is_waited_for_is_asked_for_once() -> None:
    _, site = compare(BASE.read_text(), facts_of("rcpt"), waits=True)
    assert site.asked == [CheckRecipient()]


def test_what_was_said_to_a_glance_is_not_said_again_to_the_run() -> None:
    """The run asks anew; what it has to wait for then is the answer that counts."""
    fails, passes = (SimpleNamespace(result=SimpleNamespace(value=one)) for one in ("fail", "pass"))
    answers = iter((fails, fails, Site._later(passes)))
    program = made(
        f'{REQUIRE}stage "data" {{ if dmarc "fail" {{ defer "a"; }} if dmarc "pass" {{ defer "b"; }} }}'
    )
    found = come_to(program, facts_of("data"), {Authenticate: lambda request, facts: next(answers)})
    assert [where for where, _ in found.actions] == ["t.sieve:2", "t.sieve:2"]


GLANCES = [
    ("if local_domain { check_recipient; }", True),
    ("check_recipient;", True),
    ('if not may_relay { reply "no"; }', True),
    ('if anyof (local_domain, has_route) { } else { reply "no"; }', True),
    ('if envelope "to" "a" { reply "no"; } elsif may_relay { stop; }', False),
    ('if may_relay { stop; } elsif envelope "to" "a" { reply "no"; }', False),
    ('reply "no";', False),
    ('set "a" "b"; if local_domain { check_recipient; }', False),
    ('if allof (local_domain, envelope "to" "a") { reply "no"; }', False),
]


@pytest.mark.parametrize(("text", "has"), GLANCES)
def test_what_can_be_told_at_a_glance(text: str, has: bool) -> None:
    program = made(f'{REQUIRE}stage "rcpt" {{ {text} }}')
    assert (program.glances["rcpt"] is not None) is has


def test_files_are_told_together() -> None:
    """One file without a glance makes the stage run."""
    quick = f'{REQUIRE}stage "rcpt" {{ check_recipient; }}'.encode()
    slow = f'{REQUIRE}stage "rcpt" {{ if envelope "to" "a" {{ reply "no"; }} }}'.encode()
    settings = settings_for(("mx",), has_queue=True)
    both, _ = load([("a.sieve", quick), ("b.sieve", quick)], settings)
    mixed, _ = load([("a.sieve", quick), ("b.sieve", slow)], settings)
    assert both is not None
    assert mixed is not None
    assert both.glances["rcpt"] is not None
    assert mixed.glances["rcpt"] is None


LEAVES = (
    "local_domain", "may_relay", "logged_in", "login_required", "has_route", "true", "false",
    'environment "vnd.tamis.auth-user" "ann"', 'envelope "to" "b@x.test"',
)  # fmt: skip


def chain_of(chain: tuple[list[tuple[str, list[str]]], list[str] | None]) -> str:
    branches, otherwise = chain
    text = " els".join(f"if {test} {{ {' '.join(block)} }}" for test, block in branches)
    return text if otherwise is None else f"{text} else {{ {' '.join(otherwise)} }}"


tests = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda one: f"not {one}"),
        st.tuples(st.sampled_from(("allof", "anyof")), st.lists(inner, min_size=1, max_size=3)).map(
            lambda one: f"{one[0]} ({', '.join(one[1])})"
        ),
    ),
    max_leaves=5,
)
commands = st.recursive(
    st.sampled_from(("check_recipient;", 'reply "no";', "stop;", "accept;", "defer;", 'set "a" "b";')),
    lambda inner: st.tuples(
        st.lists(st.tuples(tests, st.lists(inner, max_size=2)), min_size=1, max_size=3),
        st.none() | st.lists(inner, max_size=2),
    ).map(chain_of),
    max_leaves=5,
)


SERVICES = st.sampled_from(
    (EXISTS, None, Found(Reply(550, "5.1.1", "no")), Found(stand_in=parse_address("c@x.test")))
)


@given(
    st.lists(commands, min_size=1, max_size=3),
    st.sampled_from(("", "ann")),
    st.sampled_from(("b@x.test", "b@elsewhere.test", "postmaster@[198.51.100.1]")),
    st.sampled_from(("smtp", "submission")),
    SERVICES,
    st.booleans(),
)
def test_any_stage_comes_to_the_same(
    block: list[str], user: str, to: str, listener: str, found: Found | None, waits: bool
) -> None:
    """INVARIANT: a glance changes nothing but the time."""
    program, _ = load(
        [("t.sieve", f'{REQUIRE}stage "rcpt" {{ {" ".join(block)} }}'.encode())],
        settings_for(("mx",), has_queue=True),
    )
    if program is None:  # commands behind an end of the block
        return
    compare(
        f'{REQUIRE}stage "rcpt" {{ {" ".join(block)} }}',
        facts_of("rcpt", user=user, to=to, listener=listener),
        found=found,
        waits=waits,
    )
