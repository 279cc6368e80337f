"""enotify (RFC 5435) with mailto (RFC 5436)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sieve_ext import Envelope
from sieve_ext.outgoing.mailto import parse_mailto
from sieve_ext.outgoing.notify import NotifyAction
from tests.unit.sieve_delivery import (
    ENVELOPE,
    MESSAGE,
    complaints,
    holds,
    only_action,
    only_mail,
    origin_of,
    outcome,
)

NAMES = "enotify variables relational"

URIS = [
    ("mailto:a@b.c", ["a@b.c"], None),
    ("MAILTO:A@b.c", ["A@b.c"], None),
    ("mailto:a%40b.c", ["a@b.c"], None),
    ("mailto:a@b.c,d@e.f", ["a@b.c", "d@e.f"], None),
    ("mailto:a@b.c%2Cd@e.f", ["a@b.c", "d@e.f"], None),
    ("mailto:%22x%2C%20y%22%20%3Ca@b.c%3E,d@e.f", ["a@b.c", "d@e.f"], None),
    ("mailto:?to=a@b.c&cc=d@e.f", ["a@b.c", "d@e.f"], None),
    ("mailto:a@b.c?to=A@B.C", ["a@b.c"], None),
    ("mailto:a@b.c?bogus", ["a@b.c"], None),
    ("mailto:", [], None),
    ("mailto:bogus", [], "invalid recipient 'bogus'"),
    ("mailto:a@b.c?cc=bogus", ["a@b.c"], "invalid recipient 'bogus'"),
    ("mailto:a@b.c?subject=%", ["a@b.c"], "invalid % encoding"),
    ("mailto:a@b.c?subject=%zz", ["a@b.c"], "invalid % encoding"),
    ("mailto:a@b.c?fr om=3", ["a@b.c"], "invalid character ' ' in header field name part"),
    ("mailto:a@b.c?=3&", ["a@b.c"], None),
    ("mailto:a@b.c?x%3Ay=3", ["a@b.c"], "invalid header field name 'x:y'"),
    ('mailto:a@b.c?x="', ["a@b.c"], "invalid character '\"' in header field value part"),
]


@pytest.mark.parametrize(("uri", "recipients", "error"), URIS)
def test_uris(uri: str, recipients: list[str], error: str | None) -> None:
    found = parse_mailto(uri)
    assert [one.address for one in found.recipients] == recipients
    assert (found.error or "").startswith(error or "")
    assert (found.error is None) is (error is None)


@given(st.text(alphabet='mailto:@.?&=%,;<>"#ab \u00e9\n', max_size=60))
def test_any_uri(text: str) -> None:
    found = parse_mailto("mailto:" + text)
    assert len(found.recipients) <= 8
    assert len(found.fields) <= 16


def test_limits_of_a_uri() -> None:
    many = parse_mailto("mailto:" + ",".join(f"a{n}@b.c" for n in range(10)))
    assert (len(many.recipients), len(many.warnings)) == (8, 2)
    fields = parse_mailto("mailto:a@b.c?" + "&".join(f"x-{n}=1" for n in range(18)))
    assert (len(fields.fields), len(fields.warnings)) == (16, 2)


TESTS = [
    # RFC 5435 section 4: all of the methods
    (True, 'valid_notify_method "mailto:a@b.c"'),
    (False, 'valid_notify_method ["mailto:a@b.c", "xmpp:a@b.c"]'),
    (False, 'valid_notify_method "mailto:bogus"'),
    (False, 'valid_notify_method ""'),
    (False, 'valid_notify_method "a@b.c"'),
    (False, 'valid_notify_method ":"'),
    # section 5, RFC 5436 section 2.2
    (True, 'notify_method_capability "mailto:a@b.c" "Online" "MAYBE"'),
    (False, 'notify_method_capability "mailto:a@b.c" "online" ["yes", "no"]'),
    (False, 'notify_method_capability :contains "mailto:a@b.c" "mood" ""'),
    (False, 'notify_method_capability :contains "foo:a@b.c" "online" ""'),
    (True, 'notify_method_capability :matches "mailto:a@b.c" "online" "m*"'),
    (True, 'notify_method_capability :count "eq" "mailto:a@b.c" "online" "1"'),
    # it fails unconditionally where method or capability are not known
    (False, 'notify_method_capability :count "eq" "xmpp:a@b.c" "online" "0"'),
    (False, 'notify_method_capability :count "ne" "mailto:a@b.c" "mood" "1"'),
    (False, 'notify_method_capability :count "lt" "mailto:" "online" "1"'),
]


@pytest.mark.parametrize(("expected", "test"), TESTS)
def test_tests(expected: bool, test: str) -> None:
    assert holds(NAMES, test) is expected


def test_encodeurl() -> None:
    # Section 6: what is not unreserved becomes %XX, octet by octet of UTF-8.
    script = 'set :encodeurl "a" "a-b_c.d~e/f g+\u00e9"; if string "${a}" "%s" { discard; }'
    result = outcome(NAMES, script % "a-b_c.d~e%2Ff%20g%2B%C3%A9")
    assert [one.name for one in result.actions] == ["discard"]
    result = outcome(NAMES, 'set :encodeurl :length :upper "a" "a b"; if string "${a}" "5" { discard; }')
    assert [one.name for one in result.actions] == ["discard"]


def test_keeps_the_message() -> None:
    result = outcome(NAMES, 'notify "mailto:a@b.c";')
    assert [one.name for one in result.all_actions] == ["notify", "keep"]


DUPLICATES = [
    # section 3.1: nobody is told twice
    ('notify "mailto:a@b.c"; notify "mailto:a@b.c";', [["a@b.c"]]),
    ('notify "mailto:a@b.c"; notify :message "x" "mailto:A@b.c";', [["a@b.c"]]),
    ('notify "mailto:a@b.c"; notify "mailto:a@b.c?cc=d@e.f";', [["a@b.c"], ["d@e.f"]]),
    ('notify "mailto:a@b.c"; notify "mailto:d@e.f"; notify "mailto:d@e.f,a@b.c";', [["a@b.c"], ["d@e.f"]]),
]


@pytest.mark.parametrize(("script", "recipients"), DUPLICATES)
def test_duplicates(script: str, recipients: list[list[str]]) -> None:
    result = outcome(NAMES, script)
    assert not result.errors
    found = [one for one in result.actions if isinstance(one, NotifyAction)]
    assert [[who.address for who in one.recipients] for one in found] == recipients


def test_number() -> None:
    script = "".join(f'notify "mailto:a{n}@b.c";' for n in range(11))
    result = outcome(NAMES, script)
    assert len(result.errors) == 1
    assert "notify actions exceeds policy limit" in result.errors[0].text
    assert not outcome(NAMES, script, settings={"sieve_notify_max_notifications": "0"}).errors


WRONG = [
    ("notify;", ["1:1 error the notify command requires 1 positional argument(s), but 0 is/are specified"]),
    ('notify "a";', ["1:8 error notify command: invalid scheme part for method URI 'a'"]),
    ('notify "http://x.y";', ["1:8 error notify command: invalid method 'http'"]),
    (
        'notify "mailto:";',
        ["1:8 warning notify command: mailto URI: notification URI specifies no recipients"],
    ),
    ('notify "mailto:a@b.c?to=x";', ["1:8 error notify command: mailto URI: invalid recipient 'x'"]),
    (
        'notify "mailto:a@b.c?from=x&Message-ID=3&subject=a&subject=b";',
        [
            "1:8 warning notify command: mailto URI: ignored reserved header field 'from'",
            "1:8 warning notify command: mailto URI: ignored reserved header field 'message-id'",
            "1:8 warning notify command: mailto URI: ignored duplicate subject field",
        ],
    ),
    (
        'notify :importance "4" :from "bad" :options "x" "y";',
        ["1:20 error invalid :importance value for notify command: 4"],
    ),
    (
        'notify :importance 2 "mailto:a@b.c";',
        ["1:20 error the :importance tag for the notify command requires a string as parameter"],
    ),
    (
        'notify :from "bad" "mailto:a@b.c";',
        ["1:14 error notify command: specified :from address 'bad' is invalid for the mailto method"],
    ),
    (
        'notify :options ["=x", "y"] "mailto:a@b.c";',
        ["1:18 error notify command: invalid option name specified in option '=x'"],
    ),
    (
        'notify :options "a=b" "mailto:a@b.c";',
        ["1:17 warning notify command: method 'mailto' accepts no options"],
    ),
    (
        'notify :message "a" :message "b" "mailto:a@b.c";',
        ["1:21 error encountered duplicate :message argument"],
    ),
    (
        'if notify_method_capability "mailto:a@b.c" "online" { keep; }',
        ["1:4 error the notify_method_capability"],
    ),
]


@pytest.mark.parametrize(("script", "starts"), WRONG)
def test_wrong(script: str, starts: list[str]) -> None:
    texts = complaints(NAMES, script)
    assert len(texts) == len(starts)
    assert all(text.startswith(start) for text, start in zip(texts, starts, strict=True))


AT_RUN_TIME = [
    ('set "u" "bogus"; notify "${u}";', "notify command: invalid scheme part"),
    ('set "u" "bogus"; notify "mailto:${u}";', "notify command: mailto URI: invalid recipient"),
    ('set "u" "7"; notify :importance "${u}" "mailto:a@b.c";', "invalid :importance value"),
    ('set "u" "x"; notify :from "${u}" "mailto:a@b.c";', "notify command: specified :from address 'x'"),
]


@pytest.mark.parametrize(("script", "start"), AT_RUN_TIME)
def test_wrong_at_run_time(script: str, start: str) -> None:
    result = outcome(NAMES, script)
    (fault,) = result.errors
    assert fault.text.startswith(start)
    assert result.implicit_keep is not None


FIELDS = [
    # RFC 5436 section 2.7
    ('"mailto:a@b.c"', "subject", "Notification: Frop!"),
    ('"mailto:a@b.c?subject=from%20URI"', "subject", "from URI"),
    (':message "said" "mailto:a@b.c?subject=x"', "subject", "said"),
    (':message "l1\nBcc: x@y" "mailto:a@b.c"', "subject", "l1 Bcc: x@y"),
    ('"mailto:a@b.c"', "from", "Postmaster <postmaster@example.com>"),
    (':from "Me <me@x.y>" "mailto:a@b.c"', "from", "Me <me@x.y>"),
    ('"mailto:a@b.c,q@r.s?cc=d@e.f"', "to", "a@b.c, q@r.s"),
    ('"mailto:a@b.c,q@r.s?cc=d@e.f"', "cc", "d@e.f"),
    ('"mailto:?cc=d@e.f"', "to", None),
    ('"mailto:a@b.c"', "auto-submitted", 'auto-notified; owner-email="nico@frop.example.org"'),
    (
        '"mailto:a@b.c?auto-submitted=no"',
        "auto-submitted",
        'auto-notified; owner-email="nico@frop.example.org"',
    ),
    ('"mailto:a@b.c"', "importance", "Normal"),
    (':importance "1" "mailto:a@b.c"', "importance", "High"),
    (':importance "1" "mailto:a@b.c"', "x-priority", "1 (Highest)"),
    (':importance "3" "mailto:a@b.c"', "importance", "Low"),
    ('"mailto:a@b.c?x-foo=bar%0D%0ABcc:%20x@y"', "x-foo", "bar  Bcc: x@y"),
    ('"mailto:a@b.c?x-foo=bar%0D%0ABcc:%20x@y"', "bcc", None),
    ('"mailto:a@b.c?body=%C3%A9"', "content-type", "text/plain; charset=utf-8"),
    ('"mailto:a@b.c"', "content-type", "text/plain; charset=us-ascii"),
]


@pytest.mark.parametrize(("arguments", "name", "value"), FIELDS)
def test_fields(arguments: str, name: str, value: str | None) -> None:
    action = only_action(outcome(NAMES, f"notify {arguments};"))
    _, mail = only_mail(action, origin_of())
    assert mail.text(name) == value


def test_without_subject() -> None:
    action = only_action(outcome(NAMES, 'notify "mailto:a@b.c";'))
    _, mail = only_mail(action, origin_of(b"From: a@b.c\r\n\r\n"))
    assert mail.text("subject") == "Notification: (no subject)"


def test_body() -> None:
    action = only_action(outcome(NAMES, 'notify "mailto:a@b.c?body=one%0D%0Atwo";'))
    mail, _ = only_mail(action, origin_of())
    assert mail.octets.endswith(b"\r\n\r\none\r\ntwo\r\n")


SENDERS = [
    # RFC 5436 section 2.7: the null sender stays, for a loop must not begin
    ("", ENVELOPE, {}, "postmaster@example.com"),
    (':from "me@x.y"', ENVELOPE, {}, "me@x.y"),
    (':from "me@x.y"', Envelope("", "a@b.c"), {}, ""),
    (':from "me@x.y"', ENVELOPE, {"sieve_notify_mailto_envelope_from": "sender"}, "sirius@example.org"),
    ("", ENVELOPE, {"sieve_notify_mailto_envelope_from": "recipient"}, "nico@frop.example.org"),
    ("", ENVELOPE, {"sieve_notify_mailto_envelope_from": "<q@r.s>"}, "q@r.s"),
    ("", ENVELOPE, {"sieve_notify_mailto_envelope_from": "<>"}, ""),
    (
        "",
        ENVELOPE,
        {"sieve_notify_mailto_envelope_from": "user_email", "sieve_user_email": "<u@v.w>"},
        "u@v.w",
    ),
]


@pytest.mark.parametrize(("tags", "envelope", "settings", "sender"), SENDERS)
def test_sender_of_the_envelope(tags: str, envelope: Envelope, settings: dict[str, str], sender: str) -> None:
    action = only_action(outcome(NAMES, f'notify {tags} "mailto:z@b.c";'))
    mail, _ = only_mail(action, origin_of(MESSAGE, envelope, settings))
    assert (mail.sender, mail.recipients) == (sender, ("z@b.c",))


def test_programs_are_not_told_of() -> None:
    action = only_action(outcome(NAMES, 'notify "mailto:a@b.c";'))
    assert action.withheld(origin_of()) is None
    assert action.withheld(origin_of(b"Auto-Submitted: no\r\n\r\n")) is None
    assert action.withheld(origin_of(b"Auto-Submitted: auto-generated\r\n\r\n")) is not None
    # section 2.7: messages without a sender are
    assert action.withheld(origin_of(envelope=Envelope("", "a@b.c"))) is None
