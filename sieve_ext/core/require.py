"""require (RFC 5228 section 3.2). Status: complete.

Capabilities are enabled while the script is checked, so that everything behind knows of them.
"""

from __future__ import annotations

import sievelib.commands  # type: ignore[import-untyped]

from sieve_ext.closures.compiler import Compiler
from sieve_ext.language.arguments import strings
from sieve_ext.language.node import Control
from sieve_ext.syntax.suggest import suggest
from sieve_ext.validate.checker import Checker, texts


class RequireCommand(Control, sievelib.commands.RequireCommand):  # type: ignore[misc]
    """Lets the script use capabilities."""

    word = "require"
    args_definition = (strings("capabilities"),)

    def check(self, checker: Checker) -> None:
        """It stands first, and each of its names is a capability of the dialect."""
        previous = checker.previous
        if checker.depth or (previous is not None and not isinstance(previous, RequireCommand)):
            checker.error(
                self, "late-require",
                "require commands can only be placed at top level at the beginning of the file",
            )  # fmt: skip
            return
        for text in texts(self.given["capabilities"]):
            name = text.value
            if name in checker.dialect.capabilities and name:
                checker.enable(name)
            elif name.removeprefix("comparator-") in always(checker) and name.startswith("comparator-"):
                continue
            elif name in checker.dialect.commands or name in checker.dialect.tests:
                words = (
                    checker.dialect.commands if name in checker.dialect.commands else checker.dialect.tests
                )
                kind = "command" if name in checker.dialect.commands else "test"
                needs = words[name].extension
                known = (
                    f'a {kind} that needs require "{needs}"'
                    if needs
                    else f"a {kind} that is always available"
                )
                checker.error(
                    text, "unknown-capability",
                    f"require command: '{name}' is not known as a Sieve capability, but it is known as"
                    f" {known}",
                )  # fmt: skip
            else:
                checker.error(
                    text, "unknown-capability", f"require command: unknown Sieve capability '{name}'",
                    suggest(name, checker.dialect.names),
                )  # fmt: skip

    def compile(self, compiler: Compiler) -> None:
        """Nothing is left to be done."""


def always(checker: Checker) -> set[str]:
    """The comparators that are there without a capability of their own."""
    return {name for name, (_, capability) in checker.dialect.comparators.items() if not capability}
