"""What the server of ManageSieve writes (RFC 5804 sections 1.2 and 4): strings and responses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mta.reply import Reply

MAX_QUOTED = 1024
"""Octets of the longest quoted string (RFC 5804 section 4); longer ones are literals."""


@dataclass(slots=True, frozen=True)
class Answer:
    """The end of a command: OK, NO or BYE."""

    kind: str
    text: str = ""
    code: str = ""
    """A response code with its arguments: "QUOTA/MAXSIZE", 'TAG "x"'."""
    close: bool = False
    """The session ends after it."""

    def encode(self) -> bytes:
        """The octets on the wire."""
        code = f" ({self.code})" if self.code else ""
        head = f"{self.kind}{code}".encode()
        return head + (b" " + string(self.text.encode()) if self.text else b"") + b"\r\n"


def ok(text: str = "", code: str = "") -> Answer:
    """The command is done."""
    return Answer("OK", text, code)


def no(text: str, code: str = "") -> Answer:
    """The command is refused."""
    return Answer("NO", text, code)


def bye(text: str, code: str = "") -> Answer:
    """The session ends."""
    return Answer("BYE", text, code, close=True)


def string(octets: bytes) -> bytes:
    """A string, quoted where that is allowed."""
    if len(octets) > MAX_QUOTED or any(octet in octets for octet in b"\r\n\0"):
        return literal(octets)
    return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def literal(octets: bytes) -> bytes:
    """A string as a literal."""
    return b"{%d}\r\n" % len(octets) + octets


def capabilities(pairs: Iterable[tuple[str, str | None]]) -> bytes:
    """The lines of CAPABILITY: names, and values where there are any."""
    return b"".join(
        string(name.encode()) + (b"" if value is None else b" " + string(value.encode())) + b"\r\n"
        for name, value in pairs
    )


def translated(reply: Reply) -> Answer:
    """An answer of the parts that speak SMTP (logins, time-outs, shutdown)."""
    if reply.is_positive:
        return ok()
    if reply.close or reply.code == 421:
        return bye(reply.text, "TRYLATER" if reply.is_temporary else "")
    code = {538: "ENCRYPT-NEEDED", 534: "AUTH-TOO-WEAK"}.get(reply.code, "")
    return no(reply.text, code or ("TRYLATER" if reply.is_temporary else ""))
