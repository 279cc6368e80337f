"""What follows from the results: may the server start? Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mta.config.checks import Checks
from mta.startup.result import Outcome, Result, worst
from mta.startup.runner import Findings

EXIT_CODES = {Outcome.OK: 0, Outcome.WRONG: 1, Outcome.UNKNOWN: 2}
"""Of `tamis check`."""


@dataclass(slots=True, frozen=True)
class StartVerdict:
    """Lines for the administrator; a start needs both `wrong` and `refused` to be empty."""

    wrong: tuple[str, ...] = ()
    """What is wrong, of checks that refuse."""
    refused: tuple[str, ...] = ()
    """What is unknown, where that refuses, and what is wrong and may pass: another try may do better."""
    warnings: tuple[str, ...] = ()
    """What is wrong or unknown and lets the server start."""


def judge(checks: Checks, findings: Findings) -> StartVerdict:
    """What the configuration makes of what was found."""
    wrong: list[str] = []
    refused: list[str] = []
    warnings: list[str] = []
    for name, results in findings.items():
        action = getattr(checks, name)
        if action == "off":
            continue
        for result in results:
            if result.outcome is Outcome.WRONG and action == "refuse":
                (refused if result.passing else wrong).append(explain(result))
            elif result.outcome is Outcome.UNKNOWN and action == "refuse" and checks.unknown == "refuse":
                refused.append(explain(result))
            elif result.outcome is not Outcome.OK:
                warnings.append(explain(result))
    return StartVerdict(tuple(wrong), tuple(refused), tuple(warnings))


def explain(result: Result) -> str:
    """One result as a line: what is wrong, and what to do."""
    text = f"check {result.check}: {result.subject}: {result.outcome.value}: {result.asked}: {result.found}"
    if result.mend:
        text += f"; to mend it: {'; '.join(result.mend.splitlines())}"
    if result.passing:
        text += f"; if that is done, the resolver will know it in {result.passing:.0f} s"
    return text


def exit_code(findings: Findings) -> int:
    """Of `tamis check`: 0 all is well, 1 something is wrong, 2 something is unknown."""
    return EXIT_CODES[worst(result for results in findings.values() for result in results)]
