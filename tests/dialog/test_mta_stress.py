"""Times are shorter while the server is under stress, and only then."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.dialog.server import run, serving

FEW = """
[limits]
sessions = 10
stress_percent = 30
[timeouts]
command = "5m"
data = "3m"
stressed_command = "0.5s"
stressed_data = "0.5s"
"""
"""Three sessions are stress."""


def test_silent_clients_are_sent_away_early_when_there_are_many(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=FEW) as server:
            first = await server.connect()
            await first.hello()
            in_data = await server.connect()
            await in_data.hello()
            await in_data.envelope("bob@example.test")
            assert (await in_data.say("DATA")).startswith("354 ")
            await asyncio.sleep(2.5)  # twice as long as anybody has under stress, with the clock of a second
            assert (await first.say("NOOP")).startswith("250 "), "two clients are no stress"
            third = await server.connect()
            await third.hello()
            async with asyncio.timeout(30):
                for client in (first, in_data, third):
                    assert (await client.read_reply()).startswith("421 4.4.2")
                    assert await client.reader.read() == b""
            assert server.store.delivered == []

    run(main)
