"""Changes of a director in a real Redis: made by nodes at once, seen by all, kept while it is away."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mailqueue.store.base import MissingKey, StoreUnavailable
from mta.director import shared, state
from mta.director.redisstore import RedisStates
from tests.dialog.server import run, serving
from tests.dialog.test_mta_director import USERS, sections, send, stores, tamis, until, where
from tests.peers.needs import needs
from tests.peers.ports import free_port
from tests.scenarios.test_tables_peers import redis, running

pytestmark = pytest.mark.scenario


def test_nodes_change_the_same_state(tmp_path: Path) -> None:
    needs("redis-server")

    async def main() -> None:
        port = free_port()
        async with running(*redis(tmp_path, port), port=port) as server:
            nodes = [RedisStates(f"redis://127.0.0.1:{port}/0", "secret") for _ in range(2)]

            async def mover(number: int) -> None:
                user = f"user{number}@x"
                await shared.change(nodes[number % 2], "d", lambda old: state.move(old, {"a": 1}, user, "a"))

            await asyncio.gather(*(mover(number) for number in range(12)))
            for node in nodes:
                revision, now = await shared.read(node, "d")
                assert (revision, len(now.moved)) == (12, 12)
            assert len(await nodes[0].list_after("director/d/")) <= shared.KEPT + 1
            assert await shared.read(nodes[1], "other") == (0, state.DirectorState())
            with pytest.raises(MissingKey):
                await nodes[0].get("director/d/000000000001")
            server.kill()
            await server.wait()
            with pytest.raises(StoreUnavailable):
                await shared.read(nodes[0], "d")
            for node in nodes:
                await node.close()

    asyncio.run(main())


def test_a_server_follows_and_keeps_what_it_knew(tmp_path: Path) -> None:
    needs("redis-server")

    async def main() -> None:
        port = free_port()
        (tmp_path / "password").write_text("secret\n")
        (tmp_path / "password").chmod(0o600)
        changes = f'changes = "redis://127.0.0.1:{port}/0"\nchanges_password_file = "password"\n'
        async with AsyncExitStack() as stack:
            found = await stores(stack)
            more = sections(found).replace('refresh = "0.1s"\n', f'refresh = "0.1s"\n{changes}')
            async with running(*redis(tmp_path, port), port=port) as server:
                mta = await stack.enter_async_context(serving(tmp_path, more=more))
                directors = mta.daemon._directors
                assert directors is not None
                await asyncio.to_thread(tamis, tmp_path, "set", "b", "0")
                await until(
                    lambda: directors["stores"].state is not None and directors["stores"].state.weights
                )
                server.kill()
                await server.wait()
            # It is away, and comes back with nothing: b stays drained.
            await asyncio.sleep(0.3)
            async with running(*redis(tmp_path, port), port=port):
                await asyncio.sleep(0.5)
                await send(mta, USERS)
                assert {name for places in where(found).values() for name in places} == {"a", "c"}

    run(main)
