"""Orders carried out: envelopes, octets, and the one answer for the client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.address import parse_address
from mta.content import MEMORY_LIMIT, MessageBuffer
from mta.delivery.outcome import NextHop, Outcome
from mta.envelope import Envelope, Recipient
from mta.ordering import all_outcomes, fold_ordered, held, ordered_content, ordered_envelope, untried
from mta.policy.verdict import Orders
from mta.reply import Reply
from sieve_ext.message import Message

A, B, C, ADDED = (Recipient(parse_address(f"{name}@x.test")) for name in ("a", "b", "c", "added"))
OK = Reply(250, "2.0.0", "kept")
BUSY = Reply(451, "4.2.0", "busy")
NO = Reply(550, "5.1.1", "nobody")


def given() -> Envelope:
    return Envelope(parse_address("s@x.test"), [A, B, C], prdr=True, priority=1)


def test_the_clients_envelope_stays() -> None:
    envelope = given()
    orders = Orders(sender=parse_address("new@x.test"), added=(ADDED,), removed={1: "p:1"}, priority=5)
    made = ordered_envelope(envelope, orders)
    assert envelope == given()
    assert (made.sender.text, made.recipients, made.priority, made.prdr) == (
        "new@x.test", [A, C, ADDED], 5, True
    )  # fmt: skip
    assert ordered_envelope(envelope, Orders(discarded="p:1", added=(ADDED,))).recipients == []


def outcomes(*replies: Reply) -> list[Outcome]:
    return [Outcome(person, reply, "peer") for person, reply in zip((A, B, C, ADDED), replies, strict=False)]


def test_outcomes_are_those_of_the_client_in_order_and_then_the_added_ones() -> None:
    made = [Outcome(A, OK, "x"), Outcome(C, BUSY, "x"), Outcome(ADDED, OK, "x")]
    found = all_outcomes(given(), Orders(removed={1: "p:1"}, added=(ADDED,)), made)
    assert [(one.recipient, one.reply.code, one.reply.cause) for one in found] == [
        (A, 250, ""), (B, 250, "removed: p:1"), (C, 451, ""), (ADDED, 250, "")
    ]  # fmt: skip
    found = all_outcomes(given(), Orders(discarded="p:2", added=(ADDED,)), [])
    assert [(one.recipient, str(one.reply), one.reply.cause) for one in found] == [
        (person, "250 2.0.0 accepted", "discarded: p:2") for person in (A, B, C)
    ]


def test_a_message_that_is_for_others_now_who_refuse_it_is_refused() -> None:
    orders = Orders(removed={0: "p:1", 1: "p:1", 2: "p:1"}, added=(ADDED,))
    answer = fold_ordered(
        all_outcomes(given(), orders, [Outcome(ADDED, NO, "x")]), 3, orders,
        per_recipient=False, reported=False,
    )  # fmt: skip
    assert (answer.final.code, answer.result) == (550, "permanent")


def test_a_recipient_that_comes_twice_gets_one_copy_and_both_have_its_reply() -> None:
    orders = Orders(repeated={1: 0}, removed={2: "p:1"})
    assert ordered_envelope(given(), orders).recipients == [A]
    found = all_outcomes(given(), orders, [Outcome(A, OK, "x", queue_id="Q")])
    assert found[:2] == [Outcome(A, OK, "x", queue_id="Q"), Outcome(B, OK, "x", queue_id="Q")]
    assert found[2].reply.cause == "removed: p:1"


@pytest.mark.parametrize("per_recipient", [False, True])
def test_added_recipients_in_the_answer(per_recipient: bool) -> None:
    orders = Orders(added=(ADDED,))

    def fold(*replies: Reply) -> tuple[int, list[int], tuple[int, ...]]:
        answer = fold_ordered(outcomes(*replies), 3, orders, per_recipient=per_recipient, reported=False)
        assert len(answer.each) == 3
        return answer.final.code, [one.code for one in answer.each], answer.remember

    assert fold(OK, OK, OK, OK) == (250, [250, 250, 250], ())
    assert fold(OK, OK, OK, NO) == (250, [250, 250, 250], ())
    assert fold(OK, NO, OK, BUSY) == (451, [451, 550, 451], (0, 2))
    assert fold(OK, OK, OK, BUSY) == (451, [451, 451, 451], (0, 1, 2))
    assert fold(NO, NO, NO, BUSY) == (550, [550, 550, 550], ())
    assert fold(NO, NO, NO, OK) == (550, [550, 550, 550], ())


def test_an_alias_that_one_refuses_is_not_refused_by_all() -> None:
    """Others have the message, so that the client comes again for who was added and could not be kept."""
    orders = Orders(added=(ADDED,))
    found = outcomes(NO, OK, NO, BUSY)  # the alias, its two members, and who was added
    answer = fold_ordered(found, 1, orders, per_recipient=False, reported=False)
    assert (answer.final.code, answer.remember) == (451, (1,))
    nobody = fold_ordered(outcomes(NO, NO, NO, BUSY), 1, orders, per_recipient=False, reported=False)
    assert nobody.final.code == 550


def test_discarded_is_a_result_of_its_own() -> None:
    for orders in (Orders(discarded="p:1"), Orders(removed={0: "p", 1: "p", 2: "p"})):
        found = all_outcomes(given(), orders, [])
        answer = fold_ordered(found, 3, orders, per_recipient=False, reported=False)
        assert (answer.result, answer.final.code, answer.remember) == ("discarded", 250, ())


@pytest.mark.parametrize("size", [100, MEMORY_LIMIT + 100])
@pytest.mark.parametrize("plain", [False, True])
def test_edited_octets(size: int, plain: bool, tmp_path: Path) -> None:
    content = MessageBuffer(str(tmp_path))
    content.append(b"Subject: a\r\n\r\n" + b"x" * size + b"\r\n")
    content.plain = plain

    def edited(name: str) -> MessageBuffer:
        message = Message(content.head, content.size, content.chunks, read=content.read)
        message.add(name, "b")
        return asyncio.run(ordered_content(content, message, str(tmp_path)))

    made = edited("X-A")
    assert b"".join(made.chunks()) == b"X-A: b\r\n" + b"".join(content.chunks())
    assert made.size == content.size + len(b"X-A: b\r\n")
    assert made.spilled is content.spilled
    assert made.plain is plain
    assert not edited(".X").plain


NOBODY_HAS_IT = (None, None, None)


def test_who_is_refused_does_not_wait() -> None:
    ways: dict[str, NextHop | Reply] = {"a@x.test": NextHop("store"), "b@x.test": NO, "c@x.test": BUSY}
    reply = held(Orders(held="p:1"))
    found = untried(given(), reply, lambda person: ways[person.address.text], NOBODY_HAS_IT)
    assert [one.reply for one in found] == [reply, NO, reply]


def test_who_is_discarded_does_not_wait() -> None:
    found = untried(given(), BUSY, lambda person: OK, NOBODY_HAS_IT)
    assert [one.reply for one in found] == [OK, OK, OK]
