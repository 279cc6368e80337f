"""The client of policy servers over real sockets: up, slow, down, lying; and the small server."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mailmilter.endpoint import Endpoint, parse_endpoint
from mailmilter.policy import Decision, Kind, PolicyClient, PolicyRequest, PolicyService, serve_policy
from mailmilter.policy.client import UNAVAILABLE
from tests.peers.ports import free_port

T = TypeVar("T")
REQUEST = PolicyRequest("RCPT", sender="a@b", recipient="c@d")
DUNNO = Decision(Kind.DUNNO)


def run(main: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(20):
            return await main

    return asyncio.run(limited())


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tamis-policy-") as name:
        yield str(Path(name) / "socket")


class Scripted:
    """A server whose n-th connection gets the n-th function, from a request to octets; None closes."""

    def __init__(self, *connections: Callable[[int], bytes | None]) -> None:
        self.scripts = connections
        self.connections = 0

    @asynccontextmanager
    async def at(self, path: str) -> AsyncIterator[None]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            number = 0
            try:
                while True:
                    await reader.readuntil(b"\n\n")
                    number += 1
                    answer = script(number)
                    if answer is None:
                        break
                    writer.write(answer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_unix_server(connected, path)
        try:
            yield
        finally:
            server.close()


def fine(_number: int) -> bytes:
    return b"action=DUNNO\n\n"


def once(number: int) -> bytes | None:
    return b"action=DUNNO\n\n" if number == 1 else None


def service(path: str, **options: Any) -> PolicyService:
    return PolicyService("p", Endpoint(path=path), **{"timeout": 0.3, "retry_delay": 0.01, **options})


def test_one_connection_serves_many_questions(path: str) -> None:
    server = Scripted(fine)

    async def main() -> None:
        async with server.at(path):
            client = PolicyClient(service(path))
            for _ in range(5):
                reply = await client.ask(REQUEST)
                assert (reply.decision, reply.failure, reply.attributes) == (DUNNO, "", {"action": "DUNNO"})
            client.close()

    run(main())
    assert server.connections == 1


@pytest.mark.parametrize(
    "first",
    [
        once,
        lambda _number: None,
        lambda _number: b"nonsense\n\n",
        lambda _number: b"result=DUNNO\n\n",
        lambda _number: b"action=DUNNO\n\njunk",
        lambda _number: b"",
    ],
)
def test_a_connection_that_is_lost_or_lies_is_replaced(
    path: str, first: Callable[[int], bytes | None]
) -> None:
    server = Scripted(first, fine)

    async def main() -> None:
        async with server.at(path):
            client = PolicyClient(service(path))
            for _ in range(3):
                assert (await client.ask(REQUEST)).decision == DUNNO
                await asyncio.sleep(0.01)
            client.close()

    run(main())
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "the server closed the connection"),
        (b"", "no answer in 0.2 s"),
        (b"action=DUNNO\n", "no answer in 0.2 s"),
        (b"nonsense\n", "protocol error: a line that is no attribute"),
        (b"x=y\n\n", "an answer without an action"),
        (b"x" * 70_000, "protocol error: more than 65536 octets"),
    ],
)
def test_a_server_that_is_slow_or_lies_gets_the_default(path: str, answer: bytes | None, why: str) -> None:
    server = Scripted(lambda _number: answer)

    async def main() -> None:
        async with server.at(path):
            default = Decision(Kind.DUNNO, "ours")
            timeout = 0.2 if "no answer" in why else 20.0
            client = PolicyClient(service(path, timeout=timeout, default=default))
            reply = await client.ask(REQUEST)
            assert reply.decision == default
            assert reply.failure.startswith(f"unix:{path}: {why}")
            client.close()

    run(main())
    assert server.connections == 2, "two tries"


def test_a_server_that_is_down_costs_no_time_while_it_is(path: str) -> None:
    async def main() -> None:
        client = PolicyClient(service(path, down_for=60.0, retry_delay=0.1))
        loop = asyncio.get_running_loop()
        reply = await client.ask(REQUEST)
        assert reply.decision == UNAVAILABLE
        assert "No such file" in reply.failure
        begun = loop.time()
        replies = await asyncio.gather(*(client.ask(REQUEST) for _ in range(50)))
        assert sum("down" in one.failure for one in replies) == 49, "one of them tries again"
        assert loop.time() - begun < 2
        async with Scripted(fine).at(path):
            assert (await client.ask(REQUEST)).decision == DUNNO
            assert (await client.ask(REQUEST)).failure == ""
            client.close()

    run(main())


def test_connections_are_bounded(path: str) -> None:
    open_now = most = 0

    async def decide(request: dict[str, str]) -> str:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.01)
        open_now -= 1
        return "DUNNO"

    async def main() -> None:
        server = await serve_policy(decide, f"unix:{path}")
        client = PolicyClient(service(path, connections=3, timeout=5.0))
        replies = await asyncio.gather(*(client.ask(REQUEST) for _ in range(12)))
        assert {one.failure for one in replies} == {""}
        client.close()
        await server.close()

    run(main())
    assert most == 3


@pytest.mark.parametrize("options", [{"max_idle": 0.0}, {"max_life": 0.0}])
def test_old_connections_are_closed(path: str, options: dict[str, float]) -> None:
    server = Scripted(fine)

    async def main() -> None:
        async with server.at(path):
            client = PolicyClient(service(path, **options))
            for _ in range(3):
                await client.ask(REQUEST)
            client.close()

    run(main())
    assert server.connections == 3


def test_cancelling_closes_the_connection(path: str) -> None:
    server = Scripted(lambda _number: b"", fine)

    async def main() -> None:
        async with server.at(path):
            client = PolicyClient(service(path, timeout=10.0))
            task = asyncio.create_task(client.ask(REQUEST))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.ask(REQUEST)).decision == DUNNO
            client.close()

    run(main())
    assert server.connections == 2


def test_the_server_answers_even_when_the_decision_fails(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def decide(request: dict[str, str]) -> str:
        return f"REJECT {request['nothing']}"

    async def main() -> Decision:
        server = await serve_policy(decide, f"unix:{path}")
        client = PolicyClient(service(path))
        reply = await client.ask(REQUEST)
        client.close()
        await server.close()
        return reply.decision

    with caplog.at_level(logging.ERROR, "mailmilter"):
        assert run(main()).kind is Kind.DEFER_IF_PERMIT
    assert "the decision failed" in caplog.text
    assert not Path(path).exists()


def test_the_server_over_tcp_and_what_it_does_not_take(caplog: pytest.LogCaptureFixture) -> None:
    async def decide(request: dict[str, str]) -> str:
        return f"REJECT\n{request['sender']}\n\naction=OK"

    async def main() -> None:
        endpoint = f"inet:127.0.0.1:{free_port()}"
        server = await serve_policy(decide, endpoint)
        client = PolicyClient(PolicyService("p", parse_endpoint(endpoint)))
        assert (await client.ask(REQUEST)).decision.text == "a@b action=OK"
        client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.endpoint.port)
        writer.write(b"GET / HTTP/1.1\n\n")
        assert await reader.read() == b""
        writer.close()
        await server.close()

    with caplog.at_level(logging.WARNING, "mailmilter"):
        run(main())
    assert "broke the protocol" in caplog.text
