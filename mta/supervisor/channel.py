"""The wire between the supervisor and one worker: length-prefixed msgpack over a Unix socket pair.

A frame is four bytes of length (big endian) and one message of `mta.supervisor.messages`. The
`FrameReader` is pure; `Channel` is the asyncio protocol around it, the same class at both ends.

Promises:

* Order is kept and nothing is duplicated. What is sent before `close` is written if the other end reads.
* Memory is bounded: a frame is at most `MAX_FRAME` bytes, and `send` refuses (returns False) while
  `MAX_UNSENT` bytes wait for a peer that does not read.
* A malformed frame length ends the channel, since the reader has lost its place; a malformed message
  in a good frame is reported through `on_fault` and skipped.
* When the other end is gone, in whatever way, `on_closed` is called once. For a worker this is the
  sign that the supervisor is dead.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

MAX_FRAME = 64 * 1024 * 1024
"""Longest message in bytes. A configuration or a metrics snapshot is some kB, but that of the largest file
has room, with all of its domains and what later workers begin with; this only stops nonsense."""

MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that may wait for the other end before further messages are refused: about 10,000 relayed records."""

PREFIX = 4

_encode = msgspec.msgpack.Encoder().encode


class FrameError(ValueError):
    """The peer announced a frame that is longer than `MAX_FRAME`; the stream cannot be read any further."""


def frame(message: msgspec.Struct) -> bytes:
    """Encode one message with its length. Raises `ValueError` when it is longer than `MAX_FRAME`."""
    body = _encode(message)
    if len(body) > MAX_FRAME:
        raise ValueError(f"message of {len(body)} bytes is longer than {MAX_FRAME}")
    return len(body).to_bytes(PREFIX, "big") + body


class FrameReader:
    """Cut a stream of bytes into frames, however the bytes arrive."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        """Start with an empty buffer."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read and return the bodies of all frames that are complete now.

        Raises `FrameError` when a length is over `MAX_FRAME`.
        """
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        position = 0
        while len(buffer) - position >= PREFIX:
            length = int.from_bytes(buffer[position : position + PREFIX], "big")
            if length > MAX_FRAME:
                raise FrameError(f"frame of {length} bytes announced, at most {MAX_FRAME} are allowed")
            end = position + PREFIX + length
            if len(buffer) < end:
                break
            bodies.append(bytes(buffer[position + PREFIX : end]))
            position = end
        if position:
            del buffer[:position]
        return bodies


M = TypeVar("M")


class Channel(asyncio.Protocol, Generic[M]):
    """One end of the wire. `kind` is the union of messages that this end reads."""

    def __init__(
        self,
        kind: Any,
        on_message: Callable[[M], None],
        on_closed: Callable[[], None],
        on_fault: Callable[[str], None],
    ) -> None:
        """Prepare an end; `connect` attaches it to its socket.

        `on_message` gets each message in order, `on_closed` the end of the stream, `on_fault` a text
        about what could not be read. `on_message` must not raise.
        """
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._on_message = on_message
        self._on_closed = on_closed
        self._on_fault = on_fault
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._closed = False

    async def connect(self, sock: socket.socket) -> None:
        """Attach to a connected stream socket, which belongs to the channel from here on."""
        sock.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=sock)

    def send(self, message: msgspec.Struct) -> bool:
        """Send one message. False when the channel is closed or too much waits already."""
        transport = self._transport
        if transport is None or self._closed or transport.get_write_buffer_size() > MAX_UNSENT:
            return False
        transport.write(frame(message))
        return True

    def close(self) -> None:
        """Write what waits, then close. `on_closed` is called afterwards."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, dropping what waits: the peer is dead or does not read."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def closed(self) -> bool:
        """True once the other end is gone."""
        return self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio)."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Decode what is complete and hand it on (asyncio)."""
        try:
            bodies = self._reader.feed(data)
        except FrameError as problem:
            self._on_fault(str(problem))
            self.abort()
            return
        for body in bodies:
            try:
                message = self._decode(body)
            except msgspec.MsgspecError as problem:
                self._on_fault(f"unreadable message: {problem}")
                continue
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner once (asyncio)."""
        if not self._closed:
            self._closed = True
            self._on_closed()
