"""mailbox (RFC 5490 section 3), with the other ways to choose a mailbox: RFC 8579, RFC 9042, and metadata."""

from __future__ import annotations

import pytest

from sieve_ext.extensions.mailbox import MailboxExists
from sieve_ext.extensions.mailboxid import MailboxIdExists
from sieve_ext.extensions.mboxmetadata import MailboxMetadata
from sieve_ext.extensions.servermetadata import ServerMetadata
from sieve_ext.extensions.special_use import SpecialUseExists
from tests.unit.sieve_delivery import Answers, complaints, holds, outcome

NAMES = "fileinto mailbox special-use mailboxid mboxmetadata servermetadata variables relational"


def site() -> Answers:
    """A store with the mailboxes INBOX and Junk."""
    return Answers(
        {
            MailboxExists: lambda ask: ask.mailbox in ("INBOX", "Junk"),
            MailboxIdExists: lambda ask: ask.mailbox_id == "F42",
            SpecialUseExists: lambda ask: ask.attribute.lower() == "\\junk" and ask.mailbox in ("", "Junk"),
            MailboxMetadata: lambda ask: (
                "Important" if (ask.mailbox, ask.annotation) == ("Junk", "/private/comment") else None
            ),
            ServerMetadata: lambda ask: "postmaster" if ask.annotation == "/shared/admin" else None,
        }
    )


TESTS = [
    # RFC 5490 section 3.1: all of them
    (True, 'mailboxexists "Junk"'),
    (False, 'mailboxexists ["Junk", "None"]'),
    (True, 'mailboxexists ["Junk", "INBOX"]'),
    (False, 'mailboxexists ""'),
    # section 4
    (True, 'metadata "Junk" "/private/comment" "important"'),
    (True, 'metadata :contains "Junk" "/Private/COMMENT" "port"'),
    (True, 'metadata :matches "Junk" "/private/comment" "Im*"'),
    (False, 'metadata "INBOX" "/private/comment" "important"'),
    (False, 'metadata :contains "INBOX" "/private/comment" ""'),
    (True, 'metadata :count "eq" "Junk" "/private/comment" "1"'),
    (False, 'metadata :count "eq" "None" "/private/comment" "0"'),
    (False, 'metadata :count "ne" "Junk" "/private/other" "1"'),
    (True, 'metadataexists "Junk" "/private/comment"'),
    (False, 'metadataexists "Junk" ["/private/comment", "/private/other"]'),
    (False, 'metadataexists "None" "/private/comment"'),
    (False, 'metadataexists "Junk" "comment"'),
    # section 5
    (True, 'servermetadata "/shared/admin" "postmaster"'),
    (False, 'servermetadata "/shared/comment" "postmaster"'),
    (False, 'servermetadata :count "lt" "/shared/comment" "1"'),
    (True, 'servermetadataexists "/shared/admin"'),
    (False, 'servermetadataexists ["/shared/admin", "/shared/x"]'),
    # RFC 8579 section 3
    (True, 'specialuse_exists "\\\\Junk"'),
    (True, 'specialuse_exists "Junk" "\\\\junk"'),
    (False, 'specialuse_exists "INBOX" "\\\\Junk"'),
    (False, 'specialuse_exists ["\\\\Junk", "\\\\Sent"]'),
    (False, 'specialuse_exists "" "\\\\Junk"'),
    # RFC 9042 section 5
    (True, 'mailboxidexists "F42"'),
    (False, 'mailboxidexists ["F42", "F43"]'),
    (False, 'mailboxidexists "not an id"'),
]


@pytest.mark.parametrize(("expected", "test"), TESTS)
def test_tests(expected: bool, test: str) -> None:
    assert holds(NAMES, test, host=site()) is expected


def test_variables() -> None:
    test = 'allof (header :matches "subject" "*", not mailboxexists "${1}")'
    host = site()
    assert holds(NAMES, test, host=host)
    assert host.asked == [MailboxExists("Frop!")]


def test_stops_at_the_first_that_is_missing() -> None:
    host = site()
    holds(NAMES, 'mailboxexists ["None", "Junk"]', host=host)
    assert host.asked == [MailboxExists("None")]


def test_options() -> None:
    script = 'fileinto :create "a"; fileinto :specialuse "\\\\Junk" "b"; fileinto :mailboxid "F42" "c"; keep;'
    result = outcome(NAMES, script)
    assert [one.options for one in result.actions] == [
        {"create": True},
        {"specialuse": "\\Junk"},
        {"mailboxid": "F42"},
        {},
    ]


def test_options_by_variables() -> None:
    script = (
        'set "u" "\\\\Sent"; set "i" "F1"; fileinto :specialuse "${u}" "a"; fileinto :mailboxid "${i}" "b";'
    )
    assert [one.options for one in outcome(NAMES, script).actions] == [
        {"specialuse": "\\Sent"},
        {"mailboxid": "F1"},
    ]
    failed = outcome(NAMES, 'set "u" "Sent"; fileinto :specialuse "${u}" "a";')
    assert [one.text for one in failed.errors] == [
        "specialuse tag: invalid special-use flag 'Sent' specified"
    ]


WRONG = [
    ('fileinto :create :create "a";', "1:18 error encountered duplicate :create argument"),
    ("keep :create;", "1:6 error unknown tagged argument ':create' for the keep command"),
    (
        'if specialuse_exists "Junk" { keep; }',
        "1:22 error specialuse_exists test: invalid special-use flag 'Junk' specified",
    ),
    (
        'if specialuse_exists "Foo\\\\" { keep; }',
        "1:22 error specialuse_exists test: invalid special-use flag 'Foo\\' specified",
    ),
    (
        'fileinto :specialuse "\\\\ju nk" "a";',
        "1:22 error specialuse tag: invalid special-use flag '\\ju nk' specified",
    ),
    (
        'fileinto :specialuse "\\\\Junk" :mailboxid "x" "a";',
        "1:10 error conflicting :specialuse and :mailboxid arguments",
    ),
    (
        'if metadata "a" "/priv/x" "" { keep; }',
        "1:17 warning metadata test: specified annotation name '/priv/x' is invalid",
    ),
    (
        'if metadataexists "a" "/private/x/" { keep; }',
        "1:23 warning metadataexists test: specified annotation name",
    ),
    (
        'if servermetadata "/private//x" "" { keep; }',
        "1:19 warning servermetadata test: specified annotation name",
    ),
    (
        'if servermetadataexists "/shared/*" { keep; }',
        "1:25 warning servermetadataexists test: specified annotation name",
    ),
    ("if mailboxexists { keep; }", "1:4 error the mailboxexists test requires 1 positional argument(s)"),
    (
        'if metadata "a" "/private/x" { keep; }',
        "1:4 error the metadata test requires 3 positional argument(s)",
    ),
    ('fileinto :specialuse ["\\\\Junk"] "a";', "1:22 error the :specialuse tag for the fileinto command"),
]


@pytest.mark.parametrize(("script", "start"), WRONG)
def test_wrong(script: str, start: str) -> None:
    (text,) = complaints(NAMES, script)
    assert text.startswith(start)
