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


def test_nothing_is_offered_whose_parameters_are_refused(tmp_path: Path) -> None:
    """A client that finds BINARYMIME or SMTPUTF8 says BODY, which is of 8BITMIME."""

    async def main() -> None:
        async with serving(tmp_path, listener='discard_ehlo_keywords = ["8BITMIME"]') as server:
            client = await server.connect()
            offered = await client.hello()
            assert "CHUNKING" in offered
            assert not any(word in offered for word in ("8BITMIME", "BINARYMIME", "SMTPUTF8"))
            assert (await client.say("MAIL FROM:<a@x.test> BODY=BINARYMIME")).startswith("555 5.5.4 ")

    run(main)
