"""DNS over TLS (RFC 7858) to a server that is known by its key: connections that are used again.

The key is pinned (section 4.2): the SHA-256 of the certificate's public key must be one of those that are
configured. Names, authorities and dates of the certificate are not looked at, and nothing is sent before the
key is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl

IDLE = 8
"""Connections that are kept for the next questions."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class WrongKey(OSError):
    """The server has another key than it must have: it is not the one that was configured."""


class PinnedServer:
    """Asks one server; belongs to one running loop."""

    __slots__ = ("_context", "_host", "_idle", "_keys", "_port")

    def __init__(self, host: str, port: int, keys: frozenset[bytes]) -> None:
        """`keys` are SHA-256 digests of public keys (SubjectPublicKeyInfo)."""
        self._host = host
        self._port = port
        self._keys = keys
        self._idle: list[Connection] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the key says who it is
        self._context = context

    async def ask(self, message: bytes) -> bytes:
        """The reply to a query. The caller bounds the time. Raises OSError or EOFError when there is none."""
        while self._idle:
            with contextlib.suppress(OSError, EOFError):  # it may have been closed meanwhile: the next one
                return await self._ask(self._idle.pop(), message)
        return await self._ask(await self._connect(), message)

    def close(self) -> None:
        """Close what is kept."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _connect(self) -> Connection:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._context)
        certificate = writer.get_extra_info("ssl_object").getpeercert(True)
        if certificate is None or key_digest(certificate) not in self._keys:
            writer.close()
            raise WrongKey("the server has another key")
        return reader, writer

    async def _ask(self, connection: Connection, message: bytes) -> bytes:
        reader, writer = connection
        try:
            writer.write(len(message).to_bytes(2, "big") + message)
            length = int.from_bytes(await reader.readexactly(2), "big")
            reply = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            writer.close()
        return reply


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
