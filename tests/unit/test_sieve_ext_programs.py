"""vnd.dovecot.pipe, vnd.dovecot.filter and vnd.dovecot.execute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sieve_ext import Message, standard_dialect
from sieve_ext.extensions.vnd_dovecot_pipe import PipeAction
from sieve_ext.programs import ProgramResult, RunProgram
from sieve_ext.runtime.requests import Request
from tests.unit.sieve_delivery import Answers, complaints, outcome

NAMES = "vnd.dovecot.pipe vnd.dovecot.filter vnd.dovecot.execute variables copy fileinto"


def programs(request: RunProgram) -> ProgramResult:
    """Two programs: one says what it was given, one fails."""
    match request.program:
        case "echo":
            data = request.input
            octets = b"".join(data.chunks()) if isinstance(data, Message) else data or b""
            return ProgramResult(True, octets + b" ".join(one.encode() for one in request.arguments))
        case "new":
            return ProgramResult(True, b"Subject: new\r\n\r\n")
        case "fail":
            return ProgramResult(False)
    return ProgramResult(is_missing=True)


HOST: dict[type[Request], Callable[[Any], Any]] = {RunProgram: programs}


def test_not_for_users() -> None:
    assert not {"vnd.dovecot.pipe", "vnd.dovecot.filter", "vnd.dovecot.execute"} & set(
        standard_dialect().names
    )


def test_pipe() -> None:
    result = outcome(NAMES, 'set "x" "1"; pipe :try "a" ["b", "c ${x}"]; pipe :copy "d";')
    found = [one for one in result.actions if isinstance(one, PipeAction)]
    assert [(one.program, one.arguments, one.is_try, one.copy) for one in found] == [
        ("a", ("b", "c 1"), True, False),
        ("d", (), False, True),
    ]
    assert result.implicit_keep is None
    assert outcome(NAMES, 'pipe :copy "d";').implicit_keep is not None


def test_pipe_to_one_program_once() -> None:
    (fault,) = outcome(NAMES, 'pipe "a"; pipe "a" "b";').errors
    assert fault.text.startswith('duplicate pipe "a" action not allowed')


RUN = [
    # filter changes the message for what follows
    ('filter "new"; if header "subject" "new" { discard; }', ["discard"]),
    ('if filter "new" { discard; }', ["discard"]),
    ('filter "fail"; if header "subject" "Frop!" { discard; }', ["discard"]),
    ('if not filter "fail" { discard; }', ["discard"]),
    ('if not filter "none" { discard; }', ["discard"]),
    # execute
    (
        'execute :output "o" :input "in " "echo" ["a", "b"]; if string "${o}" "in a b" { discard; }',
        ["discard"],
    ),
    ('execute :output "o" "echo" "a"; if string "${o}" "a" { discard; }', ["discard"]),
    (
        'execute :output "o" :pipe "echo"; if string :contains "${o}" "Subject: Frop!" { discard; }',
        ["discard"],
    ),
    ('if execute "echo" { discard; }', ["discard"]),
    ('if execute "fail" { discard; }', []),
    ('if execute "none" { discard; }', []),
    ('set "o" "x"; execute :output "o" "fail"; if string "${o}" "x" { discard; }', ["discard"]),
    ('filter "new"; execute :output "o" :pipe "echo"; if string "${o}" "Subject: new*" { keep; }', []),
]


@pytest.mark.parametrize(("script", "names"), RUN)
def test_run(script: str, names: list[str]) -> None:
    result = outcome(NAMES, script, host=Answers(HOST))
    assert not result.errors
    assert [one.name for one in result.actions] == names


def test_actions_before_a_filter_keep_the_message() -> None:
    result = outcome(NAMES, 'fileinto "a"; filter "new"; fileinto "b";', host=Answers(HOST))
    subjects = [one.message.text("subject") for one in result.actions if one.message is not None]
    assert subjects == ["Frop!", "new"]
    assert result.message is not None
    assert result.message.text("subject") == "new"


@pytest.mark.parametrize("word", ["filter", "execute"])
def test_missing_program(word: str) -> None:
    (fault,) = outcome(NAMES, f'{word} "none";', host=Answers(HOST)).errors
    assert fault.text == f"{word} action: program 'none' not found"


WRONG = [
    ("pipe;", "1:1 error the pipe command requires 1 to 2 positional argument(s), but 0 is/are specified"),
    ('pipe "";', "1:6 error pipe command: invalid program name ''"),
    ('pipe "a/b";', "1:6 error pipe command: invalid program name 'a/b'"),
    ('filter "..";', "1:8 error filter command: invalid program name '..'"),
    ('if execute "a\tb" { keep; }', "1:12 error execute test: invalid program name"),
    ('pipe "${x}";', "1:6 error the pipe command requires a constant string for its program-name argument"),
    ('pipe "a" "b" "c";', "1:14 error the pipe command requires 1 to 2 positional argument(s), but 3"),
    ('filter :try "a";', "1:8 error unknown tagged argument ':try' for the filter command"),
    ('execute :input "x" :pipe "a";', "1:1 error conflicting :input and :pipe arguments"),
    ('execute :output "a b" "a";', "1:17 error invalid variable name 'a b'"),
    ('execute :output "${x}" "a";', "1:17 error variable name '${x}' must be a constant string"),
    ('pipe "a" "b\nc";', "1:10 error pipe command: argument for the program has a line end"),
    ('pipe "a" ["' + '", "'.join("x" * 33) + '"];', "1:171 error pipe command: too many arguments"),
]


@pytest.mark.parametrize(("script", "start"), WRONG)
def test_wrong(script: str, start: str) -> None:
    (text,) = complaints(NAMES, script)
    assert text.startswith(start)


def test_arguments_at_run_time() -> None:
    # A variable of the message may not smuggle a line end in.
    script = 'set "x" "a\nb"; pipe "p" "${x}";'
    (fault,) = outcome(NAMES, script).errors
    assert fault.text == "pipe action: argument for the program has a line end or NUL in it"


def test_output_needs_variables() -> None:
    (text,) = complaints("vnd.dovecot.execute", 'execute :output "x" "a";')
    assert "when the variables extension is active" in text
