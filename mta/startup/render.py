"""What the checks found: a table for people, JSON for machines."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mta.startup.result import Outcome, Result
from mta.startup.runner import Findings
from mta.terminal import harmless

STYLES = {Outcome.OK: "green", Outcome.WRONG: "bold red", Outcome.UNKNOWN: "yellow"}
LEAST_WIDTH = 100
"""Columns of output that goes to no terminal."""


def facts(result: Result) -> dict[str, Any]:
    """One result for machines."""
    return {
        "check": result.check,
        "subject": result.subject,
        "outcome": result.outcome.value,
        "asked": result.asked,
        "found": result.found,
        "mend": result.mend,
    }


def as_json(findings: Findings, notes: dict[str, Any]) -> str:
    """Everything, with `notes` beside it."""
    results = [facts(result) for several in findings.values() for result in several]
    return json.dumps({**notes, "results": results}, indent=2)


def show(console: Console, findings: Findings, seconds: float, notes: list[str]) -> None:
    """The table, what is to be done (unbroken, to be pasted), and the sum."""
    table = Table("Check", "Of", "", "Found", box=None, pad_edge=False)
    results = [result for several in findings.values() for result in several]
    before = ""
    for result in results:
        name = "" if result.check == before else result.check
        before = result.check
        found = result.found if result.outcome is Outcome.OK else f"{result.asked}: {result.found}"
        outcome = Text(result.outcome.value, style=STYLES[result.outcome])
        # Others have written what is found: in a record of the DNS, as a greeting.
        table.add_row(name, Text(harmless(result.subject)), outcome, Text(harmless(found, lines=True)))
    console.print(table)
    told = set()
    for result in results:
        if result.mend and result.outcome is not Outcome.OK and (result.check, result.mend) not in told:
            told.add((result.check, result.mend))
            of = "" if result.subject == result.check else f", {result.subject}"
            console.print(Text(f"\n{result.check}{of}:", style=STYLES[result.outcome]))
            console.print(Text(harmless(result.mend, lines=True)), soft_wrap=True)
    counts = {outcome: sum(result.outcome is outcome for result in results) for outcome in Outcome}
    sums = ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items() if count)
    for note in notes:
        console.print(Text(f"\n{note}"))
    console.print(Text(f"\n{sums or 'nothing was checked'} in {seconds:.1f} s"))
