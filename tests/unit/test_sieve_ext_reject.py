"""reject and ereject (RFC 5429)."""

from __future__ import annotations

import pytest

from sieve_ext import Envelope, Result, execute
from sieve_ext import compile as load
from tests.unit.sieve_delivery import ALL, ENVELOPE, complaints, only_action, only_mail, origin_of, outcome

NAMES = "reject ereject fileinto copy vacation enotify vnd.dovecot.pipe variables"

TOGETHER = [
    # section 2.4: with what does not deliver, it goes together
    ('reject "x";', ["reject"]),
    ('ereject "x";', ["ereject"]),
    ('discard; reject "x";', ["discard", "reject"]),
    ('reject "x"; discard;', ["reject", "discard"]),
    ('notify "mailto:a@b.c"; reject "x";', ["notify", "reject"]),
]


@pytest.mark.parametrize(("script", "names"), TOGETHER)
def test_together(script: str, names: list[str]) -> None:
    result = outcome(NAMES, script)
    assert not result.errors
    assert [one.name for one in result.actions] == names
    assert result.implicit_keep is None


CONFLICTS = [
    # section 2.4: nothing may deliver the message, nothing else answer it
    ('reject "x"; keep;', "reject/ereject action conflicts with other action: the keep action"),
    ('keep; reject "x";', "reject/ereject action conflicts with other action: the keep action"),
    ('fileinto "a"; reject "x";', "reject/ereject action conflicts with other action: the store action"),
    ('reject "x"; fileinto :copy "a";', "reject/ereject action conflicts with other action: the store"),
    ('redirect "a@b.c"; reject "x";', "reject/ereject action conflicts with other action: the redirect"),
    ('ereject "x"; redirect :copy "a@b.c";', "reject/ereject action conflicts with other action"),
    ('pipe "p"; reject "x";', "reject/ereject action conflicts with other action: the pipe action"),
    ('reject "x"; reject "y";', "duplicate reject/ereject action not allowed"),
    ('reject "x"; ereject "y";', "duplicate reject/ereject action not allowed"),
    ('vacation "v"; reject "x";', "reject/ereject action conflicts with other action: the vacation action"),
    ('reject "x"; vacation "v";', "vacation action conflicts with other action: the reject action"),
]


@pytest.mark.parametrize(("script", "start"), CONFLICTS)
def test_conflicts(script: str, start: str) -> None:
    result = outcome(NAMES, script)
    (fault,) = result.errors
    assert fault.text.startswith(start)
    assert result.actions == []
    assert result.implicit_keep is not None


def test_after_what_an_earlier_script_has_done() -> None:
    result: Result = outcome("vacation", 'vacation "v";')
    result.actions[0].executed = True
    result = execute(load('require "reject"; reject "x";', ALL), b"", ENVELOPE, result=result)
    assert not result.errors
    assert [one.name for one in result.actions] == ["vacation"]


WRONG = [
    ("reject;", "1:1 error the reject command requires 1 positional argument(s), but 0 is/are specified"),
    ('reject ["a"];', "1:8 error the reject command expects a string as argument 1 (reason)"),
    ('ereject "a" "b";', "1:13 error the ereject command requires 1 positional argument(s), but 2"),
    ('if reject "a" { keep; }', "1:4 error attempted to use command 'reject' as test"),
]


@pytest.mark.parametrize(("script", "start"), WRONG)
def test_wrong(script: str, start: str) -> None:
    (text,) = complaints(NAMES, script)
    assert text.startswith(start)


def test_notification() -> None:
    action = only_action(outcome(NAMES, 'set "w" "Gr\u00fc\u00dfe"; reject "${w}!\nBye";'))
    mail, message = only_mail(action, origin_of())
    assert (mail.sender, mail.recipients) == ("", ("sirius@example.org",))
    assert message.text("from") == "Postmaster <postmaster@example.com>"
    assert message.text("to") == "<sirius@example.org>"
    assert message.text("auto-submitted") == "auto-replied (rejected)"
    assert (message.text("content-type") or "").startswith(
        "multipart/report; report-type=disposition-notification"
    )
    first, second, third = mail.octets.split(b"--=_b\r\n")[1:]
    assert first.endswith("rejected:\r\nGr\u00fc\u00dfe!\r\nBye\r\n\r\n".encode())
    assert b"\r\nFinal-Recipient: rfc822; nico@frop.example.org\r\n" in second
    assert b"\r\nOriginal-Message-ID: <a@b>\r\n" in second
    assert b"\r\nDisposition: automatic-action/MDN-sent-automatically; deleted\r\n" in second
    assert third.startswith(b"Content-Type: message/rfc822\r\n\r\nFrom: Stephan Bosch")
    assert mail.octets.endswith(b"--=_b--\r\n")


@pytest.mark.parametrize("envelope", [Envelope("", "a@b.c"), Envelope(None, "a@b.c"), Envelope("x@y.z", "")])
def test_nobody_to_tell(envelope: Envelope) -> None:
    action = only_action(outcome(NAMES, 'reject "x";'))
    origin = origin_of(envelope=envelope)
    assert action.withheld(origin) is not None
    assert action.mails(origin) == []
