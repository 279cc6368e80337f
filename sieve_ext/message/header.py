"""The fields of a header section, found by name, decoded when asked for.

`Header` is what a message and a body part have in common. Every field has a number that stays its own; the
numbers of a name are found in one dictionary look-up, whatever was edited before (`sieve_ext.message.message`
makes the edits). Names are given in lower case. Nothing raises.
"""

from __future__ import annotations

from sieve_ext.message.field import Field
from sieve_ext.message.index import HeaderIndex


class Header:
    """A header section (RFC 5322 section 2.2)."""

    __slots__ = ("_by_name", "_fields", "_index", "_lines", "_order")

    def __init__(self, index: HeaderIndex) -> None:
        """The fields that `index` found."""
        self._index = index
        # Number to field in Latin-1; an edit replaces this list by an own one, where deleted fields are "".
        self._lines = index.lines
        # Name to numbers in the order of the header; deleted fields are not in it.
        self._by_name = index.by_name
        # Number to field object, as far as one was asked for.
        self._fields: list[Field | None] = [None] * len(index.lines)
        # Numbers in the order of the header, None while it is that of the numbers.
        self._order: list[int] | None = None

    @property
    def fields(self) -> list[Field]:
        """All fields in order, those without a name too."""
        if self._order is None:
            return [self._field(number) for number in range(len(self._lines))]
        return [self._field(number) for number in self._order if self._lines[number]]

    @property
    def field_count(self) -> int:
        """How many fields there are."""
        if self._order is None:
            return len(self._lines)
        return sum(1 for number in self._order if self._lines[number])

    def __contains__(self, key: object) -> bool:
        """True when a field of the lower-case name `key` exists."""
        return bool(self._by_name.get(key))  # type: ignore[call-overload]

    def keys(self) -> list[str]:
        """The lower-case names that occur, each once."""
        return [key for key, numbers in self._by_name.items() if numbers]

    def count(self, key: str) -> int:
        """How many fields have the lower-case name `key`."""
        return len(self._by_name.get(key, ()))

    def get(self, key: str) -> Field | None:
        """The first field of the lower-case name `key`."""
        numbers = self._by_name.get(key)
        return self._field(numbers[0]) if numbers else None

    def all(self, key: str) -> list[Field]:
        """The fields of the lower-case name `key` in order."""
        return [self._field(number) for number in self._by_name.get(key, ())]

    def text(self, key: str) -> str | None:
        """The decoded value of the first field of the lower-case name `key`, None if there is none."""
        field = self.get(key)
        return None if field is None else field.text

    def offset(self, field: Field) -> int:
        """Where `field` begins in the section as received, in octets; -1 for one that an edit made."""
        return -1 if field.index < 0 else self._index.offsets[field.index]

    def _field(self, number: int) -> Field:
        field = self._fields[number]
        if field is None:
            line = self._lines[number]
            received = self._index.lines
            index = number if number < len(received) and line is received[number] else -1
            field = self._fields[number] = Field(line, index)
        return field
