"""Databases that are none: whoever answers in their place, the table says that it cannot say."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import uvloop

from mta.tables.mysql import MysqlTable
from mta.tables.postgresql import PostgresqlTable
from mta.tables.server import parse_server
from mta.tables.table import Table, TableUnavailable
from mta.tables.template import parse

HANDSHAKE = (
    b"\x0a10.11.0\x00\x01\x00\x00\x00abcdefgh\x00\xff\xf7\x08\x02\x00\x0f\x80\x15" + bytes(10)
    + b"ijklmnopqrst\x00mysql_native_password\x00"
)  # fmt: skip
"""Of a server of MySQL, as it greets."""
GREETING = len(HANDSHAKE).to_bytes(3, "little") + b"\0" + HANDSHAKE
WELCOME = b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"
TRUSTED = b"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"
"""PostgreSQL lets one in."""


def made(kind: str, port: int) -> Table:
    server = parse_server(f"{kind}://u@127.0.0.1:{port}/d", kind)
    query = parse("SELECT a FROM b WHERE c = {key}")
    if kind == "mysql":
        return MysqlTable(server, "p", query, 1.0, 1)
    return PostgresqlTable(server, "p", query, 1.0, 1)


@contextlib.contextmanager
def saying(octets: bytes) -> Iterator[int]:
    """The port of a server that says so to everybody, and hangs up after a moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer, contextlib.suppress(OSError):
                        peer.settimeout(0.1)
                        peer.sendall(octets)
                        peer.recv(1000)
                        peer.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
@pytest.mark.parametrize(
    "says",
    [
        b"", b"\0", b"220 mx.test ESMTP\r\n", b"\x00\xff what?\r\n", b"\xff" * 5000, bytes(5000),
        GREETING[:20], GREETING, GREETING + b"\0" * 50, GREETING + WELCOME, GREETING + WELCOME + b"\xff" * 99,
        GREETING + WELCOME + b"\x01\x00\x00\x01\x00" * 9, GREETING + WELCOME * 9,
        b"S", b"E\x00\x00\x00\x04", b"E\x00\x00\x00\x09SFATAL\0", b"R\xff\xff\xff\xff",
        b"R\x00\x00\x00\x08\x00\x00\x00\x63",
        TRUSTED, TRUSTED + b"\xff" * 99, TRUSTED + bytes(99),
        TRUSTED + b"C\x00\x00\x00\x08SET\0" + b"Z\x00\x00\x00\x05I" + b"D" * 99,
    ],
)  # fmt: skip
def test_lies(kind: str, says: bytes) -> None:
    async def main(port: int) -> None:
        table = made(kind, port)
        for _ in range(2):
            found = table.get("k")
            assert found is not None
            assert not isinstance(found, str)
            with pytest.raises((TableUnavailable, TimeoutError)):
                async with asyncio.timeout(3):
                    await found
        await table.close()
        await asyncio.sleep(0.01)  # closed connections end with the next turn of the loop

    with saying(says) as port:
        uvloop.run(main(port))
