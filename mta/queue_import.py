"""Messages from files into the queue: what `mta.queue_export` has written, or somebody by hand.

A stream of its own is opened for it, whether a server runs or not; each message is durable when it counts as
imported, and the stream is closed in order, so that a running worker has them at once. A message keeps its
id: what is in the queue already is not imported again. What was delivered or deleted since the export is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mailqueue.entry import FormatError
from mailqueue.ids import id_octets
from mailqueue.inspect import Inspection
from mailqueue.model import NewMessage, QueuedRecipient, QueueError, Status
from mta import config
from mta.address import NULL, Address, AddressError, parse_address
from mta.delivery.outcome import NextHop
from mta.envelope import OriginalRecipient, Recipient
from mta.queue_export import FORMAT, Exported, ExportedRecipient
from mta.queue_stores import become_server_user, opened_stores
from mta.queue_stream import Stream, opened_stream
from mta.spool.hops import site_of
from mta.spool.record import Record, RecordError, decode_record, encode_recipient, encode_record
from mta.spool.remote import QueueProblem

TOGETHER = 64
"""Messages that are written at the same time: they share the writes of the log."""
TOGETHER_OCTETS = 32 * 1024 * 1024
"""Octets of them."""

_STATUSES = {status.name.lower(): status for status in Status}
_LONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class ImportProblem(Exception):
    """A file is no message for the queue; the text names it."""


@dataclass(slots=True, frozen=True)
class Imported:
    """What became of one file."""

    path: Path
    id: str = ""
    """Its queue id, "" when it is not in the queue now."""
    problem: str = ""
    """Why not."""
    was_there: bool = False
    """It was in the queue before."""


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The .json of each message among files and folders, sorted. Raises ImportProblem."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(path.glob("*.json")))
            continue
        envelope = path.with_suffix(".json")
        if not path.exists():
            raise ImportProblem(f"{path}: no such file")
        if not envelope.exists():
            raise ImportProblem(f"{path}: it has no {envelope.name} beside it, which says who it is for")
        found.append(envelope)
    return list(dict.fromkeys(found))


def read_message(path: Path, stream: Stream, now: float) -> NewMessage:
    """The message of a .json and the .eml beside it. Raises ImportProblem."""
    content = path.with_suffix(".eml")
    try:
        document, octets = path.read_bytes(), content.read_bytes()
    except OSError as error:
        raise ImportProblem(f"{error.filename}: {error.strerror}") from error
    try:
        found = msgspec.json.decode(document, type=Exported)
    except msgspec.MsgspecError as error:
        raise ImportProblem(f"{path}: {error}") from error
    if found.format > FORMAT:
        raise ImportProblem(f"{path}: format {found.format}; this program knows {FORMAT}")
    header, body = split(octets)
    try:
        if found.id:
            id_octets(found.id)
        record = msgspec.convert(found.envelope, Record)
        if not found.envelope:
            record.has_8bit = not octets.isascii()
        decode_record(encode_record(record))
        envelope = record.envelope(found.sender, now)
        recipients = [_recipient(recipient, now) for recipient in found.recipients]
        for recipient, wish in recipients:
            if recipient.status.is_live:
                hop = stream.route(record.origin.session(), envelope, wish)
                recipient.site = site_of(hop) if isinstance(hop, NextHop) else ""
    except (ValueError, msgspec.MsgspecError, RecordError, AddressError) as error:
        raise ImportProblem(f"{path}: {error}") from error
    if not any(recipient.status.is_live for recipient, _ in recipients):
        raise ImportProblem(f"{path}: nobody is left to deliver it to")
    return NewMessage(
        found.sender,
        [recipient for recipient, _ in recipients],
        header,
        body,
        encode_record(record),
        found.created or now,
        found.expires,
        found.priority,
        tuple(found.tags),
        found.id or None,
    )


def split(octets: bytes) -> tuple[bytes, bytes]:
    """Header with its empty line, and body, with CRLF as line ends whatever they were."""
    if _LONE.search(octets):
        octets = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    if octets.startswith(b"\r\n"):
        return b"\r\n", octets[2:]
    end = octets.find(b"\r\n\r\n")
    if end < 0:
        return octets + (b"\r\n" if octets.endswith(b"\r\n") else b"\r\n\r\n"), b""
    return octets[: end + 4], octets[end + 4 :]


def import_all(
    settings: config.Config, paths: Sequence[Path], now: Callable[[], float], done: Callable[[Imported], None]
) -> None:
    """Import the messages of some .json; `done` is told of each. Raises QueueProblem."""
    become_server_user(settings)

    async def run() -> None:
        try:
            # What closed in order or died is adopted by the way, and handed on: not worth waiting for.
            async with (
                opened_stores(settings, new=True) as store,
                opened_stream(settings, store, now, adopt=False) as stream,
            ):
                there = {row.id for _, row in (await Inspection.open(store)).messages()}
                async for batch in _batches(paths, stream, there, now, done):
                    await _enqueue(stream, batch, done)
        except (QueueError, FormatError) as error:
            raise QueueProblem(f"the queue could not take it: {error}") from error

    asyncio.run(run())


async def _batches(
    paths: Iterable[Path],
    stream: Stream,
    there: set[str],
    now: Callable[[], float],
    done: Callable[[Imported], None],
) -> AsyncIterator[list[tuple[Path, NewMessage]]]:
    batch: list[tuple[Path, NewMessage]] = []
    octets = 0
    for path in paths:
        try:
            new = await asyncio.to_thread(read_message, path, stream, now())
        except ImportProblem as problem:
            done(Imported(path, problem=str(problem)))
            continue
        if new.id is not None and new.id in there:
            done(Imported(path, new.id, was_there=True))
            continue
        if new.id is not None:
            there.add(new.id)
        batch.append((path, new))
        octets += new.body.size if not isinstance(new.body, bytes) else len(new.body)
        if len(batch) == TOGETHER or octets >= TOGETHER_OCTETS:
            yield batch
            batch, octets = [], 0
    if batch:
        yield batch


async def _enqueue(
    stream: Stream, batch: Sequence[tuple[Path, NewMessage]], done: Callable[[Imported], None]
) -> None:
    results = await asyncio.gather(*(stream.queue.enqueue(new) for _, new in batch), return_exceptions=True)
    for (path, _), result in zip(batch, results, strict=True):
        if isinstance(result, str):
            done(Imported(path, result))
        elif isinstance(result, QueueError | ValueError):
            done(Imported(path, problem=f"{path}: {result}"))
        else:
            raise result


def _recipient(given: ExportedRecipient, now: float) -> tuple[QueuedRecipient, Recipient]:
    status = _STATUSES.get(given.status)
    if status is None:
        raise ValueError(f"{given.status!r} is no status; there are {', '.join(_STATUSES)}")
    original = None if given.original is None else OriginalRecipient(*given.original)
    notify = None if given.notify is None else frozenset(given.notify)
    wish = Recipient(parse_address(given.address), notify=notify, original=original, route=given.route)
    wish.sender = None if given.sender is None else _sender(given.sender)
    wish.owners = tuple(map(parse_address, given.owners))
    queued = QueuedRecipient(
        wish.address.text,
        "",
        status,
        max(given.due, now) if status.is_live else 0.0,
        given.attempts,
        given.reply,
        given.last,
        encode_recipient(wish),
    )
    return queued, wish


def _sender(text: str) -> Address:
    return parse_address(text) if text else NULL
