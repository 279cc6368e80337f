"""A mail server on loopback that does what a test tells it to, right or wrong.

`Script` says what one connection is answered; `ScriptedServer` gives the first connection the first script
and so on, the last one to all that follow. It records commands, messages and connections.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

CLOSE = "close"
"""In place of a reply: close the connection."""
RESET = "reset"
"""In place of a reply: close it with a RST."""
SILENCE = "silence"
"""In place of a reply: none, ever."""


@dataclass(slots=True)
class Script:
    """What one connection is answered; keys are verbs, GREETING and FINAL."""

    answers: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    """A sequence gives one answer after the other, the last one for good."""
    offers: Sequence[str] = ("PIPELINING",)
    lmtp: bool = True
    split: bool = False
    """Send octet by octet."""
    early: int = 0
    """Answer FINAL after so many octets of content."""
    early_close: bool = True
    read_limit: int = 0
    """Octets of content read in 1/100 s, 0 for no limit."""
    tls: ssl.SSLContext | None = None
    """For STARTTLS."""


class ScriptedServer:
    """Use as an async context manager."""

    def __init__(
        self,
        *scripts: Script,
        path: str = "",
        implicit_tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.host = host
        self._scripts = scripts or (Script(),)
        self._path = path
        self._implicit = implicit_tls
        self._server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = port
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.commands: list[str] = []
        self.messages: list[bytes] = []
        self.octets = 0
        """Octets of content read."""

    @property
    def said(self) -> list[str]:
        """The commands with the verbs of smtplib in one case, whichever its version writes them in."""
        return [re.sub("^(mail from|rcpt to):", _upper, one, flags=re.IGNORECASE) for one in self.commands]

    async def __aenter__(self) -> ScriptedServer:
        if self._path:
            self._server = await asyncio.start_unix_server(self._serve, self._path, ssl=self._implicit)
        else:
            self._server = await asyncio.start_server(
                self._serve, self.host, self.port, ssl=self._implicit, limit=2**20
            )
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self.writers):
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.writers.add(writer)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await _Dialog(self, script, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, _Done):
            pass  # the client is gone, the test is over, or the script says that we are
        finally:
            self.open -= 1
            self._tasks.discard(task)
            self.writers.discard(writer)
            writer.transport.close()


def _upper(found: re.Match[str]) -> str:
    return found[0].upper()


class _Done(Exception):
    pass


class _Dialog:
    def __init__(
        self,
        server: ScriptedServer,
        script: Script,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.server, self.script, self.reader, self.writer = server, script, reader, writer
        self.accepted = 0
        self.used: dict[str, int] = {}

    async def say(self, key: str, default: str) -> str:
        answer = self.script.answers.get(key, default)
        if not isinstance(answer, str):
            number = self.used.get(key, 0)
            self.used[key] = number + 1
            answer = answer[min(number, len(answer) - 1)]
        if answer == CLOSE:
            raise _Done
        if answer == RESET:
            self.writer.transport.abort()
            raise _Done
        if answer == SILENCE:
            await asyncio.sleep(3600)
        octets = answer.encode("latin-1") if answer.endswith("\n") else f"{answer}\r\n".encode()
        for piece in [octets[i : i + 1] for i in range(len(octets))] if self.script.split else [octets]:
            self.writer.write(piece)
            await self.writer.drain()
        if answer.startswith("421"):  # and the connection is closed (RFC 5321 section 3.8)
            raise _Done
        return answer

    async def run(self) -> None:
        await self.say("GREETING", "220 scripted.test")
        while line := (await self.reader.readline()).decode("latin-1").rstrip("\r\n"):
            self.server.commands.append(line)
            verb = line.split(" ")[0].upper()
            match verb:
                case "EHLO" | "LHLO":
                    lines = ["scripted.test", *self.script.offers]
                    text = "".join(
                        f"250{'-' if n + 1 < len(lines) else ' '}{x}\r\n" for n, x in enumerate(lines)
                    )
                    await self.say(verb, text)
                case "STARTTLS":
                    await self.say(verb, "220 go")
                    assert self.script.tls is not None
                    await self.writer.start_tls(self.script.tls)
                case "MAIL" | "RSET":
                    self.accepted = 0
                    await self.say(verb, "250 2.1.0 OK")
                case "RCPT":
                    if (await self.say(verb, "250 2.1.5 OK")).startswith("25"):
                        self.accepted += 1
                case "DATA":
                    default = "354 go" if self.accepted else "503 5.5.1 no recipients"
                    if (await self.say(verb, default)).startswith("354"):
                        await self.final(await self.dotted())
                case "BDAT":
                    await self.final(await self.exactly(int(line.split()[1])))
                case "QUIT":
                    await self.say(verb, "221 2.0.0 bye")
                    return
                case _:
                    await self.say(verb, "235 2.7.0 ok" if verb == "AUTH" else "500 5.5.1 what")

    async def read(self, size: int) -> bytes:
        if self.script.read_limit:
            size = min(size, self.script.read_limit)
            await asyncio.sleep(0.01)
        data = await self.reader.read(size)
        if not data:
            raise _Done
        self.server.octets += len(data)
        return data

    async def early(self, so_far: int) -> None:
        if self.script.early and so_far >= self.script.early:
            await self.say("FINAL", "250 2.0.0 saved")
            if self.script.early_close:
                raise _Done
            await asyncio.sleep(3600)

    async def dotted(self) -> bytes:
        data = bytearray(b"\r\n")
        while not data.endswith(b"\r\n.\r\n"):
            data += await self.read(65536)
            await self.early(len(data))
        return bytes(data[2:-3]).replace(b"\r\n.", b"\r\n")

    async def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += await self.read(size - len(data))
            await self.early(len(data))
        return bytes(data)

    async def final(self, content: bytes) -> None:
        if not self.accepted:
            await self.say("FINAL", "503 5.5.1 no recipients")
            return
        self.server.messages.append(content)
        for _ in range(self.accepted if self.script.lmtp else 1):
            await self.say("FINAL", "250 2.0.0 saved")
        self.accepted = 0
