"""Runs that ask services: answers at once, later, too late, none, and services that fail."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.sieve import asking
from mta.policy.sieve.asking import Services, Unavailable, asked, finish, finish_aside
from mta.policy.sieve.decision import decide
from mta.policy.sieve.dialect import policy_dialect
from mta.policy.sieve.facts import Facts, Surroundings
from mta.policy.sieve.milter import AskMilter
from mta.policy.sieve.onerror import ON_ERROR, check_on_error, unavailable, way_of
from mta.policy.sieve.outcome import Outcome
from mta.policy.sieve.program import Program, load, settings_for
from mta.policy.sieve.stages import staged
from sieve_ext import Capability, Dialect, Envelope, Message, Request, Settings, check
from sieve_ext.extend import Checker, Compiler, Run, Step, Test, string
from tests.unit.policy_tables import MESSAGE, session


@dataclass(frozen=True)
class Question(Request):
    text: str

    def unanswered(self) -> Any:
        return Unavailable("nobody is there")


class AskTest(Test):
    """ask <text: string> [:on_error <way>]: true when the answer is "yes"."""

    word = "ask"
    args_definition = (ON_ERROR, string("text"))

    def check(self, checker: Checker) -> None:
        check_on_error(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        text = compiler.text(self.given["text"])
        way = way_of(self)

        def ask(run: Run) -> Generator[Request, Any, bool]:
            run.check_time()
            found = yield Question(text.expand(run))
            if isinstance(found, Unavailable):
                unavailable(run, way, "ask", found)
                return False
            return bool(found == "yes")

        return ask


DIALECT = Dialect([*policy_dialect().capabilities.values(), Capability("vnd.test", words=(staged(AskTest),))])
REQUIRE = 'require ["vnd.tamis.stage", "vnd.tamis.reply", "vnd.test", "editheader", "variables"];\n'


def program(text: str) -> Program:
    found, problems = load([("t.sieve", (REQUIRE + text).encode())], SETTINGS, dialect=DIALECT)
    assert found is not None, problems
    return found


SETTINGS = settings_for((), has_queue=False)
FACTS = Facts("data", session(), "mx.test")


WAYS = ("at once", "in turn", "aside")
"""How a stage is gone through: as usual, when runs are traced, and for large messages."""


def run(text: str, handler: Any = None, *, way: str = "at once") -> Outcome:
    loaded = program(f'stage "data" {{ {text} }}')
    around, message = Surroundings(FACTS), Message(MESSAGE)
    services: Services = {} if handler is None else {Question: handler}

    async def wait() -> Outcome:
        outcome: Outcome | Awaitable[Outcome]
        if way == "at once":
            outcome = asked(loaded, "data", around, Envelope, message, services, FACTS)
        elif way == "in turn":
            outcome = finish(loaded.run("data", around, Envelope, message), services, FACTS)
        else:
            running = loaded.run("data", around, Envelope, message, aside=True)
            outcome = finish_aside(running, services, FACTS)
        return outcome if isinstance(outcome, Outcome) else await outcome

    return asyncio.run(wait())


def reply(outcome: Outcome) -> str:
    return str(decide(outcome).reply)


def at_once(request: Question, facts: Facts) -> str:
    assert facts is FACTS
    return request.text


async def later(request: Question, facts: Facts) -> str:
    await asyncio.sleep(0)
    return request.text


def broken(request: Question, facts: Facts) -> str:
    raise ZeroDivisionError(request.text)


async def broken_later(request: Question, facts: Facts) -> str:
    await asyncio.sleep(0)
    raise ZeroDivisionError(request.text)


async def never(request: Question, facts: Facts) -> str:
    await asyncio.Event().wait()
    return "yes"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("handler", [at_once, later])
def test_answers_reach_the_script(handler: Any, way: str) -> None:
    text = 'if ask "yes" { reply "a"; } if not ask "no" { reply "b"; } if ask "yes" { defer; }'
    outcome = run(text, handler, way=way)
    assert [one.describe() for _, one in outcome.actions] == [
        "reply 550 5.7.1 a", "reply 550 5.7.1 b", "reply 451 4.7.1 try again later",
    ]  # fmt: skip


@pytest.mark.parametrize("way", ["at once", "in turn"])
def test_an_answer_at_once_needs_no_event_loop(way: str) -> None:
    loaded = program('stage "data" { if ask "yes" { reply "a"; } }')
    arguments = ("data", Surroundings(FACTS), Envelope, Message(MESSAGE))
    services: Services = {Question: at_once}
    if way == "at once":
        outcome = asked(loaded, *arguments, services, FACTS)
    else:
        outcome = finish(loaded.run(*arguments), services, FACTS)
    assert isinstance(outcome, Outcome)
    assert reply(outcome) == "550 5.7.1 a"


@given(
    st.lists(st.tuples(st.sampled_from(["now", "later", "bug", "bug later"]), st.booleans()), max_size=8),
    st.booleans(),
)
def test_each_question_is_asked_once_and_all_ways_come_to_the_same(
    answers: list[tuple[str, bool]], is_edited: bool
) -> None:
    """Whichever answers are there at once, and whatever the script does in between."""
    edit = 'addheader "X-Seen" "a";' if is_edited else ""
    text = edit + "".join(
        f'if ask "{number}" {{ reply "{number}"; }} else {{ addheader "X-{number}" "no"; }}'
        for number in range(len(answers))
    )
    seen: list[str] = []

    def handler(request: Question, facts: Facts) -> Any:
        how, is_yes = answers[int(request.text)]
        seen.append(request.text)
        found = "yes" if is_yes else "no"
        if how == "bug":
            raise ZeroDivisionError(request.text)
        return found if how == "now" else soon(found, how == "bug later")

    async def soon(found: str, is_bug: bool) -> str:
        await asyncio.sleep(0)
        if is_bug:
            raise ZeroDivisionError(found)
        return found

    results = []
    for way in ("at once", "in turn"):
        seen.clear()
        outcome = run(text, handler, way=way)
        header = b"" if outcome.message is None else outcome.message.render_header()
        results.append(
            ([(place, one.describe()) for place, one in outcome.actions], outcome.fault, header, seen.copy())
        )
    assert results[0] == results[1]
    assert len(set(seen)) == len(seen)


def test_a_stage_that_waits_is_not_gone_through_twice_each_time() -> None:
    """What it does before the first answer may cost much."""
    loaded = program('stage "data" { if ask "${env.helo}" { reply "1"; } }')
    services: Services = {Question: later}
    runs = []

    async def main() -> None:
        for _ in range(40):
            around = Changing()
            found = asked(loaded, "data", around, Envelope, Message(MESSAGE), services, FACTS)
            assert not isinstance(found, Outcome)
            await found
            runs.append("abcdef".index(next(around.letters)))

        async def usual() -> None:
            around = Changing()
            found = asked(loaded, "data", around, Envelope, Message(MESSAGE), {Question: at_once}, FACTS)
            assert isinstance(found, Outcome)
            runs.append("abcdef".index(next(around.letters)))

        for _ in range(20):
            await usual()

    asyncio.run(main())
    assert runs == [2] + [1] * 59
    assert loaded.doubts["data"] == 0, "it is counted on again"


class Changing(Mapping[str, str]):
    """An environment where each look finds the next letter."""

    def __init__(self) -> None:
        self.letters = iter("abcdef")

    def __getitem__(self, name: str) -> str:
        return next(self.letters)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_a_run_that_asks_something_else_the_second_time_is_answered_anew() -> None:
    """As when a minute begins between the two: nobody gets the answer to another question."""
    seen: list[str] = []

    async def wait(text: str) -> str:
        return f"yes {text}"

    def handler(request: Question, facts: Facts) -> Any:
        seen.append(request.text)
        return "yes" if request.text == "a" else wait(request.text)

    text = 'stage "data" { if ask "${env.helo}" { reply "1"; } if ask "${env.helo}" { reply "2"; } }'
    services: Services = {Question: handler}

    async def main() -> Outcome:
        found = asked(program(text), "data", Changing(), Envelope, Message(MESSAGE), services, FACTS)
        assert not isinstance(found, Outcome)
        return await found

    outcome = asyncio.run(main())
    assert seen == ["a", "b", "c", "d"], "the second time it is c and d"
    assert (outcome.actions, outcome.fault) == ([], "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("handler", [broken, broken_later])
def test_a_service_with_a_bug_is_a_temporary_error(handler: Any, way: str) -> None:
    outcome = run('if ask "yes" { reply "a"; }', handler, way=way)
    assert outcome.fault == "t.sieve:2:16: internal error: ZeroDivisionError: yes"
    assert reply(outcome) == "451 4.3.5 policy error, try again later"


@pytest.mark.parametrize("way", WAYS)
def test_a_service_that_never_answers_ends_the_stage(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "STAGE_SECONDS", 0.05)
    outcome = run('if ask "yes" { reply "a"; }', never, way=way)
    assert "answers took longer than 0.05 seconds" in outcome.fault
    assert reply(outcome).startswith("451 4.3.5")


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("", "451 4.7.1 a service needed to check this is not available, try again later"),
        (':on_error "defer"', "451 4.7.1 a service needed to check this is not available, try again later"),
        (':on_error "Reject"', "554 5.7.1 a service needed to check this is not available"),
        (':on_error "ignore"', "550 5.7.1 after"),
    ],
)
def test_what_happens_when_nobody_answers(way: str, expected: str) -> None:
    outcome = run(f'if ask {way} "yes" {{ reply "yes"; }} reply "after";')
    assert reply(outcome) == expected
    assert outcome.notes == ["t.sieve:2:16: ask: nobody is there"]
    assert outcome.fault == ""


def test_a_wrong_way_is_an_error_of_the_script() -> None:
    found = check(
        REQUIRE + 'stage "data" { if ask :on_error "x" "y" { defer; } }', DIALECT, settings=Settings()
    )
    assert [(one.line, one.column, one.code) for one in found] == [(2, 33, "bad-on-error")]


def test_runs_aside_hold_no_thread_while_they_wait() -> None:
    """As many runs as there are threads, whose answers need a thread each."""

    async def main() -> None:
        with ThreadPoolExecutor(2) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            services: Services = {Question: in_a_thread}
            runs = [
                program('stage "data" { if ask "yes" { reply "a"; } if ask "yes" { reply "b"; } }').run(
                    "data", Surroundings(FACTS), Envelope(), Message(MESSAGE), aside=True
                )
                for _ in range(6)
            ]
            async with asyncio.timeout(20):
                outcomes = await asyncio.gather(*(finish_aside(one, services, FACTS) for one in runs))
        assert [reply(one) for one in outcomes] == ["550 5.7.1 a"] * 6

    async def in_a_thread(request: Question, facts: Facts) -> str:
        return await asyncio.to_thread(lambda: request.text)

    asyncio.run(main())


def test_a_run_that_changes_threads_has_one_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread has a clock of its own: what it has used before the run came to it is not the run's."""
    own: dict[int, float] = {}
    real = time.thread_time

    def thread_time() -> float:
        return real() + own.setdefault(threading.get_ident(), 1000.0 * len(own))

    async def main() -> None:
        text = "".join(f'if ask "{number}" {{ defer; }}' for number in range(8))
        running = program(f'stage "data" {{ {text} reply "a"; }}').run(
            "data", Surroundings(FACTS), Envelope(), Message(MESSAGE), aside=True
        )
        with ThreadPoolExecutor(4) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            outcome = await finish_aside(running, {Question: others_first}, FACTS)
        assert (outcome.fault, reply(outcome)) == ("", "550 5.7.1 a")
        assert len(own) > 1

    async def others_first(request: Question, facts: Facts) -> str:
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(3)))
        return request.text

    monkeypatch.setattr(time, "thread_time", thread_time)
    asyncio.run(main())


def test_a_run_that_asks_nothing_the_second_time_leaves_nobody_waiting() -> None:
    async def wait() -> str:
        raise AssertionError("nobody wants it")

    asking_now = wait()
    text = 'stage "data" { if string "${env.helo}" "a" { if ask "q" { reply "1"; } } }'
    services: Services = {Question: lambda request, facts: asking_now}
    found = asked(program(text), "data", Changing(), Envelope, Message(MESSAGE), services, FACTS)
    assert isinstance(found, Outcome)
    assert found.actions == []
    assert inspect.getcoroutinestate(asking_now) == inspect.CORO_CLOSED


def test_the_same_question_about_a_message_that_was_edited() -> None:
    """Each run edits a copy of its own; nobody gets the answer of another milter."""
    first, second = Message(MESSAGE), Message(MESSAGE)
    assert asking._is_same(AskMilter("a", first), AskMilter("a", second))
    assert not asking._is_same(AskMilter("a", first), AskMilter("b", second))
    assert not asking._is_same(AskMilter("a", first), AskMilter("a", None))
    assert not asking._is_same(AskMilter("a", first), Question("a"))
