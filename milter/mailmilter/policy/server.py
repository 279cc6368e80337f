"""A small policy server: for tests, and for administrators who want one of their own.

async def decide(request):
    return "REJECT go away" if request["sender"].endswith("@bad.example") else "DUNNO"

server = await serve_policy(decide, "unix:/run/decide.sock")
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mailmilter.endpoint import Endpoint, parse_endpoint
from mailmilter.listening import Listening
from mailmilter.policy.wire import BlockReader, PolicyProtocolError

_LOG = logging.getLogger("mailmilter")
_READ = 64 * 1024

Decide = Callable[[dict[str, str]], Awaitable[str]]
"""From the attributes to an action of access(5), such as "DUNNO"."""


class PolicyServer:
    """A policy server that listens; made by `serve_policy`."""

    def __init__(self, decide: Decide, endpoint: Endpoint) -> None:
        self._decide = decide
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
        try:
            await self._run(reader, writer)
        except PolicyProtocolError as error:
            _LOG.warning("a policy client broke the protocol: %s", error)
        except OSError as error:
            _LOG.info("policy connection lost: %s", error)
        except asyncio.CancelledError:
            _LOG.debug("policy connection closed at the end")

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
