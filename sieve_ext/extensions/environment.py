"""environment (RFC 5183): what the host tells of the surroundings. Status: complete.

Items are in the run's `environment`, by lower-case name; "name" and "version" are known anyway, and "domain"
is what follows the first dot of "host" where nothing else is said. Of an item that is not known the test is
false (section 4). Items of a vendor need the vendor's capability beside this one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from sieve_ext.extend import (
    MATCHING,
    Capability,
    Checker,
    Compiler,
    Request,
    Run,
    Step,
    Test,
    asks,
    string,
    strings,
    warn_of_wildcards,
)
from sieve_ext.surroundings import environment_item


class EnvironmentTest(Test):
    """environment [COMPARATOR] [MATCH-TYPE] <name: string> <keys: string-list> (section 4)."""

    word = "environment"
    compares_only = True
    args_definition = (*MATCHING, string("name"), strings("keys"))

    def check(self, checker: Checker) -> None:
        """Keys are what they look like."""
        warn_of_wildcards(self, checker, alone=True)

    def compile(self, compiler: Compiler) -> Step:
        """Compare the item; without one the test is false, whatever the match type."""
        name = compiler.text(self.given["name"])
        knows_dovecot = compiler.has("vnd.dovecot.environment")
        matcher = compiler.matcher(self, compiler.texts(self.given["keys"]))

        def item(run: Run) -> str | None:
            return environment_item(run, name.expand(run), knows_dovecot)

        if asks(matcher):

            def compare_asking(run: Run) -> Generator[Request, Any, bool]:
                value = item(run)
                return value is not None and bool((yield from matcher(run, [value])))

            return compare_asking

        def compare(run: Run) -> bool:
            value = item(run)
            return value is not None and bool(matcher(run, [value]))

        return compare


CAPABILITIES = (Capability("environment", words=(EnvironmentTest,), specification="RFC 5183"),)
