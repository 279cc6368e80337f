"""ETRN: a server that was away gets what waits for it, if it may ask."""

from __future__ import annotations

from pathlib import Path

from tests.dialog.queueing import QUEUED, STRANGERS, MailStore, eventually, queue_of
from tests.dialog.server import run, serving


def test_who_may_ask_gets_the_queue_started(tmp_path: Path) -> None:
    store = MailStore(bob="451 4.2.0 busy")

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await server.connect()
            assert "250-ETRN\r\n" in await client.hello()
            assert QUEUED.match(await client.send("bob@example.test"))
            store.heal()
            for argument, code in (
                ("#all", "458 4.4.4"),
                ("elsewhere.test", "458 4.4.4"),
                ("no..domain", "501 5.5.4"),
                ("", "501 5.5.4"),
            ):
                assert (await client.say(f"ETRN {argument}")).startswith(code), argument
            assert store.got("bob") == []
            answer = await client.say("ETRN Example.Test")
            assert answer == "250 2.0.0 queuing for node example.test started\r\n"
            await eventually(lambda: store.got("bob"))
            await eventually(lambda: not len(queue_of(server).live))
            assert server.link.published[-1] == ("etrn", {"sites": ["backend:store"]})
            await client.envelope("bob@example.test")
            assert (await client.say("ETRN example.test")).startswith("503 5.5.1")

    run(main)


def test_other_workers_hear_of_it(tmp_path: Path) -> None:
    store = MailStore(bob="451 4.2.0 busy")

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await server.connect()
            await client.hello()
            assert QUEUED.match(await client.send("bob@example.test"))
            store.heal()
            for data in ({"sites": ["mx/example.test", "@example.test"]}, {}, {"sites": ["backend:store"]}):
                server.link.tell("etrn", data)
            await eventually(lambda: store.got("bob"))

    run(main)


def test_strangers_may_not(tmp_path: Path) -> None:
    store = MailStore(bob="451 4.2.0 busy")

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store, more=STRANGERS) as server:
            client = await server.connect()
            await client.hello()
            assert QUEUED.match(await client.send("bob@example.test"))
            store.heal()
            assert (await client.say("ETRN example.test")).startswith("459 4.7.1")
            assert (await client.say("ETRN @example.test")).startswith("459 4.7.1")
            assert server.link.published == []
            assert store.got("bob") == []

    run(main)
