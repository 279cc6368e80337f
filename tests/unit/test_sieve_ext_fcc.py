"""fcc (RFC 8580)."""

from __future__ import annotations

import pytest

from tests.unit.sieve_delivery import complaints, outcome

NAMES = "vacation enotify fcc imap4flags mailbox special-use mailboxid variables"

OPTIONS = [
    ('vacation :fcc "Sent" "x";', {"fcc": "Sent"}),
    ('vacation "x";', {}),
    (
        'vacation :fcc "Sent" :create :flags ["\\\\Seen", "a b"] :specialuse "\\\\Sent" "x";',
        {"fcc": "Sent", "create": True, "flags": ("\\Seen", "a", "b"), "specialuse": "\\Sent"},
    ),
    ('vacation :mailboxid "F1" :fcc "Sent" "x";', {"fcc": "Sent", "mailboxid": "F1"}),
    ('notify :fcc "INBOX.Sent" "mailto:a@b.c";', {"fcc": "INBOX.Sent"}),
    ('set "m" "Copies"; notify :fcc "${m}" "mailto:a@b.c";', {"fcc": "Copies"}),
]


@pytest.mark.parametrize(("script", "options"), OPTIONS)
def test_options(script: str, options: dict[str, object]) -> None:
    result = outcome(NAMES, script)
    assert not result.errors
    assert [one.options for one in result.actions] == [options]


def test_mailbox_from_variable_that_is_none() -> None:
    result = outcome(NAMES, 'set "m" ""; vacation :fcc "${m}" "x";')
    assert [one.text for one in result.errors] == ["fcc tag: mailbox name is empty"]


WRONG = [
    (
        'vacation :create "x";',
        "1:10 error the :create tag for the vacation command can only be used together",
    ),
    ('notify :flags "a" "mailto:a@b.c";', "1:8 error the :flags tag for the notify command can only be used"),
    ('vacation :fcc "" "x";', "1:15 error mailbox name is empty"),
    ('vacation :fcc "a" :fcc "b" "x";', "1:19 error encountered duplicate :fcc argument"),
    ('redirect :fcc "a" "a@b.c";', "1:10 error unknown tagged argument ':fcc' for the redirect command"),
    ('vacation :fcc ["a"] "x";', "1:15 error the :fcc tag for the vacation command requires a string"),
]


@pytest.mark.parametrize(("script", "start"), WRONG)
def test_wrong(script: str, start: str) -> None:
    (text,) = complaints(NAMES, script)
    assert text.startswith(start)


def test_needs_require() -> None:
    (text,) = complaints("vacation", 'vacation :fcc "a" "x";')
    assert "unknown tagged argument ':fcc'" in text
