"""The listening socket of filters and policy servers."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from mailmilter.endpoint import Endpoint
from mailmilter.listening import Listening


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(100):
        writer.write(octets)
        await writer.drain()


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async def scenario() -> None:
        listening = Listening(Endpoint(path=str(path)), echo)
        await listening.start(0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await listening.close()
        assert await reader.read() == b""
        writer.close()
        assert not path.exists()

    asyncio.run(scenario())


def test_another_kind_of_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="already in use"):
        asyncio.run(Listening(Endpoint(path=str(path)), echo).start(0o600))
    assert path.read_text() == "data"


def test_the_port_is_filled_in() -> None:
    async def scenario() -> None:
        listening = Listening(Endpoint(host="127.0.0.1", port=0), echo)
        await listening.start(0o660)
        assert listening.endpoint.port > 0
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.endpoint.port)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await listening.close()

    asyncio.run(scenario())
