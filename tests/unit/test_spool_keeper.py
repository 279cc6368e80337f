"""What a transaction hands over: who vouches, what concerns the queue, what is said when it takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from mailqueue.model import Fenced, NewMessage, QueueUnavailable, Status
from mailqueue.queue import MailQueue
from mailqueue.schedule import RetryPolicy
from mailqueue.store.memory import MemoryStore
from mta.address import NULL, parse_address
from mta.content import MEMORY_LIMIT, MessageBuffer
from mta.delivery.outcome import Outcome
from mta.dsn.decide import Options, Vouching, Why
from mta.envelope import DeliverBy, Envelope, Recipient
from mta.firsttry import HAS_IT_ALREADY
from mta.handover import Parcel
from mta.reply import Reply
from mta.session import Session
from mta.spool.advice import Advisor
from mta.spool.keeper import NOT_YET, Keeper, KeepSettings, header_block
from mta.spool.record import decode_record
from mta.spool.reports import Reports, ReportSettings
from sieve_ext.message import Message
from tests.simulation.loop import run
from tests.simulation.queues import LoopClock, open_queue
from tests.unit.spool_kit import DOWN, LATER, NO, OK, RETRY, Silent, route

ALICE = parse_address("alice@home.test")
ASKED = frozenset({"SUCCESS"})
PREFIX = b"Received: by mx.test\r\n"
TEXT = b"Subject: x\r\n\r\nbody\r\n"
TRUSTED = "192.0.2.1"


def people(*replies: Reply, notify: frozenset[str] | None = None) -> list[Outcome]:
    return [
        Outcome(Recipient(parse_address(f"u{number}@back.test"), notify), reply, "hop:25")
        for number, reply in enumerate(replies)
    ]


def parcel(
    outcomes: list[Outcome],
    *,
    user: str = "alice",
    address: str = "198.51.100.1",
    per_recipient: bool = False,
    text: bytes = TEXT,
    envelope: Envelope | None = None,
) -> Parcel:
    session = Session("s1", "smtp", "smtp", address)
    session.user = user
    envelope = envelope or Envelope(ALICE)
    envelope.recipients = [outcome.recipient for outcome in outcomes]
    content = MessageBuffer()
    content.append(text)
    message = Message(content.head, content.size, content.chunks, has_8bit=False, read=content.read)
    return Parcel(session, envelope, "t1", outcomes, PREFIX, content, message, "<1@x>", per_recipient)


class Desk:
    """A keeper over a queue in memory."""

    def __init__(
        self, queue: MailQueue | None, settings: KeepSettings | None = None, advisor: Advisor | None = None
    ) -> None:
        self.added: list[str] = []
        self.reasons: list[Why] = []
        now = LoopClock().wall
        reports = Reports(
            ReportSettings("mx.test", parse_address("postmaster@home.test"), Options()),
            route,
            self.reasons.append,
            now=now,
            entropy=bytes,
        )
        self.keeper = Keeper(
            settings or KeepSettings(RETRY),
            lambda: queue,
            reports,
            route,
            lambda address: address == TRUSTED,
            lambda transport: transport.startswith("backend:"),
            advisor or Silent(),
            added=self.added.append,
            now=now,
        )


@pytest.mark.parametrize(
    ("outcomes", "by", "wanted"),
    [
        (people(OK), None, False),
        (people(NO), None, False),
        (people(LATER), None, True),
        (people(OK, notify=ASKED), None, True),
        (people(NO, notify=ASKED), None, False),
        (people(OK), DeliverBy(60, "N", True), True),
        (people(OK, OK), None, False),
        (people(NO, NO), None, False),
        (people(OK, NO), None, True),
        (people(NO, LATER), None, True),
        (people(OK, OK, notify=ASKED), None, True),
        (people(OK, OK), DeliverBy(60, "R", False), True),
    ],
)
def test_what_concerns_the_queue(outcomes: Sequence[Outcome], by: DeliverBy | None, wanted: bool) -> None:
    envelope = Envelope(ALICE, [outcome.recipient for outcome in outcomes], deliver_by=by)
    assert Desk(None).keeper.concerns(envelope, outcomes) is wanted


@pytest.mark.parametrize(
    ("user", "address", "wanted"),
    [
        ("alice", TRUSTED, Vouching.LOGIN),
        ("", TRUSTED, Vouching.NETWORK),
        ("", "198.51.100.1", Vouching.NOBODY),
    ],
)
def test_who_vouches(user: str, address: str, wanted: Vouching) -> None:
    assert Desk(None).keeper.vouching(parcel(people(OK), user=user, address=address).session) is wanted


@pytest.mark.parametrize(
    ("text", "header"),
    [
        (b"Subject: x\r\n\r\nbody\r\n", b"Received: by mx.test\r\nSubject: x\r\n\r\n"),
        (b"Subject: x\r\n\r\n", b"Received: by mx.test\r\nSubject: x\r\n\r\n"),
        (b"Subject: x\r\n", b"Received: by mx.test\r\nSubject: x\r\n\r\n"),
        (b"\r\nbody\r\n", b"Received: by mx.test\r\n\r\n"),
        (b"", b"Received: by mx.test\r\n\r\n"),
    ],
)
def test_header_blocks(text: bytes, header: bytes) -> None:
    """Always whole lines and the empty one at the end; with the body they are what came in."""
    content = MessageBuffer()
    content.append(text)
    message = Message(content.head, content.size, content.chunks, has_8bit=False, read=content.read)
    block = header_block(PREFIX, content, message.body_offset, has_end=message.has_header_end)
    assert block == header
    whole = block + content.head[message.body_offset :]
    assert whole in (PREFIX + text, PREFIX + text + b"\r\n")


def kept(
    outcomes: list[Outcome], settings: KeepSettings | None = None, **options: object
) -> tuple[list[Outcome], bool, list[NewMessage], Desk]:
    """Hand over; the outcomes, whether refusals are reported, what was queued."""
    queued: list[NewMessage] = []

    async def work() -> tuple[list[Outcome], bool, Desk]:
        queue = await open_queue(MemoryStore())
        enqueue = queue.enqueue

        async def noted(new: NewMessage) -> str:
            queued.append(new)
            return await enqueue(new)

        queue.enqueue = noted  # type: ignore[method-assign]
        desk = Desk(queue, settings)
        after, reported = await desk.keeper.keep(parcel(outcomes, **options))  # type: ignore[arg-type]
        assert len(queue.live) == len(queued) == len(desk.added)
        await queue.close()
        return after, reported, desk

    # A large body is read in threads, which virtual time does not have.
    large = len(options.get("text", TEXT)) > MEMORY_LIMIT  # type: ignore[arg-type]
    after, reported, desk = asyncio.run(work()) if large else run(work())
    return after, reported, queued, desk


def test_what_waits_is_queued_with_what_is_done() -> None:
    after, reported, (new,), _ = kept(people(OK, DOWN, LATER))
    assert [outcome.reply.code for outcome in after] == [250, 250, 250]
    assert after[0].queue_id == ""
    assert after[1].queue_id == after[2].queue_id != ""
    assert after[1].reply.cause == "451 4.4.1 The next server does not answer (connection refused)"
    assert not reported
    assert [(r.status, r.attempts, r.site) for r in new.recipients] == [
        (Status.DELIVERED, 1, ""),
        (Status.DEFERRED, 1, "backend:back"),
        (Status.DEFERRED, 1, "backend:back"),
    ]
    assert new.header == PREFIX + b"Subject: x\r\n\r\n"
    assert new.body == b"body\r\n"
    assert new.expires - new.created == RETRY.expire
    assert decode_record(new.envelope).message_id == "<1@x>"
    assert new.recipients[1].due - new.created == RETRY.delay(1)


def test_recipients_stay_together() -> None:
    spread = KeepSettings(RetryPolicy(delays=(100.0,), jitter=0.5))
    _, _, (new,), _ = kept(people(LATER, DOWN, LATER), spread)
    assert len({person.due for person in new.recipients}) == 1


def test_a_message_for_later() -> None:
    desk = Desk(None)
    assert desk.keeper.postpones(Envelope(ALICE)) is None
    envelope = Envelope(ALICE, hold_for=7200)
    assert desk.keeper.postpones(envelope) is NOT_YET
    _, _, (new,), _ = kept(people(NOT_YET), envelope=envelope)
    (person,) = new.recipients
    assert (person.status, person.attempts, person.reply) == (Status.QUEUED, 0, "")
    assert person.due - new.created == 7200
    assert new.expires - new.created == 7200 + RETRY.expire


def test_a_large_message_is_not_read_into_memory() -> None:
    text = TEXT + b"0123456789abcde\r\n" * (MEMORY_LIMIT // 16)
    _, _, (new,), _ = kept(people(LATER), text=text)
    assert not isinstance(new.body, bytes)


@pytest.mark.parametrize(
    ("user", "each", "sender", "reported", "messages"),
    [
        ("alice", False, ALICE, True, 2),
        ("alice", True, ALICE, False, 1),
        ("", False, ALICE, False, 1),
        ("alice", False, NULL, True, 1),
    ],
)
def test_refusals_beside_what_waits(
    user: str, each: bool, sender: object, reported: bool, messages: int
) -> None:
    assert isinstance(sender, type(ALICE))
    _, said, queued, _ = kept(people(LATER, NO), user=user, per_recipient=each, envelope=Envelope(sender))
    assert said is reported
    assert len(queued) == messages
    if messages == 2:
        assert queued[1].sender == ""
        assert queued[1].recipients[0].address == "alice@home.test"


def test_what_was_delivered_before_is_not_reported_again() -> None:
    _, _, queued, desk = kept(people(HAS_IT_ALREADY, OK, notify=ASKED))
    (report,) = queued
    assert b"u1@back.test" in report.header + b"".join(_chunks(report))
    assert b"u0@back.test" not in b"".join(_chunks(report))
    assert desk.reasons == [Why.OWED]


def _chunks(new: NewMessage) -> list[bytes]:
    return [new.body] if isinstance(new.body, bytes) else list(new.body.chunks())


@pytest.mark.parametrize(
    ("change", "user", "reply"),
    [
        (lambda queue: None, "", "451 4.2.0 busy; mail of unknown senders is not queued here"),
        (lambda queue: queue._log.fence(), "alice", "451 4.2.0 busy; the queue is not ready"),
    ],
)
def test_what_is_not_kept(change: Callable[[MailQueue], None], user: str, reply: str) -> None:
    async def work() -> None:
        queue = await open_queue(MemoryStore())
        change(queue)
        later = Reply(451, "4.2.0", "busy")
        desk = Desk(queue, replace(KeepSettings(RETRY), vouched_only=True))
        after, reported = await desk.keeper.keep(parcel(people(later, OK, NO), user=user))
        assert [str(outcome.reply) for outcome in after] == [
            reply,
            "250 2.0.0 kept",
            "550 5.1.1 no such user",
        ]
        assert "not queued: " in after[0].reply.cause
        assert not reported
        assert desk.added == []
        await queue.close()

    run(work())


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("", "mail of unknown senders is not queued here"),
        ("a\nb", "a; mail of unknown senders is not queued here"),
    ],
)
def test_what_is_not_kept_of_a_next_hop_that_says_a_code_or_a_lot(said: str, reply: str) -> None:
    async def work() -> None:
        queue = await open_queue(MemoryStore())
        desk = Desk(queue, replace(KeepSettings(RETRY), vouched_only=True))
        after, _ = await desk.keeper.keep(parcel(people(Reply(451, "4.0.0", said), OK), user=""))
        assert [str(outcome.reply) for outcome in after] == [f"451 4.0.0 {reply}", "250 2.0.0 kept"]
        await queue.close()

    run(work())


@pytest.mark.parametrize("error", [QueueUnavailable("no answer"), Fenced("taken over")])
def test_a_report_that_cannot_be_kept(error: Exception) -> None:
    """Then the answer names who was refused: the sender must hear of it somehow."""

    async def work() -> None:
        queue = await open_queue(MemoryStore())
        enqueue = queue.enqueue

        async def once(new: NewMessage) -> str:
            queue.enqueue = failing  # type: ignore[method-assign]
            return await enqueue(new)

        async def failing(new: NewMessage) -> str:
            raise error

        queue.enqueue = once  # type: ignore[method-assign]
        desk = Desk(queue)
        after, reported = await desk.keeper.keep(parcel(people(LATER, NO)))
        assert after[0].queue_id
        assert not reported
        await queue.close()

    run(work())
