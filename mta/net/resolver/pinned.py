"""DNS over TLS (RFC 7858) to a server that is known by its key: a few connections that carry all questions.

The key is pinned (section 4.2): the SHA-256 of the certificate's public key must be one of those that are
configured. Names, authorities and dates of the certificate are not looked at, and nothing is sent before the
key is right.

Questions do not wait for each other's replies (section 3.3): each has an id of its own on its connection, and
replies come in any order. A connection that says nothing while somebody waits is passed over, for the server
may answer in turn and be busy with a question that takes long; it is given up once somebody has waited in
vain and nothing has come since.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl

CONNECTIONS = 4
"""Connections to a server at the most. Unbound takes ten of all its clients if it is not told otherwise."""
CROWDED = 32
"""Questions that wait on each connection before another one is opened."""
SILENT = 1.0
"""Seconds without a reply for which others wait until new questions pass a connection over."""


class WrongKey(OSError):
    """The server has another key than it must have: it is not the one that was configured."""


class PinnedServer:
    """Asks one server; belongs to one running loop."""

    __slots__ = ("_context", "_host", "_keys", "_lines", "_port")

    def __init__(self, host: str, port: int, keys: frozenset[bytes]) -> None:
        """`keys` are SHA-256 digests of public keys (SubjectPublicKeyInfo)."""
        self._host = host
        self._port = port
        self._keys = keys
        self._lines: list[_Line] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the key says who it is
        self._context = context

    async def ask(self, message: bytes) -> bytes:
        """The reply to a query. The caller bounds the time. Raises OSError or EOFError when there is none."""
        while True:
            line = self._choose()
            was_used = line.answered
            try:
                return await line.ask(message)
            except (OSError, EOFError):
                if not was_used:
                    raise
                # The server has closed it meanwhile, as it may: another one.

    def close(self) -> None:
        """Close all connections."""
        for line in tuple(self._lines):
            line.close()

    async def connect(self, line: _Line) -> asyncio.Transport:
        """Connect, and see who is there. Raises OSError."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: line, self._host, self._port, ssl=self._context)
        certificate = transport.get_extra_info("ssl_object").getpeercert(True)
        if certificate is None or key_digest(certificate) not in self._keys:
            transport.close()
            raise WrongKey("the server has another key")
        return transport

    def drop(self, line: _Line) -> None:
        """Ask nothing over it any more."""
        if line in self._lines:
            self._lines.remove(line)

    def _choose(self) -> _Line:
        """The connection for the next question: the emptiest of those that answer, or a new one."""
        now = asyncio.get_running_loop().time()
        lines = [line for line in self._lines if not line.is_silent(now)]
        found = min(lines, key=len, default=None)
        if (found is None or len(found) >= CROWDED) and len(self._lines) < CONNECTIONS:
            found = _Line(self)
            self._lines.append(found)
        return found or min(self._lines, key=len)


class _Line(asyncio.Protocol):
    """A connection and the questions that wait on it."""

    def __init__(self, server: PinnedServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._last = 0
        self._heard = self._loop.time()
        self._received = bytearray()
        self._retired = False
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._opening = self._loop.create_task(server.connect(self))
        self._opening.add_done_callback(self._opened)
        self.answered = False
        """A reply has come over it."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __bool__(self) -> bool:
        return True

    def is_silent(self, now: float) -> bool:
        """True when somebody waits and nothing has come for some time."""
        return bool(self._waiting) and now - self._heard >= SILENT

    async def ask(self, message: bytes) -> bytes:
        """The reply. Raises OSError or EOFError when the connection cannot be opened or ends before it."""
        asked = self._loop.time()
        if not self._waiting:
            self._heard = asked
        reply: asyncio.Future[bytes] = self._loop.create_future()
        ident = self._new_ident()
        self._waiting[ident] = reply
        self._send(len(message).to_bytes(2, "big") + ident + message[2:])
        try:
            return message[:2] + await reply
        except asyncio.CancelledError:
            if self._heard <= asked:
                self._retire()
            raise
        finally:
            del self._waiting[ident]
            if reply.done() and not reply.cancelled():
                reply.exception()  # seen, even where the caller was cancelled at the same moment
            if self._retired and not self._waiting:
                self.close()

    def close(self) -> None:
        """End it; who waits is told."""
        self._retire()
        if self._transport is None:
            self._opening.cancel()
        else:
            self._transport.close()

    def _retire(self) -> None:
        self._retired = True
        self._server.drop(self)

    def _new_ident(self) -> bytes:
        while True:
            self._last = (self._last + 1) % 65536
            ident = self._last.to_bytes(2, "big")
            if ident not in self._waiting:
                return ident

    def _send(self, octets: bytes) -> None:
        if self._transport is None:
            self._unsent.append(octets)
        else:
            self._transport.write(octets)

    def _opened(self, opening: asyncio.Task[asyncio.Transport]) -> None:
        if opening.cancelled():
            self.connection_lost(None)
        elif (problem := opening.exception()) is not None:
            self.connection_lost(problem)
        else:
            self._transport = opening.result()
            self._transport.writelines(self._unsent)
        self._unsent.clear()

    # --- called by the transport -------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Replies, each behind its size (RFC 1035 section 4.2.2)."""
        received = self._received
        received += data
        while len(received) >= 2:
            end = 2 + int.from_bytes(received[:2], "big")
            if len(received) < end:
                return
            reply = bytes(received[2:end])
            del received[:end]
            self._heard = self._loop.time()
            self.answered = True
            waits = self._waiting.get(reply[:2])
            if waits is not None and not waits.done():  # else nobody waits for it any more
                waits.set_result(reply[2:])

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended: who waits asks over another one, or somebody else."""
        self._retire()
        for waits in self._waiting.values():
            if not waits.done():
                waits.set_exception(exc or EOFError("the connection has ended"))


def key_digest(certificate: bytes) -> bytes:
    """The SHA-256 of the public key in a certificate (DER). Raises OSError when it cannot be read."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import load_der_x509_certificate

    try:
        key = load_der_x509_certificate(certificate).public_key()
        octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception as error:
        raise WrongKey(f"the certificate cannot be read ({type(error).__name__})") from error
    return hashlib.sha256(octets).digest()
