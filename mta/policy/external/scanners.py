"""Scanners for spam and viruses: a connection for each question, within one deadline.

Nothing raises for what a scanner or the network does: the answer is `Unavailable` then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from mailmilter.endpoint import Endpoint
from mta.content import SpillError
from mta.policy.external import scanwire
from mta.policy.external.scanwire import ANSWER_OCTETS, Found, ScanError, Subject
from mta.policy.external.tally import Tally
from mta.policy.sieve.asking import Unavailable
from mta.policy.sieve.facts import Facts
from sieve_ext.message import Message

NOT_SCANNED = Found()


@dataclass(slots=True, frozen=True)
class ScannerSettings:
    """One scanner; times in seconds, sizes in octets."""

    name: str
    kind: str
    """rspamd, spamassassin or clamav."""
    endpoint: Endpoint
    timeout: float
    size_limit: int
    connections: int
    user: str = ""
    password: str = ""


class Scanners:
    """The scanners of a worker."""

    def __init__(self, scanners: Mapping[str, ScannerSettings], tally: Tally | None = None) -> None:
        """By name; `tally` counts."""
        self._scanners = scanners
        self._tally = tally
        self.open: Counter[str] = Counter()
        """Connections that are open, by name."""
        self.opened: Counter[str] = Counter()
        """Connections that were opened, by name."""
        self._places = {name: asyncio.Semaphore(one.connections) for name, one in scanners.items()}

    async def scan(self, name: str, message: Message, facts: Facts) -> Found | Unavailable:
        """What a scanner finds in a message as it stands."""
        begun = monotonic()
        found = await self._scan(name, message, facts)
        if self._tally is not None and isinstance(found, Unavailable):
            self._tally.failed(name, found.reason, monotonic() - begun)
        elif self._tally is not None and isinstance(found, Found):
            self._tally.answered(name, _class(found), monotonic() - begun)
        return found

    def measure(self) -> None:
        """Set the numbers of connections."""
        if self._tally is not None:
            self._tally.measure(self.open, self.opened)

    async def _scan(self, name: str, message: Message, facts: Facts) -> Found | Unavailable:
        settings = self._scanners[name]
        if message.size > settings.size_limit:
            return NOT_SCANNED
        try:
            async with asyncio.timeout(settings.timeout), self._places[name]:
                return await self._ask(settings, message, _subject(facts))
        except TimeoutError:
            reason = f"no answer in {settings.timeout:g} s"
        except (ScanError, SpillError) as error:
            reason = str(error)
        except (OSError, asyncio.IncompleteReadError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        return Unavailable(f"scanner {name}: {settings.endpoint}: {reason}")

    async def _ask(self, settings: ScannerSettings, message: Message, subject: Subject) -> Found:
        endpoint = settings.endpoint
        if endpoint.path:
            reader, writer = await asyncio.open_unix_connection(endpoint.path)
        else:
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        self.open[settings.name] += 1
        self.opened[settings.name] += 1
        try:
            read = await _send(settings, message, subject, writer)
            octets = b""
            while len(octets) <= ANSWER_OCTETS:
                piece = await reader.read(65536)
                if not piece or (settings.kind == "clamav" and piece.endswith(b"\0")):
                    return read(octets + piece)
                octets += piece
            raise ScanError(f"an answer of more than {ANSWER_OCTETS} octets")
        finally:
            self.open[settings.name] -= 1
            writer.transport.abort()


def _class(found: Found) -> str:
    if found.virus is not None and found.virus > 1:
        return "virus"
    if found.spam is not None and found.spam >= 1.0:
        return "spam"
    return "skipped" if found is NOT_SCANNED else "clean"


def _subject(facts: Facts) -> Subject:
    session, envelope = facts.session, facts.envelope
    return Subject(
        "" if envelope is None else envelope.sender.text,
        [] if envelope is None else [one.address.text for one in envelope.recipients],
        session.client_ip,
        session.client_name,
        session.helo,
        session.user,
        f"{session.id}.{session.transactions}",
    )


async def _send(
    settings: ScannerSettings, message: Message, subject: Subject, writer: asyncio.StreamWriter
) -> Callable[[bytes], Found]:
    """Send the question; how its answer is read. A scanner that answers before the end is heard, too."""
    clam = settings.kind == "clamav"
    with contextlib.suppress(ConnectionError):  # clamd closes when a stream is too long, with an answer
        if clam:
            writer.write(scanwire.CLAMD_HEAD)
        elif settings.kind == "rspamd":
            writer.write(scanwire.rspamd_head(subject, message.size, settings.password, settings.user))
        else:
            writer.write(scanwire.spamd_head(message.size, settings.user))
        for piece in message.chunks():
            for part in _parts(piece):
                writer.write(scanwire.clamd_piece(part) if clam else part)
                await writer.drain()
        if clam:
            writer.write(scanwire.CLAMD_END)
        await writer.drain()
        if settings.kind == "spamassassin":
            writer.write_eof()
    if clam:
        return scanwire.read_clamd
    return scanwire.read_rspamd if settings.kind == "rspamd" else scanwire.read_spamd


def _parts(piece: bytes) -> Iterator[bytes]:
    for start in range(0, len(piece), 65536):
        yield piece[start : start + 65536]
