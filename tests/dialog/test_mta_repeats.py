"""What is a retry and what is another message: no second copy of the one, and none too few of the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.dialog.backend import ScriptedStore
from tests.dialog.server import run, serving


@pytest.mark.parametrize(
    ("fields", "copies"),
    [
        ("Message-ID: <1@x.test>\r\n", 1),
        ("Date: Sat, 22 Nov 2025 10:15:08 +0000\r\n", 1),
        ("", 3),
    ],
)
def test_messages_without_a_name_are_not_taken_for_one(tmp_path: Path, fields: str, copies: int) -> None:
    """A script may say the same each hour, so 250 without a delivery would lose what it says."""
    body = f"Subject: disk is full\r\n{fields}\r\nplease look\r\n"
    store = ScriptedStore(final_delay=0.2)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            hasty = await server.connect()
            await hasty.hello()
            await hasty.envelope("bob@example.test")
            await hasty.say("DATA")
            hasty.writer.write(body.encode() + b".\r\n")
            await store.data_seen.wait()
            hasty.cut()
            while not store.delivered:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.4)  # what is remembered is remembered now
            client = await server.connect()
            await client.hello()
            for _ in range(2):
                assert (await client.send("bob@example.test", body=body)).startswith("250 ")
            assert len(store.delivered) == copies

    run(main)
