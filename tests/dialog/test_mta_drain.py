"""Draining: who waits for nothing is sent away at once, who sends a message may end it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.dialog.server import Client, run, serving


def test_a_client_that_was_accepted_a_moment_before_is_served(tmp_path: Path) -> None:
    """It is in the system's queue when the order comes, and is accepted in the same turn of the loop."""

    async def main() -> None:
        async with serving(tmp_path) as server:
            sock = socket.create_connection(("127.0.0.1", server.ports["smtp"]))
            draining = asyncio.create_task(server.daemon.drain(300))
            client = Client(*await asyncio.open_connection(sock=sock))
            async with asyncio.timeout(60):
                await client.hello()
                await client.envelope("bob@example.test")
                assert (await client.say("DATA")).startswith("354 ")
                assert (await client.say("Subject: x\r\n\r\n.")).startswith("250 2.0.0 kept")
                assert not draining.done()
                client.cut()
                await draining

    run(main)


def test_a_client_whose_handshake_ends_too_late_is_sent_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, listener='proxy_protocol_from = ["127.0.0.1"]\n') as server:
            client = await server.connect()
            await asyncio.sleep(0.1)
            draining = asyncio.create_task(server.daemon.drain(0))
            await asyncio.sleep(0.1)
            client.writer.write(b"PROXY UNKNOWN\r\n")
            assert (await client.read_reply()).startswith("421 4.3.2")
            await draining

    run(main)


def test_idle_sessions_do_not_hold_up_the_end_and_transactions_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mta.net.connection.DRAIN_IDLE", 0.2)

    async def main() -> None:
        async with serving(tmp_path) as server:
            idle = await server.connect()
            await idle.hello()
            new = await server.connect()
            assert (await new.read_reply()).startswith("220 ")
            busy = await server.connect()
            await busy.hello()
            await busy.envelope("bob@example.test")
            draining = asyncio.create_task(server.daemon.drain(300))
            async with asyncio.timeout(60):
                for client in (idle, new):
                    assert (await client.read_reply()).startswith("421 4.3.2")
                    assert await client.reader.read() == b""
                assert not draining.done()
                assert (await busy.say("DATA")).startswith("354 ")
                assert (await busy.say("Subject: x\r\n\r\n.")).startswith("250 2.0.0 kept")
                assert (await busy.read_reply()).startswith("421 4.3.2")
                await draining

    run(main)
