"""Draining: who waits for nothing is sent away at once, who sends a message may end it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.dialog.server import run, serving


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
