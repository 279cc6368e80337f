"""What a method of authentication found, as a value that all methods share (RFC 8601 section 2.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

_NO_PROPERTIES: Mapping[str, str] = MappingProxyType({})


class Result(StrEnum):
    """The results that methods report, in the spelling of RFC 8601 section 2.7 and its registry."""

    NONE = "none"
    """Nothing to evaluate: no signature, no record."""
    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    """SPF only."""
    NEUTRAL = "neutral"
    POLICY = "policy"
    """A signature is good but local rules do not accept it (section 2.4)."""
    TEMPERROR = "temperror"
    """DNS did not answer or its answer is bogus: a later try may find another result."""
    DECLINED = "declined"
    """BIMI only: the domain says that it has no sign."""
    SKIPPED = "skipped"
    """BIMI only: not looked at, for DMARC has not passed."""
    PERMERROR = "permerror"
    """Something published or sent is wrong: a later try finds the same."""


@dataclass(slots=True, frozen=True)
class MethodResult:
    """One result of one method.

    `reason` is for people (log, comment of the header field), one line of ASCII or UTF-8 that may quote what
    a stranger wrote: whoever renders it escapes it. `properties` are what was evaluated: "ptype.property"
    to value, as in {"smtp.mailfrom": "example.org"} (section 2.3).
    """

    method: str
    """Name of the registry in lower case: "spf", "dkim", "dmarc", "arc", "iprev", "bimi"."""
    result: Result
    reason: str = ""
    properties: Mapping[str, str] = field(default_factory=lambda: _NO_PROPERTIES)

    @property
    def passed(self) -> bool:
        """True for "pass"."""
        return self.result is Result.PASS
