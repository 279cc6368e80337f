"""Boundary lines and part headers in a stream of octets (RFC 2046 section 5.1).

`BodyScanner` holds a window of the body and slides it forward. It searches with `bytes.find` for each open
boundary, remembers what it found of the outer ones, and searches for an inner one no further than where an
outer one lies, so every octet is looked at once a level at most.

A line that goes on behind the boundary is a delimiter for some readers (that it begins with the boundary is
enough, RFC 2046 says) and text for most mail programs. So that nobody sees a part that is not found here, it
begins a part where it stands and ends none of the multiparts around. Of two equal boundaries the inner one
counts, which leaves the outer one open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_empty_line = re.compile(rb"\n\r?\n").search
_NO_BOUNDARY = b"\n--"


class Delimiter(NamedTuple):
    """A boundary line."""

    place: int
    """Which of the open boundaries it is, from 0, the outermost."""
    is_closing: bool
    """True for the last one of its multipart ("--boundary--")."""
    end_before: int
    """Where the part before it ends: its line break belongs to the boundary."""


class _Boundary:
    __slots__ = ("found", "is_cut", "line", "searched")

    def __init__(self, line: bytes, searched: int, is_cut: bool) -> None:
        self.line = line  # with the line feed before it
        self.is_cut = is_cut  # there is more to the boundary
        self.found = -2  # where it occurs next; before every position when that is not known
        self.searched = searched  # it does not begin before this, but for `found`


class BodyScanner:
    """A body, read once from its start. Positions are octets from there."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """`chunks` is the whole body."""
        self._chunks = chunks
        # A line feed before the first octet, so that every line begins behind one.
        self._window = b"\n"
        self._base = -1
        self._at_end = False
        self._boundaries: list[_Boundary] = []
        self.position = 0
        """Where the next search begins: the start of a line."""

    def open(self, boundary: bytes, *, is_cut: bool = False) -> None:
        """Look for `boundary` too, from the position on, inside all that are open.

        `is_cut` says that this is only the beginning of it.
        """
        self._boundaries.append(_Boundary(b"\n--" + boundary, self.position - 1, is_cut))

    def next_delimiter(self) -> Delimiter | None:
        """Go behind the next line of an open boundary, closing those inside of it; None at the end."""
        while self._boundaries:
            found, place = self._nearest(self.position - 1)
            if place < 0:
                if not self._slide(self._base + len(self._window)):
                    return None
                continue
            longest = max(len(boundary.line) for boundary in self._boundaries)
            if found + longest + 2 > self._base + len(self._window) and self._slide(found):
                continue  # a longer boundary may begin here, or "--" follow
            boundary = self._boundaries[place]
            behind = found + len(boundary.line)
            start = found - self._base
            is_closing = self._window.startswith(b"--", behind - self._base)
            has_cr = start > 0 and self._window[start - 1] == 13
            if not self._skip_line(behind + 2 * is_closing) or boundary.is_cut:
                if boundary.line == _NO_BOUNDARY:
                    continue  # any line with two dashes
                is_closing = False
                place = len(self._boundaries) - 1
            del self._boundaries[place + (not is_closing) :]
            return Delimiter(place, is_closing, found - has_cr)
        return None

    def read_header(self, limit: int) -> tuple[bytes, bool]:
        """The header section at the position, empty line included, and whether `limit` octets cut it.

        It ends before a line of an open boundary. The position is behind it afterwards.
        """
        start = self.position
        while True:
            offset = start - self._base
            found = _empty_line(self._window, offset - 1, offset + limit)
            if found is not None or len(self._window) - offset >= limit or not self._slide(start):
                break
        offset = start - self._base
        end = min(len(self._window), offset + limit) if found is None else found.end()
        is_cut = found is None and len(self._window) - offset >= limit
        nearest, place = self._nearest(start - 1, self._base + end)
        if place >= 0 and nearest + 1 < self._base + end:
            end = max(nearest + 1 - self._base, offset)
            is_cut = False
        elif is_cut:
            # At a line's start, so that a boundary is not split.
            end = max(self._window.rfind(b"\n", offset, end) + 1, offset)
        self.position = self._base + end
        return self._window[offset:end], is_cut

    def _nearest(self, start: int, stop: int | None = None) -> tuple[int, int]:
        """Position and place of the first open boundary from `start` on in the window, (-1, -1) if none."""
        limit = self._base + len(self._window) if stop is None else stop
        best, best_place = -1, -1
        for place, boundary in enumerate(self._boundaries):
            if boundary.found < start:
                begin = max(start, boundary.searched)
                line = boundary.line
                at = self._window.find(line, begin - self._base, limit + len(line) - self._base)
                if at >= 0:
                    boundary.found = boundary.searched = at + self._base
                else:
                    whole = self._base + len(self._window) - len(line) + 1
                    boundary.searched = max(begin, min(limit, whole))
                    continue
            if boundary.found > limit:
                continue
            if (
                best_place < 0
                or boundary.found < best
                or (len(boundary.line) >= len(self._boundaries[best_place].line) and boundary.found == best)
            ):
                best, best_place = boundary.found, place
                limit = best
        return best, best_place

    def _skip_line(self, start: int) -> bool:
        """Put the position behind the line end at or behind `start`, or to the end.

        True when there are only blanks before it.
        """
        is_blank = True
        while True:
            offset = start - self._base
            at = self._window.find(b"\n", offset)
            end = len(self._window) if at < 0 else at
            is_blank = is_blank and not self._window[offset:end].strip(b" \t\r")
            if at >= 0:
                self.position = self._base + at + 1
                return is_blank
            start = self._base + len(self._window)
            if not self._slide(start):
                self.position = start
                return is_blank

    def _slide(self, needed: int) -> bool:
        """Read on; keep the window from a little before `needed`. False when nothing is left."""
        if self._at_end:
            return False
        chunk = next(self._chunks, None)
        if chunk is None:
            self._at_end = True
            return False
        # What may be the start of a boundary, and the CR before it.
        margin = max((len(boundary.line) for boundary in self._boundaries), default=0) + 2
        drop = max(needed - margin - self._base, 0)
        self._window = self._window[drop:] + chunk
        self._base += drop
        return True
