"""vnd.tamis.scan: scanners for spam and viruses, and the tests of RFC 5235 that read what they find.

    scan [:on_error <way>] <name: string>
    spamtest, spamtest :percent, virustest

The lines after a scan see its result; of several the worst counts. Status: complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mta.policy.sieve.asking import Services, Unavailable
from mta.policy.sieve.facts import DATA, Facts
from mta.policy.sieve.onerror import ON_ERROR, check_on_error, unavailable, way_of
from mta.policy.sieve.sections import check_section
from sieve_ext import Request
from sieve_ext.extend import (
    MATCHING,
    Act,
    Capability,
    Checker,
    Compiler,
    Run,
    Step,
    Tag,
    Test,
    string,
)
from sieve_ext.extensions.spamtest import HIGHEST
from sieve_ext.message import Message
from sieve_ext.runtime.scan import percent, score

if TYPE_CHECKING:
    from mta.policy.external.scanners import Scanners
    from mta.policy.external.scanwire import Found

SCANNERS = "tamis_scanners"
"""The setting that lists the names of the scanners, with blanks between."""
KEY = "vnd.tamis.scan"
NAMED = 10
"""Names of rules or viruses in the note for the log."""


@dataclass(frozen=True, slots=True)
class Scan(Request):
    """What a scanner finds in the message."""

    scanner: str
    message: Message

    def unanswered(self) -> Found | Unavailable | None:
        """It was not scanned."""
        return None


class ScanCommand(Act):
    """scan [":on_error" <way>] <name: string>."""

    word = "scan"
    stages = DATA
    args_definition = (ON_ERROR, string("name"))

    def check(self, checker: Checker) -> None:
        """The name is that of a section of the configuration."""
        check_on_error(self, checker)
        check_section(self, checker, SCANNERS, "scanner", "scanners")

    def compile(self, compiler: Compiler) -> Step:
        """Ask, and keep the result."""
        name = compiler.text(self.given["name"]).constant or ""
        way = way_of(self)

        def ask(run: Run) -> Any:
            found: Found | Unavailable | None
            found = yield Scan(name, run.message)
            if isinstance(found, Unavailable):
                unavailable(run, way, f"scan {name}", found)
            elif found is not None:
                from mta.policy.external.scanwire import together

                before = run.state.get(KEY)
                run.state[KEY] = found if before is None else together(before, found)
                if found.virus is not None and found.virus > 1:
                    run.note(f"scan {name}: {', '.join(found.names[:NAMED])}")

        return ask


class SpamtestTest(Test):
    """spamtest [":percent"] [COMPARATOR] [MATCH-TYPE] <value: string>."""

    word = "spamtest"
    stages = DATA
    args_definition = (*MATCHING, string("value"))

    def compile(self, compiler: Compiler) -> Step:
        """Compare the score."""
        is_percent = self.has_tag("percent")

        def values(run: Run) -> list[str]:
            found: Found | None = run.state.get(KEY)
            part = None if found is None else found.spam
            return [percent(part) if is_percent else score(part, HIGHEST)]

        return compiler.match(self, values, "value")


class VirustestTest(Test):
    """virustest [COMPARATOR] [MATCH-TYPE] <value: string>."""

    word = "virustest"
    stages = DATA
    args_definition = (*MATCHING, string("value"))

    def compile(self, compiler: Compiler) -> Step:
        """Compare the score."""

        def values(run: Run) -> list[str]:
            found: Found | None = run.state.get(KEY)
            return [str((found.virus if found is not None else None) or 0)]

        return compiler.match(self, values, "value")


def scan_services(scanners: Scanners) -> Services:
    """Who answers `Scan`."""

    def scan(request: Scan, facts: Facts) -> Any:
        return scanners.scan(request.scanner, request.message, facts)

    return {Scan: scan}


CAPABILITIES = (
    Capability(KEY, words=(ScanCommand,), specification="docs/policy/scan.md"),
    Capability("spamtest", words=(SpamtestTest,), specification="RFC 5235 section 2.1"),
    Capability(
        "spamtestplus",
        tags=(Tag(":percent", ("spamtest",)),),
        brings=("spamtest",),
        specification="RFC 5235 section 2.2",
    ),
    Capability("virustest", words=(VirustestTest,), specification="RFC 5235 section 2.3"),
)
