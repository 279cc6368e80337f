"""The change to a new certificate key without a moment in which TLSA records and certificate disagree.

RFC 7671 section 8.1: publish the record of the next key beside the current one, wait until no resolver
remembers the records without it, then switch; the old record goes afterwards. `decide` is pure.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mta.delivery.security.tlsa import read_tlsa, usable
from mta.folders import flush_folder, replacing
from mta.net.resolver.base import Answer
from mta.startup.answers import line
from mta.startup.publish import TLSA_TTL
from mta.startup.tlsa import is_for, tlsa_value


class Seen(msgspec.Struct, frozen=True):
    """Since when the record of a next certificate is published everywhere."""

    record: str
    since: float


@dataclass(slots=True, frozen=True)
class Step:
    """What a look at the DNS comes to."""

    lines: tuple[str, ...]
    """For the administrator."""
    seen: Seen | None = None
    """To be remembered."""
    switch: bool = False
    """The next certificate may be served."""
    problem: bool = False
    """The DNS says too little."""


def decide(
    current: list[bytes], following: list[bytes], answers: Mapping[str, Answer], seen: Seen | None, now: float
) -> Step:
    """`current` and `following` are chains (DER), `answers` those for TLSA at each of our names."""
    for name, answer in answers.items():
        if not answer.usable:
            return Step((f"TLSA {name}: {answer.reason or 'no answer'}; try again",), seen, problem=True)
    lacking = [
        line(name, "TLSA", tlsa_value(chain[0]), TLSA_TTL)
        for name, answer in answers.items()
        for chain in (current, following)
        if not any(is_for(record, chain) for record in usable(read_tlsa(answer.records)))
    ]
    if lacking:
        return Step(("publish this beside what is there, then run this again:", *dict.fromkeys(lacking)))
    record = tlsa_value(following[0])
    if seen is None or seen.record != record:
        seen = Seen(record, now)
    wait = 2 * max(TLSA_TTL, *(int(answer.ttl) for answer in answers.values()))
    left = seen.since + wait - now
    if left > 0:
        text = f"all is published; resolvers may remember the old records for {left / 60:.0f} minutes more"
        return Step((text, "then run this again"), seen)
    return Step(("switched to the next certificate",), None, switch=True)


def put_in_place(following: Path, current: Path) -> None:
    """Let a file take the place of another, whole; the old one stays as `.old`. Raises OSError."""
    kept = current.with_name(f".{current.name}.{secrets.token_hex(4)}.old")
    os.link(current, kept)
    try:
        with replacing(current, like=current.stat()) as file:
            file.write(following.read_bytes())
        os.replace(kept, current.with_name(f"{current.name}.old"))
        flush_folder(current.parent)
    finally:
        kept.unlink(missing_ok=True)
