"""The loop that works the queue: what is tried when, and what becomes of it, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pytest

from mailqueue.keys import BODIES
from mailqueue.model import Status
from mailqueue.schedule import Limits
from mailqueue.store.base import Blob, StoreError
from mailqueue.store.memory import MemoryStore
from mta.address import parse_address
from mta.delivery.outcome import NextHop, Outcome
from mta.dsn.decide import Kind, Options, Vouching, Why
from mta.envelope import DeliverBy, Envelope, Recipient
from mta.policy.verdict import NO_ADVICE, Advice, Tried
from mta.reply import Reply
from mta.session import Session
from mta.spool import underway
from mta.spool.attempt import Attempts
from mta.spool.gate import Permit
from mta.spool.hops import Naming
from tests.simulation.loop import run
from tests.unit import spool_kit
from tests.unit.spool_kit import DOWN, HEADER, LATER, NO, OK, Hop, Silent, Work, played, received


def near(found: list[float], wanted: list[float]) -> bool:
    """Times agree but for a tick of the timetable and the time that a try takes."""
    return len(found) == len(wanted) and all(-0.1 < f - w < 1.5 for f, w in zip(found, wanted, strict=True))


def test_what_is_due_is_delivered_at_once_and_leaves() -> None:
    async def main(work: Work) -> None:
        await work.add("bob@back.test")
        await work.idle(5)
        assert received(work.hops["back"]) == ["bob@back.test"]
        assert work.hops["back"].seen[0].octets.endswith(b"Subject: hello\r\n\r\nhi\r\n")
        assert work.journal.reports == []

    played(main)


def test_the_schedule_of_retries() -> None:
    """60 s, then 300 s, and the last one again."""

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: OK if call == 4 else LATER
        await work.add("bob@back.test")
        await work.idle()
        assert near(work.at("back"), [0, 60, 360, 660, 960]), work.at("back")
        assert work.journal.reports == []

    played(main)


def test_a_permanent_refusal_is_reported_at_once() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: NO
        name = await work.add("bob@back.test")
        await work.idle(5)
        assert [about for about, _ in work.journal.reports] == [name]
        report = work.hops["home"].seen[0]
        assert report.recipients == ["alice@home.test"]
        assert report.envelope.sender.is_null
        assert b"550 5.1.1 no such user" in report.octets
        assert b"Action: failed" in report.octets

    played(main)


def test_each_recipient_has_its_own_fate() -> None:
    async def main(work: Work) -> None:
        answers = {"a@back.test": OK, "b@back.test": NO, "c@back.test": LATER}
        work.hops["back"].answer = lambda address, call: OK if call else answers[address]
        work.hops["relay"].answer = lambda address, call: OK
        name = await work.add("a@back.test", "b@back.test", "c@back.test", "d@relay.test", "e@nowhere.test")
        await asyncio.sleep(2)
        assert work.states(name) == [
            Status.DELIVERED, Status.FAILED, Status.DEFERRED, Status.DELIVERED, Status.FAILED,
        ]  # fmt: skip
        await work.idle()
        assert [seen.recipients for seen in work.hops["back"].seen[1:]] == [["c@back.test"]]
        text = b"".join(seen.octets for seen in work.hops["home"].seen)
        assert b"b@back.test" in text
        assert b"e@nowhere.test" in text
        assert b"c@back.test" not in text

    played(main)


def test_expiry_uses_the_last_chance() -> None:
    """The next try would come after the end, so it is made at the end; then there is no other."""

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        await work.add("bob@back.test")
        await work.idle()
        tries = work.at("back")
        assert 3599.9 <= tries[-1] < 3602
        assert tries[-1] - tries[-2] < 301
        (report,) = (seen for seen in work.hops["home"].seen if b"Action: failed" in seen.octets)
        assert b"450 4.2.0 busy" in report.octets

    played(main)


def test_the_last_chance_may_succeed() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: OK if work.age > 3599 else LATER
        await work.add("bob@back.test")
        await work.idle()
        assert not any(b"Action: failed" in seen.octets for seen in work.hops["home"].seen)

    played(main)


def test_senders_hear_of_a_delay_once() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        await work.add("bob@back.test")
        await asyncio.sleep(3500)
        (report,) = work.hops["home"].seen
        assert 1799.9 <= report.at - work.start < 2200
        assert b"Action: delayed" in report.octets

    played(main)


def test_a_slow_neighbour_does_not_make_a_recipient_forget_its_tries() -> None:
    """The one next hop takes half an hour, the other fails meanwhile: its schedule goes on, one warning."""

    async def main(work: Work) -> None:
        work.hops["relay"].seconds = 3000
        work.hops["back"].answer = lambda address, call: LATER
        await work.add("bob@back.test", "slow@relay.test")
        await asyncio.sleep(3100)
        assert near(work.at("back")[:4], [0, 60, 360, 660]), work.at("back")
        assert len(work.hops["home"].seen) == 1

    played(main)


@pytest.mark.parametrize(
    ("kind", "double", "reasons", "notices"),
    [
        (Kind.REPORT, True, [Why.DOUBLE_BOUNCE], 1),
        (Kind.REPORT, False, [Why.DROPPED], 0),
        (Kind.NOTICE, True, [Why.DROPPED], 0),
    ],
)
def test_a_report_that_fails_ends(kind: Kind, double: bool, reasons: list[Why], notices: int) -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: NO
        await work.add("bob@back.test", kind=kind)
        await work.idle(60)
        assert work.reasons[:1] == reasons
        assert received(work.hops["home"]) == ["postmaster@home.test"] * notices
        assert [to for to, _ in work.journal.untolds] == ["bob@back.test"] * (kind is Kind.NOTICE)

    played(main, Work(options=Options(double_bounce_to_postmaster=double)))


def test_a_notice_whose_time_is_over_is_an_error_in_the_log() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        await work.add("bob@back.test", kind=Kind.NOTICE)
        await work.idle()
        assert [to for to, _ in work.journal.untolds] == ["bob@back.test"]

    played(main)


@pytest.mark.parametrize("answer", [LATER, NO])
def test_log_and_metrics_hear_of_who_is_given_up_once(answer: Reply) -> None:
    """The last try is made when the time is over, so that nobody is left whose time could end."""

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: answer if address.startswith("bob") else OK
        name = await work.add("bob@back.test", "ann@back.test")
        await work.idle()
        assert work.journal.expirations == [(name, ["bob@back.test"])] * (answer is LATER)

    played(main)


def test_reports_expire_sooner_and_warn_nobody() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        await work.add("bob@back.test", kind=Kind.REPORT)
        await work.idle()
        assert 1799.9 <= work.at("back")[-1] < 1802
        assert received(work.hops["home"]) == ["postmaster@home.test"]

    played(main)


@pytest.mark.parametrize(
    ("vouching", "why"), [(Vouching.NOBODY, Why.UNVOUCHED), (Vouching.NETWORK, Why.OWED)]
)
def test_only_who_is_vouched_for_is_written_to(vouching: Vouching, why: Why) -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: NO
        await work.add("bob@back.test", vouching=vouching)
        await work.idle(60)
        assert work.reasons[0] is why
        assert len(work.hops["home"].seen) == (why is Why.OWED)

    played(main)


def test_a_time_that_returns_the_message() -> None:
    """BY=...;R: tried until then and not a second longer, then returned (RFC 2852 section 4)."""

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        envelope = Envelope(parse_address("alice@home.test"), deliver_by=DeliverBy(200, "R", False))
        await work.add("bob@back.test", envelope=envelope)
        await work.idle(300)
        assert near(work.at("back"), [0, 60])
        (report,) = work.hops["home"].seen
        assert 199.9 <= report.at - work.start < 203
        assert b"Status: 5.4.7" in report.octets

    played(main)


def test_a_time_after_which_the_sender_wants_to_hear() -> None:
    """BY=...;N: a report of the delay once, and tried to the end, the last chance included."""

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        envelope = Envelope(parse_address("alice@home.test"), deliver_by=DeliverBy(200, "N", False))
        await work.add("bob@back.test", envelope=envelope)
        await asyncio.sleep(3500)
        (report,) = work.hops["home"].seen
        assert b"Action: delayed" in report.octets
        assert 199.9 <= report.at - work.start < 400
        assert [seen.envelope.deliver_by for seen in work.hops["back"].seen[:2]] == [
            DeliverBy(200, "N", False),
            DeliverBy(140, "N", False),
        ]
        await work.idle()
        assert 3599.9 <= work.at("back")[-1] < 3602

    played(main)


def test_a_message_waits_for_its_time() -> None:
    """FUTURERELEASE: nothing before, and the time to live counts from then."""

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        envelope = Envelope(parse_address("alice@home.test"), hold_for=7200)
        new = work.message("bob@back.test", envelope=envelope, due=work.now() + 7200)
        new.expires = work.now() + 7200 + 3600
        work.runner.added(await work.queue.enqueue(new))
        await work.idle()
        assert near(work.at("back")[:2], [7200, 7260])
        assert 10799.9 <= work.at("back")[-1] < 10802

    played(main)


def test_urgent_mail_goes_first() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].seconds = 10
        blocker = await work.add("first@back.test")
        await asyncio.sleep(1)
        assert work.states(blocker) == [Status.QUEUED]
        for priority in (-3, 0, 5, 2):
            await work.add(f"p{priority}@back.test", priority=priority)
        await work.idle()
        assert received(work.hops["back"]) == [
            "first@back.test", "p5@back.test", "p2@back.test", "p0@back.test", "p-3@back.test",
        ]  # fmt: skip

    played(main, Work(limits={"backend:back": Limits(concurrency=1, initial=1)}))


def test_what_is_held_stays_until_it_is_released() -> None:
    async def main(work: Work) -> None:
        name = await work.add("bob@back.test", status=Status.HELD)
        other = await work.add("eve@back.test", due=work.now() + 10)
        assert await work.acts.act("hold", other)
        await asyncio.sleep(10_000)
        assert work.hops["back"].seen == []
        assert await work.acts.act("release", name)
        assert await work.acts.act("delete", other)
        await work.idle(5)
        assert received(work.hops["back"]) == ["bob@back.test"]

    played(main)


def test_a_dead_next_hop_is_left_alone_and_looked_for() -> None:
    """Three failures, then one probe at a time, at growing distances; when it answers all of it flows."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN if work.age < 300 else OK
        names = [f"u{number}@back.test" for number in range(50)]
        for name in names:
            await work.add(name)
        await asyncio.sleep(299)
        assert len(back.seen) < 15
        await work.idle(200)
        assert sorted({*received(back)}) == sorted(names)
        assert work.hops["relay"].seen == []
        delivered = [s.recipients[0] for s in back.seen if s.at - work.start >= 300]
        assert sorted(delivered) == sorted(names)

    played(main, Work(limits={"backend:back": Limits(dead_first=5.0, dead_most=60.0)}))


def test_the_sender_is_not_told_where_a_dead_next_hop_is() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: DOWN
        for number in range(20):
            await work.add(f"u{number}@back.test")
        await asyncio.sleep(3000)
        reports = work.hops["home"].seen
        assert len(reports) == 20
        assert any(b"The next server does not answer" in report.octets for report in reports)
        assert not any(DOWN.cause.encode() in report.octets for report in reports)

    assert DOWN.cause
    played(main, Work(limits={"backend:back": Limits(dead_first=5.0, dead_most=60.0)}))


def test_an_administrator_may_have_a_dead_next_hop_looked_for() -> None:
    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN if work.age < 100 else OK
        for number in range(10):
            await work.add(f"u{number}@back.test")
        await asyncio.sleep(101)
        before = len(back.seen)
        assert await work.acts.flush("") == 10
        await work.idle(10)
        assert len(back.seen) == before + 10

    played(main, Work(limits={"backend:back": Limits(dead_first=1000.0, dead_most=1800.0)}))


def test_a_dead_next_hop_does_not_keep_senders_in_the_dark() -> None:
    """Neither the warning nor the end waits for a try that never comes; neighbours get their last chance."""

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: DOWN
        work.hops["relay"].answer = lambda address, call: OK if work.age > 3599 else LATER
        # Three messages so that it dies.
        for number in range(2):
            await work.add(f"u{number}@back.test", kind=Kind.NOTICE)
        await work.add("bob@back.test", "carol@relay.test")
        await work.idle()
        mine = [seen for seen in work.hops["home"].seen if seen.recipients == ["alice@home.test"]]
        delayed = [seen for seen in mine if b"Action: delayed" in seen.octets]
        failed = [seen for seen in mine if b"Action: failed" in seen.octets]
        assert [b"bob@back.test" in seen.octets for seen in delayed].count(True) == 1
        assert [b"carol@relay.test" in seen.octets for seen in delayed].count(True) == 1
        (report,) = failed
        assert b"bob@back.test" in report.octets
        assert b"carol@relay.test" not in report.octets
        assert 3599.9 <= report.at - work.start < 3700

    played(main, Work(limits={"backend:back": Limits(dead_first=900.0, dead_most=900.0)}))


def test_all_that_waits_for_a_dead_next_hop_is_warned_of_and_given_up_in_time() -> None:
    """Not only the one that probes: the others wait with it, and for the next probe when it fails."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer, back.seconds = lambda address, call: DOWN, 30.0
        for number in range(50):
            await work.add(f"u{number}@back.test")
        await asyncio.sleep(2400)
        assert len(back.seen) < 20
        delayed = [seen for seen in work.hops["home"].seen if b"Action: delayed" in seen.octets]
        assert len(delayed) == 50
        assert all(seen.at - work.start < 1900 for seen in delayed)
        await asyncio.sleep(1400)
        failed = [seen for seen in work.hops["home"].seen if b"Action: failed" in seen.octets]
        assert len(failed) == 50
        assert all(seen.at - work.start < 3700 for seen in failed)

    played(main, Work(limits={"backend:back": Limits(dead_first=60.0, dead_most=600.0)}))


def test_thousands_that_are_given_up_at_once_are_not_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read, and a report written about it, whatever has become of its next hop."""
    monkeypatch.setattr(underway, "TASKS", 20)
    most, suspend = 0, Attempts.suspend

    async def counted(attempts: Attempts, *arguments: Any) -> None:
        nonlocal most
        await asyncio.sleep(0.5)  # a store far away
        most = max(most, work.runner.under_way)
        await suspend(attempts, *arguments)

    monkeypatch.setattr(Attempts, "suspend", counted)

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer, back.seconds = lambda address, call: DOWN, 30.0
        for number in range(200):
            await work.add(f"u{number}@back.test")
        await asyncio.sleep(3800)
        assert sum(b"Action: failed" in seen.octets for seen in work.hops["home"].seen) == 200
        assert 10 < most <= 20

    work = Work(limits={"backend:back": Limits(dead_first=60.0, dead_most=600.0)})
    played(main, work)


def test_small_mail_passes_a_huge_list() -> None:
    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.seconds = 1.0
        people = [f"m{number}@back.test" for number in range(10_000)]
        await work.add(*people)
        await asyncio.sleep(3.5)
        begun = work.age
        for number in range(20):
            await work.add(f"small{number}@back.test")
        small: dict[str, float] = {}
        await work.idle()
        for seen in back.seen:
            if seen.recipients[0].startswith("small"):
                small[seen.recipients[0]] = seen.at - work.start
        assert len(small) == 20
        last = max(back.times) - work.start
        assert last > begun + 10, "the list takes long"
        assert sum(small.values()) / 20 - begun < (last - begun) / 3
        assert sorted(name for name in received(back) if name.startswith("m")) == sorted(people)
        assert max(len(seen.recipients) for seen in back.seen) <= 50
        assert back.most <= 4

    played(main, Work(limits={"backend:back": Limits(concurrency=5, initial=5, recipients=50)}))


def test_more_messages_than_the_dispatcher_holds() -> None:
    """Those that found no place come in as others leave, also when half of them are deleted meanwhile."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.seconds = 0.01
        work.dispatcher._for_site = 10
        due = work.now() + 5
        names = [await work.add(f"u{number}@back.test", due=due) for number in range(300)]
        await asyncio.sleep(5.3)
        left = [
            name for name in names if name in {work.queue.live.id_of(h) for h in work.queue.live.handles()}
        ]
        for name in left[40:]:
            await work.acts.act("delete", name)
        late = [await work.add(f"late{number}@back.test") for number in range(30)]
        await work.idle(60)
        assert len(received(back)) == len({*received(back)})
        assert len([name for name in received(back) if name.startswith("late")]) == len(late)

    played(main, Work(limits={"backend:back": Limits(concurrency=1, initial=1)}))


def test_a_flush_reaches_messages_that_found_no_place() -> None:
    async def main(work: Work) -> None:
        work.dispatcher._for_site = 5
        for number in range(50):
            await work.add(f"u{number}@back.test", due=work.now() + 3000)
        assert await work.acts.flush("") == 50
        await work.idle(100)
        assert len(received(work.hops["back"])) == 50

    played(main)


@pytest.mark.parametrize("flushes", [1, 2])
def test_a_flush_reaches_a_message_whose_adoption_is_told_after_it(flushes: int) -> None:
    """It is in the queue before the runner hears of it, with the time of its next try."""

    async def main(work: Work) -> None:
        name = await work.add("u@back.test", due=work.now() + 3000)
        await asyncio.sleep(1)
        for _ in range(flushes):
            assert await work.acts.flush("") == 1
            work.runner.adopted([work.queue.live.handle_of(name)])
        await work.idle(100)
        assert received(work.hops["back"]) == ["u@back.test"]

    played(main)


def test_first_tries_and_the_queue_share_what_they_know() -> None:
    async def main(work: Work) -> None:
        hop = NextHop("backend:back")
        person = Recipient(parse_address("bob@back.test"))
        for _ in range(5):
            refusal = work.gate.enter(hop)
            if not isinstance(refusal, Permit):
                break
            refusal.leave([Outcome(person, DOWN, "")])
        assert isinstance(refusal, Reply)
        assert (refusal.code, refusal.enhanced) == (451, "4.4.1")
        await work.add("bob@back.test")
        await asyncio.sleep(50)
        assert work.hops["back"].seen == [], "the queue leaves it alone too"
        await work.idle(100)
        assert isinstance(work.gate.enter(hop), Permit)

    played(main, Work(limits={"backend:back": Limits(dead_first=60.0)}))


def test_a_bug_in_a_try_does_not_stop_the_queue() -> None:
    work = Work()

    async def main(work: Work) -> None:
        async def broken() -> None:
            raise RuntimeError("a bug")

        work.hops["back"].during = broken
        name = await work.add("bob@back.test")
        await work.add("carol@relay.test")
        await asyncio.sleep(30)
        assert work.states(name) == [Status.DEFERRED]
        assert received(work.hops["relay"]) == ["carol@relay.test"]
        work.hops["back"].during = None
        await work.idle(100)
        assert [str(error) for error in work.journal.failures] == ["a bug"]
        work.journal.failures.clear()

    played(main, work)


def test_a_bug_that_stays_ends_on_hold() -> None:
    async def main(work: Work) -> None:
        async def broken() -> None:
            raise RuntimeError("a bug")

        work.hops["back"].during = broken
        name = await work.add("bob@back.test")
        await asyncio.sleep(10_000)
        assert work.states(name) == [Status.HELD]
        assert len(work.hops["back"].seen) < 20
        work.journal.failures.clear()

    played(main)


def test_a_next_hop_that_is_not_configured_any_more() -> None:
    async def main(work: Work) -> None:
        name = await work.add("bob@gone.test")
        await asyncio.sleep(5)
        assert work.states(name) == [Status.DEFERRED]
        work.transports["relay:gone"] = hop = Hop()
        await work.idle(100)
        assert received(hop) == ["bob@gone.test"]

    played(main)


def test_a_route_that_has_changed_is_followed() -> None:
    async def main(work: Work) -> None:
        new = work.message("bob@back.test")
        new.recipients[0].site = "relay:old"
        work.runner.added(await work.queue.enqueue(new))
        await work.idle(5)
        assert received(work.hops["back"]) == ["bob@back.test"]

    played(main)


def test_stopping_gives_tries_some_time_and_begins_no_other() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].seconds = 3
        work.hops["relay"].seconds = 100
        await work.add("quick@back.test")
        await work.add("slow@relay.test")
        await asyncio.sleep(1)
        await work.add("late@back.test", due=work.now() + 1)
        before = work.age
        await work.runner.stop(5.0)
        assert work.age - before == pytest.approx(5, abs=0.5)
        assert received(work.hops["back"]) == ["quick@back.test"]
        assert work.runner.under_way == 0
        assert len(work.queue.live) == 2, "what was cut off and what was not begun"

    played(main)


def test_what_a_421_teaches() -> None:
    async def main(work: Work) -> None:
        busy = Reply(421, "4.3.2", "too many connections")
        work.hops["back"].answer = lambda address, call: busy if work.age < 2 else OK
        for number in range(20):
            await work.add(f"u{number}@back.test")
        await asyncio.sleep(1)
        (stats,) = (s for s in work.dispatcher.stats() if s.site == "backend:back")
        assert stats.window < 5
        await work.idle(2000)

    played(main)


def test_the_policy_sets_the_time_of_the_next_try() -> None:
    advisor = Silent({"bob": Advice(after=7.0)})

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: OK if call == 3 else LATER
        name = await work.add("bob@back.test")
        await work.idle()
        assert near(work.at("back"), [0, 7, 14, 21]), work.at("back")
        assert [(tried.attempts, tried.next_hop, tried.queue_id) for _, tried in advisor.asked[:3]] == [
            (number, "backend:back", name) for number in (1, 2, 3)
        ]
        assert advisor.asked[2][1].reply == LATER
        assert advisor.asked[0][1].header == HEADER

    played(main, Work(advisor=advisor))


def test_the_policy_gives_up_or_holds() -> None:
    gone = Reply(550, "5.7.1", "we do not try that again", "policy")
    advisor = Silent({"a": Advice(refusal=gone), "b": Advice(held="look"), "c": Advice(lifetime=100)})

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        name = await work.add("a@back.test", "b@back.test", "c@back.test", "d@back.test")
        await asyncio.sleep(2)
        assert work.states(name) == [Status.FAILED, Status.HELD, Status.DEFERRED, Status.DEFERRED]
        await asyncio.sleep(150)
        assert work.states(name)[2:] == [Status.FAILED, Status.DEFERRED]
        text = b"".join(seen.octets for seen in work.hops["home"].seen)
        assert b"550 5.7.1 we do not try that again" in text

    played(main, Work(advisor=advisor))


def test_a_report_that_the_policy_does_not_want_is_not_sent() -> None:
    advisor = Silent(unreported=frozenset({"bob"}))

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: NO
        await work.add("bob@back.test")
        await work.add("ann@back.test")
        await work.idle(5)
        assert len(work.journal.reports) == 1
        assert b"ann@back.test" in work.hops["home"].seen[0].octets

    played(main, Work(advisor=advisor))


def test_large_backlogs_for_slow_next_hops_keep_nobody_waiting() -> None:
    """They leave some places of the dispatcher to others, and share the rest."""

    async def main(work: Work) -> None:
        work.dispatcher._active, work.dispatcher._for_site = 100, 25
        slow = {name: Hop(seconds=20.0) for name in ("slow1", "slow2", "slow3", "slow4", "slow5")}
        for name, hop in slow.items():
            work.hops[name] = work.transports[f"relay:{name}"] = hop
            for number in range(60):
                await work.add(f"u{number}@{name}.test")
        await asyncio.sleep(2)
        await work.add("bob@back.test")
        await work.add("carol@relay.test")
        await asyncio.sleep(2)
        assert received(work.hops["back"]) == ["bob@back.test"]
        assert received(work.hops["relay"]) == ["carol@relay.test"]
        assert all(len(hop.seen) >= 2 for hop in slow.values())
        await asyncio.sleep(400)
        begun = sorted(len(hop.seen) for hop in slow.values())
        assert begun[0] > 0.7 * begun[-1]
        await work.idle()
        assert all(len(hop.seen) == 60 for hop in slow.values())

    played(main)


def test_those_that_do_not_answer_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than tries may be under way: a live one has its turn when they are known as slow."""
    monkeypatch.setattr(underway, "TASKS", 5)
    monkeypatch.setattr(underway, "WAITING", 20)

    async def deaf(work: Work, numbers: range) -> None:
        for number in numbers:
            hop = Hop(answer=lambda address, call: DOWN, seconds=60.0)
            work.hops[f"deaf{number}"] = work.transports[f"relay:deaf{number}"] = hop
            await work.add(f"bob@deaf{number}.test")

    async def main(work: Work) -> None:
        await deaf(work, range(12))
        await work.add("bob@back.test")
        await asyncio.sleep(3.5 * underway.SLOW)
        assert received(work.hops["back"]) == ["bob@back.test"]
        assert work.runner.under_way == 12
        await deaf(work, range(12, 24))
        await asyncio.sleep(6 * underway.SLOW)
        assert work.runner.under_way == 20  # and no more: sockets and memory
        await asyncio.sleep(70)
        assert all(work.hops[f"deaf{number}"].seen for number in range(24))

    played(main)


class Slow:
    """An advisor that takes its time."""

    async def retry(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> Advice:
        await asyncio.sleep(20)
        return NO_ADVICE

    async def bounce(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> bool:
        await asyncio.sleep(20)
        return True


def test_who_has_the_message_is_written_down_before_anybody_is_asked() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: OK if address.startswith("ok") else LATER
        name = await work.add("ok@back.test", *[f"later{n}@back.test" for n in range(9)])
        await asyncio.sleep(5)
        assert work.states(name) == [Status.DELIVERED, *[Status.QUEUED] * 9]
        await asyncio.sleep(40)  # all nine are asked about at once, and then about the report
        assert work.states(name) == [Status.DELIVERED, *[Status.DEFERRED] * 9]
        assert received(work.hops["back"]).count("ok@back.test") == 1

    played(main, Work(advisor=Slow()))


def test_a_report_about_who_has_the_message_may_come_later() -> None:
    async def main(work: Work) -> None:
        await work.add("ok@back.test", notify=frozenset({"SUCCESS"}))
        await asyncio.sleep(5)
        assert len(work.queue.live) == 0
        assert work.journal.reports == []
        await asyncio.sleep(60)
        assert len(work.journal.reports) == 1
        assert len(work.hops["home"].seen) == 1
        assert len(work.hops["back"].seen) == 1

    played(main, Work(advisor=Slow()))


class Quick(Silent):
    """An advisor that answers at once, as where no script is asked."""

    def bounce(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> bool:  # type: ignore[override]
        return True


class NoBodies(MemoryStore):
    """A store that takes no large bodies."""

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        if key.startswith(BODIES):
            raise StoreError(self.name, "no room for bodies")
        return await super().put_new(key, data)


class SlowBodies(MemoryStore):
    """A store that takes its time for large bodies."""

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        if key.startswith(BODIES):
            await asyncio.sleep(20)
        return await super().put_new(key, data)


async def at_once(body: bytes | Blob) -> bytes:
    """The digest of a body without a thread, for which virtual time does not wait."""
    return sha256(body if isinstance(body, bytes) else b"".join(body.chunks())).digest()


def test_nobody_gets_a_second_copy_because_a_report_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailqueue.bodies._digest", at_once)

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: OK if address.startswith("ok") else NO
        name = await work.add("ok@back.test", "no@back.test")
        await asyncio.sleep(600)
        assert received(work.hops["back"]).count("ok@back.test") == 1
        assert not work.journal.failures
        assert received(work.hops["back"]).count("no@back.test") > 1
        assert work.states(name) == [Status.DELIVERED, Status.QUEUED]

    played(main, Work(NoBodies(), advisor=Quick(), inline_max=100))


def test_nobody_gets_a_second_copy_because_of_a_bug_in_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Work(advisor=Quick()) as work:
            monkeypatch.setattr(work.reports, "about", {}.__getitem__)
            work.hops["back"].answer = lambda address, call: OK if address.startswith("ok") else NO
            name = await work.add("ok@back.test", "no@back.test")
            await asyncio.sleep(600)
            assert received(work.hops["back"]).count("ok@back.test") == 1
            assert work.states(name)[0] is Status.DELIVERED
            assert work.journal.failures

    run(main())


def test_nobody_gets_a_second_copy_because_we_stop_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailqueue.bodies._digest", at_once)

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: OK if address.startswith("ok") else NO
        name = await work.add("ok@back.test", "no@back.test")
        await asyncio.sleep(5)
        await work.runner.stop(0.0)
        assert work.states(name) == [Status.DELIVERED, Status.QUEUED]

    played(main, Work(SlowBodies(), advisor=Quick(), inline_max=100))


SECONDS = {"a.test": 1.0, "b.test": 100.0}


def test_nobody_gets_a_second_copy_because_we_stop_between_two_domains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def route(session: Session, envelope: Envelope, recipient: Recipient) -> NextHop:
        return NextHop("mx", recipient.address.domain)

    monkeypatch.setattr(spool_kit, "route", route)

    async def main(work: Work) -> None:
        class World(Hop):
            async def deliver(
                self, envelope: Envelope, recipients: Sequence[Recipient], *rest: Any
            ) -> list[Outcome]:
                self.seconds = sum(SECONDS[d] for d in {one.address.domain for one in recipients})
                return await super().deliver(envelope, recipients, *rest)

        work.transports["mx"] = World()
        attempts = work.runner.attempts
        monkeypatch.setattr(attempts, "_naming", Naming(lambda hop: "mx/(shared)"))
        name = await work.add("x@a.test", "y@b.test", "z@a.test", due=work.now() + 1000)
        loaded = await attempts.load(name)
        assert loaded is not None
        task = asyncio.create_task(attempts.make(loaded, "mx/(shared)", [0, 1, 2], lambda *_: None))
        await asyncio.sleep(50)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.states(name) == [Status.DELIVERED, Status.QUEUED, Status.DELIVERED]

    played(main)


def test_what_many_tries_hold_in_memory_at_the_same_time() -> None:
    """Thousands may wait for their next hops: no more of each than the limits say."""

    async def main(work: Work) -> None:
        body = b"0123456789abcde\r\n" * 60_000
        name = await work.add("bob@back.test", body=body, due=work.now() + 10)
        loaded = await work.runner.attempts.load(name)
        assert loaded is not None
        held = len(loaded.content.head)
        held += sum(len(one) for one in vars_of(loaded.content.body) if isinstance(one, bytes))
        assert held < 1000, "the octets are in memory"
        await work.idle(20)
        assert work.hops["back"].seen[0].octets == HEADER + body

    played(main)


def vars_of(thing: object) -> list[object]:
    return [getattr(thing, name) for name in type(thing).__slots__]  # type: ignore[attr-defined]
