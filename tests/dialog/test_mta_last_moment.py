"""The mail store's answer and the end of the client in the same turn of the loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.net.connection import Connection
from tests.dialog.backend import ScriptedStore
from tests.dialog.server import Server, run, serving


def test_an_answer_between_fin_and_close_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written then does not arrive, so the client will send the message again."""
    store = ScriptedStore(final_delay=60)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            closing = Connection.eof_received

            def answered(self: Connection) -> bool:
                result = closing(self)
                kept(server)
                return result

            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            client.writer.write(b"Message-ID: <1@x.test>\r\n\r\nhello\r\n.\r\n")
            await store.data_seen.wait()
            monkeypatch.setattr(Connection, "eof_received", answered)
            client.writer.write_eof()
            assert await client.reader.read() == b""
            monkeypatch.undo()
            again = await server.connect()
            await again.hello()
            reply = await again.send("bob@example.test", body="Message-ID: <1@x.test>\r\n\r\nhello\r\n")
            assert reply == "250 2.0.0 already delivered\r\n"

    run(main)


def kept(server: Server) -> None:
    """Let the store's answer come now."""
    (pool,) = server.daemon._fixed["backend:store"].pools.values()
    (connection,) = pool.connections
    connection.data_received(b"250 2.0.0 kept\r\n")
