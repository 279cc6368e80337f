"""What the tables of the Sieve tests have in common: a script's actions in a line."""

from __future__ import annotations

import pytest

from sieve_ext import Action, Envelope, InvalidScript, Result, check, compile, execute, standard_dialect

ENVELOPE = Envelope(sender="Alice@example.org", recipient="bob+detail@example.net")
MESSAGE = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: Frop!\r\n\r\nFriep!\r\n"


def shown(action: Action) -> str:
    """An action as the tables have it."""
    match action.name:
        case "keep":
            return "keep"
        case "store":
            return f"store {getattr(action, 'mailbox', '')}"
        case "redirect":
            return f"redirect {getattr(action, 'address', '')}"
        case name:
            return name


def run(script: str, message: bytes = MESSAGE, envelope: Envelope = ENVELOPE) -> Result:
    return execute(compile(script, standard_dialect()), message, envelope)


def actions(script: str, message: bytes = MESSAGE, envelope: Envelope = ENVELOPE) -> list[str]:
    """The actions of a script that runs without error, the implicit keep as "implicit"."""
    result = run(script, message, envelope)
    assert not result.errors
    return [shown(one) for one in result.actions] + ["implicit"] * (result.implicit_keep is not None)


def holds(test: str, message: bytes = MESSAGE, envelope: Envelope = ENVELOPE, require: str = "") -> bool:
    """Whether a test holds."""
    script = (f"require [{require}];" if require else "") + f"if {test} {{ discard; }}"
    return actions(script, message, envelope) == ["discard"]


def faults(script: str | bytes) -> list[str]:
    """What is wrong with a script: "line:column code", warnings in parentheses; without closing error."""
    found = list(check(script, standard_dialect()))
    errors = [one for one in found if one.severity.value == "error"]
    if errors:
        with pytest.raises(InvalidScript) as raised:
            compile(script, standard_dialect())
        assert list(raised.value.diagnostics[:-1]) == found
        assert raised.value.diagnostics[-1].code in ("parse-failed", "validation-failed")
    else:
        assert list(compile(script, standard_dialect()).warnings) == found
    out = []
    for one in found:
        text = f"{one.line}:{one.column} {one.code}"
        out.append(text if one.severity.value == "error" else f"({text})")
    return out
