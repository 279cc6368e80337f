"""Patterns of `:matches` (RFC 5228 section 2.7.1): "*" any characters, "?" one, "\\" makes the next plain.

A pattern is cut at its stars into segments. The first is held against the start, the last against the end,
those between are searched from left to right, so each star takes as little as it can (RFC 5229 section 3.2).
No backtracking: the time is that of a few searches, whatever pattern and text are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Span = tuple[int, int]
"""Where what a wildcard has matched begins and ends."""


class _Segment:
    """What stands between two stars: literals with single wildcards between them."""

    __slots__ = ("anchor", "anchor_offset", "literals", "marks", "size")

    def __init__(self, items: Sequence[str | None]) -> None:
        # None stands for "?"; a string has none.
        self.size = len(items)
        self.literals: list[tuple[int, str]] = []
        self.marks: list[int] = []
        self.anchor_offset, self.anchor = 0, ""
        if isinstance(items, str):
            if items:
                self.literals.append((0, items))
                self.anchor = items
            return
        self.marks += [place for place, item in enumerate(items) if item is None]
        run: list[str] = []
        for place, item in enumerate([*items, None]):
            if item is not None:
                run.append(item)
            elif run:
                self.literals.append((place - len(run), "".join(run)))
                run = []
        self.anchor_offset, self.anchor = max(self.literals, key=lambda one: len(one[1]), default=(0, ""))

    def fits(self, text: str, place: int) -> bool:
        """True when it is found right there."""
        if place < 0 or place + self.size > len(text):
            return False
        for offset, literal in self.literals:  # noqa: SIM110 - a generator costs more
            if not text.startswith(literal, place + offset):
                return False
        return True

    def find(self, text: str, place: int, spend: Callable[[int], None]) -> int:
        """Where it is found first from `place` on, -1 if nowhere."""
        if len(self.literals) == 1 and not self.marks:
            return text.find(self.anchor, place)
        if not self.literals:
            return place if place + self.size <= len(text) else -1
        while True:
            found = text.find(self.anchor, place + self.anchor_offset)
            if found < 0:
                return -1
            place = found - self.anchor_offset
            if self.fits(text, place):
                return place
            spend(len(self.literals))
            place += 1


class Glob:
    """A pattern, taken apart."""

    __slots__ = ("_first", "_last", "_middle")

    def __init__(self, pattern: str, fold: Callable[[str], str]) -> None:
        """`fold` is applied to the literals."""
        if "?" not in pattern and "\\" not in pattern:
            self._keep([_Segment(fold(literal)) for literal in pattern.split("*")])
            return
        segments: list[list[str | None]] = [[]]
        place = 0
        literal: list[str] = []

        def flush() -> None:
            if literal:
                segments[-1].extend(fold("".join(literal)))
                literal.clear()

        while place < len(pattern):
            character = pattern[place]
            place += 1
            if character == "\\" and place < len(pattern):
                literal.append(pattern[place])
                place += 1
            elif character == "*":
                flush()
                segments.append([])
            elif character == "?":
                flush()
                segments[-1].append(None)
            else:
                literal.append(character)
        flush()
        self._keep([_Segment(items) for items in segments])

    def _keep(self, made: list[_Segment]) -> None:
        self._first = made[0]
        self._middle = made[1:-1]
        self._last = made[-1] if len(made) > 1 else None

    def match(self, text: str, spend: Callable[[int], None]) -> list[Span] | None:
        """What each wildcard matches in the folded `text`; None when the pattern does not match."""
        first, last = self._first, self._last
        if not first.fits(text, 0):
            return None
        spans = [(mark, mark + 1) for mark in first.marks]
        place = first.size
        if last is None:
            return spans if place == len(text) else None
        for segment in self._middle:
            found = segment.find(text, place, spend)
            if found < 0:
                return None
            spans.append((place, found))
            for mark in segment.marks:
                spans.append((found + mark, found + mark + 1))
            place = found + segment.size
        found = len(text) - last.size
        if found < place or not last.fits(text, found):
            return None
        spans.append((place, found))
        spans.extend((found + mark, found + mark + 1) for mark in last.marks)
        return spans
