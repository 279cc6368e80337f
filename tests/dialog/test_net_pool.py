"""The pool over real sockets: reuse, limits, fairness, idle connections, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest
import uvloop

from mta.net.connect import ConnectFailure, Endpoint, connect
from mta.net.outbound import OutboundConnection, Timeouts
from mta.net.pool import Pool, PoolBusy, PoolLimits
from mta.smtp.opening import ClientSettings
from tests.peers.scripted import SILENCE, Script, ScriptedServer

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(main)


def pool_for(server: ScriptedServer, limits: PoolLimits | None = None, **timeouts: float) -> Pool:
    settings = ClientSettings(lmtp=True)
    dial = partial(connect, Endpoint("127.0.0.1", server.port), settings, None, Timeouts(**timeouts))
    return Pool(dial, limits or PoolLimits())


def soon(seconds: float = 2.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_the_last_used_connection_is_given_out_first() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server)
            assert pool.take() is None
            first, second = await pool.acquire(soon()), await pool.acquire(soon())
            assert (pool.size, pool.idle) == (2, 0)
            pool.release(first)
            pool.release(second)
            assert pool.idle == 2
            assert pool.take() is second
            assert pool.take() is first
            assert pool.take() is None
            assert (pool.stats.opened, pool.stats.reused) == (2, 2)
            await pool.close()
            assert server.connections == 2

    run(main())


def test_max_connections_and_first_come_first_served() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(max_connections=2))
            order: list[int] = []

            async def user(number: int) -> None:
                connection = await pool.acquire(soon())
                order.append(number)
                await asyncio.sleep(0.002)
                pool.release(connection)

            await asyncio.gather(*(user(number) for number in range(20)))
            assert order == sorted(order)
            assert server.connections == 2
            assert server.most_open == 2
            assert pool.stats.waited == 18
            await pool.close()

    run(main())


def test_nobody_overtakes_a_waiter() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(max_connections=1))
            held = await pool.acquire(soon())
            waiter = asyncio.ensure_future(pool.acquire(soon()))
            await asyncio.sleep(0)
            pool.release(held)
            assert pool.take() is None
            assert await waiter is held
            await pool.close()

    run(main())


def test_waiting_ends_at_the_deadline_and_the_queue_has_an_end() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(max_connections=1, max_waiting=1))
            held = await pool.acquire(soon())
            waiter = asyncio.ensure_future(pool.acquire(soon(0.1)))
            await asyncio.sleep(0)
            with pytest.raises(PoolBusy) as full:
                await pool.acquire(soon())
            assert (full.value.reply.code, full.value.reply.enhanced) == (451, "4.4.5")
            with pytest.raises(PoolBusy) as late:
                await waiter
            assert late.value.reply.enhanced == "4.4.5"
            assert pool.waiting == 0
            assert pool.stats.refused == 2
            pool.release(held)
            assert pool.take() is held
            await pool.close()

    run(main())


def test_a_cancelled_waiter_loses_nothing() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(max_connections=1))
            held = await pool.acquire(soon())
            first = asyncio.ensure_future(pool.acquire(soon()))
            second = asyncio.ensure_future(pool.acquire(soon()))
            await asyncio.sleep(0)
            pool.release(held)  # given to the first, which is cancelled before it runs
            first.cancel()
            assert await second is held
            with pytest.raises(asyncio.CancelledError):
                await first
            pool.release(held)
            assert (pool.size, pool.idle, pool.waiting) == (1, 1, 0)
            await pool.close()

    run(main())


def test_the_place_of_a_dead_connection_goes_to_a_waiter() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(max_connections=1))
            held = await pool.acquire(soon())
            waiter = asyncio.ensure_future(pool.acquire(soon()))
            await asyncio.sleep(0)
            held.transport.abort()
            fresh = await waiter
            assert fresh is not held
            assert fresh.usable
            pool.release(held)
            assert pool.size == 1
            await pool.close()

    run(main())


def test_a_failed_connection_gives_its_place_back() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"GREETING": "421 busy"}), Script()) as server:
            pool = pool_for(server, PoolLimits(max_connections=1))
            tries = [asyncio.ensure_future(pool.acquire(soon())) for _ in range(2)]
            results = await asyncio.gather(*tries, return_exceptions=True)
            assert isinstance(results[0], ConnectFailure)
            assert isinstance(results[1], OutboundConnection)
            assert (pool.stats.failed, pool.size) == (1, 1)
            await pool.close()

    run(main())


def test_cancelled_while_connecting() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"GREETING": SILENCE})) as server:
            pool = pool_for(server, PoolLimits(max_connections=1))
            task = asyncio.ensure_future(pool.acquire(soon()))
            await asyncio.sleep(0.05)
            assert pool.size == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.size == 0
            await pool.close()

    run(main())


def test_idle_connections_are_closed_in_time() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(idle_time=0.3))
            old, young = await pool.acquire(soon()), await pool.acquire(soon())
            pool.release(old)
            young.idle_since += 2.0  # as if it had been released so much later
            pool.release(young)
            assert pool.connections == {old, young}
            async with asyncio.timeout(30):
                while old in pool.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
                assert pool.connections == {young}
                while pool.size or server.open:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert server.commands.count("QUIT") == 2
            await pool.close()

    run(main())


def test_no_idle_connection_at_all() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(idle_time=0))
            pool.release(await pool.acquire(soon()))
            assert pool.size == 0
            await pool.close()
            assert server.commands[-1] == "QUIT"

    run(main())


@pytest.mark.parametrize("word", [b"421 4.4.2 idle too long\r\n", b"250 nonsense\r\n", b""])
def test_an_idle_connection_that_the_server_ends_leaves_the_pool(word: bytes) -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server)
            pool.release(await pool.acquire(soon()))
            writer = next(iter(server.writers))
            writer.write(word)
            await writer.drain()
            if not word:
                writer.transport.abort()
            await asyncio.sleep(0.05)
            assert (pool.size, pool.idle) == (0, 0)
            assert pool.take() is None
            await pool.close()

    run(main())


def test_fresh_is_never_an_idle_one() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server)
            first = await pool.acquire(soon())
            pool.release(first)
            second = await pool.acquire(soon(), fresh=True)
            assert second is not first
            await pool.close()

    run(main())


def test_close_ends_everything() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"QUIT": SILENCE})) as server:
            pool = pool_for(server, PoolLimits(max_connections=2))
            idle, busy = await pool.acquire(soon()), await pool.acquire(soon())
            waiter = asyncio.ensure_future(pool.acquire(soon()))
            await asyncio.sleep(0)
            assert not waiter.done()
            # Not given to the waiter: closing comes first.
            closing = asyncio.ensure_future(pool.close())
            await asyncio.sleep(0)
            pool.release(idle)
            with pytest.raises(ConnectFailure):
                await waiter
            await closing
            assert not busy.usable
            assert pool.size == 0
            await asyncio.sleep(0.02)
            assert server.open == 0

    run(main())


def test_a_connection_that_does_not_fit_is_not_given_and_makes_room() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(max_connections=1))
            first = await pool.acquire(soon())
            first.note = "one"
            pool.release(first)
            assert pool.take(lambda connection: connection.note == "other") is None
            assert pool.take(lambda connection: connection.note == "one") is first
            pool.release(first)
            other = await pool.acquire(soon(), fits=lambda connection: connection.note == "other")
            assert other is not first
            assert server.connections == 2
            pool.release(other)
            await pool.close()

    run(main())


def test_who_waits_gets_a_connection_that_fits_or_its_place() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            pool = pool_for(server, PoolLimits(max_connections=1))
            first = await pool.acquire(soon())
            first.note = "one"

            async def user(note: str) -> OutboundConnection:
                connection = await pool.acquire(soon(), fits=lambda connection: connection.note == note)
                pool.release(connection)
                return connection

            waiting = [asyncio.create_task(user(note)) for note in ("other", "one")]
            await asyncio.sleep(0.01)
            pool.release(first)
            other, same = await asyncio.gather(*waiting)
            assert same is first  # it fits the second one, who need not wait for the first
            assert other is not first
            assert server.connections == 2
            await pool.close()

    run(main())
