"""What a callback of a filter may return."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailmilter.constants import Response
from mailmilter.packets import packet

_ENHANCED = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")


@dataclass(slots=True, frozen=True)
class Answer:
    """A response, by its code, and its data."""

    code: int
    data: bytes = b""

    def encode(self) -> bytes:
        """The packet."""
        return packet(self.code, self.data)


CONTINUE = Answer(Response.CONTINUE)
ACCEPT = Answer(Response.ACCEPT)
"""Nothing more of this message; at `connect` and `helo`: of this session."""
DISCARD = Answer(Response.DISCARD)
"""Not at `connect` and `helo`."""
REJECT = Answer(Response.REJECT)
TEMPFAIL = Answer(Response.TEMPFAIL)
SKIP = Answer(Response.SKIP)
"""From `body`: no more of the body, go on to the end of the message."""
SHUTDOWN = Answer(Response.SHUTDOWN)
CONNECTION_FAILURE = Answer(Response.CONNECTION_FAILURE)


def reply(code: int, enhanced: str, *lines: str) -> Answer:
    """Refuse with a reply of your own: 4xx or 5xx, an enhanced code of the same class or "", lines of text.

    Raises ValueError for other codes, for no text, for more than 32 lines and for lines over 980 octets or
    with control characters.
    """
    if not 400 <= code <= 599:
        raise ValueError(f"reply code {code}: 400 to 599")
    if enhanced and (not _ENHANCED.fullmatch(enhanced) or enhanced[0] != str(code)[0]):
        raise ValueError(f"enhanced code {enhanced!r} with {code}")
    if not 1 <= len(lines) <= 32:
        raise ValueError(f"{len(lines)} lines: 1 to 32")
    made: list[str] = []
    for number, line in enumerate(lines, 1):
        if len(line.encode()) > 980 or not (line.isprintable() or not line):
            raise ValueError("a line has at most 980 octets, none of them control characters")
        sign = "-" if number < len(lines) else " "
        # Sendmail takes the text as a format.
        made.append(f"{code}{sign}{enhanced}{' ' if enhanced else ''}{line}".replace("%", "%%"))
    return Answer(Response.REPLY, "\r\n".join(made).encode() + b"\0")
