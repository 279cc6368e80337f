"""What scanners are told and answer: rspamd's HTTP, spamd's protocol, clamd's INSTREAM. Pure.

Each has the octets before a message, how its pieces are framed, what ends it, and how the answer is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from mta.net.httpwire import HttpError, ResponseReader

ANSWER_OCTETS = 1024 * 1024
"""Octets of an answer that are taken: rspamd tells all symbols with their options."""

_SPAM_LINE = re.compile(r"(?im)^Spam:\s*(True|False|Yes|No)\s*;\s*(-?[\d.]+)\s*/\s*(-?[\d.]+)\s*$")


class ScanError(ValueError):
    """A scanner answered that it cannot, or nonsense; the text says what."""


@dataclass(slots=True, frozen=True)
class Found:
    """What a scanner has found."""

    spam: float | None = None
    """0 (clear) to 1 (certainly spam, at the scanner's own threshold and above); None: not looked at."""
    virus: int | None = None
    """1 (clean) to 5 (a virus) as in RFC 5235 section 2.3; None: not looked at."""
    names: tuple[str, ...] = ()
    """Of viruses, or of the rules that matched; for the log."""


@dataclass(slots=True, frozen=True)
class Subject:
    """Whose message it is."""

    sender: str
    recipients: Sequence[str]
    client_address: str
    client_name: str
    helo: str
    user: str
    transaction: str


def rspamd_head(subject: Subject, size: int, password: str, settings_user: str) -> bytes:
    """The request before the message (POST /checkv2)."""
    headers = [
        ("Host", "localhost"),
        ("Connection", "close"),
        ("Content-Length", str(size)),
        ("Queue-Id", subject.transaction),
        ("From", subject.sender),
        *(("Rcpt", recipient) for recipient in subject.recipients),
        ("IP", subject.client_address),
        ("Helo", subject.helo),
        ("Hostname", subject.client_name),
        ("User", subject.user),
        ("Deliver-To", settings_user),
        ("Password", password),
    ]
    lines = ["POST /checkv2 HTTP/1.1", *(f"{name}: {_clean(value)}" for name, value in headers if value)]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace") + b"\r\n"


def read_rspamd(octets: bytes) -> Found:
    """Read the answer. Raises ScanError."""
    reader = ResponseReader(ANSWER_OCTETS)
    try:
        reader.feed(octets)
        reader.end()
    except HttpError as error:
        raise ScanError(f"the answer is no HTTP: {error}") from error
    assert reader.response is not None
    if reader.response.status != 200:
        raise ScanError(f"HTTP status {reader.response.status}")
    try:
        found = json.loads(reader.response.body)
        score, required = float(found["score"]), float(found["required_score"])
        symbols = found.get("symbols") or {}
        names = tuple(str(name) for name in symbols)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ScanError("the answer is no result of a check") from error
    return Found(spam=_ratio(score, required), names=names)


def spamd_head(size: int, user: str) -> bytes:
    """The request before the message (SYMBOLS)."""
    lines = ["SYMBOLS SPAMC/1.5", f"Content-length: {size}"]
    if user:
        lines.append(f"User: {_clean(user)}")
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace") + b"\r\n"


def read_spamd(octets: bytes) -> Found:
    """Read the answer. Raises ScanError."""
    text = octets.decode("utf-8", "replace").replace("\r\n", "\n")
    head, blank, body = text.partition("\n\n")
    status = head.split("\n", 1)[0].split()
    if not blank or len(status) < 2 or not status[0].startswith("SPAMD/"):
        raise ScanError("the answer is not spamd's")
    if status[1] != "0":
        raise ScanError(f"spamd says {' '.join(status[1:])[:80]}")
    found = _SPAM_LINE.search(head)
    if found is None:
        raise ScanError("the answer has no score")
    try:
        score, threshold = float(found[2]), float(found[3])
    except ValueError as error:
        raise ScanError("the score is no number") from error
    return Found(spam=_ratio(score, threshold), names=tuple(body.replace(",", " ").split()))


CLAMD_HEAD = b"zINSTREAM\0"
CLAMD_END = b"\0\0\0\0"


def clamd_piece(piece: bytes) -> bytes:
    """A piece of the message."""
    return len(piece).to_bytes(4, "big") + piece


def read_clamd(octets: bytes) -> Found:
    """Read the answer. Raises ScanError."""
    text = octets.rstrip(b"\0\n").decode("utf-8", "replace").removeprefix("stream: ")
    if text == "OK":
        return Found(virus=1)
    if text.endswith(" FOUND"):
        return Found(virus=5, names=(text.removesuffix(" FOUND"),))
    raise ScanError(f"clamd says {text[:80]!r}")


def together(first: Found, second: Found) -> Found:
    """The worse of two."""
    return Found(
        max((one for one in (first.spam, second.spam) if one is not None), default=None),
        max((one for one in (first.virus, second.virus) if one is not None), default=None),
        (*first.names, *second.names),
    )


def _ratio(score: float, threshold: float) -> float:
    if not (threshold > 0 and isfinite(threshold) and isfinite(score)):
        raise ScanError("score and threshold are no numbers, or the threshold is not above zero")
    return min(max(score / threshold, 0.0), 1.0)


def _clean(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)
