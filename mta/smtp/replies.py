"""Reads the replies of an SMTP or LMTP server (RFC 5321 section 4.2, RFC 2034).

`ReplyParser` takes octets as they arrive and yields `Reply` values: lines of one reply joined with "\\n", the
enhanced code taken out of the text. It is lenient where real servers are careless (a bare LF ends a line,
a code may stand alone, lines longer than 512 octets, codes that no RFC has) and strict where a lie could be
made (every line of a reply has the same code, codes begin with 2 to 5, lengths are limited). What is no reply
raises `ReplyError`; nothing after it can be trusted, the connection has to be closed.

A code outside of the grammar, as 571 of those who block senders, means what its first digit says (RFC 5321
section 4.3.2): it is read as 250, 350, 450 or 550, for our own client may be strict.

Text is cleaned for passing on: octets that are not UTF-8 become U+FFFD, control characters become spaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from mta.reply import Reply

MAX_LINE = 2048
"""Octets of one reply line. RFC 5321 section 4.5.3.1.5 says 512; servers that quote addresses send more."""
MAX_LINES = 128
"""Lines of one reply. Replies to EHLO have some 20; long policy texts about as many."""
MAX_SIZE = 32 * 1024
"""Octets of one reply in all: what a hostile server may make us keep."""


class ReplyError(Exception):
    """The octets are no SMTP reply (fault of the peer)."""


def split_enhanced(code: int, text: str) -> tuple[str, str]:
    """Enhanced code and the rest of the text; "" when there is none or its class is not that of `code`.

    RFC 2034 section 4: class.subject.detail, the class equal to the first digit of the basic code.
    """
    if text[1:2] != "." or text[0] != "0123456789"[code // 100]:
        return "", text
    if text[3:4] == "." and text[5:6] == " " and (text[2] + text[4]).isdigit() and text[:5].isascii():
        return text[:5], text[6:].lstrip(" ")  # "d.d.d text", nearly all there are
    head, _, rest = text.partition(" ")
    parts = head.split(".")
    if len(parts) != 3 or not head.isascii():
        return "", text
    _, subject, detail = parts
    if not (subject.isdigit() and detail.isdigit() and len(subject) <= 3 and len(detail) <= 3):
        return "", text
    return head, rest.lstrip(" ")


def _parse_code(line: bytes) -> int:
    code = line[:3]
    if not code.isdigit() or len(code) != 3 or not b"200" <= code <= b"599":
        raise ReplyError(f"not a reply: {line[:80]!r}")
    if line[3:4] not in (b" ", b"-", b""):
        raise ReplyError(f"not a reply: {line[:80]!r}")
    return int(code)


def _known(code: int) -> int:
    """The code, or where RFC 5321 has none with such a second digit, that of its class."""
    return code if code % 100 < 60 else code // 100 * 100 + 50


def _clean(text: bytes) -> str:
    decoded = text.decode("utf-8", "replace")
    if decoded.isprintable():
        return decoded.rstrip(" ")
    return "".join(c if c.isprintable() else " " for c in decoded).rstrip(" ")


@lru_cache(maxsize=256)
def _single(line: bytes) -> Reply:
    # Most replies of a session are the same few lines over and over: "250 2.1.5 OK".
    if line[3:4] == b"-" or b"\n" in line or len(line) > MAX_LINE:
        raise ReplyError("not a reply of one line")
    code = _parse_code(line)
    enhanced, text = split_enhanced(code, _clean(line[4:]))
    return Reply(_known(code), enhanced, text)


def _multi(code: int, lines: list[bytes]) -> Reply:
    texts = [_clean(line[4:]) for line in lines]
    enhanced, texts[0] = split_enhanced(code, texts[0])
    if enhanced:
        for number in range(1, len(texts)):
            again, rest = split_enhanced(code, texts[number])
            if again == enhanced:
                texts[number] = rest
    return Reply(_known(code), enhanced, "\n".join(texts))


class ReplyParser:
    """Octets in, replies out."""

    __slots__ = ("_buffer", "_code", "_lines", "_position", "_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self._lines: list[bytes] = []
        self._code = 0
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """True when no octet waits: nothing was sent after the last reply."""
        return self._position == len(self._buffer) and not self._lines

    def feed(self, data: bytes) -> None:
        """Take octets as they were received."""
        if self._position == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def read(self, data: bytes) -> Iterable[Reply]:
        """Take octets and iterate over the replies that are complete. The iteration raises ReplyError.

        Go through all of it: what is left over would be read next time.
        """
        if self._position == len(self._buffer) and not self._lines and data.endswith(b"\r\n"):
            # Whole replies of one line each, as nearly always: no state is needed.
            try:
                return [_single(line) for line in data[:-2].split(b"\r\n")]
            except ReplyError:
                pass  # of several lines, or garbage after good ones: one by one
        self.feed(data)
        return iter(self.next_reply, None)

    def next_reply(self) -> Reply | None:
        """The next complete reply, None when more octets are needed. Raises ReplyError."""
        buffer = self._buffer
        while True:
            start = self._position
            if start == len(buffer):
                return None
            end = buffer.find(b"\n", start)
            if end < 0 or end - start > MAX_LINE:
                if len(buffer) - start > MAX_LINE:
                    raise ReplyError(f"reply line over {MAX_LINE} octets")
                return None
            self._position = end + 1
            line = buffer[start:end]
            if line.endswith(b"\r"):
                line = line[:-1]
            if line[3:4] == b"-":
                self._add(line)
                continue
            if not self._lines:
                return _single(line)
            self._add(line)
            reply = _multi(self._code, self._lines)
            self._lines = []
            return reply

    def _add(self, line: bytes) -> None:
        code = _parse_code(line)
        if not self._lines:
            self._code = code
            self._size = 0
        elif code != self._code:
            raise ReplyError(f"one reply with codes {self._code} and {code}")
        self._lines.append(line)
        self._size += len(line)
        if len(self._lines) > MAX_LINES or self._size > MAX_SIZE:
            raise ReplyError(f"reply over {MAX_LINES} lines or {MAX_SIZE} octets")
