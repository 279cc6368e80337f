"""Content-Transfer-Encoding, decoded as it streams (RFC 2045 section 6), and uuencode, which came before.

Broken input is read as far as it makes sense: octets outside the base64 alphabet are skipped, missing or
early padding ends a group, a lone "=" in quoted-printable stands for itself. An unknown encoding is taken
as the identity (what RFC 2045 section 6.4 says of display). Nothing raises; memory is one chunk.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _ALPHABET and octet != ord("="))
_LINE_TAIL = 4096
"""Octets of an unfinished quoted-printable line kept for the next chunk: RFC 2045 allows lines of 76,
and a line without end must not collect in memory."""
KNOWN = frozenset(
    ("7bit", "8bit", "binary", "quoted-printable", "base64", "x-uuencode", "uuencode", "x-uue", "uue")
)
"""Encodings that can be undone; those by uuencode are no standard, but all mail programs know them."""


def decode_base64(octets: bytes) -> bytes:
    """All of `octets`, which may be broken, from base64."""
    data = octets.translate(None, _NOT_BASE64)
    if b"=" not in data.rstrip(b"="):
        return _base64_run(data.rstrip(b"="))
    return b"".join(_base64_run(run) for run in data.split(b"=") if run)


def _base64_run(data: bytes) -> bytes:
    over = len(data) % 4
    if over == 1:  # six bits are no octet
        data = data[:-1]
    elif over:
        data += b"=" * (4 - over)
    return binascii.a2b_base64(data)


def decode_transfer(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The octets behind `encoding` (lower case, one of `KNOWN`; others: as they are)."""
    match encoding:
        case "base64":
            return _base64(chunks)
        case "quoted-printable":
            return _quoted_printable(chunks)
        case "x-uuencode" | "uuencode" | "x-uue" | "uue":
            return _uuencoded(chunks)
        case _:
            return chunks


def _base64(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        data = rest + chunk.translate(None, _NOT_BASE64)
        if b"=" in data:
            # Padding in the middle: a part put together from several encoded pieces.
            head, _, data = data.rpartition(b"=")
            if out := decode_base64(head):
                yield out
        whole = len(data) & ~3
        if whole:
            yield binascii.a2b_base64(data[:whole])
        rest = data[whole:]
    if out := _base64_run(rest):
        yield out


def _quoted_printable(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > _LINE_TAIL:
            # Anywhere but inside "=XX" and before trailing blanks that a line end would make void.
            cut = len(data) - 3
            cut = max(len(data[:cut].rstrip(b" \t")), 1)
            mark = data.rfind(b"=", max(cut - 2, 0), cut)
            cut = mark if mark > 0 else cut
        if cut:
            yield binascii.a2b_qp(_without_trailing_blanks(data[:cut]))
        rest = data[cut:]
    if rest:
        yield binascii.a2b_qp(_without_trailing_blanks(rest).rstrip(b" \t"))


def _without_trailing_blanks(data: bytes) -> bytes:
    # RFC 2045 section 6.7 rule 3: blanks at the end of a line were added in transport.
    if b" \r\n" in data or b"\t\r\n" in data or b" \n" in data or b"\t\n" in data:
        return b"\n".join(
            line[:-1].rstrip(b" \t") + b"\r" if line.endswith(b"\r") else line.rstrip(b" \t")
            for line in data.split(b"\n")
        )
    return data


def _uuencoded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    is_inside = False
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > _LINE_TAIL:
            lines.append(rest)
            rest = b""
        out: list[bytes] = []
        for line in lines:
            is_inside = _uuencoded_line(line + b"\n", is_inside, out)
        if out:
            yield b"".join(out)
    if rest:
        last: list[bytes] = []
        _uuencoded_line(rest, is_inside, last)
        yield from last


def _uuencoded_line(line: bytes, is_inside: bool, out: list[bytes]) -> bool:
    """Decode one line into `out`; what is not between "begin" and "end" stands for itself."""
    if not is_inside:
        if line.startswith(b"begin "):
            return True
        out.append(line)
        return False
    text = line.rstrip()
    if text == b"end":
        return False
    if text and 32 <= text[0] <= 96:
        # So many characters as the first one says, whatever the encoder has put behind them.
        wanted = 1 + ((text[0] - 32 & 63) * 4 + 2) // 3
        data = bytes(octet if 32 <= octet <= 96 else 32 for octet in text[:wanted].ljust(wanted))
        out.append(binascii.a2b_uu(data))
    return True
