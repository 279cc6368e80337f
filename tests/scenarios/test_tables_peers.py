"""Tables against the real thing: Redis, memcached, and Postfix's postmap, which asks our test servers."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mta.config.notation import Inet
from mta.policy.counting import window
from mta.policy.ledger import LedgerUnavailable
from mta.policy.ledgerredis import RedisLedger
from mta.tables.memcache import MemcacheTable
from mta.tables.peer import Peer, connector
from mta.tables.redis import RedisTable, connect
from mta.tables.table import TableUnavailable
from mta.tables.template import parse
from tests.peers.answering import answering
from tests.peers.needs import needs, program
from tests.peers.ports import free_port
from tests.unit.test_tables_servers import CONTENT, KINDS

pytestmark = pytest.mark.scenario


@contextlib.asynccontextmanager
async def running(*command: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server, from when it answers on its port."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                break
            except OSError:
                assert time.monotonic() < until
                await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def redis(folder: Path, port: int) -> tuple[str, ...]:
    return (
        program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save",
        "", "--requirepass", "secret",
    )  # fmt: skip


def test_redis(tmp_path: Path) -> None:
    needs("redis-server")
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"

    async def main() -> None:
        async with running(*redis(tmp_path, port), port=port) as server:
            client = connect(url, "secret", 4, 1.0)
            await client.set("box:a@x", "box 1")
            await client.hset("boxes", "a@x", "box 2")
            await client.set("box:bad", b"\xff")
            await client.sadd("box:set", "member")
            plain = RedisTable(client, parse("box:{key}"))
            hashed = RedisTable(client, parse("{key}"), "boxes")
            assert [await plain.get(key) for key in ("a@x", "b@x")] == ["box 1", None]
            assert [await hashed.get(key) for key in ("a@x", "b@x")] == ["box 2", None]
            for key in ("bad", "set"):
                with pytest.raises(TableUnavailable):
                    await plain.get(key)
            wrong = RedisTable(connect(url, "wrong", 4, 1.0), parse("{key}"))
            with pytest.raises(TableUnavailable, match=r"(?i)auth|password"):
                await wrong.get("x")
            await wrong.close()
            # Two nodes count together.
            nodes = [RedisLedger(url, "secret", time.time) for _ in range(2)]
            now = time.time()
            found = await asyncio.gather(
                *(nodes[number % 2].update("k", window(15, 600, 1, now)) for number in range(20))
            )
            assert sum(found) == 5
            server.kill()
            await server.wait()
            with pytest.raises(TableUnavailable):
                await plain.get("a@x")
            with pytest.raises(LedgerUnavailable):
                await nodes[0].update("k", window(15, 600, 1, now))
            for node in nodes:
                await node.close()
            await plain.close()

    asyncio.run(main())


def test_memcached() -> None:
    needs("memcached")
    port = free_port()

    async def main() -> None:
        command = (program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-u", "nobody", "-U", "0")
        async with running(*command, port=port) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"set box:a@x 0 0 5\r\nbox 1\r\n")
            assert await reader.readline() == b"STORED\r\n"
            writer.close()
            await writer.wait_closed()
            table = MemcacheTable(Peer(connector(Inet("127.0.0.1", port))), parse("box:{key}"))
            assert [await table.get(key) for key in ("a@x", "b@x", "a@x")] == ["box 1", None, "box 1"]
            server.kill()
            await server.wait()
            with pytest.raises(TableUnavailable):
                await table.get("a@x")
            await table.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["tcp", "socketmap"])
def test_postfix_understands_our_test_servers(kind: str) -> None:
    needs("postfix")

    async def ask(where: str, key: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            program("postmap"), "-q", key, where, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        said, complained = await process.communicate()
        return process.returncode or 0, said.decode().rstrip("\n"), complained.decode()

    async def main() -> None:
        async with answering(*KINDS[kind]) as server:
            place = f"127.0.0.1:{server.port}"
            where = f"tcp:{place}" if kind == "tcp" else f"socketmap:inet:{place}:vip"
            assert (await ask(where, "a@x"))[:2] == (0, CONTENT["a@x"])
            assert (await ask(where, "nobody"))[:2] == (1, "")
            assert server.asked[:2] == ["a@x", "nobody"]
            code, said, complained = await ask(where, "broken")
            assert (code, said) == (1, "")
            assert "error" in complained

    asyncio.run(main())
