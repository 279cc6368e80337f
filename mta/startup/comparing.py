"""What of our records is published: the same, missing, or something else. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdata import Rdata

from mta.net.resolver.base import Answer
from mta.startup.publish import Record


class State(StrEnum):
    """Of the records of one name and type."""

    SAME = "same"
    MISSING = "missing"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(slots=True, frozen=True)
class Compared:
    """One name and type."""

    name: str
    type: str
    state: State
    lacking: tuple[str, ...] = ()
    """Values to publish."""
    others: tuple[str, ...] = ()
    """Values that are published and are not ours."""
    reason: str = ""


def rdata(record: Record) -> Rdata:
    """A record as dnspython has it."""
    return dns.rdata.from_text(
        dns.rdataclass.IN, dns.rdatatype.from_text(record.type), record.value, dns.name.root, relativize=False
    )


def compare(
    wanted: Mapping[tuple[str, str], list[Record]], answers: Mapping[tuple[str, str], Answer]
) -> list[Compared]:
    """Hold what is wanted against what is published."""
    found = []
    for (name, kind), records in wanted.items():
        answer = answers[name, kind]
        if not answer.usable:
            found.append(Compared(name, kind, State.UNKNOWN, reason=answer.reason or "no answer"))
            continue
        ours = {_key(rdata(record)): record.value for record in records}
        theirs = {_key(one): one.to_text() for one in answer.records}
        lacking = tuple(value for key, value in ours.items() if key not in theirs)
        others = tuple(text for key, text in theirs.items() if key not in ours)
        if records[0].keeps_others:
            others = tuple(text for text in others if text.lower().startswith('"v=spf1'))
        if not lacking and not others:
            state = State.SAME
        else:
            state = State.DIFFERENT if theirs and (others or len(lacking) < len(ours)) else State.MISSING
        found.append(Compared(name, kind, state, lacking, others))
    return found


def _key(record: Rdata) -> bytes:
    """Equal for equal records, whatever the strings of a TXT record are cut into."""
    if record.rdtype == dns.rdatatype.TXT:
        return b"".join(getattr(record, "strings"))  # noqa: B009 - of the type TXT
    return record.to_digestable(dns.name.root)
