"""What a run of the checks tells the supervisor, which is another process (`mta.startup.__main__`).

It travels as JSON. Both import this module and nothing else of the checks: the supervisor stays small.
"""

from __future__ import annotations

import msgspec


class ReportedResult(msgspec.Struct, frozen=True):
    """One `mta.startup.result.Result`, as far as others need it."""

    check: str
    subject: str
    outcome: str
    asked: str
    found: str
    mend: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about."""
        return self.check, self.subject, self.asked


class Report(msgspec.Struct, frozen=True):
    """All that a run has found, and what follows from it for a start (`mta.startup.verdict.StartVerdict`)."""

    wrong: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    results: tuple[ReportedResult, ...] = ()

    @property
    def counts(self) -> dict[str | tuple[str, ...], float]:
        """How many results each check has of each outcome."""
        found: dict[str | tuple[str, ...], float] = {}
        for result in self.results:
            for outcome in ("ok", "wrong", "unknown"):
                key = result.check, outcome
                found[key] = found.get(key, 0.0) + (result.outcome == outcome)
        return found
