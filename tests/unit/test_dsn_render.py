"""Reports as messages: read back by the standard library and by a strict reader of lines."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.address import NULL, Address, AddressError, parse_address
from mta.dsn.decide import Kind
from mta.dsn.render import Reporter, Way, render
from mta.dsn.returned import Limits, Original
from mta.dsn.values import Action, RecipientReport
from mta.dsn.wording import NAMED
from mta.envelope import BodyType, DeliverBy, Envelope, OriginalRecipient, Recipient
from mta.reply import Reply
from mta.smtp.xtext import parse_utf8_address
from tests.unit.dsn_reading import Read, octets, read

SENDER = parse_address("alice@example.org")
BOB = parse_address("bob@example.net")
JOSE = parse_address("josé@exämple.net")
ENTROPY = bytes(range(32))
NOW = 1_795_776_400.0
HEADER = b"From: alice@example.org\r\nSubject: Figures\r\nMessage-ID: <1@example.org>\r\n\r\n"
NO = Reply(550, "5.1.1", "No such user")
UTF8_WAY = Way(utf8=True)


class Octets:
    """A blob that counts how often it is read."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data = data
        self.size = len(data) if size is None else size
        self.read = 0

    def chunks(self) -> Iterator[bytes]:
        self.read += 1
        for _ in range(self.size // max(1, len(self.data))):
            yield self.data


def original(
    header: bytes = HEADER, body: bytes | Octets = b"Hello\r\n", *, eight_bit: bool = False, **fields: Any
) -> Original:
    envelope = Envelope(SENDER)
    for name, value in fields.items():
        setattr(envelope, name, value)
    blob = body if isinstance(body, Octets) else Octets(body)
    return Original(envelope, header, blob, eight_bit, NOW - 60, "c.example.org ([192.0.2.7])", "01HX")


def report(
    recipient: Recipient | None = None, action: Action = Action.FAILED, reply: Reply | None = NO, **rest: Any
) -> RecipientReport:
    status = {Action.FAILED: "5.1.1", Action.DELAYED: "4.4.1"}.get(action, "2.0.0")
    peer = rest.pop("peer", "mx.example.net:25")
    return RecipientReport(recipient or Recipient(BOB), action, status, reply, peer, **rest)


def rendered(about: Original, *reports: RecipientReport, to: Address = SENDER, **rest: Any) -> Read:
    longest = rest.pop("longest", 998)
    made = render(
        about,
        reports or [report()],
        Reporter("mx.example.org"),
        to=to,
        now=NOW,
        entropy=ENTROPY,
        **rest,
    )
    return read(made, longest=longest)


# The three parts


def test_fields_of_a_failure() -> None:
    about = original(envid="QQ=314")
    recipient = Recipient(BOB, original=OriginalRecipient("rfc822", "robert+x@example.net"))
    got = rendered(about, report(recipient, last_attempt=NOW - 5))
    assert got.fields == {
        "original-envelope-id": "QQ=314",
        "reporting-mta": "dns; mx.example.org",
        "received-from-mta": "dns; c.example.org ([192.0.2.7])",
        "arrival-date": "Fri, 27 Nov 2026 10:45:40 +0000",
    }
    assert got.recipients == [
        {
            "original-recipient": "rfc822; robert+x@example.net",
            "final-recipient": "rfc822; bob@example.net",
            "action": "failed",
            "status": "5.1.1",
            "remote-mta": "dns; mx.example.net",
            "diagnostic-code": "smtp; 550 5.1.1 No such user",
            "last-attempt-date": "Fri, 27 Nov 2026 10:46:35 +0000",
            "final-log-id": "01HX",
        }
    ]
    assert (got.status_type, got.third) == ("message/delivery-status", "message/rfc822")
    assert got.returned == HEADER + b"Hello\r\n"


def test_header() -> None:
    got = rendered(original())
    assert got.header == {
        "from": "Mail Delivery System <MAILER-DAEMON@mx.example.org>",
        "to": "<alice@example.org>",
        "subject": "Your message could not be delivered",
        "date": "Fri, 27 Nov 2026 10:46:40 +0000",
        "message-id": "<20261127104640.101112131415161718191a1b1c1d1e1f@mx.example.org>",
        "in-reply-to": "<1@example.org>",
        "references": "<1@example.org>",
        "auto-submitted": "auto-replied",
        "mime-version": "1.0",
        "content-type": "multipart/report; report-type=delivery-status;"
        ' boundary="=_000102030405060708090a0b0c0d0e0f"',
        "content-transfer-encoding": "7bit",
    }
    assert email.utils.parsedate_to_datetime(got.header["date"]).timestamp() == NOW


def test_the_envelope_is_named_as_the_sender_named_it() -> None:
    """ENVID may have blanks, by xtext, and they are part of it (RFC 3464 section 2.2.1)."""
    made = render(
        original(envid="a  b"), [report()], Reporter("mx.example.org"), to=SENDER, now=NOW, entropy=ENTROPY
    )
    assert b"\r\nOriginal-Envelope-Id: a  b\r\n" in octets(made)
    assert "original-envelope-id" not in rendered(original(envid="  ")).fields


def test_envelope_of_a_report() -> None:
    """RFC 3461 section 6.1: null sender, NOTIFY=NEVER, no RET; RFC 8689 section 5: REQUIRETLS is kept."""
    made = render(
        original(ret="FULL", envid="1", require_tls=True),
        [report()],
        Reporter("mx.example.org"),
        to=SENDER,
        now=NOW,
        entropy=ENTROPY,
    )
    expected = Envelope(NULL, [Recipient(SENDER, notify=frozenset({"NEVER"}))], require_tls=True)
    assert made.envelope == expected
    assert made.message_id == read(made).header["message-id"]


def test_delay_says_until_when() -> None:
    got = rendered(original(), report(action=Action.DELAYED, retry_until=NOW + 86400))
    assert got.recipients[0]["will-retry-until"] == "Sat, 28 Nov 2026 10:46:40 +0000"
    assert got.recipients[0]["action"] == "delayed"
    assert "tried until Sat, 28 Nov 2026 10:46:40 +0000" in got.text
    assert got.header["subject"] == "Your message is delayed"


def test_deliver_by_date() -> None:
    """RFC 2852 adds the field."""
    got = rendered(original(deliver_by=DeliverBy(120, "R", False)))
    assert got.fields["deliver-by-date"] == "Fri, 27 Nov 2026 10:47:40 +0000"


def test_times_are_written_in_a_zone() -> None:
    made = render(original(), [report()], Reporter("mx", 3600), to=SENDER, now=NOW, entropy=ENTROPY)
    got = read(made)
    assert got.header["date"] == "Fri, 27 Nov 2026 11:46:40 +0100"
    assert got.fields["arrival-date"] == "Fri, 27 Nov 2026 11:45:40 +0100"


def test_all_recipients_stand_in_one_report() -> None:
    several = [report(Recipient(parse_address(f"u{n}@example.net"))) for n in range(NAMED + 3)]
    got = rendered(original(), *several)
    assert len(got.recipients) == NAMED + 3
    assert got.text.count("@example.net>") == NAMED
    assert "... and 3 more" in got.text


@pytest.mark.parametrize(
    ("actions", "subject"),
    [
        ({Action.FAILED}, "Your message could not be delivered"),
        ({Action.DELAYED}, "Your message is delayed"),
        ({Action.DELIVERED}, "Your message was delivered"),
        ({Action.RELAYED, Action.DELIVERED}, "Your message was passed on"),
        ({Action.EXPANDED}, "Your message was passed on"),
        ({Action.FAILED, Action.DELIVERED}, "Report about your message"),
        ({Action.FAILED, Action.DELAYED}, "Report about your message"),
    ],
)
def test_subjects(actions: set[Action], subject: str) -> None:
    got = rendered(original(), *(report(action=action) for action in sorted(actions)))
    assert got.header["subject"] == subject


def test_people_read_what_happened_and_what_to_do() -> None:
    got = rendered(original())
    assert "mx.example.net said:\r\n    550 5.1.1 No such user\r\n  There is no such mailbox." in got.text
    ours = rendered(original(), report(reply=Reply(450, "4.4.1", "No connection"), peer=""))
    assert "Not delivered; the reason:\r\n    450 4.4.1 No connection" in ours.text
    expired = RecipientReport(Recipient(BOB), Action.FAILED, "4.4.7", Reply(451, "", "later"), "mx.test:25")
    assert "Not delivered in the time allowed; mx.test said last:" in rendered(original(), expired).text
    for action, words in (
        (Action.DELIVERED, "  Delivered;"),
        (Action.RELAYED, "sends no such reports;"),
        (Action.EXPANDED, "several recipients"),
    ):
        assert words in rendered(original(), report(action=action)).text


def test_subject_of_the_message_is_shown_decoded() -> None:
    got = rendered(original(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n"))
    assert "  Subject: Grüße\r\n" in got.text
    assert got.message["content-transfer-encoding"] == "7bit"


def test_lines_are_folded_where_a_blank_allows_it() -> None:
    got = rendered(original(), report(reply=Reply(550, "5.7.1", "Go away. " * 60)), longest=78)
    assert got.recipients[0]["diagnostic-code"] == "smtp; 550 5.7.1 " + ("Go away. " * 60).strip()


def test_long_reply_is_cut() -> None:
    got = rendered(original(), report(reply=Reply(550, "5.7.1", "word " * 9000)))
    assert 1900 < len(got.recipients[0]["diagnostic-code"]) < 2010
    assert got.recipients[0]["diagnostic-code"].endswith(" ...")


def test_reason_of_our_own_is_no_reply_of_a_server() -> None:
    got = rendered(original(), report(reply=Reply(451, "4.4.1", "No connection"), peer=""))
    assert got.recipients[0]["diagnostic-code"] == "X-Tamis; 451 4.4.1 No connection"
    assert "remote-mta" not in got.recipients[0]
    assert "diagnostic-code" not in rendered(original(), report(reply=None)).recipients[0]


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("mx.example.net:25", "dns; mx.example.net"),
        ("192.0.2.1:25", "dns; [192.0.2.1]"),
        ("[2001:db8::1]:25", "dns; [IPv6:2001:db8::1]"),
        ("2001:db8::1:25", "dns; [IPv6:2001:db8::1]"),
        ("mx", "dns; mx"),
        ("mx.example.net[192.0.2.1]:25", "dns; mx.example.net"),
        ("mx.example.net[2001:db8::1]:25", "dns; mx.example.net"),
        ("a\r\nX-Evil: 1:25", "dns; a X-Evil: 1"),
        ("/run/dovecot/lmtp", None),
    ],
)
def test_remote_mta(peer: str, name: str | None) -> None:
    assert rendered(original(), report(peer=peer)).recipients[0].get("remote-mta") == name


def test_notice_to_the_postmaster() -> None:
    about = original(sender=NULL)
    got = rendered(about, to=parse_address("postmaster@example.org"), kind=Kind.NOTICE)
    assert got.header["subject"] == "A message of this server could not be delivered"
    assert got.header["to"] == "<postmaster@example.org>"


def test_references_go_on_a_thread() -> None:
    before = b" ".join(b"<%d@x>" % n for n in range(30))
    got = rendered(original(b"Message-ID: <me@x>\r\nReferences: " + before + b"\r\n\r\n"))
    assert got.header["references"].split() == [*(f"<{n}@x>" for n in range(21, 30)), "<me@x>"]
    parent = rendered(original(b"Message-ID: <me@x>\r\nIn-Reply-To: <p@x> (hi)\r\n\r\n"))
    assert parent.header["references"] == "<p@x> <me@x>"


@pytest.mark.parametrize(
    "field", [b"", b"Message-ID: nothing\r\n", b"Message-ID: <a@x> <b@x>\r\n", b"Message-ID: <\xff@x>\r\n"]
)
def test_message_without_a_name_is_not_referred_to(field: bytes) -> None:
    got = rendered(original(b"Subject: x\r\n" + field + b"\r\n"))
    assert "references" not in got.header
    assert "in-reply-to" not in got.header


def test_too_little_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="32 random octets"):
        render(original(), [report()], Reporter("mx"), to=SENDER, now=NOW, entropy=b"x" * 31)


# What is returned (RET, sizes, 8 bits)

UTF8_HEADER = "Subject: Grüße\r\nMessage-ID: <1@x>\r\n\r\n".encode()
LATIN_HEADER = b"Subject: Gr\xfc\xdfe\r\n\r\n"
LONG_HEADER = b"X-Long: " + b"a" * 2000 + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("about", "options", "third", "encoding"),
    [
        (original(ret="FULL"), {}, "message/rfc822", "7bit"),
        (original(ret=None), {}, "message/rfc822", "7bit"),
        (original(ret="HDRS"), {}, "text/rfc822-headers", "7bit"),
        (original(require_tls=True), {}, "text/rfc822-headers", "7bit"),
        (original(body=b"x" * 99, ret="FULL"), {"limits": Limits(99, 999)}, "text/rfc822-headers", "7bit"),
        (original(), {"limits": Limits(0, 0)}, "", ""),
        (original(b"\r\n", ret="HDRS"), {}, "", ""),
        (original(body=b"\xfc\r\n", eight_bit=True), {}, "message/rfc822", "8bit"),
        (
            original(body=b"\xfc", eight_bit=True),
            {"way": Way(eight_bit=False)},
            "text/rfc822-headers",
            "7bit",
        ),
        (original(UTF8_HEADER), {}, "text/rfc822-headers", "quoted-printable"),
        (original(UTF8_HEADER), {"way": UTF8_WAY}, "message/global", "8bit"),
        (original(UTF8_HEADER, ret="HDRS"), {"way": UTF8_WAY}, "message/global-headers", "8bit"),
        (original(LATIN_HEADER), {"way": UTF8_WAY}, "text/rfc822-headers", "quoted-printable"),
        (original(LONG_HEADER, ret="HDRS"), {"way": UTF8_WAY}, "text/rfc822-headers", "quoted-printable"),
        (original(b"A: b\rc\nd\0\r\n\r\n", ret="HDRS"), {}, "text/rfc822-headers", "quoted-printable"),
    ],
)
def test_third_part(about: Original, options: dict[str, Any], third: str, encoding: str) -> None:
    got = rendered(about, **options)
    assert got.third == third
    if third:
        assert got.parts[2]["content-transfer-encoding"] == encoding
    fields = about.header.removesuffix(b"\r\n")
    whole = third in ("message/rfc822", "message/global")
    body = b"".join(about.body.chunks())
    assert got.returned == (about.header + body if whole else fields if third else b"")


def test_binary_message_is_not_returned() -> None:
    about = original(body=b"\0\r\n")
    about.envelope.body = BodyType.BINARY_MIME
    assert rendered(about).third == "text/rfc822-headers"


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.FAILED])
def test_whole_message_comes_with_failures_only(action: Action) -> None:
    """RFC 3461 section 4.3: RET is about reports of failure; others have the header."""
    got = rendered(original(ret="FULL"), report(action=action))
    assert got.third == "text/rfc822-headers"
    both = rendered(original(ret="FULL"), report(action=action), report())
    assert both.third == "message/rfc822"


def test_header_is_cut_at_a_field() -> None:
    header = b"A: 1\r\nB: 2\r\n folded\r\nC: 3\r\n\r\n"
    for limit, kept in ((100, header[:-2]), (20, b"A: 1\r\n"), (21, header[:21]), (3, b"A: ")):
        got = rendered(original(header, ret="HDRS"), limits=Limits(0, limit))
        assert got.returned == kept


def test_large_message_is_not_read_before_it_is_sent() -> None:
    ten = Octets(b"x" * 998 + b"\r\n", 10_000_000)
    made = render(
        original(body=ten),
        [report()],
        Reporter("mx"),
        to=SENDER,
        now=NOW,
        entropy=ENTROPY,
        limits=Limits(20_000_000),
    )
    assert ten.read == 0
    assert made.body.size > 10_000_000
    largest = max(len(chunk) for chunk in made.body.chunks())
    assert ten.read == 1
    assert largest < 2000
    assert len(octets(made)) == made.body.size + len(made.header)


# Addresses that are not ASCII (RFC 6533)


def test_utf8_on_a_way_that_takes_it() -> None:
    recipient = Recipient(JOSE, original=OriginalRecipient("utf-8", "пётр@example.net"))
    got = rendered(original(), report(recipient, reply=Reply(550, "5.1.1", "no josé")), way=UTF8_WAY)
    assert got.status_type == "message/global-delivery-status"
    assert got.recipients[0]["final-recipient"] == "utf-8; josé@exämple.net"
    assert got.recipients[0]["original-recipient"] == "utf-8; пётр@example.net"
    assert got.recipients[0]["diagnostic-code"] == "smtp; 550 5.1.1 no josé"


def test_utf8_on_a_way_that_does_not_take_it() -> None:
    recipient = Recipient(JOSE, original=OriginalRecipient("utf-8", "пётр@example.net"))
    about = original()
    got = rendered(about, report(recipient, reply=Reply(550, "5.1.1", "no josé")))
    assert got.status_type == "message/delivery-status"
    fields = got.recipients[0]
    assert fields["final-recipient"] == r"utf-8; jos\x{E9}@ex\x{E4}mple.net"
    assert parse_utf8_address(fields["original-recipient"].removeprefix("utf-8; ")) == "пётр@example.net"
    assert fields["diagnostic-code"] == "smtp; 550 5.1.1 no jos?"
    assert "550 5.1.1 no josé" in got.text
    assert "<josé@exämple.net>" in got.text


def test_utf8_way_alone_makes_no_utf8_report() -> None:
    made = render(original(), [report()], Reporter("mx"), to=SENDER, now=NOW, entropy=ENTROPY, way=UTF8_WAY)
    assert not made.envelope.smtputf8
    assert read(made).status_type == "message/delivery-status"


def test_recipient_of_the_report_is_not_ascii() -> None:
    made = render(original(), [report()], Reporter("mx"), to=JOSE, now=NOW, entropy=ENTROPY, way=UTF8_WAY)
    assert made.envelope.smtputf8
    assert read(made).header["to"] == "<josé@exämple.net>"
    domain_only = parse_address("jo@exämple.net")
    assert rendered(original(), to=domain_only).header["to"] == "<jo@xn--exmple-cua.net>"
    assert rendered(original(), to=JOSE).header["to"] == "sender:;"


# Whatever others say

anything = st.text(st.characters(), max_size=300) | st.sampled_from(
    [
        "\r\n\r\n--=_000102030405060708090a0b0c0d0e0f\r\nContent-Type: text/html\r\n\r\n<script>",
        "a\r\nBcc: x@y\r\n\r\nbody",
        "x" * 3000,
        "é" * 1500 + "\n" + "\N{GRINNING FACE}" * 400,
        "\x00\x1b[31m\x85\u2028\u202e.\n.\r\n",
        " ",
        "",
    ]
)
any_address = st.one_of(
    st.sampled_from([BOB, JOSE, parse_address('"a  b\\"c"@example.net')]),
    anything.map(lambda text: Address("x", "example.net", f"x@example.net{text}")),
)
replies = st.builds(
    Reply, st.integers(200, 599), st.sampled_from(["", "5.1.1", "2.0.0"]) | anything, anything
)
any_original = st.none() | st.builds(
    OriginalRecipient, st.sampled_from(["rfc822", "utf-8", "x400", "a\r\nb"]), anything
)
any_report = st.builds(
    RecipientReport,
    st.builds(Recipient, any_address, st.none(), any_original),
    st.sampled_from(Action),
    st.sampled_from(["5.1.1", "4.4.7", "2.0.0"]),
    st.none() | replies,
    st.sampled_from(["", "mx.test:25", "/run/x"]) | anything,
    st.none() | st.floats(0, 4e9),
    st.none() | st.floats(0, 4e9),
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(any_report, min_size=1, max_size=3),
    st.binary(max_size=300) | anything.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([None, "FULL", "HDRS"]),
    anything,
    st.booleans(),
    st.booleans(),
)
def test_any_reply_and_address_make_a_report_that_reads_back(
    reports: Sequence[RecipientReport],
    header: bytes,
    ret: str | None,
    words: str,
    utf8: bool,
    failed_only: bool,
) -> None:
    # What a session accepts has CRLF line ends; the returned message is passed on as it came.
    header = b"X-It: " + re.sub(rb"[\r\n\0]", b"", header)[:900] + b"\r\nSubject: s\r\n\r\n"
    envelope = Envelope(SENDER, ret=ret, envid=words or None)
    about = Original(envelope, header, Octets(b"Hi\r\n"), False, NOW, words, words)
    made = render(
        about, reports, Reporter("mx.test"), to=SENDER, now=NOW, entropy=ENTROPY, way=Way(utf8, failed_only)
    )
    got = read(made)
    assert set(got.header) <= {
        "from", "to", "subject", "date", "message-id", "in-reply-to", "references", "auto-submitted",
        "mime-version", "content-type", "content-transfer-encoding",
    }  # fmt: skip
    assert set(got.fields) <= {"original-envelope-id", "reporting-mta", "received-from-mta", "arrival-date"}
    assert len(got.recipients) == len(reports)
    for group, expected in zip(got.recipients, reports, strict=True):
        assert set(group) <= {
            "original-recipient", "final-recipient", "action", "status", "remote-mta", "diagnostic-code",
            "last-attempt-date", "final-log-id", "will-retry-until",
        }  # fmt: skip
        assert {"final-recipient", "action", "status"} <= set(group)
        assert (group["action"], group["status"]) == (expected.action, expected.status)
        assert re.match(r"(rfc822|utf-8); ", group["final-recipient"])
    assert got.third


@settings(max_examples=200)
@given(st.text(st.characters(), min_size=1, max_size=40))
def test_addresses_come_back(text: str) -> None:
    try:
        address = parse_address(f"{text}@example.net")
    except AddressError:
        return
    for way in (Way(), UTF8_WAY):
        field = rendered(original(), report(Recipient(address)), way=way).recipients[0]["final-recipient"]
        kind, _, value = field.partition("; ")
        if kind == "utf-8" and not way.utf8:
            assert value.isascii()
            assert parse_utf8_address(value) == address.text
        else:
            assert value == "".join(c if c.isprintable() else "?" for c in address.text)
        assert kind == ("rfc822" if address.text.isascii() else "utf-8")
