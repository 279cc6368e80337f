"""The control socket: how `tamis status`, `reload`, `stop` and `log-level` reach the supervisor.

A Unix stream socket; each request is one line of JSON, each answer is one line of JSON:

    {"command": "reload"}
    {"ok": true, "result": {...}}           or  {"ok": false, "error": "...", "problems": [...]}

Who may connect is decided twice: by the mode of the socket (the kernel), and by the peer's credentials,
which must be root's or our own user's. Requests of strangers are answered with an error and logged.

Everything is bounded: `MAX_CONNECTIONS` at once, `MAX_LINE` bytes a request, `IDLE_TIMEOUT` seconds between
requests. An answer may take as long as a reload takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import msgspec

MAX_LINE = 65536
"""Bytes of a request; the longest names some thousand messages of the queue."""

MAX_CONNECTIONS = 16
"""Administrators at once; more are turned away so that nobody can use up our descriptors."""

IDLE_TIMEOUT = 30.0
"""Seconds that a connection may be silent."""

WRITE_TIMEOUT = 10.0
"""Seconds that a client may take to read an answer."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line from a client. What is not asked is not sent, so that an older daemon understands the rest."""

    command: str
    now: bool = False
    """For "stop": do not wait for sessions."""
    level: str = ""
    """For "log-level"."""
    worker: str = ""
    """For "queue": the process that is asked, by its name."""
    data: dict[str, Any] = {}
    """For "queue": what is asked (`mta.spool.desk`)."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line to a client."""

    ok: bool
    result: dict[str, Any] | None = None
    error: str = ""
    problems: tuple[str, ...] = ()
    """Lines for the administrator when a reload was refused."""
    configuration_wrong: bool = False
    code: str = ""
    """What kind of error, for programs (`mta.supervisor.messages.Refused`)."""


Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


class ControlServer:
    """Serves control connections on one listening socket at a time."""

    def __init__(self, handlers: Mapping[str, Handler], warn: Callable[[str, int], object]) -> None:
        """Answer the commands in `handlers`; `warn` is told (reason, uid) of whoever was turned away."""
        self._handlers = handlers
        self._warn = warn
        self._connections: set[asyncio.Task[None]] = set()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it leaves."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A client that has left or sleeps is not worth a word.
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self._converse(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def close(self) -> None:
        """Let running answers be written, then end all connections."""
        # Whoever waits for the answer of `stop` has it already; the rest sits between two requests.
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = peer_uid(writer.get_extra_info("socket"))
        if uid not in (0, os.geteuid()):
            self._warn("not permitted", uid)
            await _write(writer, Answer(False, error="not permitted"))
            return
        if len(self._connections) > MAX_CONNECTIONS:
            self._warn("too many control connections", uid)
            await _write(writer, Answer(False, error="too many control connections"))
            return
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                await _write(writer, Answer(False, error=f"a request has at most {MAX_LINE} bytes"))
                return
            await _write(writer, await self._answer(line))

    async def _answer(self, line: bytes) -> Answer:
        try:
            request = msgspec.json.decode(line, type=Request)
        except msgspec.MsgspecError as problem:
            return Answer(False, error=f"unreadable request: {problem}")
        handler = self._handlers.get(request.command)
        if handler is None:
            return Answer(False, error=f"unknown command {request.command!r}")
        return await handler(request)


def peer_uid(sock: socket.socket) -> int:
    """Return the user of the process at the other end of a Unix socket (SO_PEERCRED, unix(7))."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


async def _write(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    async with asyncio.timeout(WRITE_TIMEOUT):
        await writer.drain()
