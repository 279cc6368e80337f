"""Where the header fields of a message are: one pass over its first octets.

`HeaderIndex` finds the end of the header section, cuts it into fields and files them under their
lower-case names. It decodes nothing. Octets become a Latin-1 string, one character an octet, for the
methods of `str` are as fast as those of `bytes` and names can be looked up without encoding them; the
octets come back by encoding.

The header section ends at the first empty line (RFC 5322 section 2.1), ended by CRLF or by a bare LF. A
line of white space alone continues the field before it (obs-FWS, section 4.2). A line without a colon is
kept in its place as a field without a name, as Dovecot does: it does not end the header, so what the mail
store will see is what the policy sees. White space before the colon is not part of the name (section 4.5).
Where the very first line begins with white space there is no header: as a field it would continue whatever
is put in front of it, such as our verdict on who the sender is.

Any octets can be indexed, in linear time; nothing raises.
"""

from __future__ import annotations

import re
from itertools import accumulate

_empty_line = re.compile(rb"\n\r?\n").search
_no_header = re.compile(rb"\r?\n|\r?\Z|(?=[ \t])").match
_split_fields = re.compile(r"\n(?![ \t])").split


class HeaderIndex:
    """The fields of one header section, as received."""

    __slots__ = ("_offsets", "body_offset", "by_name", "header_end", "lines")

    def __init__(self, head: bytes) -> None:
        """`head` is the start of a message, or a header section alone, with or without its empty line."""
        self.lines: list[str]
        """Each field as received, in Latin-1: with its folding and the CR of its end, without the last LF."""
        self.by_name: dict[str, list[int]] = {}
        """Lower-case name to places in `lines`, ascending."""
        self._offsets: list[int] | None = None
        if head[:1] <= b" " and (start := _no_header(head)) is not None:
            self.header_end = 0
            self.body_offset = start.end()
            self.lines = []
            return
        found = _empty_line(head)
        if found is not None:
            end = found.start()
            self.body_offset = found.end()
            """Where the body begins; the length of `head` when there is no empty line in it."""
        else:
            end = len(head)
            self.body_offset = end
            if head.endswith((b"\n", b"\n\r")):  # a CR there is the beginning of an empty line
                end = head.rindex(b"\n")
        self.header_end = min(end + 1, len(head))
        """Octets of the header section, without the empty line."""
        self.lines = lines = _split_fields(head[:end].decode("latin-1"))
        by_name = self.by_name
        for place, line in enumerate(lines):
            name, colon, _ = line.partition(":")
            if colon:
                name = name.rstrip(" \t").lower()
                if name in by_name:
                    by_name[name].append(place)
                else:
                    by_name[name] = [place]
        by_name.pop("", None)  # a colon alone makes no field

    @property
    def malformed(self) -> int:
        """How many of `lines` are no field: no colon, or no name before it."""
        return len(self.lines) - sum(map(len, self.by_name.values()))

    @property
    def offsets(self) -> list[int]:
        """Where each field begins, in octets from the start of the message."""
        if self._offsets is None:
            self._offsets = list(accumulate((len(line) + 1 for line in self.lines), initial=0))[:-1]
        return self._offsets

    @property
    def longest_line(self) -> int:
        """Octets of the longest line of the header section, without its line end."""
        return max(
            (len(line.removesuffix("\r")) for raw in self.lines for line in raw.split("\n")), default=0
        )
