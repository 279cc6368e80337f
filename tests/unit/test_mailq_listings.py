"""Listings of the queue without a queue; the forms of Postfix are compared with Postfix in the scenarios."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from mta.mailq.listing import Listing, short, size
from mta.mailq.postqueue import postqueue_json, postqueue_text, queue_name
from mta.mailq.rows import STATUSES, QueueRecipient, QueueRow, age, domain_of
from mta.mailq.shape import BOUNDS, shape, shape_table

NOW = 1_795_776_400.0
ULID = "01KB3Z8Q2V9TXM5T4E7W0ZJ6YC"
REFUSED = "451 4.4.1 connection refused"


def row(*recipients: QueueRecipient, **rest: Any) -> QueueRow:
    given: dict[str, Any] = {"id": ULID, "size": 2048, "arrived": NOW - 60, "sender": "alice@example.org"}
    return QueueRow(recipients=recipients or (QueueRecipient("bob@example.net"),), **(given | rest))


def shown(table: Table | Listing, width: int = 200) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


# Postfix's forms


def test_text() -> None:
    rows = [
        row(
            QueueRecipient("bob@example.net", "deferred", REFUSED),
            QueueRecipient("carol@example.net", "deferred", REFUSED),
            QueueRecipient("done@example.net", "delivered", "250 2.0.0 ok"),
            QueueRecipient("dave@example.com", "queued"),
            QueueRecipient("eve@example.com", "deferred", "452 4.2.2 full"),
        ),
        row(id="A1B2", sender="", held=True, size=1023),
    ]
    text = list(postqueue_text(rows, 0))
    assert text == [
        "----Queue ID-------------- --Size-- ---Arrival Time---- --Sender/Recipient------",
        f"{ULID}     2048 Fri Nov 27 10:45:40 alice@example.org",
        " " * 48 + f"({REFUSED})",
        " " * 56 + "bob@example.net",
        " " * 56 + "carol@example.net",
        " " * 56 + "dave@example.com",
        " " * 62 + "(452 4.2.2 full)",
        " " * 56 + "eve@example.com",
        "",
        "A1B2!                          1023 Fri Nov 27 10:45:40 MAILER-DAEMON",
        " " * 56 + "bob@example.net",
        "",
        "-- 2 Kbytes in 2 Requests.",
    ]


def test_text_of_short_ids() -> None:
    assert list(postqueue_text([row(id="8239320EBF1", active=True)], 0)) == [
        "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------",
        "8239320EBF1*    2048 Fri Nov 27 10:45:40  alice@example.org",
        "                                         bob@example.net",
        "",
        "-- 2 Kbytes in 1 Request.",
    ]


def test_text_of_an_empty_queue() -> None:
    assert list(postqueue_text([])) == ["Mail queue is empty"]


def test_day_of_one_digit_and_zone() -> None:
    line = list(postqueue_text([row(arrived=NOW - 20 * 86400)], 3600))[1]
    assert line.split(" alice")[0].endswith("Sat Nov  7 11:46:40")


def test_reply_of_several_lines_stays_on_one() -> None:
    rows = [row(QueueRecipient("bob@example.net", "deferred", "451 4.3.0 a\n\x1b[2Jeve@example.net"))]
    text = "\n".join(postqueue_text(rows, 0))
    assert "(451 4.3.0 a  [2Jeve@example.net)" in text
    assert text.count("\n") == 5


def test_json() -> None:
    rows = [
        row(
            QueueRecipient("bob@example.net", "deferred", REFUSED, NOW + 9.5), QueueRecipient("x@y", "failed")
        )
    ]
    assert list(postqueue_json(rows)) == [
        f'{{"queue_name": "deferred", "queue_id": "{ULID}", "arrival_time": 1795776340, '
        '"message_size": 2048, "forced_expire": false, "sender": "alice@example.org", '
        f'"recipients": [{{"address": "bob@example.net", "delay_reason": "{REFUSED}"}}]}}'
    ]
    extended = json.loads(next(postqueue_json([row(rows[0].recipients[0], node="mx1")], extended=True)))
    assert extended["node"] == "mx1"
    assert extended["recipients"][0]["status"] == "deferred"
    assert extended["recipients"][0]["next_try"] == 1795776409


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_json_is_one_line_that_reads_back(sender: str, address: str, reply: str) -> None:
    (line,) = postqueue_json([row(QueueRecipient(address, "deferred", reply), sender=sender)])
    assert "\n" not in line
    assert "\r" not in line
    found = json.loads(line)
    assert found["recipients"][0]["address"] == address
    assert found["recipients"][0].get("delay_reason", "") == reply


@pytest.mark.parametrize(
    ("given", "name", "flag"),
    [
        ({}, "incoming", ""),
        ({"active": True}, "active", "*"),
        ({"held": True, "active": True}, "hold", "!"),
        ({"expiring": True}, "incoming", "#"),
    ],
)
def test_queue_of_postfix(given: dict[str, Any], name: str, flag: str) -> None:
    assert queue_name(row(**given)) == name
    assert list(postqueue_text([row(**given)], 0))[1].split()[0] == ULID + flag


def test_only_those_who_wait_are_live() -> None:
    every = row(*(QueueRecipient("a@b", status) for status in STATUSES))
    assert [recipient.status for recipient in every.live] == ["queued", "deferred", "held"]


# By destination and age


def test_shape() -> None:
    rows = [
        row(
            QueueRecipient("a@x.test"),
            QueueRecipient("b@X.TEST"),
            QueueRecipient("c@y.test"),
            arrived=NOW - 299,
        ),
        row(QueueRecipient("d@x.test"), QueueRecipient("e@x.test", "delivered"), arrived=NOW - 300),
        row(QueueRecipient("f@bücher.test"), arrived=NOW - 10**7),
        row(QueueRecipient("g@y.test"), arrived=NOW + 99),
        row(QueueRecipient("postmaster"), arrived=NOW - BOUNDS[-1]),
    ]
    counted = shape(rows, NOW)
    assert counted.domains == {
        "x.test": (2, 1, 0, 0, 0, 0, 0, 0, 0, 0),
        "y.test": (2, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        "(none)": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
        "xn--bcher-kva.test": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
    }
    assert counted.total == (4, 1, 0, 0, 0, 0, 0, 0, 0, 2)
    assert shape(rows, NOW, senders=True).domains["example.org"] == (2, 1, 0, 0, 0, 0, 0, 0, 0, 2)
    assert shape([], NOW).total == (0,) * 10


def test_shape_as_a_table() -> None:
    rows = [row(QueueRecipient(f"a@{name}.test"), QueueRecipient(f"b@{name}.test")) for name in "xyz"]
    rows.append(row(QueueRecipient("c@x.test"), arrived=NOW - 4000))
    lines = shown(shape_table(shape(rows, NOW, (300.0, 3600.0)), most=1))
    assert [line.split() for line in lines] == [
        ["destination", "all", "5m", "60m", "older"],
        ["TOTAL", "7", "6", "·", "1"],
        ["x.test", "3", "2", "·", "1"],
        ["2", "more", "4", "4", "·", "·"],
    ]
    assert shown(shape_table(shape(rows, NOW, ()), 0))[0].split() == ["destination", "all", "older"]


def test_shape_fits_80_columns() -> None:
    rows = [
        row(*[QueueRecipient("a@a-rather-long-name.example.org")] * 999, arrived=NOW - 290 * 2**n)
        for n in range(10)
    ]
    lines = shown(shape_table(shape(rows, NOW), 0), 80)
    assert lines[0].split(None, 2)[2] == "5m 10m 20m 40m 80m 160m 320m 640m 1280m older"
    assert lines[1].split() == ["TOTAL", "9990", *["999"] * 10]


# The table of messages


def test_listing_at_80_columns() -> None:
    rows = [
        row(
            QueueRecipient("bob@example.net", "deferred", f"{REFUSED} by [192.0.2.25]:25", NOW + 754),
            QueueRecipient("carol@example.net", "deferred", f"{REFUSED} by [192.0.2.25]:25", NOW + 7),
            QueueRecipient("eve@example.net", "deferred", "x\x1b[31m", NOW - 1),
            arrived=NOW - 93784,
        ),
        row(id="A2", sender="", held=True, size=45_600_000, node="mx2"),
    ]
    lines = shown(Listing(rows, NOW), 80)
    assert lines == [
        "id                             age     size  sender",
        "  state       next try  recipient  reason",
        f"{ULID}    1d2h  2.0 KiB  alice@example.org",
        "  deferred   in 12m34s  bob@example.net",
        f"                        {REFUSED} by [192.0.2.25]:25",
        "  deferred       in 7s  carol@example.net",
        "  deferred         due  eve@example.net  x [31m",
        "A2                              1m   43 MiB  <>",
        "  held                  bob@example.net",
    ]
    assert max(map(len, lines)) <= 80
    wide = shown(Listing(rows, NOW, nodes=True), 120)
    assert wide[3] == f"  deferred   in 12m34s  bob@example.net  {REFUSED} by [192.0.2.25]:25"
    assert wide[6] == "A2                              1m   43 MiB  <>  mx2"


def test_long_reasons_and_addresses_are_folded() -> None:
    long = QueueRecipient("a" * 64 + "@example.net", "deferred", "451 4.4.1 " + "word " * 30, NOW + 1)
    lines = shown(Listing([row(long, sender="s" * 90 + "@example.org")], NOW), 80)
    assert max(map(len, lines)) <= 80
    assert "".join(line.strip() for line in lines).count("word") == 30
    assert "s" * 90 in "".join(line.strip() for line in lines)


def test_markup_of_addresses_is_text() -> None:
    lines = shown(Listing([row(QueueRecipient("[red]x[/red]@example.net"))], NOW))
    assert "[red]x[/red]@example.net" in lines[3]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (725, "12m5s"), (3600, "1h"), (7384, "2h3m"), (280000, "3d5h")],
)
def test_short_durations(seconds: float, text: str) -> None:
    assert short(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1024, "1.0 KiB"), (10_000, "9.8 KiB"),
     (10_240, "10 KiB"), (999 * 1024, "999 KiB"), (1000 * 1024, "1.0 MiB"), (34 * 2**20, "34 MiB"),
     (5 * 2**30, "5.0 GiB"), (5000 * 2**40, "5000 TiB")],
)  # fmt: skip
def test_sizes(octets: int, text: str) -> None:
    assert size(octets) == text


def test_age_is_never_negative() -> None:
    assert age(row(arrived=NOW + 5), NOW) == 0


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@B.example", "b.example"),
        ('"x@y"@b.example', "b.example"),
        ("postmaster", ""),
        ("", ""),
        ("a@-b-", "-b-"),
        ("a@[192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_domains(address: str, domain: str) -> None:
    assert domain_of(address) == domain
