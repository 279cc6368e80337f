"""The records of the log. Each is a MessagePack array whose first element is the record's type.

Fields are only ever added at the end, with a default, which old readers skip and new readers fill in;
anything else is a new format version (`mailqueue.entry.VERSION`). Ids, streams and digests are octets. Byte
by byte in docs/queue-format.md.
"""

from __future__ import annotations

import msgspec


class State(msgspec.Struct, array_like=True, frozen=True):
    """State of one recipient."""

    site: str
    status: int
    due: float
    attempts: int
    reply: str
    last: float


class BodyRef(msgspec.Struct, array_like=True, frozen=True):
    """A body that is an object of its own."""

    day: str
    """yyyymmdd: the bucket that it is deleted with."""
    digest: bytes
    """SHA-256."""
    size: int


class Enq(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """A message comes into this log: newly accepted, or moved here from an older entry or another log.

    It replaces all that was known of the id.
    """

    id: bytes
    created: float
    expires: float
    priority: int
    size: int
    """Octets of header block and body."""
    offset: int
    """Where its payload begins, from the end of the records of this entry."""
    length: int
    """Octets of its payload, as stored."""
    body: BodyRef | None
    states: list[State]
    """One a recipient, in order."""


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """The new state of one recipient."""

    recipient: int
    state: State


class Outcome(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """States of recipients changed; the message stays."""

    id: bytes
    changes: list[Delta]


class Done(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """No recipient is live any more: the message leaves the queue."""

    id: bytes
    at: float


class Cancel(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """The message was not accepted after all: its client heard 4xx."""

    id: bytes


class Adopt(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Live messages of a part of a dead stream; they count when `retired/` names this stream."""

    stream: bytes
    part: int
    chunk: int
    """0, 1, ..."""
    last: bool
    """No chunk follows."""
    rows: bytes
    """A block of rows, see `mailqueue.rows`."""


class Adopted(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """What became of the ADOPT records of a part: ours, or another's."""

    stream: bytes
    part: int
    won: bool


Record = Enq | Outcome | Done | Cancel | Adopt | Adopted

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """The octets of a record."""
    return _encode(record)


def decode_record(data: bytes) -> Record:
    """The record. Raises ValueError for octets that are none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a record: {error}") from error
