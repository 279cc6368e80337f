"""From records to the live messages: what a log means.

`Replay` holds the index of a stream and the adoptions that are not decided yet. Records are applied in the
order of the log; a record about a message that is not there (its entry was lost, or is older than the
snapshot) is skipped. Applying the same records again to a snapshot that has them already changes nothing that
counts.
"""

from __future__ import annotations

from mailqueue.entry import Entry
from mailqueue.ids import id_text
from mailqueue.index import Index, Location
from mailqueue.records import Adopt, Adopted, Cancel, Done, Enq, Outcome, Record
from mailqueue.rows import enter_rows


class Provisional:
    """ADOPT records of one part of a dead stream, as far as they are in the log."""

    __slots__ = ("chunks", "count")

    def __init__(self) -> None:
        """No chunk yet."""
        self.chunks: dict[int, bytes] = {}
        self.count = -1
        """How many there are in all; -1: not known yet."""

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        return len(self.chunks) == self.count


class Replay:
    """The state of a stream, record by record."""

    __slots__ = ("index", "problems", "provisional")

    def __init__(self, stream: bytes) -> None:
        """An empty stream."""
        self.index = Index(stream)
        self.provisional: dict[tuple[bytes, int], Provisional] = {}
        """Adoptions of which the log does not say what became of them, by stream and part."""
        self.problems: list[str] = []

    def entry(self, entry: Entry) -> None:
        """Apply all records of an entry."""
        for record in entry.records:
            self.record(record, entry.number, entry.base)

    def record(self, record: Record, number: int, base: int) -> None:
        """Apply one record of entry `number`, whose payloads begin at `base`."""
        index = self.index
        match record:
            case Enq():
                slot = index.find(record.id)
                if slot >= 0:
                    index.remove(slot)
                index.add(
                    record.id,
                    record.created,
                    record.expires,
                    record.priority,
                    record.size,
                    Location(index.own, number, base + record.offset, record.length),
                    record.body,
                    record.states,
                )
            case Outcome():
                slot = index.find(record.id)
                if slot >= 0:
                    changes = [(delta.recipient, delta.state) for delta in record.changes]
                    try:
                        index.set_states(slot, changes)
                    except IndexError:
                        self.problems.append(f"entry {number}: no such recipient as an outcome says")
            case Done() | Cancel():
                slot = index.find(record.id)
                if slot >= 0:
                    index.remove(slot)
            case Adopt():
                self._adopt(record)
            case Adopted():
                self.resolve(record.stream, record.part, record.won)

    def resolve(self, stream: bytes, part: int, won: bool) -> list[int]:
        """The adoption of a part is decided: its messages are ours, or forgotten. Returns new slots."""
        provisional = self.provisional.pop((stream, part), None)
        if provisional is None or not won:
            return []
        slots: list[int] = []
        if not provisional.complete:
            self.problems.append(f"some of what was adopted of part {part} of {id_text(stream)} is missing")
        for chunk in provisional.chunks.values():
            try:
                slots.extend(enter_rows(self.index, chunk))
            except ValueError as error:
                self.problems.append(f"adopted messages: {error}")
        return slots

    def _adopt(self, record: Adopt) -> None:
        key = record.stream, record.part
        provisional = self.provisional.get(key)
        if provisional is None or record.chunk == 0:
            provisional = self.provisional[key] = Provisional()
        provisional.chunks[record.chunk] = record.rows
        if record.last:
            provisional.count = record.chunk + 1
