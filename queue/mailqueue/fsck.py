"""Checks a store: every entry, snapshot and large body, and that each live message can be read.

It may run while the queue works; what is deleted meanwhile is not missed. Damage is reported by key. With
`quarantine` damaged entries and snapshots are copied to `corrupt/`, where nothing is ever deleted; they stay
in their place, for the records in them that are whole still count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mailqueue.bodies import fetch_body
from mailqueue.collector import by_stream, stream_names
from mailqueue.entry import CorruptEntry, Entry, FormatError, parse
from mailqueue.ids import id_octets, id_text
from mailqueue.inspect import Inspection
from mailqueue.keys import (
    FORMAT,
    LOGS,
    RETIRED,
    SNAPSHOTS,
    STREAMS,
    body_key,
    corrupt_key,
    log_key,
    log_prefix,
    number_of,
    stream_key,
)
from mailqueue.model import CorruptMessage, QueueError, UnknownMessage
from mailqueue.payload import unpack
from mailqueue.reader import GONE
from mailqueue.records import Enq
from mailqueue.rows import count_rows, split_blocks
from mailqueue.seal import decode_seal
from mailqueue.snapshot import HEAD_SIZE, CorruptSnapshot, decode_head
from mailqueue.store.base import MissingKey, Store, is_seal

UNKNOWN = "it is missing, and its log is there: nobody takes it over until an empty object is put here"


@dataclass(slots=True, frozen=True)
class Finding:
    """Something is wrong."""

    key: str
    """The object."""
    problem: str
    """What it is, in words."""
    lost: bool
    """A message, or part of one, cannot be read any more, or nobody can tell which messages there were."""


@dataclass(slots=True)
class Report:
    """What a check found."""

    entries: int = 0
    snapshots: int = 0
    bodies: int = 0
    messages: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """True when nothing is wrong."""
        return not self.findings


def _quiet(done: int, of: int) -> None:
    """Default for `progress`."""


async def fsck(
    store: Store, *, quarantine: bool = False, progress: Callable[[int, int], None] = _quiet
) -> Report:
    """Check everything; `progress` is told how many objects of how many are done. Raises StoreError."""
    report = Report()
    try:
        await store.get(FORMAT)
    except MissingKey:
        report.findings.append(Finding(FORMAT, "there is no queue here", False))
        return report
    logs = await store.list_after(LOGS)
    snapshots = await store.list_after(SNAPSHOTS)
    keys = [*logs, *snapshots]
    for done, key in enumerate(keys, 1):
        is_log = key.startswith(LOGS)
        try:
            data = await store.get(key)
        except MissingKey:
            data = None
        if data is not None:
            problems = check_entry(key, data) if is_log else check_snapshot(key, data)
            report.findings.extend(Finding(key, problem, False) for problem in problems)
            if problems and quarantine:
                await store.put_new(corrupt_key(*_place(key)), data)
        report.entries += is_log
        report.snapshots += not is_log
        progress(done, len(keys))
    await _check_streams(store, report, logs)
    await _check_messages(store, report)
    return report


async def _check_streams(store: Store, report: Report, logs: list[str]) -> None:
    """Logs of which nobody knows."""
    known = set(stream_names(await store.list_after(STREAMS)))
    known.update(by_stream(await store.list_after(RETIRED)))
    for name in sorted(by_stream(logs).keys() - known):
        if await store.list_after(log_prefix(name), limit=1):  # not deleted meanwhile
            report.findings.append(Finding(stream_key(name), UNKNOWN, True))


def check_entry(key: str, data: bytes) -> list[str]:
    """What is wrong with a log entry or a seal."""
    try:
        if is_seal(data):
            return [] if decode_seal(data) is not None else ["the text of the seal is damaged"]
        stream, number = _place(key)
        entry = parse(data, id_octets(stream), number, whole=True)
    except (CorruptEntry, FormatError, ValueError) as error:
        return [str(error)]
    return [*entry.problems, *_check_payloads(data, entry)]


def check_snapshot(key: str, data: bytes) -> list[str]:
    """What is wrong with a snapshot."""
    try:
        head = decode_head(data)
    except (CorruptSnapshot, FormatError) as error:
        return [str(error)]
    problems = []
    if (id_text(head.stream), head.number) != _place(key):
        problems.append("it belongs elsewhere")
    blocks = rows = 0
    for block in split_blocks(data, HEAD_SIZE):
        try:
            rows += count_rows(block)
            blocks += 1
        except (ValueError, FormatError) as error:
            problems.append(f"block {blocks}: {error}")
    if not problems and (blocks, rows) != (head.blocks, head.messages):
        problems.append(f"{head.blocks} blocks with {head.messages} messages should be there, {rows} are")
    return problems


def _check_payloads(data: bytes, entry: Entry) -> list[str]:
    problems = []
    for record in entry.records:
        if isinstance(record, Enq):
            start = entry.base + record.offset
            try:
                unpack(data[start : start + record.length], record.id)
            except ValueError as error:
                problems.append(f"message {id_text(record.id)}: {error}")
    return problems


async def _check_messages(store: Store, report: Report) -> None:
    try:
        inspection = await Inspection.open(store)
    except FormatError as error:
        report.findings.append(Finding(FORMAT, f"the messages were not checked: {error}", False))
        return
    checked: set[tuple[str, bytes]] = set()
    # The records of damaged entries behind the snapshot are nowhere else: there may have been messages.
    damaged = set().union(*(reader.damaged for reader in inspection.readers()))
    report.findings = [replace(one, lost=one.lost or one.key in damaged) for one in report.findings]
    for reader in inspection.readers():
        gone = [log_key(reader.name, number) for number in reader.missing]
        report.findings.extend(Finding(key, GONE, True) for key in gone)
        index = reader.replay.index
        loader = inspection.loader(reader)
        for slot in list(index.slots()):
            report.messages += 1
            id = index.id_of(slot)
            try:
                await loader.load(id)
            except UnknownMessage:
                continue
            except (CorruptMessage, QueueError) as error:
                report.findings.append(Finding(reader.name, str(error), isinstance(error, CorruptMessage)))
            ref = index.bodies.get(slot)
            if ref is None or (ref.day, ref.digest) in checked:
                continue
            checked.add((ref.day, ref.digest))
            report.bodies += 1
            try:
                await fetch_body(store, ref, None)
            except CorruptMessage as error:
                report.findings.append(
                    Finding(body_key(ref.day, ref.digest), f"{id_text(id)}: {error}", True)
                )


def _place(key: str) -> tuple[str, int]:
    return key.split("/")[1], number_of(key)
