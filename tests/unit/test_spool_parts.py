"""A try in several transactions: what each of them delivered is written down while the rest goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mailqueue.inspect import Inspection
from mailqueue.model import Change, QueueUnavailable, Status
from mailqueue.store.memory import MemoryStore
from mta.delivery.outcome import Outcome
from mta.reply import Reply
from mta.spool import parts
from mta.spool.parts import Parts
from tests.simulation.loop import run
from tests.unit.spool_kit import LATER, NO, OK, Hop, Silent, Work, played, received

NAMES = [f"u{number}@back.test" for number in range(6)]
HAVE_IT = Status.DELIVERED
WAITS = Status.QUEUED
SUCCESS = frozenset({"SUCCESS"})


def by_two(seconds: float = 100.0, **answers: Reply) -> Hop:
    """A mail store with two recipients in a transaction, each of which takes its time."""
    return Hop(lambda address, call: answers.get(address.partition("@")[0], OK), seconds, each=2)


def with_hop(hop: Hop, **options: Any) -> Work:
    work = Work(**options)
    work.hops["back"] = hop
    return work


async def stored(work: Work, name: str) -> list[Status]:
    """What somebody would find who came after us now."""
    return [person.status for person in (await (await Inspection.open(work.store)).load(name)).recipients]


def settled(work: Work, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The recipients of each write from now on."""
    writes: list[list[int]] = []
    real = work.queue.settle

    async def settle(message: str, changes: Sequence[Change], **rest: Any) -> list[str]:
        writes.append([change.recipient for change in changes])
        return await real(message, changes, **rest)

    monkeypatch.setattr(work.queue, "settle", settle)
    return writes


def test_each_part_is_in_the_store_while_the_next_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(work: Work) -> None:
        writes = settled(work, monkeypatch)
        name = await work.add(*NAMES)
        await asyncio.sleep(50)
        assert await stored(work, name) == [WAITS] * 6
        await asyncio.sleep(100)
        assert await stored(work, name) == [HAVE_IT] * 2 + [WAITS] * 4
        await asyncio.sleep(100)
        assert await stored(work, name) == [HAVE_IT] * 4 + [WAITS] * 2
        await work.idle(200)
        assert writes == [[0, 1], [2, 3], [4, 5]]
        assert received(work.hops["back"]) == NAMES
        assert work.journal.tries == [(name, ["250 2.0.0 kept"] * 2)] * 3

    played(main, with_hop(by_two()))


@pytest.mark.parametrize("names", [NAMES[:1], NAMES[:2]])
def test_one_transaction_is_written_once(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(work: Work) -> None:
        writes = settled(work, monkeypatch)
        await work.add(*names)
        await work.idle(200)
        assert writes == [list(range(len(names)))]

    played(main, with_hop(by_two()))


def test_what_is_told_in_the_time_of_a_write_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(MemoryStore):
        async def put_new(self, key: str, data: Any) -> bool:
            await asyncio.sleep(1.0)
            return await super().put_new(key, data)

    async def main(work: Work) -> None:
        writes = settled(work, monkeypatch)
        people = [f"u{number}@back.test" for number in range(40)]
        await work.add(*people)
        await work.idle(200)
        assert sorted(number for write in writes for number in write) == list(range(40))
        assert len(writes) < 10
        assert received(work.hops["back"]) == people

    played(main, with_hop(by_two(0.2), store=Slow()))


def test_each_recipient_ends_as_it_was_answered() -> None:
    """Refusals wait for the end, so that one report tells of all; who is to be tried again is tried alone."""

    async def main(work: Work) -> None:
        name = await work.add(*NAMES)
        await asyncio.sleep(250)
        assert work.states(name) == [HAVE_IT, WAITS, WAITS, HAVE_IT, WAITS, WAITS]
        assert work.journal.reports == []
        await asyncio.sleep(100)
        assert work.states(name) == [HAVE_IT, Status.FAILED, Status.DEFERRED, HAVE_IT, HAVE_IT, Status.FAILED]
        assert len(work.journal.reports) == 1
        work.hops["back"].answer = lambda address, call: OK
        await work.idle(500)
        assert received(work.hops["back"]) == [*NAMES, NAMES[2]]

    played(main, with_hop(by_two(u1=NO, u2=LATER, u5=NO)))


def test_a_report_of_success_goes_with_the_part() -> None:
    async def main(work: Work) -> None:
        await work.add(*NAMES, notify=SUCCESS)
        await asyncio.sleep(150)
        assert len(work.journal.reports) == 1
        await work.idle(600)
        assert len(work.journal.reports) == 3
        bodies = b"".join(seen.octets for seen in work.hops["home"].seen)
        assert [bodies.count(f"Final-Recipient: rfc822; {name}".encode()) for name in NAMES] == [1] * 6

    played(main, with_hop(by_two()))


def test_what_was_answered_when_we_stop() -> None:
    """Nobody has been told yet of the refusal: that is done now."""

    async def main(work: Work) -> None:
        name = await work.add(*NAMES)
        await asyncio.sleep(250)
        await work.runner.stop(0.0)
        assert work.states(name) == [HAVE_IT, Status.FAILED, HAVE_IT, HAVE_IT, WAITS, WAITS]
        assert len(work.journal.reports) == 1
        assert work.journal.tries == [
            (name, ["250 2.0.0 kept"]),
            (name, ["250 2.0.0 kept"] * 2),
            (name, [str(NO)]),
        ]

    played(main, with_hop(by_two(u1=NO)))


class Asked(Silent):
    """An advisor that never answers what is asked about reports."""

    async def bounce(self, *_: Any) -> bool:
        await asyncio.sleep(1e6)
        return True


def test_an_advisor_does_not_keep_us_from_stopping() -> None:
    async def main(work: Work) -> None:
        name = await work.add(*NAMES)
        await asyncio.sleep(50)
        await asyncio.sleep(200)
        before = work.age
        await work.runner.stop(0.0)
        assert work.age < before + 2 * parts.LAST_WORDS + 0.1
        assert work.states(name)[:4] == [HAVE_IT, WAITS, HAVE_IT, HAVE_IT]

    played(main, with_hop(by_two(u1=NO), advisor=Asked()))


def test_a_bug_in_the_middle_of_a_try() -> None:
    async def main() -> None:
        async with with_hop(by_two()) as work:
            hop = work.hops["back"]
            real = hop.answer

            def answer(address: str, call: int) -> Reply:
                if address == NAMES[3] and call == 0:
                    raise RuntimeError("a bug")
                return real(address, call)

            hop.answer = answer
            name = await work.add(*NAMES)
            await asyncio.sleep(210)
            assert [str(error) for error in work.journal.failures] == ["a bug"]
            assert work.states(name) == [HAVE_IT] * 2 + [Status.DEFERRED] * 4
            await work.idle(1000)
            assert received(hop) == [*NAMES, *NAMES[2:]]

    run(main())


@pytest.mark.parametrize("times", [1, 2])
def test_a_write_that_fails_is_made_up_for_at_the_end(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the store away to the end the try is not over, and the queue knows all the same who has it."""

    async def main(work: Work) -> None:
        real, fails = work.queue.settle, [True] * times

        async def settle(message: str, changes: Sequence[Change], **rest: Any) -> list[str]:
            if fails and fails.pop():
                raise QueueUnavailable("away")
            return await real(message, changes, **rest)

        monkeypatch.setattr(work.queue, "settle", settle)
        await work.add(*NAMES)
        await work.idle(1000)
        assert received(work.hops["back"]) == NAMES
        assert [len(replies) for _, replies in work.journal.tries] == [2, 4]
        assert len(work.queue.live) == 0

    played(main, with_hop(by_two()))


def test_an_administrator_deletes_it_meanwhile() -> None:
    async def main(work: Work) -> None:
        name = await work.add(*NAMES)
        await asyncio.sleep(50)
        await work.acts.act("delete", name)
        await work.idle(1000)
        assert received(work.hops["back"]) == NAMES

    played(main, with_hop(by_two()))


def test_a_write_under_way_is_waited_for_when_we_are_cancelled() -> None:
    """Whoever closes the queue after us finds nothing of ours on its way."""

    async def main() -> None:
        written: list[list[int]] = []
        release = asyncio.Event()

        async def write(some: Sequence[tuple[int, Outcome]]) -> None:
            await release.wait()
            written.append([position for position, _ in some])

        found = Parts(write, write)
        found.told([(0, outcome(OK)), (1, outcome(NO)), (2, outcome(LATER))])
        await asyncio.sleep(0)
        found.told([(3, outcome(OK))])
        cut = asyncio.create_task(found.cut())
        await asyncio.sleep(parts.LAST_WORDS / 4)
        assert not cut.done()
        release.set()
        await cut
        assert written == [[0], [3], [0, 1, 3]]

    run(main())


def outcome(reply: Reply) -> Outcome:
    return Outcome(None, reply, "hop:25")  # type: ignore[arg-type] # nobody looks


@pytest.mark.parametrize("error", [QueueUnavailable("away"), TimeoutError()])
def test_what_cut_a_try_off_is_not_hidden_by_a_store_that_is_away(error: Exception) -> None:
    async def main() -> None:
        async def write(some: Sequence[tuple[int, Outcome]]) -> None:
            raise error

        found = Parts(write, write)
        found.told([(0, outcome(OK))])
        await found.cut()

    run(main())
