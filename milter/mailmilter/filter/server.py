"""The asyncio shell of the filter's side: listen, read packets, close."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from mailmilter.endpoint import Endpoint, parse_endpoint
from mailmilter.filter.base import Milter
from mailmilter.filter.dialog import FilterDialog
from mailmilter.listening import Listening
from mailmilter.packets import MilterProtocolError, PacketReader

_LOG = logging.getLogger("mailmilter")
_READ = 64 * 1024


class FilterServer:
    """A filter that listens; made by `serve`."""

    def __init__(self, factory: Callable[[], Milter], endpoint: Endpoint, idle: float) -> None:
        self._factory = factory
        self._idle = idle
        self._listening = Listening(endpoint, self._connected)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens; the port is filled in when it was 0."""
        return self._listening.endpoint

    async def start(self, mode: int) -> None:
        """Listen. Raises OSError."""
        await self._listening.start(mode)

    async def close(self) -> None:
        """Stop listening and end all connections."""
        await self._listening.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
