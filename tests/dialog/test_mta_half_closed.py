"""Clients that say QUIT ahead and close their side at once, but read what they are answered: Exim does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.dialog.backend import ScriptedStore
from tests.dialog.server import Server, run, serving

MESSAGE = b"Message-ID: <1@x.test>\r\n\r\nhello\r\n"
ENVELOPE = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<bob@example.test>\r\n"
ONE_CHUNK = ENVELOPE + b"BDAT %d LAST\r\n%sQUIT\r\n" % (len(MESSAGE), MESSAGE)
AT_ONCE = 4.0
"""Seconds that are less than what a client is lingered for."""


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("rcpt_delay", [0.0, 0.1])
def test_a_message_and_quit_in_one_piece(tmp_path: Path, protocol: str, rcpt_delay: float) -> None:
    store = ScriptedStore(final_delay=0.2, rcpt_delay=rcpt_delay)

    async def main() -> None:
        async with serving(tmp_path, store=store, listener=f'protocol = "{protocol}"') as server:
            client = await server.connect()
            assert (await client.read_reply()).startswith("220 ")
            await client.say("LHLO x.test" if protocol == "lmtp" else "EHLO x.test")
            client.writer.write(ONE_CHUNK)
            client.writer.write_eof()
            began = time.monotonic()
            replies = (await client.reader.read()).decode().splitlines()
            assert [reply[:9] for reply in replies] == ["250 2.1.0", "250 2.1.5", "250 2.0.0", "221 2.0.0"]
            assert time.monotonic() - began < AT_ONCE
            assert len(store.delivered) == 1
            await gone(server)

    run(main)


def test_data_and_quit_behind_it(tmp_path: Path) -> None:
    store = ScriptedStore(final_delay=0.2)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            client.writer.write(MESSAGE + b".\r\nquit\r\n")
            client.writer.write_eof()
            replies = (await client.reader.read()).decode().splitlines()
            assert [reply[:9] for reply in replies] == ["250 2.0.0", "221 2.0.0"]
            assert len(store.delivered) == 1
            await gone(server)

    run(main)


def test_one_that_does_not_read_is_remembered(tmp_path: Path) -> None:
    """It has said the same, but has closed both sides: the answer is lost, and the message comes again."""
    store = ScriptedStore(final_delay=0.2)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            await client.hello()
            await client.say(ONE_CHUNK, replies=2)
            await store.data_seen.wait()
            client.writer.close()
            await gone(server)
            assert len(store.delivered) == 1
            again = await server.connect()
            await again.hello()
            assert await again.send("bob@example.test", body=MESSAGE.decode()) == (
                "250 2.0.0 already delivered\r\n"
            )
            assert len(store.delivered) == 1

    run(main)


def test_quit_is_the_end_of_a_message_that_has_none(tmp_path: Path) -> None:
    store = ScriptedStore(rcpt_delay=0.2)

    async def main() -> None:
        async with serving(tmp_path, recipients="ask", store=store) as server:
            client = await server.connect()
            await client.hello()
            client.writer.write(ENVELOPE + b"BDAT 500 LAST\r\nand then I\r\nQUIT\r\n")
            client.writer.write_eof()
            began = time.monotonic()
            replies = (await client.reader.read()).decode().splitlines()
            assert [reply[:9] for reply in replies] == ["250 2.1.0", "250 2.1.5"]
            assert time.monotonic() - began < AT_ONCE
            assert not store.delivered
            await gone(server)

    run(main)


async def gone(server: Server) -> None:
    """Wait until the server has let go of its clients."""
    for _ in range(100):
        if not len(server.daemon._connections):
            return
        await asyncio.sleep(AT_ONCE / 100)
    raise AssertionError("a connection is left")
