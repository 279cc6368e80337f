"""What the queue remembers of a policy's orders."""

from __future__ import annotations

import pytest

from mailqueue.schedule import RetryPolicy
from mta.address import parse_address
from mta.dsn.decide import Kind, Vouching
from mta.envelope import Envelope, OriginalRecipient, Recipient
from mta.spool.record import decode_recipient, decode_record, encode_recipient, encode_record, make_record
from mta.spool.tries import policy_for, with_lifetime

USUAL, REPORTS = RetryPolicy(expire=1000.0), RetryPolicy(expire=500.0)


@pytest.mark.parametrize(
    "recipient",
    [
        Recipient(parse_address("a@x.test"), route="relay:out"),
        Recipient(
            parse_address("a@x.test"),
            frozenset({"NEVER"}),
            OriginalRecipient("rfc822", "b@x.test"),
            "relay:out",
        ),
        Recipient(parse_address("a@x.test"), frozenset({"NEVER"})),
        Recipient(
            parse_address("a@x.test"),
            sender=parse_address("owner-l@x.test"),
            owners=(parse_address("b@x.test"), parse_address("c@y.test")),
        ),
    ],
)
def test_what_is_kept_of_a_recipient_comes_back(recipient: Recipient) -> None:
    assert decode_recipient("a@x.test", encode_recipient(recipient)) == recipient


def test_nothing_is_kept_where_nothing_was_asked_for() -> None:
    assert encode_recipient(Recipient(parse_address("a@x.test"))) == b""


@pytest.mark.parametrize(("lifetime", "expire"), [(0.0, 1000.0), (60.0, 60.0), (5000.0, 1000.0)])
def test_the_time_of_a_message_is_never_longer_than_usual(lifetime: float, expire: float) -> None:
    envelope = Envelope(parse_address("a@x.test"))
    record = make_record(envelope, None, 0.0, vouching=Vouching.NOBODY, lifetime=lifetime)
    record = decode_record(encode_record(record))
    assert record.lifetime == lifetime
    assert policy_for(record, USUAL, REPORTS).expire == expire
    assert with_lifetime(USUAL, lifetime).delays == USUAL.delays
    record.kind = Kind.REPORT.value
    assert policy_for(record, USUAL, REPORTS) is REPORTS
