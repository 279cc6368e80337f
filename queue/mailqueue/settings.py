"""Times and sizes of one queue, with their defaults and reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailqueue.process import ProcessIdentity

KIB, MIB = 1024, 1024 * 1024


def _ignore(event: str, fields: dict[str, object]) -> None:
    """Default of `QueueSettings.report`."""


@dataclass(slots=True, frozen=True)
class QueueSettings:
    """How one stream works. All nodes of a store must agree on `takeover` and `deliver_for`."""

    node: str = ""
    """Name of the machine among those that share the store; for people, and to know one's own dead
    processes."""
    identity: ProcessIdentity = field(default_factory=ProcessIdentity.current)
    """This process, so that its successor on the same machine can see that it is gone."""
    report: Callable[[str, dict[str, object]], None] = _ignore
    """Told of what an administrator should know: an event ("entry corrupt", "stream adopted") and fields."""

    lifetime: float = 5 * 86400.0
    """Seconds until a message expires that does not say when itself (RFC 5321 section 4.5.4.1: 4 to 5
    days)."""
    commit_timeout: float = 10.0
    """Seconds that `enqueue` waits for the store, far below the 10 minutes of a client (RFC 5321
    4.5.3.2.6)."""

    spacing: float = 0.05
    """Seconds between the starts of two entries under light load. Each entry is a request to an object store
    that costs money, and on a disk a file, which costs much the same whatever is in it; a lone message does
    not wait."""
    clients: Callable[[], int] | None = None
    """How many clients there are now that could be waiting for a message of theirs. When that many wait, an
    entry is written without regard to `spacing`: nobody else can come along. None where each request costs
    money."""
    note_spacing: float = 0.03
    """Seconds between the starts of two entries that only tell what became of messages: no client waits for
    them. What a crash takes from such an entry is delivered once more."""
    batch_messages: int = 16
    """An entry with as many messages is written without regard to `spacing`: enough of them share a
    request."""
    batch_bytes: int = 256 * KIB
    """The same for octets."""
    entry_max: int = 4 * MIB
    """Octets at which an entry takes no more records; one record may be larger."""
    in_flight: int = 4
    """Entries being written at the same time. Commit is in order whatever the order of the answers."""
    defer_flush: float = 5.0
    """Seconds that a deferral may wait for other records: losing one only means an earlier retry."""
    slow: float = 5.0
    """Seconds that an entry takes above which the store is measured between messages too, for then its owner
    may give it none."""
    pending_max: int = 64 * MIB
    """Octets that wait for the store above which `enqueue` refuses at once."""

    body_timeout: float = 60.0
    """Seconds that storing a large body may take."""
    inline_max: int = 256 * KIB
    """Octets of a body above which it is an object of its own, stored once for equal bodies."""
    cache_max: int = 32 * MIB
    """Octets of recently written messages kept in memory, so that an early retry reads nothing."""
    spill_dir: str | None = None
    """Folder of the temporary files of large bodies, None for the system's."""

    heartbeat: float = 2.0
    """Seconds between heartbeats (Google allows about one overwrite of a key a second)."""
    deliver_for: float = 6.0
    """Seconds after the start of the last heartbeat that succeeded during which we may deliver. Less than
    `takeover` by more than clock rates can differ, so that an owner has stopped when its messages move."""
    takeover: float = 10.0
    """Seconds without a sign of life after which a stream is taken over."""
    adopt_rows: int = 4096
    """Messages in one ADOPT record."""
    processes: int = 1
    """Processes of this node that share the store: when they start together, the first one leaves the others
    their share of what it finds."""
    lease: float = 60.0
    """Seconds after which a claim that came to nothing is overtaken by the next epoch."""

    snapshot_every: float = 60.0
    """Seconds between snapshots when there was anything to write."""
    snapshot_bytes: int = 16 * MIB
    """Octets of log after which a snapshot is due at once."""
    compact_after: float = 1800.0
    """Seconds after which a message that is still there moves into an entry with others of its kind."""
    compact_bytes: int = 4 * MIB
    """Octets of the entries that compaction writes."""
    housekeeping: float = 30.0
    """Seconds between looks at what can be deleted or moved."""
    retired_keep: float = 7 * 86400.0
    """Seconds that the seal of a stream is kept after its log was deleted: longer than any process can
    sleep through and still have a request under way."""
    body_keep: float = 2 * 86400.0
    """Seconds beyond `lifetime` after which a day's bodies are deleted."""
