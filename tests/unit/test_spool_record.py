"""What is kept of an envelope comes back as it was, and what is damaged says so."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import NULL, parse_address
from mta.delivery.outcome import NextHop, Outcome
from mta.dsn.decide import Kind, Vouching
from mta.envelope import BodyType, DeliverBy, Envelope, OriginalRecipient, Recipient
from mta.reply import Reply
from mta.session import Session
from mta.smtp.mailing import NOT_WANTED
from mta.spool.hops import hop_of, learned, limits_of, site_of
from mta.spool.record import (
    Record,
    RecordError,
    decode_recipient,
    decode_record,
    encode_recipient,
    encode_record,
    make_record,
    release_time,
)
from mta.spool.replies import MAX_KEPT, UNREADABLE, kept_reply, kept_text

SENDER = parse_address("alice@example.org")
NOW = 1_800_000_000.0
words = st.text(string.printable.replace("\r", "").replace("\n", ""), max_size=30)
envelopes = st.builds(
    Envelope,
    sender=st.sampled_from([SENDER, NULL, parse_address("jörg@exämple.test"), parse_address('"a b"@x.test')]),
    body=st.sampled_from(BodyType),
    smtputf8=st.booleans(),
    auth=st.none() | words,
    ret=st.sampled_from([None, "FULL", "HDRS"]),
    envid=st.none() | words,
    require_tls=st.booleans(),
    deliver_by=st.none()
    | st.builds(DeliverBy, st.integers(-1000, 999_999_999), st.sampled_from("NR"), st.booleans()),
    priority=st.none() | st.integers(-9, 9),
)
notifies = st.none() | st.frozensets(st.sampled_from(["NEVER", "SUCCESS", "FAILURE", "DELAY"]))


@given(envelopes, st.sampled_from(Vouching), st.sampled_from(Kind), st.booleans(), st.booleans())
def test_envelopes(envelope: Envelope, vouching: Vouching, kind: Kind, eight: bool, plain: bool) -> None:
    session = Session("s1", "smtp", "lmtp", "192.0.2.1")
    session.client_name, session.helo, session.user = "client.test", "helo.test", "alice"
    made = make_record(
        envelope, session, NOW, vouching=vouching, kind=kind,
        transaction="t1", message_id="<1@x>", has_8bit=eight, plain=plain,
    )  # fmt: skip
    record = decode_record(encode_record(made))
    assert record == made
    assert record.envelope(envelope.sender.text, NOW) == envelope
    assert (record.kind, record.vouching) == (kind.value, vouching.value)
    assert (record.has_8bit, record.plain, record.message_id) == (eight, plain, "<1@x>")
    again = record.origin.session()
    for name in ("listener", "protocol", "client_address", "client_name", "helo", "user"):
        assert getattr(again, name) == getattr(session, name)
    assert again.id == "t1"


@given(
    st.sampled_from(["bob@example.test", "jörg@example.test", '"b o b"@[192.0.2.1]', "b@xn--fa-hia.test"]),
    notifies,
    st.none() | st.builds(OriginalRecipient, st.sampled_from(["rfc822", "utf-8"]), words),
)
def test_recipients(address: str, notify: frozenset[str] | None, original: OriginalRecipient | None) -> None:
    recipient = Recipient(parse_address(address), notify, original)
    octets = encode_recipient(recipient)
    assert decode_recipient(recipient.address.text, octets) == recipient
    assert (octets == b"") == (notify is None and original is None), "the usual recipient costs nothing"


def test_the_time_to_deliver_by_runs_down() -> None:
    envelope = Envelope(SENDER, deliver_by=DeliverBy(600, "N", True))
    record = make_record(envelope, None, NOW, vouching=Vouching.LOGIN)
    assert record.envelope("alice@example.org", NOW + 450).deliver_by == DeliverBy(150, "N", True)
    assert record.envelope("alice@example.org", NOW + 700).deliver_by == DeliverBy(-100, "N", True)


@pytest.mark.parametrize(
    ("hold_for", "hold_until", "wanted"),
    [
        (None, None, 0.0),
        (3600, None, NOW + 3600),
        (None, "2027-01-15T08:00:00Z", 1_800_000_000.0),
        (None, "2027-01-15T10:00:00+02:00", 1_800_000_000.0),
    ],
)
def test_the_time_of_a_message_for_later(hold_for: int | None, hold_until: str | None, wanted: float) -> None:
    envelope = Envelope(SENDER, hold_for=hold_for, hold_until=hold_until)
    assert release_time(envelope, NOW) == wanted
    assert make_record(envelope, None, NOW, vouching=Vouching.LOGIN).release == wanted


def test_a_record_of_another_version() -> None:
    """Unknown fields are ignored, missing ones have defaults."""
    newer = msgspec.msgpack.encode({"ret": "FULL", "invented_later": [1, 2], "origin": {"helo": "h", "x": 1}})
    record = decode_record(newer)
    assert (record.ret, record.origin.helo, record.kind, record.vouching) == (
        "FULL",
        "h",
        "message",
        "nobody",
    )
    assert decode_record(msgspec.msgpack.encode({})) == Record()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xff\xff",
        msgspec.msgpack.encode(["a"]),
        msgspec.msgpack.encode({"kind": "unheard of"}),
        msgspec.msgpack.encode({"vouching": "somebody"}),
        msgspec.msgpack.encode({"body": "9BIT"}),
        msgspec.msgpack.encode({"release": "tomorrow"}),
    ],
)
def test_what_is_no_record(octets: bytes) -> None:
    with pytest.raises(RecordError, match="unreadable"):
        decode_record(octets)


@given(st.binary(max_size=60))
def test_any_octets_are_a_record_or_an_error(octets: bytes) -> None:
    try:
        record = decode_record(octets)
    except RecordError:
        return
    assert decode_record(encode_record(record)) == record


def test_addresses_that_are_none() -> None:
    with pytest.raises(RecordError):
        Record().envelope("no address", NOW)
    with pytest.raises(RecordError):
        decode_recipient("no address", b"")
    with pytest.raises(RecordError):
        decode_recipient("bob@example.test", b"\xc1")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(250, "2.0.0", "ok"),
        Reply(451, "4.4.1", "a text"),
        Reply(550, "", "without an enhanced code"),
        Reply(452, "4.3.1", ""),
        Reply(421, "4.3.2", "4.3.2 said twice"),
    ],
)
def test_replies_come_back(reply: Reply) -> None:
    assert kept_reply(kept_text(reply)) == reply


@pytest.mark.parametrize("text", ["", "hello", "999 9.9.9 x", "25", "451", "354 go on"])
def test_texts_that_are_no_reply(text: str) -> None:
    assert kept_reply(text) is UNREADABLE


def test_long_and_broken_replies() -> None:
    assert len(kept_text(Reply(451, "4.0.0", "x" * 5000))) == MAX_KEPT
    found = kept_reply(kept_text(Reply(550, "5.1.1", "one\ntwo")))
    assert (found.code, found.text) == (550, "one / two")


@pytest.mark.parametrize("hop", [NextHop("backend:a"), NextHop("relay:b", "mx.example.org")])
def test_names_of_next_hops(hop: NextHop) -> None:
    assert hop_of(site_of(hop)) == hop


THEIRS = Reply(451, "4.2.0", "busy")
CLOSING = Reply(421, "4.3.2", "too many connections")
OURS = Reply(451, "4.4.1", "no answer", "connection refused")
DISK = Reply(451, "4.3.0", "our disk", "cannot read")


@pytest.mark.parametrize(
    ("replies", "result"),
    [
        ([], "unknown"),
        ([Reply(250, "2.0.0", "ok")], "answered"),
        ([Reply(550, "5.1.1", "no")], "answered"),
        ([THEIRS], "answered"),
        ([CLOSING], "overloaded"),
        ([CLOSING, OURS], "overloaded"),
        ([OURS, CLOSING], "overloaded"),
        ([OURS], "unreachable"),
        ([OURS, THEIRS], "answered"),
        ([CLOSING, THEIRS], "answered"),
        ([DISK], "unknown"),
        ([NOT_WANTED], "unknown"),
        ([Reply(550, "5.7.1", "policy", "ours")], "unknown"),
    ],
)
def test_what_a_try_teaches(replies: list[Reply], result: str) -> None:
    person = Recipient(SENDER)
    found, reason = learned([Outcome(person, reply, "") for reply in replies])
    assert found.value == result
    assert bool(reason) == (result in ("overloaded", "unreachable"))


def test_limits_of_next_hops() -> None:
    ours = limits_of(20, 5, 0, ours=True)
    theirs = limits_of(2, 5, 120, ours=False)
    assert (ours.concurrency, ours.initial, ours.rate) == (20, 5, None)
    assert ours.dead_first < theirs.dead_first
    assert theirs.initial == 2
    assert theirs.rate is not None
    assert (theirs.rate.count, theirs.rate.seconds, theirs.rate.burst) == (120, 60.0, 2)
