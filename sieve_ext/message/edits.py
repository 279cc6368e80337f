"""Edits of a header section, kept beside the fields as received.

The first edit makes the list of fields, the order and the index of names the header's own; from then on a
change or a deletion touches one place, so that many edits of many fields stay cheap. Positions and numbers
follow the header as it stands after the edits before: what was deleted is not counted (so do Postfix and
RFC 5293 section 5).

Values cannot smuggle a further field in (`sieve_ext.message.field`). A name that is none raises ValueError.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from sieve_ext.message.field import Field, make_field, raw_field, split_raw_fields
from sieve_ext.message.header import Header
from sieve_ext.message.index import HeaderIndex


class EditableHeader(Header):
    """A header section that can be edited."""

    __slots__ = ("_shared",)

    def __init__(self, index: HeaderIndex) -> None:
        """The fields that `index` found."""
        Header.__init__(self, index)
        # Names whose list of numbers is still that of the index or a snapshot, to be copied before a change.
        self._shared: set[str] = set()

    def insert_field(self, field: Field, position: int | None = 0) -> None:
        """Put `field` before the field at `position` (from 0, the top); None or too large: at the end."""
        order = self._edit(field.key)
        number = len(self._lines)
        self._lines.append(field.line)
        self._fields.append(None)
        same = self._numbers(field.key)
        if position is not None and position > 0:
            if not all(self._lines[other] for other in islice(order, position)):
                order[:] = [other for other in order if self._lines[other]]
            if position >= len(order):
                position = None
        if position is None:
            order.append(number)
            same.append(number)
        elif position <= 0:
            order.insert(0, number)
            same.insert(0, number)
        else:
            above = set(islice(order, position)) if same else set()
            same.insert(sum(1 for other in same if other in above), number)
            order.insert(position, number)

    def add(self, name: str, text: str, position: int | None = 0, *, utf8: bool = False) -> None:
        """Add a field from text; see `make_field`. Raises ValueError for a bad name."""
        self.insert_field(make_field(name, text, utf8=utf8), position)

    def add_raw(
        self, name: str, value: bytes, position: int | None = None, *, separator: bytes = b" "
    ) -> None:
        """Add a field from octets (milter: add at the end, insert at `position`); see `raw_field`.

        `position` counts all fields from 0. Raises ValueError for a bad name.
        """
        self.insert_field(raw_field(name, value, separator), position)

    def prepend(self, raw: bytes) -> None:
        """Put whole fields, with their line ends, in front. Raises ValueError if they are none."""
        for field in reversed(split_raw_fields(raw)):
            self.insert_field(field, 0)

    def replace(
        self, name: str, number: int, value: bytes, *, separator: bytes = b" ", skip: int = 0
    ) -> bool:
        """Change the `number`-th field (from 1; 0 is taken as 1) of `name`, in any case, to octets `value`.

        The first `skip` fields of the header are not counted: a milter does not see the Received field
        that the MTA has put in front, so its numbers leave it out (its insert positions do not). False,
        and nothing is changed, when there is no such field; Postfix then adds the field at the end, and
        a caller that serves a milter should. Raises ValueError for a bad name.
        """
        field = raw_field(name, value, separator)
        order = self._edit(field.key)
        place = self._place(order, field.key, number, skip)
        if place < 0:
            return False
        target = self._by_name[field.key][place]
        self._lines[target] = field.line
        self._fields[target] = None
        return True

    def delete(self, name: str, number: int, *, skip: int = 0) -> bool:
        """Delete the `number`-th field of `name`, counted as in `replace`; False if there is none."""
        key = name.lower()
        order = self._edit(key)
        place = self._place(order, key, number, skip)
        if place < 0:
            return False
        self._lines[self._numbers(key).pop(place)] = ""
        return True

    def remove(self, fields: Collection[Field]) -> int:
        """Delete these very fields, which have a name; returns how many of them were there."""
        marked = set(map(id, fields))
        doomed = {
            key: [number for number in self._by_name.get(key, ()) if id(self._fields[number]) in marked]
            for key in {field.key for field in fields}
        }
        for key, numbers in doomed.items():
            if numbers:
                self._edit(key)
                for number in numbers:
                    self._lines[number] = ""
                self._numbers(key)[:] = [number for number in self._by_name[key] if self._lines[number]]
        return sum(map(len, doomed.values()))

    def _edit(self, key: str) -> list[int]:
        """Make lines, names and order this message's own before a field of the name is edited; the order."""
        if self._order is None:
            self._lines = lines = list(self._lines)
            if sum(map(len, lines)) + len(lines) > self._index.header_end:
                # The last field lacks its line end, which it needs when another comes behind it.
                lines[-1] = lines[-1].removesuffix("\r") + "\r"
                self._fields[-1] = None
            self._by_name = dict(self._by_name)
            self._shared = set(self._by_name)
            self._order = list(range(len(lines)))
        return self._order

    def _numbers(self, key: str) -> list[int]:
        """The numbers of a name, to be changed."""
        if key in self._shared:
            self._shared.discard(key)
            self._by_name[key] = list(self._by_name[key])
        return self._by_name.setdefault(key, [])

    def _place(self, order: list[int], key: str, number: int, skip: int) -> int:
        """The place in the numbers of a name of its `number`-th field, -1 if there is none."""
        numbers = self._by_name.get(key, [])
        place = max(number, 1) - 1
        if skip:
            skipped = set(islice((other for other in order if self._lines[other]), skip))
            place += sum(1 for other in islice(numbers, skip) if other in skipped)
        return place if place < len(numbers) else -1

    def render_header(self) -> bytes:
        """The header section as it stands, without the empty line."""
        lines = self._lines
        order = self._order if self._order is not None else range(len(lines))
        text = "\n".join([line for number in order if (line := lines[number])])
        return (text + "\n").encode("latin-1") if text else b""
