"""A client waits for a delivery in several transactions that ends in the middle: who has it gets no second
copy."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mailqueue.model import Status
from mta.delivery import transact
from mta.firsttry import FirstTries
from mta.spool.keeper import Keeper
from tests.dialog.backend import ScriptedStore
from tests.dialog.queueing import statuses, waiting
from tests.dialog.server import Server, run, serving

NAMES = [f"u{number}@example.test" for number in range(5)]
BODY = "Message-ID: <1@x.test>\r\nSubject: hello\r\n\r\nhello\r\n"
HANG = 3600.0
HAS_IT, WAITS = Status.DELIVERED, Status.DEFERRED


def store_of_two(hangs_at: str = "") -> ScriptedStore:
    """Two recipients in a transaction; the one with `hangs_at` is never answered."""
    store = ScriptedStore(keywords=("PIPELINING", "LIMITS RCPTMAX=2"))

    def rcpt(address: str) -> str:
        store.final_delay = HANG if address == hangs_at else 0.0
        return "250 2.1.5 ok"

    store.rcpt_reply = rcpt
    return store


def heal(store: ScriptedStore) -> None:
    store.final_delay = 0.0
    store.rcpt_reply = lambda address: "250 2.1.5 ok"


def copies(store: ScriptedStore) -> Counter[str]:
    return Counter(one.recipient for one in store.delivered)


async def send(server: Server) -> str:
    client = await server.connect()
    await client.hello()
    return await client.send(*NAMES, body=BODY)


async def once_each(server: Server) -> None:
    """The client tries again, and everybody has it once."""
    heal(server.store)
    assert (await send(server)).startswith("250 2.")
    assert copies(server.store) == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize("queue", [True, False])
def test_the_deadline_comes(tmp_path: Path, queue: bool) -> None:
    async def main() -> None:
        store = store_of_two(NAMES[4])
        options = {
            "queue": "" if queue else "enabled = false",
            "backend": 'connect_timeout = "1s"\n',
            "more": '[delivery]\ndeadline = "2s"\n',
        }
        async with serving(tmp_path, store=store, **options) as server:
            reply = await send(server)
            assert copies(store) == dict.fromkeys(NAMES[:4], 1)
            if queue:
                assert reply.startswith("250 2.0.0 delivered to 4 of 5 recipients, queued for 1 as ")
                (message,) = await waiting(server)
                assert [list(statuses(message).values()).count(status) for status in (HAS_IT, WAITS)] == [
                    4,
                    1,
                ]
            else:
                assert reply.startswith("451 4.4.2")
                await once_each(server)

    run(main)


def test_a_bug_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told to try again, and does."""
    real, calls = transact.batch_of, [0]

    def batch_of(*arguments: Any) -> list[int]:
        calls[0] += 1
        if calls[0] == 3:
            raise RuntimeError("a bug")
        return real(*arguments)

    monkeypatch.setattr(transact, "batch_of", batch_of)

    async def main() -> None:
        async with serving(tmp_path, store=store_of_two()) as server:
            assert (await send(server)).startswith("451 4.3.0 internal error")
            assert copies(server.store) == dict.fromkeys(NAMES[:4], 1)
            await once_each(server)

    run(main)


def test_next_hops_are_tried_side_by_side(tmp_path: Path) -> None:
    """One after the other they would not be done by the deadline."""
    stores = ScriptedStore(final_delay=2.5), ScriptedStore(final_delay=2.5)

    async def main() -> None:
        await stores[1].start()
        more = (
            f'[domains."other.test"]\nbackend = "other"\nrecipients = "all"\n'
            f'[backends.other]\naddresses = ["127.0.0.1:{stores[1].port}"]\n[delivery]\ndeadline = "4s"\n'
        )
        try:
            async with serving(tmp_path, store=stores[0], more=more) as server:
                client = await server.connect()
                await client.hello()
                reply = await client.send(NAMES[0], "u9@other.test", body=BODY)
                assert reply.startswith("250 2.0.0 "), reply
                assert [len(store.delivered) for store in stores] == [1, 1]
        finally:
            await stores[1].stop()

    run(main)


def test_a_bug_at_one_next_hop_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cuts off the others, who may be in the middle of something."""
    real = FirstTries._try
    other = "u9@other.test"

    async def attempt(self: FirstTries, session: Any, next_hop: Any, *rest: Any) -> Any:
        if next_hop.transport == "backend:other" and faulty:
            while len(server_store.delivered) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            raise RuntimeError("a bug")
        return await real(self, session, next_hop, *rest)

    monkeypatch.setattr(FirstTries, "_try", attempt)
    server_store = store_of_two(NAMES[4])
    faulty = [True]

    async def main() -> None:
        second = ScriptedStore()
        await second.start()
        more = (
            f'[domains."other.test"]\nbackend = "other"\nrecipients = "all"\n'
            f'[backends.other]\naddresses = ["127.0.0.1:{second.port}"]\n'
        )
        async with serving(tmp_path, store=server_store, more=more) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.send(*NAMES, other, body=BODY)).startswith("451 4.3.0")
            faulty.clear()
            heal(server_store)
            assert (await client.send(*NAMES, other, body=BODY)).startswith("250 2.")
            assert copies(server_store) == dict.fromkeys(NAMES, 1)
            assert copies(second) == {other: 1}
        await second.stop()

    run(main)


def test_a_bug_after_the_delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Keeper.keep, [0]

    async def keep(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            raise RuntimeError("a bug")
        return await real(*arguments)

    monkeypatch.setattr(Keeper, "keep", keep)

    async def main() -> None:
        store = store_of_two()
        store.final_reply = lambda address: "450 4.2.1 busy" if address == NAMES[0] else "250 2.0.0 kept"
        async with serving(tmp_path, store=store, queue="") as server:
            assert (await send(server)).startswith("451 4.3.0 internal error")
            assert copies(store) == dict.fromkeys(NAMES[1:], 1)
            store.final_reply = lambda address: "250 2.0.0 kept"
            await once_each(server)

    run(main)


def test_the_end_comes_in_the_middle(tmp_path: Path) -> None:
    """What is cancelled is told to the node, whose other processes know the client's retry."""

    async def main() -> None:
        store = store_of_two(NAMES[4])
        async with serving(tmp_path, store=store) as server:
            before = asyncio.all_tasks()
            sending = asyncio.create_task(send(server))
            while len(store.delivered) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            mine = [
                task
                for task in asyncio.all_tasks() - before
                if getattr(task.get_coro(), "__qualname__", "") == "Connection._run"
            ]
            assert len(mine) == 1
            mine[0].cancel()
            await asyncio.wait(mine)
            sending.cancel()
            assert len([topic for topic, _ in server.link.published if topic == "unacknowledged"]) == 4
            await once_each(server)

    run(main)
