"""Invariant: any text loads or gives located errors; any script on any message ends within limits.

Run ``python -m tests.fuzz.fuzz_sieve [-max_total_time=SECONDS] [CORPUS]``. An input is a script and, behind
the first NUL, a message. `check_text` and `check_run` are also run with generated inputs by the unit tests.
The only exception allowed is InvalidScript, from `compile`.
"""

from __future__ import annotations

import sys

from sieve_ext import (
    Envelope,
    InvalidScript,
    Message,
    Script,
    Settings,
    Severity,
    check,
    compile,
    execute,
    standard_dialect,
)

SETTINGS = Settings({"sieve_max_cpu_time": "5s", "sieve_max_operations": "200000"})


def check_text(text: bytes) -> Script | None:
    """Hold loading to the invariant; the script if there is one."""
    found = check(text, standard_dialect())
    lines = text.count(b"\n") + 1
    for one in found:
        assert 1 <= one.line <= lines
        assert 1 <= one.column <= len(text) + 1
        assert 0 <= one.length <= len(text)
        assert one.text
        assert one.code
    errors = [one for one in found if one.severity is Severity.ERROR]
    assert not any(one.code == "internal" for one in errors), text
    try:
        script = compile(text, standard_dialect())
    except InvalidScript as error:
        # A script that cannot run says why.
        if not errors or len(error.errors) != len(errors) + 1:
            raise AssertionError(text) from error
        return None
    assert not errors
    return script


def check_run(script: Script, message: bytes) -> None:
    """Hold a run to the invariant."""
    envelope = Envelope(sender="a@b.c", recipient="d@e.f")
    result = execute(script, Message(message), envelope, settings=SETTINGS)
    for fault in result.errors:
        assert fault.cause is None, fault
    assert result.failed is bool(result.errors)
    if result.failed:
        assert result.implicit_keep is not None
        assert not result.actions
    assert len(result.actions) <= SETTINGS.limits.actions
    traced = execute(script, Message(message), envelope, settings=SETTINGS, trace=lambda event: None)
    assert [one.describe() for one in traced.actions] == [one.describe() for one in result.actions]


def fuzz(data: bytes) -> None:
    """One input of the fuzzer."""
    text, _, message = data.partition(b"\0")
    script = check_text(text)
    if script is not None:
        check_run(script, message)


def main() -> None:
    """Fuzz until told otherwise."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
