"""The one reply type: what a check decides, what the client reads, what the log and the queue keep.

A `Reply` carries a code (RFC 5321 section 4.2), an enhanced code (RFC 3463) and the public text; the
private cause goes to the log only. Replies of a next hop are parsed into the same type and passed on
unchanged, so a ``552 5.2.2`` of the mail store reaches the client as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_REPLY_LINE = 512
"""Longest reply line in octets, CRLF included (RFC 5321 section 4.5.3.1.5)."""


@dataclass(slots=True, frozen=True)
class Reply:
    """One SMTP reply.

    `code` is 200-599. `enhanced` is "class.subject.detail" or "" for the few replies that have none
    (greeting, EHLO, 334, 354). `text` may have several lines, separated by "\\n", without control
    characters. `cause` is for the log. `close` ends the session after the reply is sent.
    """

    code: int
    enhanced: str
    text: str
    cause: str = ""
    close: bool = False
    octets: bytes = field(default=b"", init=False, repr=False, compare=False)
    """What `encode` made, empty before. Most replies are constants and are encoded once."""

    @property
    def is_positive(self) -> bool:
        """True for 2yz and 3yz."""
        return self.code < 400

    @property
    def is_temporary(self) -> bool:
        """True for 4yz: the client may try again."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """True for 5yz: the client must not repeat the request."""
        return self.code >= 500

    def __str__(self) -> str:
        head = f"{self.code} {self.enhanced} " if self.enhanced else f"{self.code} "
        return head + self.text.replace("\n", " / ")

    def encode(self) -> bytes:
        """The reply as octets on the wire, each line under `MAX_REPLY_LINE`, CR, LF and NUL made harmless."""
        octets = self.octets
        if not octets:
            octets = self._encode()
            object.__setattr__(self, "octets", octets)
        return octets

    def _encode(self) -> bytes:
        text = self.text
        if len(text) < 400 and text.isascii() and text.isprintable():
            if self.enhanced:
                return f"{self.code} {self.enhanced} {text}\r\n".encode("ascii")
            return f"{self.code} {text}\r\n".encode("ascii")
        prefix = f"{self.enhanced} ".encode("ascii") if self.enhanced else b""
        lines: list[bytes] = []
        room = MAX_REPLY_LINE - 4 - len(prefix) - 2
        for line in text.split("\n"):
            if not line.isprintable():
                line = "".join(c if c.isprintable() else " " for c in line)
            clean = line.encode("utf-8")
            while len(clean) > room:
                cut = room
                while cut > room - 4 and clean[cut] & 0xC0 == 0x80:  # never inside a UTF-8 sequence
                    cut -= 1
                lines.append(clean[:cut])
                clean = clean[cut:]
            lines.append(clean)
        code = str(self.code).encode("ascii")
        out = [code + b"-" + prefix + line for line in lines[:-1]]
        out.append(code + b" " + prefix + lines[-1])
        return b"\r\n".join(out) + b"\r\n"
