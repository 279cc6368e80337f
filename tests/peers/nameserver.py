"""A resolver to be asked in tests: answers over UDP and TCP on loopback as a function says, in this process.

    async with Nameserver(answer) as server:
        stub = Stub([server.address])

`answer` gets the question as a dnspython message and returns a message, raw octets, or None for silence.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from types import TracebackType

import dns.message
import dns.rrset
from dns.message import Message

from mta.net.resolver.server import Address

Answering = Callable[[Message], "Message | bytes | None"]


class Nameserver(asyncio.DatagramProtocol):
    """Serves while its `async with` block runs; `asked` has all questions, `sources` the clients' ports."""

    def __init__(self, answer: Answering, *, port: int = 0, tcp: Answering | None = None) -> None:
        self.answer = answer
        self.tcp_answer = tcp or answer
        self.asked: list[Message] = []
        self.sources: list[int] = []
        self.over_tcp = 0
        self.delay = 0.0
        self.address = Address("127.0.0.1", port)

    async def __aenter__(self) -> Nameserver:
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._connected, self.address.host, self.address.port)
        port: int = self._server.sockets[0].getsockname()[1]
        self.address = Address("127.0.0.1", port)
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()
        self._server.close()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A question came."""
        self.sources.append(addr[1])
        wire = self._answered(data, self.answer)
        if wire is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.delay, self._transport.sendto, wire, addr)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            self.over_tcp += 1
            wire = self._answered(await reader.readexactly(length), self.tcp_answer)
            if wire is not None:
                writer.write(struct.pack("!H", len(wire)) + wire)
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    def _answered(self, data: bytes, answer: Answering) -> bytes | None:
        query = dns.message.from_wire(data)
        self.asked.append(query)
        found = answer(query)
        return found.to_wire(max_size=65535) if isinstance(found, Message) else found


def records(query: Message, *lines: str, flags: int = 0, rcode: int = 0) -> Message:
    """A reply with records written as in a zone file, owner first: "d.test. 60 IN A 192.0.2.1"."""
    reply = dns.message.make_response(query)
    reply.flags |= flags
    reply.set_rcode(dns.rcode.Rcode(rcode))
    for line in lines:
        owner, ttl, rdclass, rdtype, value = line.split(" ", 4)
        reply.answer.append(dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, value))
    return reply
