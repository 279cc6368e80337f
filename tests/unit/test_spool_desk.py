"""Questions about a queue of many messages: quick where each answer of the store takes its time, and nobody
waits for them."""

from __future__ import annotations

import asyncio
import base64
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from mailqueue.model import Status
from mailqueue.store.memory import MemoryStore
from mta.spool.desk import KEPT, QueueDesk
from mta.spool.service import QueueService
from mta.spool.walk import BURST
from mta.supervisor.messages import ENDED, Refused
from tests.peers.faultstore import Fault, FaultStore, RandomFaults, ScriptedFaults
from tests.simulation.loop import run
from tests.simulation.queues import message, open_queue, until
from tests.unit.spool_kit import HEADER, Work, played

DELAY = 0.05
"""Seconds that the store takes, before and after."""


class Slow(RandomFaults):
    """A store far away."""

    def __init__(self, delay: float = DELAY) -> None:
        """Nothing goes wrong."""
        self.delay = delay

    def next(self, call: str, key: str) -> Any:
        from tests.peers.faultstore import Fault, Kind

        return Fault(Kind.NONE, self.delay, self.delay)


def desk_of(work: Work) -> QueueDesk:
    service = SimpleNamespace(
        queue=work.queue, acts=work.acts, runner=work.runner, dispatcher=work.dispatcher
    )
    return QueueDesk(cast(QueueService, service), "mx1", work.now)


async def every(desk: QueueDesk, question: dict[str, Any], key: str) -> list[Any]:
    """All pages of an answer."""
    found: list[Any] = []
    cursor = ""
    while True:
        page = await desk.answer({**question, "cursor": cursor})
        found += page[key]
        cursor = page["cursor"]
        if not cursor:
            return found


def test_many_messages_are_read_and_changed_together() -> None:
    async def main(work: Work) -> None:
        desk = desk_of(work)
        later = work.now() + 1e6
        names = [work.queue.enqueue(work.message("bob@back.test", due=later)) for _ in range(300)]
        ids = sorted(await asyncio.gather(*names))
        began, entries = work.age, work.queue.stats().entries
        rows = await every(desk, {"op": "list", "words": [], "limit": 70}, "rows")
        assert sorted(row["id"] for row in rows) == ids
        assert work.age - began < 300 * 2 * DELAY / 10
        began = work.age
        done = await every(desk, {"op": "act", "action": "hold", "words": ["status=queued"]}, "done")
        assert sorted(done) == ids
        assert work.age - began < 300 * 4 * DELAY / 10
        assert work.queue.stats().entries - entries < 40
        assert all(work.states(name) == [Status.HELD] for name in ids)
        assert await every(desk, {"op": "list", "words": ["status=queued"]}, "rows") == []
        for name in ids:
            await work.queue.settle(name, [], urgent=False)
            await work.acts.act("delete", name)

    store = FaultStore(MemoryStore(), Slow())
    played(main, Work(store, cache_max=0))


def test_what_is_done_to_all_waits_for_few_writes_and_reads_nothing() -> None:
    """A message for each wait would take minutes for a queue of tens of thousands."""

    class Counted(Slow):
        reads = 0

        def next(self, call: str, key: str) -> Any:
            self.reads += call == "get" and key.startswith("log/")
            return super().next(call, key)

    faults = Counted()

    async def main(work: Work) -> None:
        desk = desk_of(work)
        later = work.now() + 1e6
        new = [work.queue.enqueue(work.message("bob@back.test", due=later)) for _ in range(1200)]
        ids = sorted(await asyncio.gather(*new))
        for action in ("hold", "delete"):
            began, entries = work.age, work.queue.stats().entries
            done = await every(desk, {"op": "act", "action": action, "words": []}, "done")
            assert sorted(done) == ids
            assert work.queue.stats().entries - entries <= 6
            assert work.age - began < 3
        assert faults.reads == 0
        assert len(work.queue.live) == 0

    played(main, Work(FaultStore(MemoryStore(), faults), cache_max=0))


def test_counting_gives_others_their_turn() -> None:
    async def main(work: Work) -> None:
        desk = desk_of(work)
        later = work.now() + 1e6
        count = 5 * BURST
        new = [work.queue.enqueue(work.message("bob@back.test", due=later)) for _ in range(count)]
        ids = await asyncio.gather(*new)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        tasks = [asyncio.create_task(other()), asyncio.create_task(work.acts.act("delete", ids[-1]))]
        found = await desk.answer({"op": "stats"})
        tasks[0].cancel()
        assert turns >= 4
        assert await tasks[1]
        (site,) = found["sites"].values()
        assert site["site"] == "backend:back"
        assert site["messages"] in (count, count - 1)
        assert site["recipients"] == site["messages"] == sum(site["ages"])
        await asyncio.gather(*(work.acts.act("delete", name) for name in ids))

    played(main)


def test_what_is_being_taken_over_is_told() -> None:
    async def main() -> None:
        store = FaultStore(MemoryStore())
        watching = await open_queue(store)
        desk = QueueDesk(cast(QueueService, SimpleNamespace(queue=watching)), "mx1", lambda: 0.0)
        nothing = {"adopting": False, "streams": 0, "messages": 0, "problem": ""}
        dead = await open_queue(store)
        await dead.enqueue(message())
        assert await desk.answer({"op": "takeover", "look": True}) == nothing
        await dead.close()
        told = await desk.answer({"op": "takeover", "look": True})
        assert told == nothing | {"streams": 1, "messages": 1}
        assert await desk.answer({"op": "takeover"}) == nothing, "who does not look does not know"
        await until(lambda: len(watching.live) == 1)
        assert await desk.answer({"op": "takeover", "look": True}) == nothing
        store.faults = Slow(60.0)
        told = await desk.answer({"op": "takeover", "look": True})
        assert told["problem"].startswith("it is not known whether messages are still to be taken over: ")
        store.faults = ScriptedFaults()
        await watching.close()

    run(main())


def test_a_queue_that_is_handed_over_is_gone() -> None:
    async def main(is_stopping: bool) -> str:
        service = SimpleNamespace(queue=None, is_stopping=is_stopping)
        try:
            await QueueDesk(cast(QueueService, service), "mx1", lambda: 0.0).answer({"op": "list"})
        except Refused as refused:
            return refused.code
        except ValueError as error:
            return str(error)
        raise AssertionError

    assert run(main(True)) == ENDED
    assert run(main(False)).startswith("the queue is not open: ")


def test_a_large_message_is_fetched_once_for_all_who_read_it_in_pages() -> None:
    """From a store in another town fifty megabytes would be two hundred times as many."""

    async def main(work: Work) -> None:
        desk, later = desk_of(work), work.now() + 1e6
        body = b"0123456789abcde\r\n" * 60_000
        names = [await work.add("bob@back.test", due=later, body=text) for text in (body, body[::-1])]
        store.faults = reads = Reads()
        for name, text in zip(names, (body, body[::-1]), strict=True):
            octets, size = b"", 1
            while len(octets) < size:
                page = await desk.answer({"op": "read", "id": name, "offset": len(octets)})
                octets, size = octets + base64.b64decode(page["octets"]), page["size"]
            assert octets == HEADER + text
        assert reads.bodies == 2
        assert desk._fetched is None
        await desk.answer({"op": "read", "id": names[0], "offset": 0})
        await asyncio.sleep(KEPT + 1)
        assert desk._fetched is None, "nobody reads on, and it is kept"
        for name in names:
            await work.acts.act("delete", name)

    store = FaultStore(MemoryStore())
    played(main, Work(store))


class Reads:
    """Counts how often a body is read."""

    bodies = 0

    def next(self, call: str, key: str) -> Fault:
        self.bodies += call == "get" and key.startswith("body/")
        return Fault()


def test_the_log_says_what_was_done_by_order() -> None:
    """A message that an administrator deletes has no other line at its end."""

    async def main(work: Work) -> None:
        desk, later = desk_of(work), work.now() + 1e6
        gone = await work.queue.enqueue(work.message("bob@back.test", due=later))
        sent = await work.queue.enqueue(work.message("bob@back.test", due=later))
        tried = await work.queue.enqueue(work.message("bob@back.test", due=later))
        free = await work.queue.enqueue(work.message("bob@back.test", due=later))
        with structlog.testing.capture_logs() as lines:
            orders = (["retry", tried], ["hold", gone], ["hold", free], ["release", free])
            for words in (*orders, ["delete", gone, "nobody's"]):
                await desk.answer({"op": "act", "action": words[0], "ids": words[1:]})
            question = {"op": "act", "action": "redirect", "words": [f"id={sent}"], "to": "c@back.test"}
            await every(desk, question, "done")
        assert [(line["event"], line["queue"], line["order"], line.get("to")) for line in lines] == [
            ("ordered", gone, "hold", None),
            ("ordered", free, "hold", None),
            ("ordered", free, "release", None),
            ("ordered", gone, "delete", None),
            ("ordered", sent, "redirect", "c@back.test"),
        ]  # fmt: skip
        await work.idle()

    played(main)


@pytest.mark.parametrize("named", [{"ids": []}, {}])
def test_an_order_that_names_no_message_is_not_for_all(named: dict[str, Any]) -> None:
    """A program that has found no message to delete would have deleted the queue."""

    async def main(work: Work) -> None:
        desk = desk_of(work)
        name = await work.queue.enqueue(work.message("bob@back.test", due=work.now() + 1e6))
        question = {"op": "act", "action": "delete", **named}
        if named:
            assert await desk.answer(question) == {"done": [], "cursor": ""}
        else:
            with pytest.raises(ValueError, match="named by ids or by words"):
                await desk.answer(question)
        assert work.states(name) == [Status.QUEUED]
        await desk.answer({"op": "act", "action": "delete", "words": []})

    played(main)
