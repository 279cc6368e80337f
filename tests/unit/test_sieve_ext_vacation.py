"""vacation (RFC 5230) and vacation-seconds (RFC 6131)."""

from __future__ import annotations

import pytest

from sieve_ext import Envelope
from sieve_ext.outgoing.vacation import DAY, VacationAction, mime_entity
from tests.unit.sieve_delivery import (
    ENVELOPE,
    MESSAGE,
    complaints,
    only_action,
    only_mail,
    origin_of,
    outcome,
)

NAMES = "vacation vacation-seconds variables fileinto"


def action_of(script: str, **more: object) -> VacationAction:
    action = only_action(outcome(NAMES, script, **more))  # type: ignore[arg-type]
    assert isinstance(action, VacationAction)
    return action


def test_keeps_the_message() -> None:
    # Section 4: the implicit keep is not cancelled.
    result = outcome(NAMES, 'vacation "x";')
    assert result.implicit_keep is not None
    assert [one.name for one in result.all_actions] == ["vacation", "keep"]


def test_once_in_a_script() -> None:
    result = outcome(NAMES, 'vacation "x"; vacation "y";')
    assert [fault.text for fault in result.errors] == [
        "duplicate vacation action not allowed (previously triggered one was here: line 2)"
    ]


PERIODS = [
    # sections 4.1 and RFC 6131 section 2, and the administrator's limits
    ('vacation "x";', {}, 7 * DAY),
    ('vacation :days 3 "x";', {}, 3 * DAY),
    ('vacation :days 0 "x";', {}, DAY),
    ('vacation :days 365 "x";', {}, 60 * DAY),
    ('vacation :days 365 "x";', {"sieve_vacation_max_period": "0"}, 365 * DAY),
    ('vacation :seconds 10 "x";', {}, DAY),
    ('vacation :seconds 10 "x";', {"sieve_vacation_min_period": "0"}, 10),
    ('vacation :seconds 0 "x";', {"sieve_vacation_min_period": "0"}, 0),
    ('vacation "x";', {"sieve_vacation_default_period": "2d"}, 2 * DAY),
    ('vacation "x";', {"sieve_vacation_default_period": "2h"}, DAY),
]


@pytest.mark.parametrize(("script", "settings", "seconds"), PERIODS)
def test_periods(script: str, settings: dict[str, str], seconds: int) -> None:
    action = action_of(script, settings=settings)
    assert action.seconds == seconds
    key = action.reply_key(origin_of(settings=settings))
    assert (key[1] if key else 0) == seconds


WRONG = [
    ("vacation;", "1:1 error the vacation command requires 1 positional argument(s), but 0 is/are specified"),
    ('vacation :days "3" "a";', "1:16 error the :days tag for the vacation command requires a number"),
    ('vacation :days 3 :seconds 4 "a";', "1:18 error encountered duplicate PERIOD argument (:seconds)"),
    ('vacation :days 3 :days 4 "a";', "1:18 error encountered duplicate PERIOD argument (:days)"),
    ('vacation :days 0 "a";', "1:10 warning specified :days value '0' is under the minimum"),
    ('vacation :seconds 0 "a";', "1:10 warning specified :seconds value '0' is under the minimum"),
    ('vacation :days 1000 "a";', "1:10 warning specified :days value '1000' is over the maximum"),
    ('vacation :from "bad" "a";', "1:16 error specified :from address 'bad' is invalid for vacation action"),
    ('vacation :from "a@b.c, d@e.f" "a";', "1:16 error specified :from address 'a@b.c, d@e.f' is invalid"),
    ('vacation :from "" "a";', "1:16 error specified :from address '' is invalid for vacation action: empty"),
    (
        'vacation :subject ["a"] "a";',
        "1:19 error the :subject tag for the vacation command requires a string",
    ),
    ('vacation :handle 3 "a";', "1:18 error the :handle tag for the vacation command requires a string"),
    ('vacation "a" "b";', "1:14 error the vacation command requires 1 positional argument(s), but 2"),
    ('vacation :foo "a";', "1:10 error unknown tagged argument ':foo' for the vacation command"),
    ('if vacation "a" { keep; }', "1:4 error attempted to use command 'vacation' as test"),
]


@pytest.mark.parametrize(("script", "start"), WRONG)
def test_wrong(script: str, start: str) -> None:
    (text,) = complaints(NAMES, script)
    assert text.startswith(start)


def test_seconds_need_their_capability() -> None:
    (text,) = complaints("vacation", 'vacation :seconds 3 "a";')
    assert "unknown tagged argument ':seconds'" in text
    # RFC 6131 section 2: it brings vacation with it
    assert complaints("vacation-seconds", 'vacation :seconds 100000 "a";') == []


def test_from_that_turns_out_wrong() -> None:
    result = outcome(NAMES, 'set "f" "nobody"; vacation :from "${f}" "x";')
    assert not result.errors
    assert "specified :from address 'nobody' is invalid" in result.notes[0].text
    (action,) = result.actions
    assert isinstance(action, VacationAction)
    assert action.sender is None


def header(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "", "body")).encode()


TO = "To: nico@frop.example.org"
LIST = "The envelope may not be answered"

WITHHELD = [
    # (sent, header, envelope, script): section 4.6, section 5, RFC 3834 section 2
    (True, [TO], ENVELOPE, ""),
    (False, [TO], Envelope("", "nico@frop.example.org"), ""),
    (False, [TO], Envelope(None, "nico@frop.example.org"), ""),
    (False, [TO], Envelope("a@b.c", ""), ""),
    (False, [TO], Envelope("nico@frop.example.org", "nico@frop.example.org"), ""),
    (False, [TO], ENVELOPE, ':addresses "Sirius@Example.org"'),
    (False, [TO, "List-Id: <x.y>"], ENVELOPE, ""),
    (False, [TO, "list-unsubscribe: <x@y>"], ENVELOPE, ""),
    (False, [TO, "List-Post: x"], ENVELOPE, ""),
    (False, [TO, "Auto-Submitted: auto-replied"], ENVELOPE, ""),
    (False, [TO, "Auto-Submitted: auto-notified; owner-email=x@y"], ENVELOPE, ""),
    (True, [TO, "Auto-Submitted: No"], ENVELOPE, ""),
    (True, [TO, "Auto-Submitted: no; why=not"], ENVELOPE, ""),
    (False, [TO, "Precedence: bulk"], ENVELOPE, ""),
    (False, [TO, "Precedence: Junk"], ENVELOPE, ""),
    (False, [TO, "Precedence: list"], ENVELOPE, ""),
    (True, [TO, "Precedence: first-class"], ENVELOPE, ""),
    (False, [TO, "X-Auto-Response-Suppress: DR, OOF"], ENVELOPE, ""),
    (False, [TO, "X-Auto-Response-Suppress: All"], ENVELOPE, ""),
    (True, [TO, "X-Auto-Response-Suppress: DR"], ENVELOPE, ""),
    (False, [TO], Envelope("MAILER-DAEMON@b.c", "nico@frop.example.org"), ""),
    (False, [TO], Envelope("owner-x@b.c", "nico@frop.example.org"), ""),
    (False, [TO], Envelope("x-request@b.c", "nico@frop.example.org"), ""),
    (False, [TO], Envelope("LISTSERV@b.c", "nico@frop.example.org"), ""),
    (True, [TO], Envelope("requests@b.c", "nico@frop.example.org"), ""),
    # section 4.5: addressed to the user, by one of his addresses
    (False, ["To: someone@else"], ENVELOPE, ""),
    (False, [], ENVELOPE, ""),
    (True, ["Cc: x@y, Nico <NICO@Frop.Example.ORG>"], ENVELOPE, ""),
    (True, ["Bcc: group: nico@frop.example.org;"], ENVELOPE, ""),
    (True, ["To: x@y", "Resent-To: nico@frop.example.org"], ENVELOPE, ""),
    (False, ["Reply-To: nico@frop.example.org"], ENVELOPE, ""),
    (True, ["To: other@example.net"], ENVELOPE, ':addresses ["x@y", "other@example.net"]'),
    (True, ["To: other@example.net"], ENVELOPE, ':addresses "Me <other@example.net>"'),
    (False, ["To: other@example.net"], ENVELOPE, ':addresses "no address"'),
]


@pytest.mark.parametrize(("sent", "lines", "envelope", "tags"), WITHHELD)
def test_withheld(sent: bool, lines: list[str], envelope: Envelope, tags: str) -> None:
    action = action_of(f'vacation {tags} "x";')
    found = action.withheld(origin_of(header(*lines), envelope))
    assert (found is None) is sent, found


SETTINGS = [
    (False, "alias@x.y", {}),
    (True, "alias@x.y", {"sieve_vacation_use_original_recipient": "yes"}),
    (True, "who@x.y", {"sieve_vacation_check_recipient": "no"}),
    (True, "who@x.y", {"sieve_vacation_dont_check_recipient": "yes"}),
    (True, "who@x.y", {"sieve_user_email": "<who@x.y>"}),
    (False, "nico@frop.example.org", {"sieve_vacation_to_header_ignore_envelope": "yes"}),
]


@pytest.mark.parametrize(("sent", "to", "settings"), SETTINGS)
def test_settings_of_recipients(sent: bool, to: str, settings: dict[str, str]) -> None:
    envelope = Envelope("a@b.c", "nico@frop.example.org", "alias@x.y")
    origin = origin_of(header(f"To: {to}"), envelope, settings)
    assert (action_of('vacation "x";').withheld(origin) is None) is sent


KEYS = [
    # section 4.2: what counts as the same answer
    (True, 'vacation "x";', 'vacation "x";'),
    (False, 'vacation "x";', 'vacation "y";'),
    (False, 'vacation "x";', 'vacation :subject "s" "x";'),
    (False, 'vacation "x";', 'vacation :from "a@b.c" "x";'),
    (False, 'vacation "x";', 'vacation :mime "x";'),
    (True, 'vacation "x";', 'vacation :addresses "a@b.c" :days 3 "x";'),
    (True, 'vacation :handle "h" "x";', 'vacation :handle "h" :subject "s" "y";'),
    (False, 'vacation :handle "h" "x";', 'vacation :handle "i" "x";'),
    (False, 'vacation :handle "x" "x";', 'vacation "x";'),
]


@pytest.mark.parametrize(("same", "one", "other"), KEYS)
def test_keys(same: bool, one: str, other: str) -> None:
    first, second = (action_of(script).reply_key(origin_of()) for script in (one, other))
    assert first is not None
    assert second is not None
    assert (first[0] == second[0]) is same


def test_key_is_of_the_sender() -> None:
    action = action_of('vacation "x";')
    one = action.reply_key(origin_of(envelope=Envelope("A@b.c", "x@y.z")))
    assert one == action.reply_key(origin_of(envelope=Envelope("a@B.C", "x@y.z")))
    assert one != action.reply_key(origin_of(envelope=Envelope("d@b.c", "x@y.z")))


FIELDS = [
    # section 5: what the answer looks like
    ("", MESSAGE, "subject", "Auto: Frop!"),
    ("", MESSAGE, "to", '"Stephan Bosch" <sirius@example.org>'),
    ("", MESSAGE, "from", "<nico@frop.example.org>"),
    ("", MESSAGE, "in-reply-to", "<a@b>"),
    ("", MESSAGE, "references", "<x@y> <a@b>"),
    ("", MESSAGE, "auto-submitted", "auto-replied (vacation)"),
    ("", MESSAGE, "precedence", "bulk"),
    ("", MESSAGE, "x-auto-response-suppress", "All"),
    ("", MESSAGE, "content-type", "text/plain; charset=utf-8"),
    ("", MESSAGE, "date", "Fri, 27 Nov 2026 12:00:00 +0000"),
    ("", header(TO), "subject", "Automated reply"),
    ("", header(TO), "to", "<sirius@example.org>"),
    ("", header(TO), "in-reply-to", None),
    ("", header(TO), "references", None),
    ("", header(TO, "References: <1@x>"), "references", "<1@x>"),
    # of the other's fields only what is a Message-ID (RFC 5322 section 3.6.4), and never a line too long
    ("", header(TO, "Message-ID: <1@x> (c) y <2@x>"), "in-reply-to", "<1@x> <2@x>"),
    ("", header(TO, "Message-ID: 1@x"), "in-reply-to", None),
    ("", header(TO, "Message-ID: \u00e9 <1@x> <\u00e9@x>"), "in-reply-to", "<1@x>"),
    ("", header(TO, f"Message-ID: <{'1' * 1000}@x>"), "in-reply-to", None),
    ("", header(TO, f"References: <{'1' * 1000}@x> <1@x>", "Message-ID: junk"), "references", "<1@x>"),
    ("", header(TO, "Subject: =?utf-8?q?caf=C3=A9?="), "subject", "Auto: caf\u00e9"),
    ("", header(TO, "From: A <sirius@example.org>"), "to", "A <sirius@example.org>"),
    ("", header(TO, "From: =?utf-8?q?=C3=A9?= <sirius@example.org>"), "to", "\u00e9 <sirius@example.org>"),
    (':subject "G\u00fcte\nBcc: x@y"', MESSAGE, "subject", "G\u00fcte Bcc: x@y"),
    (':subject "G\u00fcte\nBcc: x@y"', MESSAGE, "bcc", None),
    (':subject "${1}"', MESSAGE, "subject", "Auto: Frop!"),
    (':from "A B <me@example.org>"', MESSAGE, "from", "A B <me@example.org>"),
    (':from "M\u00e9 <me@example.org>"', MESSAGE, "from", "M\u00e9 <me@example.org>"),
    (':from "\\"A, B\\" <me@example.org>"', MESSAGE, "from", '"A, B" <me@example.org>'),
    (':addresses "other@example.net"', header("To: other@example.net"), "from", "<other@example.net>"),
]


@pytest.mark.parametrize(("tags", "message", "name", "value"), FIELDS)
def test_fields(tags: str, message: bytes, name: str, value: str | None) -> None:
    action = action_of(f'vacation {tags} "x";', message=message)
    mail, reply = only_mail(action, origin_of(message))
    assert (mail.sender, mail.recipients) == ("", ("sirius@example.org",))
    assert reply.text(name) == value
    assert mail.octets.endswith(b"\r\n\r\nx\r\n")


def test_long_subject_is_cut() -> None:
    message = header(TO, "Subject: " + "x" * 2000)
    _, reply = only_mail(action_of('vacation "x";'), origin_of(message))
    assert len(reply.text("subject") or "") == 256


SUBJECTS = [
    ({"sieve_vacation_default_subject": "Away"}, header(TO), "Away"),
    ({"sieve_vacation_default_subject": "Away"}, MESSAGE, "Auto: Frop!"),
    ({"sieve_vacation_default_subject_template": "Re: %{subject} (away)"}, MESSAGE, "Re: Frop! (away)"),
]


@pytest.mark.parametrize(("settings", "message", "subject"), SUBJECTS)
def test_subject_settings(settings: dict[str, str], message: bytes, subject: str) -> None:
    _, reply = only_mail(action_of('vacation "x";'), origin_of(message, settings=settings))
    assert reply.text("subject") == subject


def test_sender_of_the_envelope() -> None:
    origin = origin_of(settings={"sieve_vacation_send_from_recipient": "yes"})
    mail, _ = only_mail(action_of('vacation "x";'), origin)
    assert mail.sender == "nico@frop.example.org"


ENTITIES = [
    # section 4.4: a MIME entity, of whose header only Content-* counts
    (b"Content-Type: text/html\r\n\r\n<p>\r\n", b"Content-Type: text/html\r\n\r\n<p>\r\n"),
    (
        b"content-type: multipart/mixed;\r\n boundary=x\r\nBcc: a@b\r\n c\r\nContent-Language: de\r\n\r\nx",
        b"content-type: multipart/mixed;\r\n boundary=x\r\nContent-Language: de\r\n\r\nx",
    ),
    (b"no header\r\n\r\nx", b"Content-Type: text/plain; charset=utf-8\r\n\r\nno header\r\n\r\nx"),
    (b"", b"Content-Type: text/plain; charset=utf-8\r\n\r\n"),
    (b"\r\nx", b"Content-Type: text/plain; charset=utf-8\r\n\r\nx"),
]


@pytest.mark.parametrize(("given", "entity"), ENTITIES)
def test_mime(given: bytes, entity: bytes) -> None:
    assert mime_entity(given) == entity


def test_mime_answer() -> None:
    script = 'vacation :mime "Content-Type: text/html; charset=utf-8\n\n<p>\u00e9</p>";'
    mail, reply = only_mail(action_of(script), origin_of())
    assert reply.text("content-type") == "text/html; charset=utf-8"
    assert reply.text("mime-version") == "1.0"
    assert mail.octets.endswith("\r\n\r\n<p>\u00e9</p>\r\n".encode())
