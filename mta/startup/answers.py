"""Reading answers of the DNS: what they hold as text, and what can be said before a check looks at them."""

from __future__ import annotations

from mta.net.resolver.base import Answer, Status
from mta.startup.result import Result, unknown, wrong

TTL = 3600
"""Seconds of the records that are proposed."""


def values(answer: Answer) -> list[str]:
    """The records as in a zone file, sorted; names are as they were answered, see `name_of`."""
    return sorted(record.to_text() for record in answer.records)


def name_of(text: str) -> str:
    """A name in the form names are compared in."""
    return text.lower().rstrip(".") or "."


def line(name: str, rdtype: str, value: str, ttl: int = TTL) -> str:
    """A record as a line of a zone file."""
    return f"{name.rstrip('.')}. {ttl} IN {rdtype} {value}"


def quoted(text: str) -> str:
    """A text as the value of a TXT record."""
    strings = [text[start : start + 255] for start in range(0, len(text), 255)] or [""]
    return " ".join('"' + string.replace("\\", "\\\\").replace('"', '\\"') + '"' for string in strings)


def shown(answer: Answer) -> str:
    """What an answer holds, for people."""
    if not answer.records:
        return "no such name" if not answer.exists else "no such record"
    texts = [text.decode("ascii", "backslashreplace") for text in answer.texts]
    return ", ".join(texts or values(answer))


def unusable(subject: str, asked: str, answer: Answer) -> Result | None:
    """The result for an answer that cannot be used at all; None for one to look at."""
    match answer.status:
        case Status.BOGUS:
            zone = asked.split()[-1]
            return wrong(
                subject,
                asked,
                f"the answer does not validate (DNSSEC): {answer.reason or 'bogus'}",
                f"sign the zone anew or mend its DS record; `delv {zone}` shows where it breaks",
            )
        case Status.FAIL:
            return unknown(subject, asked, answer.reason or "no answer")
    return None
