"""Where a domain's DMARC policy is, and its organizational domain (RFC 9989 section 4.10, DNS Tree Walk).

`walk` asks for the records at a domain and above it, eight at the most, and answers both questions from them.
The domain itself is asked first, the others then all at once: time counts for more here than a question that
a "psd" tag would have saved, and what lies above is in every cache. What such a tag makes void is not looked
at, its errors neither.

`lookup` is the way of RFC 7489: the public suffix list draws the line, and two names are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mta.authn.dmarcrecord import DmarcRecord, is_dmarc, parse_record
from mta.net.resolver.base import Answer, Resolver

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_LABELS = 8
"""Names that a walk asks for (RFC 9989 section 4.10)."""


@dataclass(slots=True, frozen=True)
class Walk:
    """What was found from one domain upwards."""

    start: str
    organizational: str
    """The organizational domain of `start`."""
    policy: DmarcRecord | None = None
    """The record that applies to `start`, None without one."""
    policy_domain: str = ""
    """Where it is published."""
    error: str = ""
    """Why nothing is known: the DNS did not answer. Nothing else counts then."""

    @property
    def inherited(self) -> bool:
        """True when the policy is published above the domain."""
        return self.policy is not None and self.policy_domain != self.start


def targets(domain: str) -> list[str]:
    """The names to ask for, the domain first (RFC 9989 section 4.10, steps 1 to 7)."""
    labels = domain.split(".")
    first = max(1, len(labels) - MAX_LABELS + 1)
    return [domain, *(".".join(labels[place:]) for place in range(first, len(labels)))]


async def walk(resolver: Resolver, domain: str, deadline: float, *, whole: bool = True) -> Walk:
    """Walk up from `domain`, in lower case and A-labels.

    Not `whole` ends at a record of the domain itself: enough for its policy, not for what is organizational.
    """
    names = targets(domain)
    own = await _ask(resolver, domain, deadline)
    found = [_read(own)]
    if not own.usable or (found[0] is not None and (not whole or found[0].psd != "u")):
        names = names[:1]
    else:
        answers = await asyncio.gather(*(_ask(resolver, name, deadline) for name in names[1:]))
        for answer in answers:
            if not answer.usable:
                return _failed(domain, answer)
            found.append(_read(answer))
            if found[-1] is not None and found[-1].psd != "u":
                break
    if not own.usable:
        return _failed(domain, own)
    return _chosen(names[: len(found)], found)


def _chosen(names: Sequence[str], found: Sequence[DmarcRecord | None]) -> Walk:
    """The organizational domain (RFC 9989 section 4.10.2) and the policy (4.10.1) of the first name."""
    start = names[0]
    records = {name: record for name, record in zip(names, found, strict=True) if record is not None}
    organizational = start
    for name, record in records.items():
        if record.psd == "n":
            organizational = name
            break
        if record.psd == "y" and name != start:
            organizational = _one_below(start, name)
            break
        organizational = name  # without a tag that decides, the shortest name does
    places = (start, organizational, *(name for name, record in records.items() if record.psd == "y"))
    for place in places:
        if place in records:
            return Walk(start, organizational, records[place], place)
    return Walk(start, organizational)


def _one_below(domain: str, suffix: str) -> str:
    """The ancestor of `domain` (or itself) with one label more than `suffix`."""
    return ".".join(domain.split(".")[-suffix.count(".") - 2 :])


async def lookup(resolver: Resolver, domain: str, deadline: float) -> Walk:
    """The policy by RFC 7489 section 6.6.3: at the domain, else at its organizational domain."""
    organizational = organizational_by_list(domain)
    for name in dict.fromkeys((domain, organizational)):
        answer = await _ask(resolver, name, deadline)
        if not answer.usable:
            return _failed(domain, answer)
        record = _read(answer)
        if record is not None:
            return Walk(domain, organizational, record, name)
    return Walk(domain, organizational)


def organizational_by_list(domain: str) -> str:
    """One label below the public suffix (RFC 7489 section 3.2); the domain itself when it is a suffix."""
    found = _suffixes().privatesuffix(domain)
    return found if found is not None else domain


@lru_cache(1)
def _suffixes() -> PublicSuffixList:
    # Imported and read when it is wanted: 10 MB that the walk has no use for.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_encoded_idn=True)


async def _ask(resolver: Resolver, domain: str, deadline: float) -> Answer:
    return await resolver.query(f"_dmarc.{domain}", "TXT", deadline)


def _read(answer: Answer) -> DmarcRecord | None:
    """The one record of an answer; several are as good as none (RFC 9989 section 4.10, step 2)."""
    records = [text for text in answer.texts if is_dmarc(text)]
    return parse_record(records[0]) if len(records) == 1 else None


def _failed(domain: str, answer: Answer) -> Walk:
    return Walk(domain, domain, error=answer.reason or "no answer")
