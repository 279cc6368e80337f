"""Strings that many messages share (sites, replies), kept once and named by small numbers."""

from __future__ import annotations

from array import array


class Interner:
    """A table of counted strings. Number 0 is "" and always there."""

    __slots__ = ("_counts", "_free", "_numbers", "_texts")

    def __init__(self) -> None:
        """Only "" is in it."""
        self._texts: list[str] = [""]
        self._counts = array("I", [1])
        self._numbers: dict[str, int] = {"": 0}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def take(self, text: str) -> int:
        """The number of a string, used once more."""
        number = self._numbers.get(text)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._texts[number] = text
            else:
                number = len(self._texts)
                self._texts.append(text)
                self._counts.append(0)
            self._numbers[text] = number
        if number:
            self._counts[number] += 1
        return number

    def drop(self, number: int) -> None:
        """One use less; the string goes with its last."""
        if not number:
            return
        self._counts[number] -= 1
        if not self._counts[number]:
            del self._numbers[self._texts[number]]
            self._texts[number] = ""
            self._free.append(number)

    def text(self, number: int) -> str:
        """The string of a number."""
        return self._texts[number]

    def texts(self) -> list[str]:
        """All, by number; those not in use are ""."""
        return self._texts

    def copy(self) -> Interner:
        """The same strings under the same numbers, to be read only."""
        copy = Interner()
        copy._texts = self._texts[:]
        return copy
