"""A small policy server: for tests, and for administrators who want one of their own.

async def decide(request):
    return "REJECT go away" if request["sender"].endswith("@bad.example") else "DUNNO"

server = await serve_policy(decide, "unix:/run/decide.sock")
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable

from mailmilter.endpoint import Endpoint, parse_endpoint
from mailmilter.policy.wire import BlockReader, PolicyProtocolError

_LOG = logging.getLogger("mailmilter")
_READ = 64 * 1024

Decide = Callable[[dict[str, str]], Awaitable[str]]
"""From the attributes to an action of access(5), such as "DUNNO"."""


class PolicyServer:
    """A policy server that listens; made by `serve_policy`."""

    def __init__(self, decide: Decide, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._decide = decide
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, mode: int) -> None:
        """Listen. Raises OSError."""
        endpoint = self.endpoint
        if endpoint.path:
            self._server = await asyncio.start_unix_server(self._connected, endpoint.path)
            os.chmod(endpoint.path, mode)
        else:
            self._server = await asyncio.start_server(self._connected, endpoint.host, endpoint.port)

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
            await self._run(reader, writer)
        except PolicyProtocolError as error:
            _LOG.warning("a policy client broke the protocol: %s", error)
        except OSError as error:
            _LOG.info("policy connection lost: %s", error)
        except asyncio.CancelledError:
            _LOG.debug("policy connection closed at the end")
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        blocks = BlockReader()
        while data := await reader.read(_READ):
            blocks.feed(data)
            while (request := blocks.next()) is not None:
                try:
                    action = await self._decide(request)
                except Exception:  # noqa: BLE001 -- whatever the author's code raises, the client gets an answer
                    _LOG.exception("the decision failed")
                    action = "DEFER_IF_PERMIT the policy server failed"
                writer.write(f"action={' '.join(action.split())}\n\n".encode())
                await writer.drain()


async def serve_policy(decide: Decide, endpoint: str, *, mode: int = 0o660) -> PolicyServer:
    """Listen until closed. Raises ValueError for what is no endpoint, OSError when it cannot listen."""
    server = PolicyServer(decide, parse_endpoint(endpoint))
    await server.start(mode)
    return server
