"""A mail store that does what a test wants: LMTP in plain asyncio, independent of our own engine.

A client that says EHLO gets SMTP: one reply for all recipients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Delivered:
    """A message that was accepted for one recipient."""

    sender: str
    recipient: str
    octets: bytes


@dataclass
class ScriptedStore:
    """Accepts everything unless told otherwise."""

    rcpt_reply: Callable[[str], str] = lambda address: "250 2.1.5 ok"
    final_reply: Callable[[str], str] = lambda address: "250 2.0.0 kept"
    final_delay: float = 0.0
    """Seconds before the first reply after the data."""
    reply_delay: Callable[[str], float] = lambda address: 0.0
    """Seconds before the reply for a recipient."""
    rcpt_delay: float = 0.0
    keywords: tuple[str, ...] = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME")
    close_at: str = ""
    """Verb at which the connection is cut; "." cuts after the data."""
    delivered: list[Delivered] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    sessions: int = 0
    port: int = 0
    data_seen: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self, port: int = 0) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**23)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut everything."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        self._writers.add(writer)
        try:
            await self._dialog(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _dialog(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(*lines: str) -> None:
            writer.write("".join(line + "\r\n" for line in lines).encode())

        say("220 store.test LMTP")
        sender = ""
        recipients: list[str] = []
        lmtp = True
        while line := await reader.readline():
            command = line.decode("utf-8").rstrip("\r\n")
            self.commands.append(command)
            verb = command.split(" ", 1)[0].upper()
            if verb == self.close_at:
                return
            match verb:
                case "LHLO" | "EHLO":
                    lmtp = verb == "LHLO"
                    lines = ["store.test", *self.keywords]
                    say(*[f"250-{word}" for word in lines[:-1]], f"250 {lines[-1]}")
                case "MAIL":
                    sender, recipients = command[command.index("<") + 1 : command.index(">")], []
                    say("250 2.1.0 ok")
                case "RCPT":
                    address = command[command.index("<") + 1 : command.index(">")]
                    await asyncio.sleep(self.rcpt_delay)
                    reply = self.rcpt_reply(address)
                    if reply.startswith("2"):
                        recipients.append(address)
                    say(reply)
                case "DATA":
                    if not recipients:
                        say("503 5.5.1 no valid recipients")
                        continue
                    say("354 go on")
                    octets = await reader.readuntil(b"\r\n.\r\n")
                    self.data_seen.set()
                    if self.close_at == ".":
                        return
                    if self.final_delay:
                        await asyncio.sleep(self.final_delay)
                    octets = (b"\r\n" + octets[:-3]).replace(b"\r\n.", b"\r\n")[2:]
                    for address in recipients:
                        reply = self.final_reply(address)
                        if pause := self.reply_delay(address):
                            await asyncio.sleep(pause)
                        if reply.startswith("2"):
                            self.delivered.append(Delivered(sender, address, octets))
                        if lmtp or address == recipients[-1]:
                            say(reply)
                    recipients = []
                case "RSET" | "NOOP":
                    recipients = []
                    say("250 2.0.0 ok")
                case "QUIT":
                    say("221 2.0.0 bye")
                    return
                case _:
                    say("500 5.5.1 what?")
