"""The servers of `bench.outbound`, a process of their own: SMTP with STARTTLS that takes all, or does not.

python -m bench.outbound_sink PORT CHAIN      a good server at each of the addresses 127.2.0.1 to 127.2.0.50
python -m bench.outbound_sink PORT            good and bad ones, at the addresses of `KINDS`

It says "ready" when all of them listen. COUN is answered with the number of messages that have come.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import uvloop

DESTINATIONS = 50
DELAY = 0.02
"""Seconds after which the servers of `KINDS` answer."""
GREETS_AFTER = 3.0
"""Seconds after which a slow server greets."""
KINDS = {
    "live": "127.3.0.1",
    "slow": "127.3.0.2",
    "grey": "127.3.0.3",
    "refused": "127.3.0.4",
    "silent": "127.3.0.5",
}
"""Takes all; greets late; 450 to each recipient; nobody listens; does not even answer a SYN."""


class Sink(asyncio.Protocol):
    """An SMTP server that takes everything; `behaviour` is "live", "slow" or "grey"."""

    taken = 0
    """Messages of all connections."""

    def __init__(
        self, context: ssl.SSLContext | None = None, behaviour: str = "live", delay: float = 0.0
    ) -> None:
        self._context = context
        self._behaviour = behaviour
        self._delay = delay
        self._rest = b""
        self._content = False
        self._secure = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if self._secure:
            return
        if self._behaviour == "slow":
            asyncio.get_running_loop().call_later(GREETS_AFTER, self._say, b"220 sink\r\n")
        else:
            self._say(b"220 sink\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        out = b""
        while data:
            if self._content:
                end = data.find(b"\r\n.\r\n")
                if end < 0:
                    break
                data, self._content = data[end + 5 :], False
                Sink.taken += 1
                out += b"250 2.0.0 taken\r\n"
                continue
            line, found, data = data.partition(b"\r\n")
            if not found:
                data = line
                break
            verb = line[:4].upper()
            if verb == b"EHLO":
                tls = b"250-STARTTLS\r\n" if self._context is not None and not self._secure else b""
                out += b"250-sink\r\n" + tls + b"250 PIPELINING\r\n"
            elif verb == b"STAR":
                self._say(b"220 go\r\n")
                self._rest = b""
                asyncio.get_running_loop().create_task(self._start_tls())
                return
            elif verb == b"RCPT" and self._behaviour == "grey":
                out += b"450 4.7.1 later\r\n"
            elif verb == b"DATA":
                self._content = self._behaviour != "grey"
                out += b"354 go\r\n" if self._content else b"503 5.5.1 no recipient\r\n"
            elif verb == b"COUN":
                out += b"250 %d\r\n" % Sink.taken
            elif verb == b"QUIT":
                self._say(out + b"221 2.0.0 bye\r\n")
                if self.transport is not None:
                    self.transport.close()
                return
            else:
                out += b"250 2.0.0 ok\r\n"
        self._rest = data
        if out:
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._say, out)
            else:
                self._say(out)

    async def _start_tls(self) -> None:
        assert self.transport is not None
        assert self._context is not None
        self._secure = True
        try:
            made = await asyncio.get_running_loop().start_tls(
                self.transport, self, self._context, server_side=True
            )
        except (OSError, ssl.SSLError):
            return  # the client is gone
        self.transport = made

    def _say(self, octets: bytes) -> None:
        if self.transport is not None:
            self.transport.write(octets)


def serve(port: int, chain: str | None) -> None:
    """The process, until it is ended."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if chain is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            for number in range(1, DESTINATIONS + 1):
                await loop.create_server(lambda: Sink(context), f"127.2.0.{number}", port, backlog=1024)
        else:
            for kind in ("live", "slow", "grey"):
                await loop.create_server(partial(Sink, None, kind, DELAY), KINDS[kind], port, backlog=4096)
        deaf = _deaf(KINDS["silent"], port)
        print("ready", flush=True)
        await asyncio.Event().wait()
        del deaf

    uvloop.run(main())


def _deaf(address: str, port: int) -> list[socket.socket]:
    """A port whose queue of connections is full: the kernel drops each SYN, as a dead host would."""
    listener = socket.socket()
    listener.bind((address, port))
    listener.listen(0)
    sockets = [listener]
    for _ in range(2):
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex((address, port))
        sockets.append(waiting)
    return sockets


@contextlib.contextmanager
def running_sink(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The process, while it listens."""
    command = [sys.executable, "-m", "bench.outbound_sink", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield process
        finally:
            process.terminate()


def taken(address: str, port: int) -> int:
    """Messages that all of its servers have taken."""
    with socket.create_connection((address, port), timeout=10) as sock, sock.makefile("rb") as lines:
        lines.readline()
        sock.sendall(b"COUN\r\n")
        return int(lines.readline().split()[1])


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
