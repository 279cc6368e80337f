"""environment (RFC 5183): what the host tells of the surroundings. Status: complete.

Items are in the run's `environment`, by lower-case name; "name" and "version" are known anyway, "remote-host"
and "remote-ip" are empty where there is no client. What is not known matches nothing (section 4). Items of a
vendor need the vendor's capability beside this one.
"""

from __future__ import annotations

from sieve_ext.extend import MATCHING, Capability, Compiler, Run, Step, Test, string, strings
from sieve_ext.surroundings import environment_item


class EnvironmentTest(Test):
    """environment [COMPARATOR] [MATCH-TYPE] <name: string> <keys: string-list> (section 4)."""

    word = "environment"
    args_definition = (*MATCHING, string("name"), strings("keys"))

    def compile(self, compiler: Compiler) -> Step:
        """Compare the item."""
        name = compiler.text(self.given["name"])
        knows_dovecot = compiler.has("vnd.dovecot.environment")

        def values(run: Run) -> list[str]:
            value = environment_item(run, name.expand(run), knows_dovecot)
            return [] if value is None else [value]

        return compiler.match(self, values)


CAPABILITIES = (Capability("environment", words=(EnvironmentTest,), specification="RFC 5183"),)
