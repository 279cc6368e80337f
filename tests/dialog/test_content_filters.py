"""Content filters: mail goes through them while the client waits, and comes back by another listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.dialog.server import Server, run, serving

LISTENER = '[[listener]]\nname = "filtered"\naddresses = ["127.0.0.1:2"]\n'
MORE = '[filters.one]\naddresses = ["127.0.0.1:{port}"]\nreturns_to = "filtered"\n{more}\n'
SCRIPT = 'require ["vnd.tamis.stage", "vnd.tamis.route"]; stage "data" { route :to "filter:one"; }'
BODY = "Subject: hi\r\n\r\nhello\r\n"


@dataclass
class Filter:
    """An SMTP proxy that adds a header field, or refuses."""

    refuses: str = ""
    port: int = 0
    back: Server | None = None
    heard: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 filter ESMTP\r\n")
        envelope: list[str] = []
        while line := (await reader.readline()).decode().strip():
            self.heard.append(line)
            verb = line[:4].upper()
            reply = "250 2.0.0 ok"
            if verb == "EHLO":
                reply = "250-filter\r\n250-ENHANCEDSTATUSCODES\r\n250 XFORWARD NAME ADDR HELO SOURCE"
                envelope = []
            elif verb in ("MAIL", "RCPT"):
                envelope.append(line)
            elif verb == "DATA":
                writer.write(b"354 go\r\n")
                octets = await reader.readuntil(b"\r\n.\r\n")
                reply = self.refuses or await self._inject(envelope, octets)
                envelope = []
            elif verb == "QUIT":
                return
            writer.write(reply.encode() + b"\r\n")

    async def _inject(self, envelope: list[str], octets: bytes) -> str:
        assert self.back is not None
        client = await self.back.connect("filtered")
        await client.hello("filter")
        for line in envelope:
            reply = await client.say(line)
            if not reply.startswith("250"):
                return reply.strip()
        await client.say("DATA")
        return (await client.say(b"X-Filtered: yes\r\n" + octets)).strip()


@asynccontextmanager
async def filtering(
    folder: Path, more: str, refuses: str = "", **options: str
) -> AsyncIterator[tuple[Server, Filter]]:
    program = Filter(refuses)
    listening = await asyncio.start_server(program.serve, "127.0.0.1", 0)
    program.port = listening.sockets[0].getsockname()[1]
    (folder / "policy.sieve").write_text(SCRIPT)
    try:
        text = MORE.format(port=program.port, more=more)
        async with serving(folder, listener=LISTENER, more=text) as server:
            program.back = server
            yield server, program
    finally:
        listening.close()


@pytest.mark.parametrize("more", ['listeners = ["smtp"]', '[policy]\nscripts = ["policy.sieve"]'])
def test_mail_goes_through_it_and_comes_back(tmp_path: Path, more: str) -> None:
    async def main() -> None:
        async with filtering(tmp_path, more) as (server, program):
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@example.test", "c@example.test", body=BODY)).startswith("250 ")
            assert [one.recipient for one in server.store.delivered] == ["b@example.test", "c@example.test"]
            head = server.store.delivered[0].octets.partition(b"\r\n\r\n")[0]
            assert b"\r\nX-Filtered: yes\r\nReceived: " in head
            assert any(line.startswith("XFORWARD") and "ADDR=127.0.0.1" in line for line in program.heard)

    run(main)


def test_what_it_refuses_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with filtering(tmp_path, 'listeners = ["*"]', "554 5.7.0 a virus") as (server, _):
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@example.test", body=BODY)).startswith("554 5.7.0 a virus")
            assert not server.store.delivered

    run(main)


def test_a_filter_that_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        more = MORE.format(port=1, more='listeners = ["smtp"]')
        async with serving(tmp_path, listener=LISTENER, more=more) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@example.test", body=BODY)).startswith("451 4.4.")
            assert not server.store.delivered

    run(main)
