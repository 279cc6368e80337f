"""The Dovecot auth protocol, client side, sans-IO (versions 1.1 and 1.2).

Lines of fields separated by TAB, escaped with octet 1. After the handshake (VERSION, MECH, SPID, CUID,
COOKIE, DONE) many requests run at once, told apart by their numbers: AUTH and CONT go out, OK, CONT and FAIL
come back. Version 1.2 is announced: a 1.3 server then keeps back the mechanisms with channel binding, whose
transport to Dovecot is not part of the published protocol.

https://doc.dovecot.org/latest/developers/design/auth_protocol.html
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass, field

VERSION = (1, 2)
"""Major and minor version that we announce."""
MAX_LINE = 16384
"""Longest line in octets, in both directions, as the protocol says."""
MAX_BUFFER = 1024 * 1024
"""Octets received without a line end, after which the peer is not Dovecot."""

_ESCAPES = {"\1": "\0011", "\0": "\0010", "\t": "\1t", "\r": "\1r", "\n": "\1n"}
_UNESCAPES = {"0": "\0", "1": "\1", "t": "\t", "r": "\r", "n": "\n"}


class DovecotProtocolError(Exception):
    """The peer does not speak the protocol (remote fault)."""


@dataclass(slots=True, frozen=True)
class Answer:
    """OK, CONT or FAIL for one request. `data` is the decoded challenge of CONT."""

    kind: str
    number: int
    fields: dict[str, str]
    data: bytes = b""


@dataclass(slots=True)
class Handshake:
    """What the server said about itself."""

    version: tuple[int, int] = (0, 0)
    mechanisms: dict[str, frozenset[str]] = field(default_factory=dict)
    """Name to flags: plaintext, dictionary, active, forward-secrecy, mutual-auth, anonymous, private."""
    process: str = ""
    done: bool = False


def escape(text: str) -> str:
    """A field that may stand in a line."""
    if text.isprintable():
        return text
    return "".join(_ESCAPES.get(c, c) for c in text)


def unescape(text: str) -> str:
    """The reverse; an unknown escape stands for the character itself."""
    if "\1" not in text:
        return text
    out: list[str] = []
    characters = iter(text)
    for c in characters:
        if c == "\1":
            c = next(characters, "")
            c = _UNESCAPES.get(c, c)
        out.append(c)
    return "".join(out)


def auth_line(number: int, mechanism: str, fields: list[str], initial: bytes | None) -> bytes:
    """An AUTH command; `fields` are "name=value" or a word. Raises ValueError when it is over `MAX_LINE`."""
    parts = [f"AUTH\t{number}\t{mechanism}", *map(escape, fields)]
    if initial is not None:
        parts.append("resp=" + b64encode(initial).decode())  # must be the last
    return _checked("\t".join(parts).encode() + b"\n")


def cont_line(number: int, data: bytes) -> bytes:
    """A CONT command. Raises ValueError when it is over `MAX_LINE`."""
    return _checked(b"CONT\t%d\t%s\n" % (number, b64encode(data)))


def cancel_line(number: int) -> bytes:
    """A CANCEL command; nothing answers it."""
    return b"CANCEL\t%d\n" % number


def greeting(process: int) -> bytes:
    """The client's handshake."""
    return b"VERSION\t%d\t%d\nCPID\t%d\n" % (*VERSION, process)


def _checked(line: bytes) -> bytes:
    if len(line) > MAX_LINE:
        raise ValueError("the request is longer than a line of the protocol")
    return line


class Reader:
    """Turns what the server sends into the handshake and answers."""

    __slots__ = ("_buffer", "handshake")

    def __init__(self) -> None:
        """One for each connection."""
        self._buffer = b""
        self.handshake = Handshake()

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that are complete now. Raises DovecotProtocolError."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_BUFFER:
            raise DovecotProtocolError("a line without end")
        answers = []
        for line in lines:
            answer = self._line(line.decode("utf-8", "replace"))
            if answer is not None:
                answers.append(answer)
        return answers

    def _line(self, line: str) -> Answer | None:
        command, *fields = line.split("\t")
        hello = self.handshake
        match command:
            case "VERSION":
                if len(fields) < 2 or fields[0] != str(VERSION[0]) or not _is_number(fields[1]):
                    raise DovecotProtocolError(
                        f"not version {VERSION[0]} of the auth protocol: {line[:80]!r}"
                    )
                hello.version = (VERSION[0], int(fields[1]))
            case "MECH" if fields and not hello.done:
                hello.mechanisms[fields[0].upper()] = frozenset(fields[1:])
            case "SPID" if fields:
                hello.process = fields[0]
            case "DONE":
                if hello.version == (0, 0):
                    raise DovecotProtocolError("DONE without VERSION")
                hello.done = True
            case "OK" | "CONT" | "FAIL":
                return _answer(command, fields)
            case _:
                if not hello.done and hello.version == (0, 0):
                    raise DovecotProtocolError(f"not the auth protocol: {line[:80]!r}")
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 11


def _answer(command: str, fields: list[str]) -> Answer:
    if not fields or not _is_number(fields[0]):
        raise DovecotProtocolError(f"{command} without a request number")
    number = int(fields[0])
    if command == "CONT":
        try:
            data = b64decode(fields[1], validate=True) if len(fields) > 1 else b""
        except (binascii.Error, ValueError):
            raise DovecotProtocolError("CONT without base64") from None
        return Answer(command, number, {}, data)
    pairs = (unescape(text).partition("=") for text in fields[1:])
    return Answer(command, number, {name: value for name, _, value in pairs})
