"""What the dialogs about policy scripts share: a daemon with a policy file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.dialog.server import Client, Server, serving

REQUIRE = """require ["vnd.tamis.stage", "vnd.tamis.net", "vnd.tamis.reply", "vnd.tamis.envelope",
    "vnd.tamis.route", "vnd.tamis.queue", "envelope", "editheader", "variables", "body", "reject",
    "extlists"];
"""
FIRST = REQUIRE.count("\n") + 1
"""The line of the first line after `REQUIRE`."""
STRANGERS = "trusted_networks = []"


@asynccontextmanager
async def policed(
    folder: Path, script: str, *, policy: str = "", more: str = "", **options: Any
) -> AsyncIterator[Server]:
    """A daemon with one policy file that requires everything; `policy` goes into [policy]."""
    (folder / "policy.sieve").write_text(REQUIRE + script)
    section = f'[policy]\nscripts = ["policy.sieve"]\n{policy}\n{more}'
    async with serving(folder, more=section, **options) as server:
        yield server


async def greeted(server: Server, name: str = "client.test") -> Client:
    """A client that has said EHLO."""
    client = await server.connect()
    await client.hello(name)
    return client
