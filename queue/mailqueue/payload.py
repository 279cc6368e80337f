"""The payload of a message: everything about it that memory need not hold, in one zstd frame.

Envelope, header block and a small body lie together in the entry that brought the message, and are read with
one range request when it is due. The frame has zstd's own checksum and names the message, so that a wrong or
damaged range is never taken for mail; and all that the ENQ record says of the message but the state of its
recipients is in it too, so that `fsck` can say whose it was when the record is lost.
"""

from __future__ import annotations

import struct

import msgspec
import zstandard

PAYLOAD_VERSION = 1
LEVEL = -1
"""Compression: mail in text shrinks to about half for 14 µs per 4 kB; the next better levels cost half as
much again for little."""
MAX_PAYLOAD = 256 * 1024 * 1024
"""Octets that a payload may have when unpacked: far above any header block and `inline_max`."""
_LENGTH = struct.Struct("<I")


class Addressee(msgspec.Struct, array_like=True, frozen=True):
    """One recipient: what never changes of it."""

    address: str
    data: bytes


class Meta(msgspec.Struct, array_like=True, frozen=True):
    """The envelope."""

    version: int
    id: bytes
    created: float
    expires: float
    priority: int
    sender: str
    recipients: list[Addressee]
    envelope: bytes
    tags: list[str]
    header_size: int
    """Octets of the header block that follow the envelope; the rest is the body, unless it is an object."""


class Payload(msgspec.Struct, frozen=True):
    """An unpacked payload."""

    meta: Meta
    header: bytes
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Meta).decode
_compress = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress


_decompress = zstandard.ZstdDecompressor().decompress


def pack(meta: Meta, header: bytes, body: bytes) -> bytes:
    """The frame. Not to be called from several threads at once."""
    head = _encode(meta)
    return _compress(b"".join((_LENGTH.pack(len(head)), head, header, body)))


def unpack(frame: bytes, id: bytes) -> Payload:
    """The payload of the message `id`. Raises ValueError for anything else. Not from several threads at
    once."""
    try:
        frame_is = zstandard.get_frame_parameters(frame)
        if not frame_is.has_checksum or frame_is.content_size > MAX_PAYLOAD:
            raise ValueError("the payload is damaged: no checksum, or unreasonably large")
        data = _decompress(frame)
        (size,) = _LENGTH.unpack_from(data)
        meta = _decode(data[4 : 4 + size])
    except (zstandard.ZstdError, struct.error, msgspec.DecodeError) as error:
        raise ValueError(f"the payload is damaged: {error}") from error
    if meta.version != PAYLOAD_VERSION:
        raise ValueError(f"payload of version {meta.version}")
    if meta.id != id:
        raise ValueError("the payload is another message's")
    middle = 4 + size + meta.header_size
    return Payload(meta, data[4 + size : middle], data[middle:])
