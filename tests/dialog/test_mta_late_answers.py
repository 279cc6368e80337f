"""A mail store that has the whole message at the deadline and answers later: nobody gets a second copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.dialog.queueing import QUEUED, MailStore, eventually, flush, on_disk, queue_of, waiting
from tests.dialog.server import Client, Server, run, serving

DEADLINE = '[delivery]\ndeadline = "1s"\n'
BACKEND = 'connect_timeout = "0.5s"'
NO_QUEUE = "enabled = false"
ALICE = "alice@example.test"


@asynccontextmanager
async def impatient(folder: Path, store: MailStore, queue: str = "") -> AsyncIterator[tuple[Server, Client]]:
    """A server that waits one second for its store, and a client that has introduced itself."""
    async with serving(folder, queue=queue, store=store, more=DEADLINE, backend=BACKEND) as server:
        client = await server.connect()
        await client.hello()
        yield server, client


async def send(client: Client, *names: str, subject: str = "hi") -> str:
    await client.envelope(*(f"{name}@example.test" for name in names), sender=ALICE)
    assert (await client.say("DATA")).startswith("354 ")
    return await client.say(f"Subject: {subject}\r\n\r\nhello\r\n.")


def test_what_was_queued_leaves_the_queue(tmp_path: Path) -> None:
    store = MailStore()
    store.final_delay = 2.5

    async def main() -> None:
        async with impatient(tmp_path, store) as (server, client):
            assert QUEUED.match(await send(client, "bob", "carol"))
            assert store.delivered == []
            await eventually(lambda: not len(queue_of(server).live))
            store.final_delay = 0.0
            assert await flush(server) == 0
            # The connection that was late is used again.
            assert (await send(client, "bob", subject="two")).startswith("250 2.0.0 kept")
            assert store.sessions == 1
            assert len(store.got("bob")) == 2
            assert len(store.got("carol")) == 1

    run(main)


def test_a_hasty_schedule_brings_no_second_copy(tmp_path: Path) -> None:
    store = MailStore()
    store.final_delay = 4.0

    async def main() -> None:
        async with impatient(tmp_path, store, 'retry = ["1s"]') as (server, client):
            assert QUEUED.match(await send(client, "bob"))
            store.final_delay = 0.0
            await asyncio.sleep(4.0)  # the answer has come
            await eventually(lambda: not len(queue_of(server).live))
            assert len(store.got("bob")) == 1

    run(main)


class SlowToGreet(MailStore):
    """It takes `pause` seconds to greet."""

    pause = 0.0

    async def _dialog(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.pause)
        await super()._dialog(reader, writer)


def test_a_store_that_comes_back_is_not_sent_what_it_may_still_answer(tmp_path: Path) -> None:
    """All of it stalls: one message it has, another does not get to it, and then it takes mail again."""
    store = SlowToGreet()
    store.final_delay = 3.5

    async def main() -> None:
        async with impatient(tmp_path, store) as (server, client):
            assert QUEUED.match(await send(client, "bob"))
            store.pause = 3.0
            assert QUEUED.match(await send(client, "carol"))
            store.pause = store.final_delay = 0.0
            assert (await send(client, "dave")).startswith("250 2.0.0 kept")
            await eventually(lambda: not len(queue_of(server).live))
            await asyncio.sleep(2.5)  # what was under way has come to the store
            assert [len(store.got(name)) for name in ("bob", "carol", "dave")] == [1, 1, 1]

    run(main)


def test_a_late_refusal_is_reported(tmp_path: Path) -> None:
    store = MailStore(bob="552 5.2.2 full")
    store.final_delay = 2.5

    async def main() -> None:
        async with impatient(tmp_path, store) as (server, client):
            assert QUEUED.match(await send(client, "bob"))
            store.final_delay = 0.0
            await eventually(lambda: store.got("alice"))
            (report,) = store.got("alice")
            assert b"Diagnostic-Code: smtp; 552 5.2.2 full" in report
            await eventually(lambda: not len(queue_of(server).live))

    run(main)


def test_a_late_temporary_answer_changes_nothing(tmp_path: Path) -> None:
    store = MailStore(bob="451 4.2.0 busy")
    store.final_delay = 2.0

    async def main() -> None:
        async with impatient(tmp_path, store) as (server, client):
            assert QUEUED.match(await send(client, "bob"))
            await asyncio.sleep(2.0)
            (kept,) = await waiting(server)
            assert [state.attempts for state in kept.recipients] == [1]
            store.heal()
            store.final_delay = 0.0
            await flush(server)
            await eventually(lambda: store.got("bob"))

    run(main)


def test_a_drain_waits_for_late_answers(tmp_path: Path) -> None:
    """As at a reload: else whoever goes on with the queue would deliver it again."""
    store = MailStore()
    store.final_delay = 3.0

    async def main() -> None:
        async with impatient(tmp_path, store) as (server, client):
            assert QUEUED.match(await send(client, "bob"))
            assert len(await on_disk(tmp_path)) == 1
            client.cut()
            await server.daemon.drain(60)
            server.daemon._queue = None  # it is closed; the end of every test drains once more
            assert len(store.got("bob")) == 1
            assert await on_disk(tmp_path) == []

    run(main)


def test_a_connection_that_is_lost_without_an_answer_leaves_the_message_queued(tmp_path: Path) -> None:
    store = MailStore()
    store.final_delay = 60.0

    async def main() -> None:
        async with impatient(tmp_path, store) as (server, client):
            assert QUEUED.match(await send(client, "bob"))
            await store.stop()
            store.final_delay = 0.0
            await store.start(store.port)
            assert len(await waiting(server)) == 1
            await flush(server)
            await eventually(lambda: store.got("bob"))

    run(main)


def test_without_a_queue_the_clients_retry_makes_no_second_copy(tmp_path: Path) -> None:
    store = MailStore()
    store.final_delay = 2.5

    async def main() -> None:
        async with impatient(tmp_path, store, queue=NO_QUEUE) as (server, client):
            assert (await send(client, "bob", "carol")).startswith("451 4.4.2")
            await eventually(lambda: len(store.delivered) == 2)
            await eventually(lambda: len([t for t, _ in server.link.published if t == "unacknowledged"]) == 2)
            assert (await send(client, "bob", "carol")).startswith("250 2.0.0 already delivered")
            assert len(store.delivered) == 2

    run(main)
