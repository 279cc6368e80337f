"""A socket that listens and the connections that came over it, for filters and policy servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from mailmilter.endpoint import Endpoint

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Talks with one client until the end; the connection is closed behind it."""


class Listening:
    """Accepts connections at an endpoint, each in a task of its own."""

    def __init__(self, endpoint: Endpoint, serve: Serve) -> None:
        """`serve` is called for each connection."""
        self.endpoint = endpoint
        """Where it listens; the port is filled in when it was 0."""
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, mode: int) -> None:
        """Listen; `mode` is that of a Unix socket. Raises OSError."""
        endpoint = self.endpoint
        if endpoint.path:
            _remove_stale(endpoint.path)
            self._server = await asyncio.start_unix_server(self._connected, endpoint.path)
            os.chmod(endpoint.path, mode)
            return
        self._server = await asyncio.start_server(self._connected, endpoint.host, endpoint.port)
        port: int = self._server.sockets[0].getsockname()[1]
        self.endpoint = Endpoint(host=endpoint.host, port=port, ipv6=endpoint.ipv6)

    async def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.endpoint.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.endpoint.path)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)


def _remove_stale(path: str) -> None:
    """Remove a socket that a process which died has left; never another kind of file."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(Path(path).stat().st_mode):
            os.unlink(path)
