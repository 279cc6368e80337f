"""A run: its limits, requests, trace, what fails it, sequences of scripts, the cache."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from sieve_ext import (
    Capability,
    Dialect,
    Event,
    InvalidScript,
    Keep,
    Message,
    Request,
    Result,
    Script,
    ScriptCache,
    Settings,
    compile,
    execute,
    run_sequence,
    standard_dialect,
)
from sieve_ext.extend import MATCHING, Act, Checker, Compiler, Run, Step, Test, string, strings
from tests.unit.sieve_tables import MESSAGE, shown


@dataclass(frozen=True)
class Ask(Request):
    """What does the host know under `name`?"""

    name: str

    def unanswered(self) -> Any:
        return "nothing"


class AskTest(Test):
    word = "ask"
    args_definition = (*MATCHING, string("name"), strings("keys"))

    def compile(self, compiler: Compiler) -> Step:
        name = compiler.text(self.given["name"])

        def values(run: Run) -> Generator[Request, Any, list[str]]:
            return [(yield Ask(name.expand(run)))]

        return compiler.match(self, values)


class BurnCommand(Act):
    """Uses a second of processor time."""

    word = "burn"

    def compile(self, compiler: Compiler) -> Step:
        def burn(run: Run) -> None:
            while True:
                run.spend(1000)

        return burn


class BreakCommand(Act):
    word = "crash"

    def check(self, checker: Checker) -> None:
        checker.warn(self, "crash", "this is going to crash")

    def compile(self, compiler: Compiler) -> Step:
        def crash(run: Run) -> None:
            raise ZeroDivisionError("by design")

        return crash


class EditCommand(Act):
    word = "edit"
    args_definition = (string("value"),)

    def compile(self, compiler: Compiler) -> Step:
        value = compiler.text(self.given["value"])

        def edit(run: Run) -> None:
            run.edit().add("X-Edit", value.expand(run))

        return edit


class WorkCommand(Act):
    """Uses so many operations that the clock is looked at."""

    word = "work"

    def compile(self, compiler: Compiler) -> Step:
        return lambda run: run.spend(25_000)


LAB = Capability("vnd.test.lab", words=(AskTest, BurnCommand, WorkCommand, BreakCommand, EditCommand))


@pytest.fixture(scope="module")
def dialect() -> Dialect:
    return standard_dialect().with_capabilities(LAB)


class Answers:
    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def answer(self, request: Request) -> Any:
        assert isinstance(request, Ask)
        self.asked.append(request.name)
        answer = self.answers[request.name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def load(script: str, dialect: Dialect) -> Script:
    return compile('require ["vnd.test.lab", "fileinto", "variables"];' + script, dialect)


# Requests


ASKING = [
    ('if ask "a" "1" { discard; }', ["a"], ["discard"]),
    ('if ask "a" "2" { discard; } else { keep; }', ["a"], ["keep"]),
    ('if anyof (true, ask "a" "1") { discard; }', [], ["discard"]),
    ('if anyof (false, ask "a" "2", ask "b" "2", ask "c" "3") { discard; }', ["a", "b"], ["discard"]),
    ('if allof (ask "a" "1", not ask "b" "1") { if not ask "c" "1" { discard; } }',
     ["a", "b", "c"], ["discard"]),
    ('if ask "a" "2" { } elsif ask "b" "2" { fileinto "x"; stop; } discard;', ["a", "b"], ["store x"]),
    ('set "n" "b"; if ask :matches "${n}" "?" { fileinto "${1}"; }', ["b"], ["store 2"]),
    ('if true { if false { } else { if ask "a" "1" { keep; } } }', ["a"], ["keep"]),
]  # fmt: skip


@pytest.mark.parametrize(("script", "asked", "expected"), ASKING)
@pytest.mark.parametrize("traced", [False, True])
def test_requests(script: str, asked: list[str], expected: list[str], traced: bool, dialect: Dialect) -> None:
    host = Answers({"a": "1", "b": "2", "c": "3"})
    events: list[Event] = []
    result = execute(load(script, dialect), MESSAGE, host=host, trace=events.append if traced else None)
    assert host.asked == asked
    assert [shown(one) for one in result.actions] == expected
    assert not result.errors
    assert bool(events) is traced


def test_only_what_asks_is_a_generator(dialect: Dialect) -> None:
    assert not load("if not false { keep; }", dialect).asks
    assert load('if not ask "a" "b" { keep; }', dialect).asks
    with pytest.raises(ValueError, match="asks"):
        load('if ask "a" "b" { keep; }', dialect).run_plain(Message(MESSAGE))


def test_host_without_answer(dialect: Dialect) -> None:
    assert [
        shown(one) for one in execute(load('if ask "a" "nothing" { discard; }', dialect), MESSAGE).actions
    ] == ["discard"]


def test_host_that_fails_fails_the_run(dialect: Dialect) -> None:
    script = load('fileinto "x"; if ask "a" "1" { discard; }', dialect)
    result = execute(script, MESSAGE, host=Answers({"a": OSError("no network")}))
    assert result.failed
    assert result.actions == []
    assert result.implicit_keep is not None
    assert result.errors[0].text == "internal error: OSError: no network"
    assert isinstance(result.errors[0].cause, OSError)
    assert result.errors[0].position.column == 65


def test_abandoned_run_is_closed(dialect: Dialect) -> None:
    running = load('if ask "a" "1" { discard; }', dialect).run(Message(MESSAGE))
    assert next(running) == Ask("a")
    running.close()


# Limits


def test_operations(dialect: Dialect) -> None:
    settings = Settings({"sieve_max_operations": "50000"})
    result = execute(load("keep;\nburn;", dialect), MESSAGE, settings=settings)
    assert result.errors[0].text == "script uses too many operations (max 50000)"
    assert (result.errors[0].position.line, result.errors[0].position.column) == (2, 1)
    assert result.actions == []
    assert result.implicit_keep is not None


def test_processor_time(dialect: Dialect) -> None:
    settings = Settings({"sieve_max_operations": "1000000000000", "sieve_max_cpu_time": "50ms"})
    start = time.thread_time()
    result = execute(load("burn;", dialect), MESSAGE, settings=settings)
    assert time.thread_time() - start < 2
    assert "CPU time limit (0.05 seconds)" in result.errors[0].text


def test_time_of_the_host_does_not_count(dialect: Dialect) -> None:
    class Slow:
        def answer(self, request: Request) -> Any:
            start = time.thread_time()
            while time.thread_time() - start < 0.06:
                pass
            return "1"

    settings = Settings({"sieve_max_cpu_time": "50ms"})
    script = load('work; if ask "a" "1" { work; if ask "a" "1" { work; discard; } }', dialect)
    result = execute(script, MESSAGE, host=Slow(), settings=settings)
    assert not result.errors
    assert [shown(one) for one in result.actions] == ["discard"]


@pytest.mark.parametrize(
    ("settings", "script", "text"),
    [
        ({}, "".join(f'redirect "{n}@b.c";' for n in range(5)),
         "number of redirect actions exceeds policy limit (5 > 4)"),
        ({"sieve_max_redirects": "1"}, 'redirect "a@b.c"; redirect "b@b.c";', "policy limit (2 > 1)"),
        ({}, "".join(f'fileinto "{n}";' for n in range(33)), "of actions exceeds policy limit (33 > 32)"),
        ({"sieve_max_actions": "1"}, 'keep; fileinto "a";', "policy limit (2 > 1)"),
    ],
)  # fmt: skip
def test_actions(settings: dict[str, str], script: str, text: str, dialect: Dialect) -> None:
    result = execute(load(script, dialect), MESSAGE, settings=Settings(settings))
    assert text in result.errors[0].text
    assert result.actions == []
    assert result.implicit_keep is not None


def test_no_limit_of_actions(dialect: Dialect) -> None:
    settings = Settings({"sieve_max_actions": "0", "sieve_max_redirects": "0"})
    result = execute(
        load("".join(f'redirect "{n}@b.c";' for n in range(50)), dialect), MESSAGE, settings=settings
    )
    assert len(result.actions) == 50


def test_variables_are_cut(dialect: Dialect) -> None:
    settings = Settings({"sieve_variables_max_value_size": "5"})
    script = load('set "a" "\u00e9\u00e9\u00e9"; set "b" "123456"; fileinto "${a}${b}";', dialect)
    result = execute(script, MESSAGE, settings=settings)
    assert [shown(one) for one in result.actions] == ["store \u00e9\u00e912345"]


def test_strings_do_not_grow_without_end(dialect: Dialect) -> None:
    long = "${a}" * 1000
    script = load(f'set "a" "{"x" * 4096}"; fileinto "{long}";', dialect)
    result = execute(script, MESSAGE)
    assert "becomes too long" in result.errors[0].text


# What fails a run


def test_failure_is_reported_with_its_place(dialect: Dialect) -> None:
    result = execute(load('fileinto "a";\n  redirect "${x}";\nkeep;', dialect), MESSAGE)
    (fault,) = result.errors
    assert str(fault) == "2:3: specified redirect address '' is invalid: empty address"
    assert result.failed
    assert [shown(one) for one in result.all_actions] == ["keep"]


def test_engine_faults_do_not_escape(dialect: Dialect) -> None:
    script = load("keep; crash;", dialect)
    assert [one.code for one in script.warnings] == ["crash"]
    result = execute(script, MESSAGE)
    assert result.errors[0].text == "internal error: ZeroDivisionError: by design"
    assert isinstance(result.errors[0].cause, ZeroDivisionError)


# Edits


def test_actions_keep_the_message_as_it_was(dialect: Dialect) -> None:
    message = Message(MESSAGE)
    script = load('fileinto "0"; edit "1"; edit "2"; fileinto "2"; edit "3"; keep;', dialect)
    result = execute(script, message)
    seen = [one.message.count("x-edit") for one in result.actions if one.message is not None]
    assert seen == [0, 2, 3]
    assert message.count("x-edit") == 0
    assert result.message is not None
    assert result.message.count("x-edit") == 3


def test_edits_of_a_failed_run_are_dropped(dialect: Dialect) -> None:
    message = Message(MESSAGE)
    result = execute(load('edit "1"; crash;', dialect), message)
    assert result.message is message
    assert result.implicit_keep is not None
    assert result.implicit_keep.message is message


# Trace


def test_trace(dialect: Dialect) -> None:
    events: list[Event] = []
    script = load(
        'if anyof (header "subject" "x", header :contains "subject" "rop") { fileinto "a"; }', dialect
    )
    execute(script, MESSAGE, trace=events.append)
    assert [(one.kind, one.word, one.values, one.keys, one.result) for one in events] == [
        ("command", "if", (), (), None),
        ("test", "header", ("Frop!",), ("x",), False),
        ("test", "header", ("Frop!",), ("rop",), True),
        ("test", "anyof", (), (), True),
        ("command", "fileinto", (), (), None),
        ("action", "store into 'a'", (), (), None),
    ]
    assert events[1].position.column == 61


# Several scripts


def sequence(dialect: Dialect, *scripts: str) -> tuple[list[str], Result]:
    running = run_sequence([load(script, dialect) for script in scripts], Message(MESSAGE))
    with pytest.raises(StopIteration) as end:
        next(running)
    result: Result = end.value.value
    return [shown(one) for one in result.all_actions], result


SEQUENCES = [
    ([], ["keep"]),
    (["", ""], ["keep"]),
    (["keep;", "discard;"], ["discard"]),
    (["discard;", "keep;"], ["discard"]),
    (['fileinto "a";', 'fileinto "b";'], ["store a"]),
    (['fileinto "a"; keep;', 'fileinto "b";'], ["store a", "store b"]),
    (['fileinto "a"; keep;', ""], ["store a", "keep"]),
    (['fileinto "a"; keep;', 'fileinto "a";'], ["store a"]),
    (["stop;", 'fileinto "b";', "keep;"], ["store b"]),
    (["crash;", 'fileinto "b";'], ["keep"]),
    (['fileinto "a"; keep;', "crash;", 'fileinto "b";'], ["store a", "keep"]),
]


@pytest.mark.parametrize(("scripts", "expected"), SEQUENCES)
def test_sequence(scripts: list[str], expected: list[str], dialect: Dialect) -> None:
    assert sequence(dialect, *scripts)[0] == expected


def test_edits_go_on_in_a_sequence(dialect: Dialect) -> None:
    found, result = sequence(dialect, 'edit "1";', 'if header "x-edit" "1" { edit "2"; } keep;')
    assert found == ["keep"]
    assert isinstance(result.actions[0], Keep)
    assert result.actions[0].message is not None
    assert result.actions[0].message.count("x-edit") == 2


def test_limits_hold_for_a_sequence(dialect: Dialect) -> None:
    redirects = [f'redirect "{n}a@b.c"; redirect "{n}b@b.c"; keep;' for n in range(3)]
    found, result = sequence(dialect, *redirects)
    assert found == ["redirect 0a@b.c", "redirect 0b@b.c", "redirect 1a@b.c", "redirect 1b@b.c", "keep"]
    assert "policy limit" in result.errors[0].text


# Cache


def test_cache() -> None:
    cache = ScriptCache(standard_dialect(), octets=20)
    first = cache.load("keep;")
    assert cache.load(b"keep;") is first
    assert cache.load("keep; ") is not first
    assert (cache.hits, cache.misses) == (1, 2)
    cache.load("discard; stop;")  # 14 octets: the oldest goes
    assert cache.load("keep; ") is not None
    assert cache.load("keep;") is not first
    with pytest.raises(InvalidScript):
        cache.load("foo;")
    with pytest.raises(InvalidScript):
        cache.load("foo;")
    cache.clear()
    assert cache.load("keep;").name == ""
    assert cache.load("keep;", "named").name == "named"


# Time and surroundings are parameters


def test_time(dialect: Dialect) -> None:
    now = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    run = load("keep;", dialect).begin(Message(MESSAGE), None, None, {"name": "Tamis"}, now, None, None, None)
    assert run.now is now
    assert run.environment["name"] == "Tamis"


# Large messages: linear, and not read where not asked for


def test_hundred_thousand_fields() -> None:
    head = b"".join(b"X-%d: v%d\r\n" % (number % 50_000, number) for number in range(100_000))
    message = Message(head + b"Subject: end\r\n\r\nbody\r\n")
    names = ", ".join(f'"x-{number}"' for number in range(0, 50_000, 25))
    script = compile(
        f'if header :matches [{names}] ["a*b*c", "*?z*"] {{ discard; }}'
        f'if allof (header :contains [{names}] "v49", exists "subject") {{ keep; }}',
        standard_dialect(),
    )
    start = time.thread_time()
    result = execute(script, message)
    assert time.thread_time() - start < 2
    assert [shown(one) for one in result.actions] == ["keep"]


def test_patterns_of_many_stars_on_long_values() -> None:
    value = b"a" * 200_000
    message = Message(b"Subject: " + value + b"\r\n\r\n")
    stars = "*a" * 2000 + "*b"
    script = compile(
        f'if header :matches "subject" ["{stars}", "*a?a?b*"] {{ discard; }}', standard_dialect()
    )
    start = time.thread_time()
    result = execute(script, message)
    assert time.thread_time() - start < 5
    assert result.implicit_keep is not None


def test_fifty_megabytes_are_not_read() -> None:
    head = b"Subject: large\r\n\r\n"

    def chunks() -> Iterator[bytes]:
        raise AssertionError("the body was read")

    message = Message(head, size=50_000_000, chunks=chunks)
    script = compile('if allof (size :over 40M, header "subject" "large") { discard; }', standard_dialect())
    assert [shown(one) for one in execute(script, message).actions] == ["discard"]
