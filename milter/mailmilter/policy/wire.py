"""The lines of the policy protocol, both directions: `name=value` lines and an empty line."""

from __future__ import annotations

MAX_BLOCK = 64 * 1024
"""Octets of one request or answer that are taken."""


class PolicyProtocolError(ValueError):
    """The other side does not keep the protocol; the text says how."""


class BlockReader:
    """Cuts a stream of octets into attribute blocks: `feed` it, then take with `next`. Bounded."""

    def __init__(self, limit: int = MAX_BLOCK) -> None:
        self._buffer = bytearray()
        self._limit = limit

    @property
    def empty(self) -> bool:
        """True when nothing is left over."""
        return not self._buffer

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self._buffer += data

    def next(self) -> dict[str, str] | None:
        """The attributes of the next block, None when it is not complete.

        Of a name that comes twice the last counts; a carriage return before the line end is dropped.
        Raises PolicyProtocolError for a line without "=", for an empty block and for one over the limit.
        """
        found: dict[str, str] = {}
        start = 0
        while True:
            end = self._buffer.find(b"\n", start)
            if end < 0 or end > self._limit:
                if len(self._buffer) > self._limit:
                    raise PolicyProtocolError(f"more than {self._limit} octets without an empty line")
                return None
            line = self._buffer[start:end].rstrip(b"\r").decode("utf-8", "replace")
            start = end + 1
            if not line:
                break
            name, equals, value = line.partition("=")
            if not equals or not name.strip():
                raise PolicyProtocolError(f"a line that is no attribute: {line[:80]!r}")
            found[name.strip()] = value.strip()
        if not found:
            raise PolicyProtocolError("an empty block")
        del self._buffer[:start]
        return found
