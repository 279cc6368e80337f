"""The keys of the store: what stands where. All numbers have leading zeros, so that keys sort like numbers.

    format                          what this store is; written once
    stream/<stream>                 a process life announces itself: node, process, time
    hb/<stream>                     its heartbeat, overwritten; the only object that is
    log/<stream>/<number:016>       one group commit, or the seal that ends the log
    snap/<stream>/<number:016>      all live messages as of that entry
    body/<yyyymmdd>/<sha256>        a large body
    end/<stream>                    number at which the log of a dead stream ends, for all who take it over
    lease/<stream>/<part:02>/<epoch:08>   a claim: who is about to adopt a part of a dead stream
    retired/<stream>/<part:02>      who has adopted it: the commit point
    retired/<stream>/collected      when its log was deleted
    uses/<stream>/<holder>          `holder` has live messages whose octets are in the log of `stream`
    corrupt/<stream>/<number:016>   a copy of an entry that fails its check

Streams are named by 26 letters as messages are.
"""

from __future__ import annotations

FORMAT = "format"
STREAMS, HEARTBEATS, LOGS, SNAPSHOTS = "stream/", "hb/", "log/", "snap/"
BODIES, LEASES, RETIRED, USES, CORRUPT = "body/", "lease/", "retired/", "uses/", "corrupt/"
ENDS = "end/"
COLLECTED = "collected"
"""Last segment of the key that says when a retired stream's log was deleted."""


def stream_key(stream: str) -> str:
    """Announcement of a stream."""
    return STREAMS + stream


def heartbeat_key(stream: str) -> str:
    """Heartbeat of a stream."""
    return HEARTBEATS + stream


def log_prefix(stream: str) -> str:
    """All entries of a stream."""
    return f"{LOGS}{stream}/"


def log_key(stream: str, number: int) -> str:
    """One entry."""
    return f"{LOGS}{stream}/{number:016d}"


def snapshot_prefix(stream: str) -> str:
    """All snapshots of a stream."""
    return f"{SNAPSHOTS}{stream}/"


def snapshot_key(stream: str, number: int) -> str:
    """The snapshot as of an entry."""
    return f"{SNAPSHOTS}{stream}/{number:016d}"


def body_prefix(day: str) -> str:
    """All large bodies of a day."""
    return f"{BODIES}{day}/"


def body_key(day: str, digest: bytes) -> str:
    """A large body; `day` is yyyymmdd, `digest` its SHA-256."""
    return f"{BODIES}{day}/{digest.hex()}"


def end_key(stream: str) -> str:
    """Where a dead stream ends."""
    return ENDS + stream


def lease_prefix(stream: str) -> str:
    """All claims to parts of a stream."""
    return f"{LEASES}{stream}/"


def lease_key(stream: str, part: int, epoch: int) -> str:
    """One claim."""
    return f"{LEASES}{stream}/{part:02d}/{epoch:08d}"


def retired_prefix(stream: str) -> str:
    """What of a stream has been adopted."""
    return f"{RETIRED}{stream}/"


def retired_key(stream: str, part: int) -> str:
    """Who has adopted a part."""
    return f"{RETIRED}{stream}/{part:02d}"


def collected_key(stream: str) -> str:
    """When the log was deleted."""
    return f"{RETIRED}{stream}/{COLLECTED}"


def uses_prefix(stream: str) -> str:
    """Who has messages in this stream's log."""
    return f"{USES}{stream}/"


def uses_key(stream: str, holder: str) -> str:
    """`holder` has messages in this stream's log."""
    return f"{USES}{stream}/{holder}"


def corrupt_key(stream: str, number: int) -> str:
    """Where the copy of a corrupt entry is kept."""
    return f"{CORRUPT}{stream}/{number:016d}"


def last_segment(key: str) -> str:
    """What stands after the last slash."""
    return key[key.rfind("/") + 1 :]


def number_of(key: str) -> int:
    """The number at the end of a log or snapshot key, -1 when there is none (not ours)."""
    text = last_segment(key)
    return int(text) if len(text) == 16 and text.isascii() and text.isdigit() else -1
