"""Edits of a header section, kept beside the fields as received.

An `Overlay` is made when the first edit happens and holds the fields in their new order. A field sits in a
slot; changing or deleting it touches its slot and the list of its name only, so that many edits of many
fields stay cheap. Positions and numbers follow the header as it stands after the edits before (Postfix
and RFC 5293 section 5 agree: what was deleted is not counted).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from sieve_ext.message.field import Field


class _Slot:
    __slots__ = ("field",)

    def __init__(self, field: Field | None) -> None:
        self.field = field


class Overlay:
    """The edited header of one message."""

    __slots__ = ("_by_name", "_count", "_slots")

    def __init__(self, fields: Iterable[Field]) -> None:
        """Begin with `fields` in their order."""
        self._slots = [_Slot(field) for field in fields]
        self._count = len(self._slots)
        self._by_name: dict[str, list[_Slot]] = {}
        for slot in self._slots:
            if slot.field is not None:
                self._by_name.setdefault(slot.field.key, []).append(slot)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Field]:
        return (slot.field for slot in self._slots if slot.field is not None)

    def named(self, key: str) -> list[Field]:
        """The fields of the lower-case name `key`, in order."""
        return [slot.field for slot in self._by_name.get(key, ()) if slot.field is not None]

    def keys(self) -> Iterator[str]:
        """The lower-case names that occur."""
        return (key for key, slots in self._by_name.items() if slots)

    def insert(self, field: Field, position: int | None) -> None:
        """Put `field` before the field at `position` from 0; None or too large a position: at the end."""
        slot = _Slot(field)
        same = self._by_name.setdefault(field.key, [])
        if position is None or position >= self._count:
            self._slots.append(slot)
            same.append(slot)
        elif position <= 0:
            self._slots.insert(0, slot)
            same.insert(0, slot)
        else:
            if self._count < len(self._slots):
                self._slots = [slot for slot in self._slots if slot.field is not None]
            if same:
                before = sum(
                    1
                    for other in islice(self._slots, position)
                    if other.field and other.field.key == field.key
                )
                same.insert(before, slot)
            else:
                same.append(slot)
            self._slots.insert(position, slot)
        self._count += 1

    def replace(self, key: str, number: int, field: Field, skip: int = 0) -> bool:
        """Put `field` in the place of the `number`-th (from 1) of its name; False if there is none."""
        place = self._place(key, number, skip)
        if place is None:
            return False
        self._by_name[key][place].field = field
        return True

    def delete(self, key: str, number: int, skip: int = 0) -> bool:
        """Delete the `number`-th field (from 1) of the name; False if there is none."""
        place = self._place(key, number, skip)
        if place is None:
            return False
        self._by_name[key].pop(place).field = None
        self._count -= 1
        return True

    def remove(self, fields: Collection[Field]) -> int:
        """Delete these very fields at one go; returns how many of them were there."""
        marked = {id(field) for field in fields}
        removed = 0
        for key in {field.key for field in fields}:
            kept: list[_Slot] = []
            for slot in self._by_name.get(key, ()):
                if id(slot.field) in marked:
                    slot.field = None
                    removed += 1
                else:
                    kept.append(slot)
            self._by_name[key] = kept
        self._count -= removed
        return removed

    def _place(self, key: str, number: int, skip: int) -> int | None:
        slots = self._by_name.get(key, [])
        place = max(number, 1) - 1
        if skip:
            skipped = {id(slot) for slot in islice((s for s in self._slots if s.field is not None), skip)}
            place += sum(1 for slot in islice(slots, skip) if id(slot) in skipped)
        return place if place < len(slots) else None
