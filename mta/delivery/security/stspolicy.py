"""MTA-STS as text: the TXT record that announces a policy, and the policy (RFC 8461 sections 3.1 and 3.2).

Pure. Names are compared in lower case A-labels; a wildcard stands for exactly one label, the first.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mta.net.resolver.names import name_text, wire_name

WELL_KNOWN = "/.well-known/mta-sts.txt"
"""Path of the policy at the policy host (RFC 8461 section 3.3)."""
MAX_AGE = 31_557_600
"""Seconds of the longest `max_age`, about a year."""
MAX_POLICY = 64 * 1024
"""Octets of a policy (RFC 8461 section 3.3 suggests 64 kB)."""
MAX_PATTERNS = 200
"""`mx` lines of a policy."""

_ALNUM = frozenset(string.ascii_letters + string.digits)
_HOST = _ALNUM | frozenset("-_.")
Mode = Literal["enforce", "testing", "none"]


class PolicyError(ValueError):
    """The policy cannot be used (remote); the text says why and goes into reports."""


@dataclass(slots=True, frozen=True)
class StsPolicy:
    """A policy as its domain published it."""

    mode: Mode
    max_age: int
    """Seconds for which it holds."""
    mx: tuple[str, ...] = ()
    """Patterns of host names."""

    def matches(self, host: str) -> bool:
        """Whether mail may go to `host` (lower case, A-labels)."""
        parent = host.partition(".")[2]
        return any(
            pattern == host or (pattern.startswith("*.") and bool(parent) and pattern[2:] == parent)
            for pattern in self.mx
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The policy for TLS reports (RFC 8460 section 4.4)."""
        return (
            "version: STSv1",
            f"mode: {self.mode}",
            *(f"mx: {pattern}" for pattern in self.mx),
            f"max_age: {self.max_age}",
        )


def read_id(texts: Iterable[bytes]) -> str | None:
    """The id of the one record at `_mta-sts`; None for none, several, or one that is no good."""
    records = [text for text in texts if text == b"v=STSv1" or text.startswith((b"v=STSv1;", b"v=STSv1 "))]
    if len(records) != 1:
        return None
    found: str | None = None
    for field in records[0].decode("ascii", "replace").split(";")[1:]:
        name, equals, value = field.strip(" \t").partition("=")
        if name.strip(" \t") != "id" or not equals:
            continue
        value = value.strip(" \t")
        if found is not None or not 1 <= len(value) <= 32 or not _ALNUM.issuperset(value):
            return None
        found = value
    return found


def read_policy(octets: bytes) -> StsPolicy:
    """Read a policy. Raises PolicyError."""
    if len(octets) > MAX_POLICY:
        raise PolicyError("longer than 64 kB")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError("not UTF-8") from error
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line.strip(" \t"):
            continue
        name, colon, value = line.partition(":")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not colon or not name:
            raise PolicyError("a line is no field")
        if name == "mx":
            patterns.append(_pattern(value))
        else:
            fields.setdefault(name, value)  # section 3.2: of several equal ones the first counts
    if fields.get("version") != "STSv1":
        raise PolicyError("version is not STSv1")
    age = fields.get("max_age", "")
    if not (age.isascii() and age.isdigit() and len(age) <= 10):
        raise PolicyError("max_age is missing or no number")
    mode = fields.get("mode")
    if len(patterns) > MAX_PATTERNS:
        raise PolicyError("too many mx")
    most = min(int(age), MAX_AGE)
    if mode == "none":
        return StsPolicy("none", most, tuple(patterns))
    if mode not in ("enforce", "testing"):
        raise PolicyError("mode is missing or unknown")
    if not patterns:
        raise PolicyError("mx is missing")
    return StsPolicy("enforce" if mode == "enforce" else "testing", most, tuple(patterns))


def _pattern(text: str) -> str:
    wildcard = text.startswith("*.")
    wire = wire_name(text[2:] if wildcard else text)
    name = "" if wire is None else name_text(wire)
    if not _HOST.issuperset(name) or name in ("", "."):
        raise PolicyError("an mx is no host name")
    return f"*.{name}" if wildcard else name
