"""Invariant: however octets are cut, a message ends at the first CRLF.CRLF and is decoded as if read whole.

Run ``python -m tests.fuzz.fuzz_wire [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with generated
octets by the unit tests. No exception is allowed. What the streaming decoders find is compared with
definitions that look at the whole octets at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from mta.smtp.wire import DataDecoder, Defect, TextCheck

TOKENS = (b"\r", b"\n", b".", b"a", b"\0", b"\r\n", b"\r\n.", b"\r\n.\r\n")
HELD = 8
"""Octets of the message that may still be missing: the four that are held back, and the end added here."""
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")

Decoded = tuple[bytes, bytes, Defect | None, bool]
"""The message, what follows it, what is wrong with it, and whether it can be sent on as it came."""


def check(data: bytes) -> None:
    """Take the way from the first four octets and the octets from the rest."""
    if len(data) < 4:
        return
    normalise, strip, tokens = bool(data[0] & 1), bool(data[0] & 2), data[0] & 4
    octets = b"".join([TOKENS[octet & 7] for octet in data[4:]]) if tokens else data[4:]
    sizes = data[1:4]
    _message(octets, sizes, normalise, strip)
    _text(octets, sizes, normalise, strip)


def cuts(octets: bytes, sizes: bytes) -> Iterator[bytes]:
    """The octets in pieces whose sizes are those given, over and over; a size of 0 is taken for 1."""
    start = count = 0
    while start < len(octets):
        end = start + (sizes[count % len(sizes)] or 1)
        yield octets[start:end]
        start, count = end, count + 1


def _message(octets: bytes, sizes: bytes, normalise: bool, strip: bool) -> None:
    expected = _defined(octets, normalise, strip)
    for pieces in ([octets], cuts(octets, b"\1"), cuts(octets, sizes)):
        decoder = DataDecoder(TextCheck(normalise=normalise, strip_nul=strip))
        out = rest = b""
        for piece in pieces:
            if decoder.done:
                rest += piece
            else:
                out += decoder.feed(piece)
                rest = decoder.rest
        assert decoder.done is (expected is not None)
        if expected is not None:
            assert (out, rest, decoder.text.defect, decoder.plain) == expected
        else:
            # What is not held back is the beginning of the message that these octets may become.
            whole = _defined(octets + b"\r\n.\r\n", normalise, strip)
            assert whole is not None
            assert whole[0].startswith(out)
            assert len(whole[0]) - len(out) <= HELD


def _defined(octets: bytes, normalise: bool, strip: bool) -> Decoded | None:
    """RFC 5321 section 4.1.1.4 and 4.5.2 by the letter; None without an end of data."""
    lines = b"\r\n" + octets
    end = lines.find(b"\r\n.\r\n")
    if end < 0:
        return None
    raw = lines[: end + 2]
    content, defect = _mended(raw.replace(b"\r\n.", b"\r\n"), normalise, strip)
    plain = b"\r\n." not in raw and not _BARE.search(raw) and b"\0" not in raw
    return content[2:], lines[end + 5 :], defect, plain


def _mended(text: bytes, normalise: bool, strip: bool) -> tuple[bytes, Defect | None]:
    defect: Defect | None = None
    if _BARE.search(text):
        if normalise:
            text = _BARE.sub(b"\r\n", text)
        else:
            defect = Defect.BARE_LINE_END
    if b"\0" in text:
        if strip:
            text = text.replace(b"\0", b"")
        else:
            defect = Defect.NUL
    return text, defect


def _text(octets: bytes, sizes: bytes, normalise: bool, strip: bool) -> None:
    expected = _mended(octets, normalise, strip)
    for pieces in ([octets], cuts(octets, b"\1"), cuts(octets, sizes)):
        text = TextCheck(normalise=normalise, strip_nul=strip)
        out = b"".join([text.feed(piece) for piece in pieces]) + text.finish()
        assert (out, text.defect) == expected


def main() -> None:
    """Fuzz until a failure or the end of ``-runs`` or ``-max_total_time``."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
