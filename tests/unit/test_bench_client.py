"""The measuring client against scripted servers, and the messages that it sends."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from bench.client import END_OF_DATA, Refused, first_acceptance, message, open_session, reply_code
from bench.latency import percentile99
from bench.memory import batches, hold
from bench.sink import Sink
from bench.system import System
from bench.workplace import free_port


@pytest.mark.parametrize(
    ("received", "code"),
    [
        (b"220 ready\r\n", 220),
        (b"250-a\r\n250-b\r\n250 c\r\n", 250),
        (b"250\r\n", 250),
        (b"", None),
        (b"25", None),
        (b"250 a", None),
        (b"250 a\r", None),
        (b"250-a\r\n", None),
        (b"250-a\r\n250 b", None),
    ],
)
def test_reply_is_complete_with_its_last_line(received: bytes, code: int | None) -> None:
    assert reply_code(received) == code


@pytest.mark.parametrize("size", [4096, 50 * 1024 * 1024, 201, 280])
def test_message_has_the_size_that_was_asked_for(size: int) -> None:
    content = message(size)
    assert len(content) == size + len(END_OF_DATA)
    assert content.endswith(b"\r\n.\r\n")
    assert b"\r\n.\r\n" not in content[:-5]
    assert len(max(content.split(b"\r\n"), key=len)) <= 998


def test_message_refuses_a_size_whose_last_line_would_have_no_end() -> None:
    header = len(message(4096)) - 3 - (4096 - message(4096).index(b"\r\n\r\n") - 4)
    with pytest.raises(ValueError, match="last line"):
        message(header + 80 + 1)


async def _served(replies: list[bytes], talk: Any) -> Any:
    """Run `talk(port)` against a server that says `replies`, one at each line that ends a command."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(replies[0])
        for reply in replies[1:]:
            line = await reader.readline()
            while line and not replies_to(line):
                line = await reader.readline()
            writer.write(reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def replies_to(line: bytes) -> bool:
        return line == b".\r\n" or line[:4] in {b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"}

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        work: Coroutine[Any, Any, Any] = talk(server.sockets[0].getsockname()[1])
        return await work


GREETED = [b"220 hello\r\n", b"250-x\r\n250 PIPELINING\r\n"]


def test_message_returns_the_time_to_its_reply() -> None:
    async def talk(port: int) -> float:
        session = await open_session(port)
        seconds = await session.message(message(4096))
        await session.quit()
        return seconds

    replies = [*GREETED, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 taken\r\n", b"221 bye\r\n"]
    assert 0 < asyncio.run(_served(replies, talk)) < 5


@pytest.mark.parametrize(
    ("replies", "what"),
    [
        ([b"421 later\r\n"], "answered 421"),
        ([b""], "closed"),
        ([*GREETED, b"550 no\r\n"], "answered 550"),
        ([*GREETED, b"250 ok\r\n", b""], "closed"),
        ([*GREETED, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"451 no\r\n"], "answered 451"),
    ],
)
def test_anything_else_is_refused(replies: list[bytes], what: str) -> None:
    async def talk(port: int) -> None:
        session = await open_session(port)
        try:
            await session.message(message(4096))
        finally:
            session.close()

    with pytest.raises(Refused, match=what):
        asyncio.run(_served(replies, talk))


def test_a_session_that_is_dropped_while_mail_flows_ends_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = threading.Event()

    def flow(*_: object) -> None:
        assert dropped.wait(10)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETED[0])
        await reader.readline()
        writer.write(GREETED[1])
        writer.close()
        await writer.wait_closed()
        dropped.set()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await hold(System("it", port, os.getpid(), Sink(1, -1), tmp_path / "log"), 1)

    monkeypatch.setattr("bench.memory.send", flow)
    with pytest.raises(Refused, match="closed"):
        asyncio.run(main())


def test_first_acceptance_gives_up() -> None:
    with pytest.raises(TimeoutError):
        first_acceptance(free_port(), 0.05)


def test_percentile_is_what_one_in_a_hundred_exceeds() -> None:
    assert percentile99([1.0] * 990 + [9.0] * 10) < 9.0
    assert percentile99([1.0] * 900 + [9.0] * 100) == 9.0


def test_batches_add_up() -> None:
    assert list(batches(250, 100)) == [100, 100, 50]
    assert list(batches(100, 100)) == [100]
