"""A director that asks Dovecot's userdb: the host of a user decides, whatever the hash says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.dialog.server import Server, run, serving
from tests.dialog.test_mta_director import MORE, ROOT, stores, tamis, until
from tests.peers.dovecot_lookups import running_dovecot_lookups

pytestmark = pytest.mark.scenario
TABLE = """users = "places"
[tables.places]
type = "dovecot_userdb"
address = "unix:{socket}"
map = "host"
timeout = "20s"
"""
USERS = [f"user{number}@many.test" for number in range(8)]


async def send(server: Server, user: str) -> str:
    client = await server.connect()
    await client.hello()
    answer = await client.send(user)
    client.cut()
    return answer


def test_userdb_says_where_users_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            found = await stores(stack)
            ports = {name: store.port for name, store in found.items()}
            lines = [f"{user}::1000:1000::/srv/x::userdb_host=127.0.0.1:{ports['c']}" for user in USERS]
            lines += ["moved@many.test::1000:1000::/srv/x::userdb_host=a", "new@many.test::1:1::/srv/x::"]
            dovecot = stack.enter_context(running_dovecot_lookups("\n".join(lines) + "\n", ""))
            sections = "".join(
                f'[backends.{name}]\naddresses = ["127.0.0.1:{port}"]\nfailure_delay = "0.1s"\n'
                for name, port in ports.items()
            )
            more = MORE + TABLE.format(socket=dovecot.userdb) + sections
            server = await stack.enter_async_context(serving(tmp_path, more=more, queue='retry = ["1s"]\n'))
            for user in (*USERS, "user0+list@many.test", "moved@many.test"):
                assert (await send(server, user)).startswith("250 2.0.0"), user
            assert len(found["c"].delivered) == len(USERS) + 1
            assert [one.recipient for one in found["a"].delivered] == ["moved@many.test"]
            assert not found["b"].delivered
            shown = await asyncio.to_thread(tamis, tmp_path, "where", USERS[0])
            assert shown.strip() == "c"

            await asyncio.to_thread(dovecot.stop)
            assert (await send(server, USERS[0])).startswith("250 2.0.0")  # what it said last holds
            assert "queued" in await send(server, "new@many.test")  # and nobody guesses
            command = [sys.executable, "-m", "mta.cli", "director", "-c", str(tmp_path / "tamis.toml")]
            done = await asyncio.to_thread(
                subprocess.run, [*command, "where", "new@many.test"], cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 1
            assert "tables.places: new@many.test" in done.stderr
            before = sum(len(store.delivered) for store in found.values())
            await asyncio.to_thread(dovecot.start)
            await until(lambda: sum(len(store.delivered) for store in found.values()) > before)
            (store,) = (one for one in found.values() if one.delivered[-1:] and
                        one.delivered[-1].recipient == "new@many.test")  # fmt: skip
            assert store.delivered[-1].recipient == "new@many.test"

    run(main)
