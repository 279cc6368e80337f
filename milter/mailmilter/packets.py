"""Framing of the milter protocol: octets to packets and back, bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MAX_PACKET = 1024 * 1024 + 64
"""Octets of one packet that is taken (precedent: SMFIP_MDS_1M, the largest size that libmilter knows)."""
_COMPACT = 256 * 1024
"""Octets already read that may stay in front of the buffer."""


class MilterProtocolError(ValueError):
    """The other side does not keep the protocol; the text says how. The connection is of no more use."""


class PacketReader:
    """Cuts a stream of octets into packets: `feed` it, then take with `next`.

    Keeps at most one incomplete packet (`limit`, in octets) beside what was fed last.
    """

    __slots__ = ("_buffer", "_limit", "_start")

    def __init__(self, limit: int = MAX_PACKET) -> None:
        self._buffer = bytearray()
        self._start = 0
        self._limit = limit

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self._buffer += data

    @property
    def waiting(self) -> int:
        """Octets that are not taken yet."""
        return len(self._buffer) - self._start

    def next(self) -> tuple[int, bytes] | None:
        """The code and data of the next packet, None when it is not complete.

        Raises MilterProtocolError for a packet without a code or over the limit.
        """
        buffer = self._buffer
        start = self._start
        have = len(buffer) - start
        if have < 4:
            self._compact()
            return None
        size = int.from_bytes(buffer[start : start + 4], "big")
        if size == 0 or size > self._limit:
            raise MilterProtocolError(f"a packet of {size} octets (1 to {self._limit} are taken)")
        if have < 4 + size:
            self._compact()
            return None
        end = start + 4 + size
        code = buffer[start + 4]
        data = bytes(memoryview(buffer)[start + 5 : end])
        if end == len(buffer):
            buffer.clear()
            end = 0
        self._start = end
        return code, data

    def _compact(self) -> None:
        if self._start > _COMPACT:
            del self._buffer[: self._start]
            self._start = 0


def packet(code: int, data: bytes = b"") -> bytes:
    """One packet as octets."""
    return b"%s%c%s" % ((len(data) + 1).to_bytes(4, "big"), code, data)


def strings(words: Iterable[bytes]) -> bytes:
    """Strings as the protocol sends them: each closed by NUL. A NUL inside becomes a space."""
    return b"".join(word.replace(b"\0", b" ") + b"\0" for word in words)


def split_strings(data: bytes) -> list[bytes]:
    """The strings in `data`. Raises MilterProtocolError when the last one is not closed."""
    if not data:
        return []
    if data[-1]:
        raise MilterProtocolError("a string that is not closed by NUL")
    return data[:-1].split(b"\0")


def number(data: bytes, at: int = 0) -> int:
    """The 32-bit number at an offset. Raises MilterProtocolError when it is cut off."""
    if len(data) < at + 4:
        raise MilterProtocolError("a number that is cut off")
    return int.from_bytes(data[at : at + 4], "big")


def pairs(words: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Names and values of a macro packet. Raises MilterProtocolError when a name has no value."""
    if len(words) % 2:
        raise MilterProtocolError("a macro without a value")
    return zip(words[::2], words[1::2], strict=True)
