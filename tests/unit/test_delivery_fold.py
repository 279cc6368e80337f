"""Outcomes to one answer: a table over what one, two and three recipients may come to."""

from __future__ import annotations

import pytest

from mta.address import parse_address
from mta.delivery.fold import NAMED, fold
from mta.delivery.outcome import Outcome
from mta.envelope import Recipient
from mta.reply import Reply

OK = Reply(250, "2.0.0", "kept")
OTHER_OK = Reply(250, "2.1.5", "kept elsewhere")
FULL = Reply(552, "5.2.2", "mailbox full")
UNKNOWN = Reply(550, "5.1.1", "no such user")
BUSY = Reply(451, "4.3.2", "busy")
AWAY = Reply(451, "4.4.1", "away")


def outcomes(*replies: Reply) -> list[Outcome]:
    return [Outcome(Recipient(parse_address(f"r{n}@x.test")), reply, "") for n, reply in enumerate(replies)]


@pytest.mark.parametrize(
    ("replies", "final", "result", "remember"),
    [
        ([OK], "250 2.0.0 kept", "delivered", ()),
        ([FULL], "552 5.2.2 mailbox full", "permanent", ()),
        ([BUSY], "451 4.3.2 busy", "temporary", ()),
        ([OK, OK], "250 2.0.0 kept", "delivered", ()),
        ([OK, OTHER_OK], "250 2.0.0 delivered to 2 recipients", "delivered", ()),
        ([FULL, FULL], "552 5.2.2 mailbox full", "permanent", ()),
        (
            [FULL, UNKNOWN],
            "552 5.2.2 not delivered to <r0@x.test>, <r1@x.test>: mailbox full (one of several reasons)",
            "permanent",
            (),
        ),
        (
            [BUSY, AWAY],
            "451 4.3.2 not delivered yet to <r0@x.test>, <r1@x.test>: busy (one of several reasons)",
            "temporary",
            (),
        ),
        (
            [FULL, BUSY],
            "451 4.3.2 not delivered yet to <r1@x.test>: busy (other recipients: 1 refused)",
            "temporary",
            (),
        ),
        (
            [OK, BUSY],
            "451 4.3.2 not delivered yet to <r1@x.test>: busy (other recipients: 1 done)",
            "mixed",
            (0,),
        ),
        (
            [BUSY, OK, FULL],
            "451 4.3.2 not delivered yet to <r0@x.test>: busy (other recipients: 1 done, 1 refused)",
            "mixed",
            (1,),
        ),
        (
            [OK, FULL],
            "552 5.2.2 not delivered to <r1@x.test>: mailbox full (other recipients: 1 done)",
            "mixed",
            (),
        ),
    ],
)
def test_one_answer(replies: list[Reply], final: str, result: str, remember: tuple[int, ...]) -> None:
    answer = fold(outcomes(*replies), per_recipient=False)
    assert (str(answer.final), answer.result, answer.remember) == (final, result, remember)
    assert answer.each == replies


@pytest.mark.parametrize(
    ("replies", "code", "result"),
    [
        ([OK, BUSY], 250, "mixed"),
        ([OK, FULL], 250, "mixed"),
        ([BUSY, FULL], 451, "temporary"),
        ([OK, OK], 250, "delivered"),
    ],
)
def test_an_answer_each(replies: list[Reply], code: int, result: str) -> None:
    answer = fold(outcomes(*replies), per_recipient=True)
    assert (answer.final.code, answer.result, answer.each) == (code, result, replies)
    assert answer.remember == ()


def test_a_summary_names_some_recipients_and_fits_a_line() -> None:
    answer = fold(outcomes(OK, *[BUSY] * 50), per_recipient=False)
    assert answer.final.text.count("@x.test") == NAMED
    assert f"and {50 - NAMED} more" in answer.final.text
    assert all(len(line) <= 512 for line in answer.final.encode().split(b"\r\n"))


def test_250_only_when_all_have_it() -> None:
    kinds = [OK, FULL, BUSY]
    for a in kinds:
        for b in kinds:
            for c in kinds:
                answer = fold(outcomes(a, b, c), per_recipient=False)
                assert (answer.final.code == 250) == (a is b is c is OK)
                assert answer.final.is_temporary == (BUSY in (a, b, c))


def kept(number: int) -> Outcome:
    reply = Reply(250, "2.0.0", "queued as Q1", "451 4.4.1 away")
    return Outcome(Recipient(parse_address(f"q{number}@x.test")), reply, "", queue_id="Q1")


@pytest.mark.parametrize(
    ("found", "reported", "final", "result"),
    [
        ([kept(0)], False, "250 2.0.0 queued as Q1", "queued"),
        ([kept(0), kept(1)], False, "250 2.0.0 queued as Q1", "queued"),
        (
            [*outcomes(OK), kept(1)],
            False,
            "250 2.0.0 delivered to 1 of 2 recipients, queued for 1 as Q1",
            "mixed",
        ),
        (
            [*outcomes(FULL), kept(1)],
            False,
            "552 5.2.2 not delivered to <r0@x.test>: mailbox full (other recipients: 1 done)",
            "mixed",
        ),
        ([*outcomes(FULL), kept(1)], True, "250 2.0.0 queued for 1 as Q1", "mixed"),
        ([*outcomes(OK, FULL)], True, "250 2.0.0 delivered to 1 of 2 recipients", "mixed"),
        (
            # Nothing is done: the client is told, and needs no report.
            [*outcomes(FULL, UNKNOWN)],
            True,
            "552 5.2.2 not delivered to <r0@x.test>, <r1@x.test>: mailbox full (one of several reasons)",
            "permanent",
        ),
        (
            # What is not kept stays with the client, reported or not.
            [*outcomes(BUSY, FULL), kept(2)],
            True,
            "451 4.3.2 not delivered yet to <r0@x.test>: busy (other recipients: 1 done, 1 refused)",
            "mixed",
        ),
    ],
)
def test_one_answer_with_a_queue(found: list[Outcome], reported: bool, final: str, result: str) -> None:
    answer = fold(found, per_recipient=False, reported=reported)
    assert (str(answer.final), answer.result) == (final, result)


def test_each_answer_with_a_queue() -> None:
    answer = fold([*outcomes(OK, FULL), kept(2)], per_recipient=True)
    assert [str(reply) for reply in answer.each] == [str(OK), str(FULL), "250 2.0.0 queued as Q1"]
    assert answer.final.code == 250
