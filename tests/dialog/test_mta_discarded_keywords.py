"""Listeners that do not offer everything, and clients that go by what is offered."""

from __future__ import annotations

from pathlib import Path

from tests.dialog.backend import ScriptedStore
from tests.dialog.server import run, serving


def test_a_chunk_follows_its_command_also_without_pipelining(tmp_path: Path) -> None:
    store = ScriptedStore()

    async def main() -> None:
        async with serving(
            tmp_path, store=store, listener='discard_ehlo_keywords = ["PIPELINING"]'
        ) as server:
            client = await server.connect()
            assert "PIPELINING" not in await client.hello()
            await client.envelope("bob@example.test")
            assert (await client.say(b"BDAT 6\r\nA: b\r\n")).startswith("250 ")
            assert (await client.say(b"BDAT 6 LAST\r\n\r\nhi\r\n")).startswith("250 ")
            assert [one.octets[-12:] for one in store.delivered] == [b"A: b\r\n\r\nhi\r\n"]
            assert (await client.say(b"NOOP\r\nNOOP\r\n")).startswith("554 5.5.0 ")

    run(main)
