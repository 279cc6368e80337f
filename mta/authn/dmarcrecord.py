"""DMARC policy records: read with tolerance, and what is wrong is told (RFC 9989 sections 4.7 and 4.8).

A record counts when it begins with `v=DMARC1`, the "v" in any case; all behind that is read tag by tag,
and what cannot be understood falls back to its default and is reported in `problems`. One rule is harder:
where "p" is missing or wrong, or "sp" or "np" is wrong, the record asks for nothing but reports, and without
a place for reports for nothing at all (section 4.10.1). Linear in the length of the record; nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

MAX_RECORD = 8192
"""Octets of a record that are read."""
MAX_URIS = 20
"""Report addresses that are kept of each tag."""
MAX_PROBLEMS = 20
"""Problems that are kept."""

_version = re.compile(rb"[ \t]*[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)").match
_tag_name = re.compile(r"[a-z][a-z0-9_]*").fullmatch
_uri = re.compile(r"[a-z][a-z0-9+.-]*:[!-~]+", re.IGNORECASE).fullmatch
_size = re.compile(r"![0-9]+[kmgt]?", re.IGNORECASE)


class Policy(StrEnum):
    """What a domain owner asks for when a message fails (RFC 9989 section 4.7), in rising severity."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def lowered(self) -> Policy:
        """One level below: what a policy in test mode comes to (tag "t")."""
        return Policy.QUARANTINE if self is Policy.REJECT else Policy.NONE


@dataclass(slots=True, frozen=True)
class DmarcRecord:
    """One policy record."""

    p: Policy = Policy.NONE
    sp: Policy | None = None
    np: Policy | None = None
    strict_dkim: bool = False
    """adkim=s."""
    strict_spf: bool = False
    """aspf=s."""
    psd: Literal["y", "n", "u"] = "u"
    testing: bool = False
    """t=y."""
    percent: int = 100
    """pct: RFC 7489 only, RFC 9989 ignores it."""
    rua: tuple[str, ...] = ()
    """URIs for aggregate reports, without sizes."""
    ruf: tuple[str, ...] = ()
    """URIs for failure reports, without sizes."""
    fo: tuple[str, ...] = ("0",)
    applies: bool = True
    """False when the record has no usable policy and no place for reports: no DMARC for the message."""
    problems: tuple[str, ...] = ()
    """What is wrong, in words that repeat no more than names of tags."""
    obsolete: tuple[str, ...] = ()
    """What RFC 7489 knew and RFC 9989 passes over: no mistake, and in most records that there are."""

    def policy_for(self, *, inherited: bool, exists: bool) -> Policy:
        """The policy for the author domain: its own record's, or one from above that it inherits."""
        if not inherited:
            return self.p
        if not exists and self.np is not None:
            return self.np
        return self.sp if self.sp is not None else self.p


def is_dmarc(record: bytes) -> bool:
    """Whether a TXT record is a policy record: "v" must be its first tag, "DMARC1" in capitals."""
    return _version(record) is not None


def parse_record(octets: bytes) -> DmarcRecord | None:
    """Read a TXT record whose strings are joined; None when it is no policy record."""
    if not is_dmarc(octets):
        return None
    return _Reader(octets[:MAX_RECORD].decode("utf-8", "replace"), len(octets) > MAX_RECORD).read()


class _Reader:
    """Collects tags and what is wrong with them."""

    def __init__(self, text: str, is_cut: bool) -> None:
        self.problems: list[str] = ["too long"] if is_cut else []
        self.obsolete: list[str] = []
        self.tags: dict[str, str] = {}
        for part in text.split(";")[1:]:
            name, equals, value = part.partition("=")
            name = name.strip(" \t").lower()
            if not name and not equals and not part.strip(" \t"):
                continue
            if not equals or not _tag_name(name):
                self.complain("a part that is no tag")
            elif name in self.tags:
                self.complain(f"{name}: given twice, the first one counts")
            else:
                self.tags[name] = value.strip(" \t")

    def complain(self, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS and text not in self.problems:
            self.problems.append(text)

    def read(self) -> DmarcRecord:
        policies = {name: self.policy(name) for name in ("p", "sp", "np")}
        rua, ruf = self.uris("rua"), self.uris("ruf")
        usable = policies["p"] is not None and all(
            name not in self.tags or policies[name] is not None for name in ("sp", "np")
        )
        if "p" not in self.tags:
            self.complain("p: missing")
        if not usable:
            policies = {"p": Policy.NONE, "sp": None, "np": None}
        psd = self.choice("psd", "ynu", "u")
        record = DmarcRecord(
            p=policies["p"] or Policy.NONE,
            sp=policies["sp"],
            np=policies["np"],
            strict_dkim=self.choice("adkim", "rs", "r") == "s",
            strict_spf=self.choice("aspf", "rs", "r") == "s",
            psd="y" if psd == "y" else "n" if psd == "n" else "u",
            testing=self.choice("t", "yn", "n") == "y",
            percent=self.percent(),
            rua=rua,
            ruf=ruf,
            fo=self.options(),
            applies=usable or bool(rua),
        )
        for name in ("rf", "ri", "pct"):
            if name in self.tags:
                self.obsolete.append(f"{name}: removed by RFC 9989")
        object.__setattr__(record, "problems", tuple(self.problems))
        object.__setattr__(record, "obsolete", tuple(dict.fromkeys(self.obsolete)))
        return record

    def policy(self, name: str) -> Policy | None:
        value = self.tags.get(name)
        if value is None:
            return None
        try:
            return Policy(value.lower())
        except ValueError:
            self.complain(f"{name}: not a policy")
            return None

    def choice(self, name: str, letters: str, default: str) -> str:
        value = self.tags.get(name, default).lower()
        if len(value) == 1 and value in letters:
            return value
        self.complain(f"{name}: not one of {', '.join(letters)}")
        return default

    def percent(self) -> int:
        value = self.tags.get("pct", "100")
        if value.isascii() and value.isdigit() and len(value) <= 3 and int(value) <= 100:
            return int(value)
        self.complain("pct: not a number up to 100")
        return 100

    def options(self) -> tuple[str, ...]:
        wanted = [part.strip(" \t").lower() for part in self.tags.get("fo", "0").split(":")[:8]]
        known = tuple(dict.fromkeys(part for part in wanted if part in ("0", "1", "d", "s")))
        if len(known) < len(wanted):
            self.complain("fo: not of 0, 1, d, s, each once")
        return known or ("0",)

    def uris(self, name: str) -> tuple[str, ...]:
        value = self.tags.get(name)
        if value is None:
            return ()
        found: list[str] = []
        for part in value.split(","):
            uri, size, rest = part.strip(" \t").partition("!")
            if size:
                if _size.fullmatch(size + rest):
                    self.obsolete.append(f"{name}: a size, removed by RFC 9989")
                else:
                    uri = ""
            if not _uri(uri):
                self.complain(f"{name}: not a URI")
            elif len(found) < MAX_URIS:
                found.append(uri)
            else:
                self.complain(f"{name}: too many")
        return tuple(found)
