"""Responses of HTTP/1.1 as octets: one reader for all who ask web services (RFC 9112). Pure.

    reader = ResponseReader(limit=64 * 1024)
    while reader.response is None:
        reader.feed(octets) if octets else reader.end()

`feed` takes what comes, in whatever pieces; `end` tells that the connection has ended. `response` is there as
soon as all of it is. 1xx responses before it are skipped, trailer fields are read and forgotten. Content is
delimited by chunks, Content-Length or the end of the connection (section 6.3).

Raises HttpError for what is no response, TooLong for more than was bargained for, and Incomplete when the
connection ends too early.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

MAX_HEAD = 16 * 1024
"""Octets of all heads, and of all that is neither head nor content, of a response."""
FIELDS_MOST = 100
"""Header fields of a response."""


class HttpError(Exception):
    """The octets are no response; the text says why."""


class TooLong(HttpError):
    """The content has more octets than the limit."""


class Incomplete(HttpError):
    """The connection ended before the response did."""


@dataclass(slots=True, frozen=True)
class Response:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case; of several equal ones the last."""
    body: bytes

    @property
    def media_type(self) -> str:
        """The media type without its parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class ResponseReader:
    """One response to one request that was not HEAD or CONNECT."""

    def __init__(self, limit: int) -> None:
        """`limit` is the most octets of content."""
        self.response: Response | None = None
        self._limit = limit
        self._buffer = bytearray()
        self._overhead = MAX_HEAD
        self._ended = False
        self._work = self._read()
        next(self._work)

    @property
    def rest(self) -> bytes:
        """What came behind the response: nobody has asked for it."""
        return b"" if self.response is None else bytes(self._buffer)

    def feed(self, octets: bytes) -> None:
        """Take octets. Raises HttpError."""
        self._buffer += octets
        self._go_on()

    def end(self) -> None:
        """The connection has ended: the response is there now, or Incomplete is raised."""
        self._ended = True
        self._go_on()

    def _go_on(self) -> None:
        if self.response is None:
            try:
                next(self._work)
            except StopIteration as done:
                self.response = done.value

    # Each part of the response yields when it needs more octets.

    def _read(self) -> Generator[None, None, Response]:
        yield
        while True:
            status = _status((yield from self._line()))
            headers = yield from self._fields()
            if status >= 200:
                break
        if status in (204, 304):
            return Response(status, headers, b"")
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise HttpError("an unknown Transfer-Encoding")
            return Response(status, headers, (yield from self._chunks()))
        if "content-length" in headers:
            size = _length(headers["content-length"])
            if size > self._limit:
                raise TooLong(f"more than {self._limit} octets")
            return Response(status, headers, (yield from self._exactly(size)))
        return Response(status, headers, (yield from self._all()))

    def _line(self) -> Generator[None, None, bytes]:
        """A line without its end, which may be a bare LF (section 2.2)."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > self._overhead:
                raise HttpError("too long a line")
            yield from self._more()
        self._overhead -= end + 1
        if self._overhead < 0:
            raise HttpError("more header than anybody reads")
        return self._take(end + 1)[:-1].removesuffix(b"\r")

    def _fields(self) -> Generator[None, None, dict[str, str]]:
        headers: dict[str, str] = {}
        seen = 0
        while line := (yield from self._line()):
            name, colon, value = line.decode("latin-1").partition(":")
            name, value = name.lower(), value.strip()
            seen += 1
            if not colon or not name or name != name.strip() or seen > FIELDS_MOST:
                raise HttpError("the header is none")
            if name == "content-length" and headers.get(name, value) != value:
                raise HttpError("two lengths")
            headers[name] = value
        return headers

    def _chunks(self) -> Generator[None, None, bytes]:
        parts: list[bytes] = []
        left = self._limit
        while size := _chunk_size((yield from self._line())):
            left -= size
            if left < 0:
                raise TooLong(f"more than {self._limit} octets")
            parts.append((yield from self._exactly(size)))
            if (yield from self._line()):
                raise HttpError("a chunk without end")
            self._overhead = max(self._overhead, MAX_HEAD // 2)  # the content has a limit of its own
        yield from self._fields()
        return b"".join(parts)

    def _exactly(self, size: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < size:
            yield from self._more()
        return self._take(size)

    def _all(self) -> Generator[None, None, bytes]:
        while not self._ended:
            if len(self._buffer) > self._limit:
                raise TooLong(f"more than {self._limit} octets")
            yield
        if len(self._buffer) > self._limit:
            raise TooLong(f"more than {self._limit} octets")
        return self._take(len(self._buffer))

    def _more(self) -> Generator[None, None, None]:
        if self._ended:
            raise Incomplete("the connection ended")
        yield

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def _status(line: bytes) -> int:
    version, _, rest = line.partition(b" ")
    code, _, _ = rest.partition(b" ")
    if not version.startswith(b"HTTP/1.") or len(code) != 3 or not code.isdigit() or code < b"100":
        raise HttpError(f"{line[:200].decode('latin-1')!r} is no status line")
    return int(code)


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise HttpError("no sense in its Content-Length")
    return int(text)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not 1 <= len(digits) <= 8 or digits.strip(b"0123456789abcdefABCDEF"):
        raise HttpError("no chunk size")
    return int(digits, 16)
