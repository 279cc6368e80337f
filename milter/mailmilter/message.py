"""A message as milters edit it: header fields with their exact octets, a body in pieces, an envelope.

Positions are Postfix's, which are Sendmail's: the MTA's own trace field on top is not shown to filters
(`own`); changing and deleting counts the fields that are shown, inserting counts all of them. So an insertion
at 0 comes above the MTA's own "Received:", at 1 below it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from mailmilter.values import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteHeader,
    DeleteRecipient,
    Edit,
    InsertHeader,
    Quarantine,
    ReplaceBody,
)


@dataclass(slots=True, frozen=True)
class Field:
    """A header field: `name`, the colon with blanks before it, and all up to the final CRLF."""

    name: bytes
    value: bytes
    """With its leading space; CRLF inside where it is folded."""
    colon: bytes = b":"
    own: bool = False
    """True for the MTA's own "Received:" and what else filters do not see."""

    def render(self) -> bytes:
        """The octets of the field."""
        return b"%s%s%s\r\n" % (self.name, self.colon, self.value)


def split_fields(head: bytes) -> list[Field]:
    """The fields of a header section (CRLF line ends, without the empty line).

    A line that is no field is kept as the continuation of the one before; at the top it is passed over, as
    there is no field to show a filter.
    """
    fields: list[Field] = []
    for line in head.split(b"\r\n"):
        if not line:
            continue
        name, colon, value = line.partition(b":")
        stripped = name.rstrip(b" \t")
        if line[:1] not in b" \t" and colon and stripped:
            fields.append(Field(stripped, value, name[len(stripped) :] + b":"))
        elif fields:
            last = fields[-1]
            fields[-1] = Field(last.name, last.value + b"\r\n" + line, last.colon)
    return fields


_LINE_END = re.compile(rb"\r\n|\r|\n")


def crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A body from a filter with CRLF at every line end, the last line's too.

    Postfix takes LF and CRLF from filters; a lone CR becomes CRLF as well, as it may not go out over SMTP.
    """
    held = b""
    last = b"\n"
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        data = _LINE_END.sub(b"\r\n", data[: len(data) - len(held)])
        if data:
            last = data[-1:]
            yield data
    if held or last != b"\n":
        yield b"\r\n"


def _key(address: bytes) -> bytes:
    """What makes two addresses the same recipient: the domain counts without regard to case."""
    local, at, domain = address.rpartition(b"@")
    return local + at + domain.lower()


class BodyStore(Protocol):
    """Where a replaced body is kept, outside of memory if the caller likes."""

    def write(self, piece: bytes, /) -> None:
        """Take the next piece. Raises OSError when it cannot: the milter's default action holds then."""

    def chunks(self) -> Iterable[bytes]:
        """All pieces from the beginning; may be asked several times."""


@dataclass(slots=True)
class Message:
    """What a chain of milters works on; edits change it in place."""

    fields: list[Field]
    body: Callable[[], Iterable[bytes]]
    """Gives the body from its beginning, once for each milter."""
    sender: bytes = b""
    sender_parameters: bytes = b""
    recipients: list[AddRecipient] = field(default_factory=list)
    """The recipients that stand, each with the parameters a milter gave it; `apply` makes a new list."""
    quarantine: list[str] = field(default_factory=list)
    """Reasons for holding it; empty: do not."""
    body_replaced: bool = False

    def shown(self) -> Iterator[Field]:
        """The fields that filters see."""
        return (one for one in self.fields if not one.own)

    def octets(self) -> Iterator[bytes]:
        """The message as it stands."""
        for one in self.fields:
            yield one.render()
        yield b"\r\n"
        yield from self.body()

    def apply(self, edits: Iterable[Edit], store: BodyStore | None = None) -> None:
        """Carry out the edits of one milter, in order; a new body is in `store` when there is one."""
        standing: dict[bytes, list[AddRecipient]] = {}
        for one in self.recipients:
            standing.setdefault(_key(one.address), []).append(one)
        names = [b"" if one.own else one.name.lower() for one in self.fields]  # no filter changes what is own
        for edit in edits:
            if isinstance(edit, AddRecipient):
                standing.setdefault(_key(edit.address), [edit])
            elif isinstance(edit, DeleteRecipient):
                standing.pop(_key(edit.address), None)
            else:
                self._apply(edit, names)
            if store is not None and isinstance(edit, ReplaceBody):
                self.body = lambda: crlf(store.chunks())
        self.recipients = [one for same in standing.values() for one in same]

    def _apply(self, edit: Edit, names: list[bytes]) -> None:
        """`names` are those of the fields in lower case; they are kept as the fields are."""
        if isinstance(edit, AddHeader):
            self._insert(len(names), edit, names)
        elif isinstance(edit, InsertHeader):
            self._insert(edit.index, edit, names)
        elif isinstance(edit, ChangeHeader):
            at = _find(edit, names)
            if at is None:
                self._insert(len(names), edit, names)
            else:
                self.fields[at] = Field(edit.name, edit.value)
        elif isinstance(edit, DeleteHeader):
            at = _find(edit, names)
            if at is not None:
                del self.fields[at], names[at]
        elif isinstance(edit, ChangeSender):
            self.sender, self.sender_parameters = edit.address, edit.parameters
        elif isinstance(edit, ReplaceBody):
            chunks = tuple(crlf(edit.chunks))
            self.body = lambda: chunks
            self.body_replaced = True
        elif isinstance(edit, Quarantine):
            self.quarantine.append(edit.reason)

    def _insert(self, at: int, edit: AddHeader | InsertHeader | ChangeHeader, names: list[bytes]) -> None:
        self.fields.insert(at, Field(edit.name, edit.value))
        names.insert(at, edit.name.lower())


def _find(edit: ChangeHeader | DeleteHeader, names: list[bytes]) -> int | None:
    wanted = edit.name.lower()
    at = -1
    try:
        for _ in range(edit.index):
            at = names.index(wanted, at + 1)
    except ValueError:
        return None
    return at
