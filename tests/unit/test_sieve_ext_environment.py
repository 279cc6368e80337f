"""environment (RFC 5183), vnd.dovecot.environment and vnd.dovecot.debug."""

from __future__ import annotations

import pytest

from tests.unit.sieve_delivery import complaints, holds, outcome

ITEMS = {
    "host": "mx.example.org",
    "location": "MDA",
    "phase": "post",
    "remote-ip": "192.0.2.1",
    "vnd.dovecot.username": "nico",
}
NAMES = "environment variables relational"
DOVECOT = "environment vnd.dovecot.environment variables"

TESTS = [
    (NAMES, True, 'environment "domain" "EXAMPLE.org"'),
    (NAMES, True, 'environment :matches "Host" "*.example.org"'),
    (NAMES, True, 'environment "location" ["MTA", "MDA"]'),
    (NAMES, True, 'environment :contains "remote-ip" "192.0.2"'),
    (NAMES, True, 'environment :comparator "i;octet" "name" "Tamis Sieve"'),
    (NAMES, False, 'environment :contains "remote-host" ""'),
    # section 4: what is not known matches nothing
    (NAMES, False, 'environment :contains "nonsense" ""'),
    (NAMES, False, 'environment :matches "vnd.example.x" "*"'),
    (NAMES, False, 'environment :count "eq" "nonsense" "0"'),
    (NAMES, True, 'environment :count "eq" "name" "1"'),
    # a vendor's items need the vendor's capability
    (NAMES, False, 'environment :contains "vnd.dovecot.username" ""'),
    (DOVECOT, True, 'environment "vnd.dovecot.username" "nico"'),
    ("vnd.dovecot.environment", True, 'environment "vnd.dovecot.default-mailbox" "INBOX"'),
    (DOVECOT, True, 'environment "vnd.dovecot.config.site" "north"'),
    (DOVECOT, False, 'environment :contains "vnd.dovecot.config.none" ""'),
    (DOVECOT, True, 'string "${env.vnd.dovecot.username}|${env.host}" "nico|mx.example.org"'),
    (DOVECOT, True, 'string "${env.vnd.dovecot.default_mailbox}${env.remote_ip}" "INBOX192.0.2.1"'),
    (DOVECOT, True, 'string "<${env.none}>" "<>"'),
]


@pytest.mark.parametrize(("names", "expected", "test"), TESTS)
def test_tests(names: str, expected: bool, test: str) -> None:
    settings = {"sieve_environment/site": "north"}
    assert holds(names, test, environment=ITEMS, settings=settings) is expected


def test_name_by_variable() -> None:
    script = 'set "x" "domain"; if environment "${x}" "example.org" { discard; }'
    assert [one.name for one in outcome(NAMES, script, environment=ITEMS).actions] == ["discard"]


def test_variables_cannot_be_set() -> None:
    assert complaints(DOVECOT, 'set "env.x" "y";') == ["1:5 error cannot assign to variable 'env.x'"]


WRONG = [
    (NAMES, 'if string "${env.host}" "x" { keep; }', "1:11 error unknown variable namespace 'env'"),
    (
        NAMES,
        'if environment "x" { keep; }',
        "1:4 error the environment test requires 2 positional argument(s)",
    ),
    (
        NAMES,
        'if environment ["x"] "y" { keep; }',
        "1:16 error the environment test expects a string as argument 1",
    ),
    ("vnd.dovecot.debug", "debug_log;", "1:1 error the debug_log command requires 1 positional argument(s)"),
    ("vnd.dovecot.debug", "debug_log 3;", "1:11 error the debug_log command expects a string as argument 1"),
]


@pytest.mark.parametrize(("names", "script", "start"), WRONG)
def test_wrong(names: str, script: str, start: str) -> None:
    (text,) = complaints(names, script)
    assert text.startswith(start)


def test_debug_log() -> None:
    result = outcome("vnd.dovecot.debug variables", 'set "x" "1"; debug_log "x is ${x}"; keep;')
    assert [note.text for note in result.notes] == ["DEBUG: x is 1"]
    assert not result.errors
    assert [one.name for one in result.actions] == ["keep"]
