"""The page about reports: its example is what is rendered, its table what is decided."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mta.address import parse_address
from mta.config import Queue
from mta.dsn import fields, returned
from mta.dsn.decide import Vouching, Why, decide, sort_out
from mta.dsn.render import Reporter, render
from mta.dsn.returned import Original
from mta.dsn.values import Event, Result
from mta.envelope import DeliverBy, Envelope, OriginalRecipient, Recipient
from mta.reply import Reply
from tests.unit.dsn_reading import octets
from tests.unit.test_dsn_render import ENTROPY, NOW, SENDER, Octets

PAGE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")


def example() -> str:
    bob = Recipient(parse_address("bob@example.net"), original=OriginalRecipient("rfc822", "bob@example.net"))
    eve = Recipient(parse_address("eve@example.net"))
    envelope = Envelope(SENDER, [bob, eve], envid="QQ314159", ret="HDRS")
    header = (
        b"From: Alice <alice@example.org>\r\nTo: bob@example.net, eve@example.net\r\n"
        b"Subject: Figures of November\r\nDate: Fri, 27 Nov 2026 10:45:39 +0000\r\n"
        b"Message-ID: <figures@example.org>\r\n\r\n"
    )
    peer = "mail.example.net[192.0.2.25]:25"
    events = [
        Event(bob, Result.FAILED, Reply(550, "5.1.1", "No such user here"), peer, NOW - 2),
        Event(eve, Result.FAILED, Reply(552, "5.2.2", "Mailbox full\nsee https://example.net/q"), peer, NOW),
    ]
    owed = sort_out(envelope, events, Vouching.LOGIN)
    # As the queue makes it: it says nothing of the client.
    about = Original(envelope, header, Octets(b"12, 13\r\n"), False, NOW - 60, queue_id="01KB3Z8Q2V")
    reporter = Reporter("mx.example.org")
    made = render(about, owed.to_sender, reporter, to=SENDER, now=NOW, entropy=ENTROPY)
    return octets(made).decode("ascii").replace("\r\n", "\n")


def test_example_is_what_is_rendered() -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert shown == example()


ROWS = {
    "refused for good": Event(Recipient(SENDER), Result.FAILED),
    "tried as long as the queue tries": Event(Recipient(SENDER), Result.EXPIRED),
    "still in the queue after the warning time": Event(Recipient(SENDER), Result.DELAYED),
    "in the mailbox": Event(Recipient(SENDER), Result.DELIVERED),
    "passed on to a server that offers DSN": Event(Recipient(SENDER), Result.RELAYED, next_hop_dsn=True),
    "passed on to a server without DSN": Event(Recipient(SENDER), Result.RELAYED),
    "given to the members of a list that has an owner": Event(Recipient(SENDER), Result.DELIVERED),
    "replaced by several recipients": Event(Recipient(SENDER), Result.EXPANDED),
    "time of `BY` over, mode `R`": Event(Recipient(SENDER), Result.LATE),
    "time of `BY` over, mode `N`": Event(Recipient(SENDER), Result.LATE),
    "passed on, `BY` with `T`, or mode `N` to a server without DELIVERBY": Event(
        Recipient(SENDER), Result.RELAYED, next_hop_dsn=True
    ),
}
WORDS = ("SUCCESS", "FAILURE", "DELAY")
TABLE = {
    cells[0]: cells[1:]
    for cells in (
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in PAGE.split("## What is sent when")[1].split("##")[0].splitlines()
        if line.startswith("| ") and not line.startswith("| what")
    )
}


def test_table_has_a_test_for_each_row() -> None:
    assert TABLE.keys() == ROWS.keys()


@pytest.mark.parametrize("row", ROWS)
def test_table_is_what_is_decided(row: str) -> None:
    unasked, asked, report = TABLE[row]
    event = ROWS[row]
    by = DeliverBy(60, "R" if "`R`" in row else "N", "`T`" in row) if "`BY`" in row else None
    envelope = Envelope(SENDER, deliver_by=by)
    for words in (None, *WORDS, "NEVER"):
        recipient = Recipient(SENDER, None if words is None else frozenset({words}))
        happened = Event(recipient, event.result, next_hop_dsn=event.next_hop_dsn)
        decision = decide(envelope, happened, Vouching.NETWORK)
        if words is None:
            expected = unasked.startswith("yes")
        elif words == "NEVER":
            expected = False
        else:
            expected = asked == "yes" or asked == f"`{words}`"
        assert (decision.why is Why.OWED) == expected, words
        if expected:
            assert report.startswith(f"`{decision.action}`")
            if code := re.search(r"\d\.\d\.\d", report):
                assert decision.status == code[0]


def test_numbers_on_the_page() -> None:
    assert Queue().report_size == 50 * 1024
    assert returned.MAX_HEADER == 32 * 1024
    assert fields.MAX_REPLY == 2000
    for words in ("50 KiB", "32 KiB", "2,000 characters", f"`{Why.UNVOUCHED}`"):
        assert words in PAGE
