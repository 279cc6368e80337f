"""The asyncio shell of the filter's side: listen, read packets, close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

from mailmilter.endpoint import Endpoint, parse_endpoint
from mailmilter.filter.base import Milter
from mailmilter.filter.dialog import FilterDialog
from mailmilter.packets import MilterProtocolError, PacketReader

_LOG = logging.getLogger("mailmilter")
_READ = 64 * 1024


class FilterServer:
    """A filter that listens; made by `serve`."""

    def __init__(self, factory: Callable[[], Milter], endpoint: Endpoint, idle: float) -> None:
        self.endpoint = endpoint
        """Where it listens; the port is filled in when it was 0."""
        self._factory = factory
        self._idle = idle
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, mode: int) -> None:
        """Listen. Raises OSError."""
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
        dialog = FilterDialog(self._factory, writer.write)
        try:
            await self._run(dialog, reader, writer)
        except MilterProtocolError as error:
            _LOG.warning("the MTA broke the protocol: %s", error)
        except (TimeoutError, OSError) as error:
            _LOG.info("connection lost: %s", error or "idle for too long")
        except asyncio.CancelledError:
            _LOG.debug("connection closed at the end")
        finally:
            await dialog.end()
            writer.close()
            self._tasks.discard(task)

    async def _run(
        self, dialog: FilterDialog, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        packets = PacketReader()
        while not dialog.finished:
            async with asyncio.timeout(self._idle):
                data = await reader.read(_READ)
            if not data:
                return
            packets.feed(data)
            while not dialog.finished and (found := packets.next()) is not None:
                await dialog.handle(*found)
                await writer.drain()


async def serve(
    factory: Callable[[], Milter], endpoint: str, *, mode: int = 0o660, idle: float = 7200.0
) -> FilterServer:
    """Listen at an endpoint (`unix:/path`, `inet:host:port`; port 0 is not possible here) until closed.

    `factory`, usually the class, makes an object for each session. `mode` is that of a Unix socket; `idle`
    the seconds without a word after which a connection is closed (libmilter has two hours). Raises ValueError
    for an endpoint that is none and OSError when it cannot listen.
    """
    server = FilterServer(factory, parse_endpoint(endpoint), idle)
    await server.start(mode)
    return server


def run(factory: Callable[[], Milter], endpoint: str, *, mode: int = 0o660) -> None:
    """Serve until SIGTERM or SIGINT: the last line of a milter. Raises as `serve` does."""
    asyncio.run(_until_stopped(factory, endpoint, mode))


async def _until_stopped(factory: Callable[[], Milter], endpoint: str, mode: int) -> None:
    server = await serve(factory, endpoint, mode=mode)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    await server.close()


def _remove_stale(path: str) -> None:
    """Remove a socket that a process which died has left; never another kind of file."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(Path(path).stat().st_mode):
            os.unlink(path)
