"""TLS as a client sees it: of a server over the network, or of our own certificates in memory."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Literal

from mta.net.tls import ServerTls, failure_text

Opening = Literal["implicit", "smtp", "imap", "sieve"]
"""How TLS begins: at once, or after STARTTLS of a protocol."""
ROUNDS = 10
"""Flights of a handshake in memory; a real one has three."""
MAX_LINES = 100
"""Lines of a greeting that are read."""


@dataclass(slots=True, frozen=True)
class Seen:
    """What a client saw."""

    certificate: bytes = b""
    """DER of the server's certificate, b"" without a handshake."""
    error: str = ""
    """Why there was no handshake, or why the certificate is not trusted; "" when all is well."""
    reached: bool = True
    """False when nobody answered: nothing is proved."""


async def probe(
    host: str, port: int, opening: Opening, name: str, context: ssl.SSLContext, seconds: float
) -> Seen:
    """Connect to an address and make a handshake that asks for `name`."""
    try:
        async with asyncio.timeout(seconds):
            return await _probe(host, port, opening, name, context)
    except TimeoutError:
        return Seen(error=f"no answer within {seconds:g} s", reached=False)
    except ssl.SSLCertVerificationError as error:
        return Seen(error=error.verify_message)
    except ssl.SSLError as error:
        return Seen(error=failure_text(error))
    except OSError as error:
        return Seen(error=error.strerror or str(error), reached=False)


async def _probe(host: str, port: int, opening: Opening, name: str, context: ssl.SSLContext) -> Seen:
    implicit = opening == "implicit"
    reader, writer = await asyncio.open_connection(
        host, port, ssl=context if implicit else None, server_hostname=name if implicit else None
    )
    try:
        if not implicit:
            refusal = await _OPENINGS[opening](reader, writer)
            if refusal:
                return Seen(error=refusal)
            await writer.start_tls(context, server_hostname=name)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return Seen(found or b"")
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def _smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Go as far as STARTTLS; why it is not given, or ""."""
    greeting = await _reply(reader)
    if not greeting[-1].startswith("220"):
        return f"greeting: {greeting[-1]}"
    writer.write(b"EHLO localhost\r\n")
    offered = await _reply(reader)
    if not any(line[4:].upper().strip() == "STARTTLS" for line in offered):
        return "STARTTLS is not offered"
    writer.write(b"STARTTLS\r\n")
    answer = await _reply(reader)
    return "" if answer[-1].startswith("220") else f"STARTTLS: {answer[-1]}"


async def _reply(reader: asyncio.StreamReader) -> list[str]:
    lines: list[str] = []
    while len(lines) < MAX_LINES:
        line = (await reader.readline()).decode("ascii", "replace").rstrip("\r\n")
        lines.append(line)
        if line[3:4] != "-":
            break
    return lines


async def _imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    greeting = (await reader.readline()).decode("ascii", "replace").strip()
    if not greeting.startswith("* OK"):
        return f"greeting: {greeting}"
    writer.write(b"a STARTTLS\r\n")
    for _ in range(MAX_LINES):
        line = (await reader.readline()).decode("ascii", "replace").strip()
        if line.startswith("a OK"):
            return ""
        if line.startswith("a ") or not line:
            return f"STARTTLS: {line or 'the connection was closed'}"
    return "STARTTLS: no answer"


async def _sieve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """ManageSieve (RFC 5804): capabilities and OK, STARTTLS, OK."""
    offered = False
    for _ in range(MAX_LINES):
        line = (await reader.readline()).decode("ascii", "replace").strip().upper()
        offered = offered or line == '"STARTTLS"'
        if line.startswith("OK"):
            break
        if not line.startswith('"'):
            return f"greeting: {line or 'the connection was closed'}"
    if not offered:
        return "STARTTLS is not offered"
    writer.write(b"STARTTLS\r\n")
    answer = (await reader.readline()).decode("ascii", "replace").strip()
    return "" if answer.upper().startswith("OK") else f"STARTTLS: {answer or 'the connection was closed'}"


_OPENINGS = {"smtp": _smtp, "imap": _imap, "sieve": _sieve}


def handshake(server: ServerTls, context: ssl.SSLContext, name: str) -> Seen:
    """A handshake in memory between the server's certificates and a client that asks for `name`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    ours = server.context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, ours]
    try:
        for _ in range(ROUNDS):
            for side in list(waiting):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
                    waiting.remove(side)
            if not waiting:
                return Seen(client.getpeercert(binary_form=True) or b"")
    except ssl.SSLCertVerificationError as error:
        return Seen(error=error.verify_message)
    except ssl.SSLError as error:
        return Seen(error=failure_text(error))
    return Seen(error="the handshake does not end")
