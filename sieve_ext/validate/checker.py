"""What a word's `check` works with: reporting, what is required, constants, variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sieve_ext.closures.variables import Reference, Scope, is_name, split_template
from sieve_ext.diagnostic import Diagnostic, Severity, Source
from sieve_ext.syntax import limits
from sieve_ext.syntax.tree import Text, TextList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sieve_ext.closures.unit import Unit
    from sieve_ext.language.dialect import Dialect
    from sieve_ext.language.node import GivenTag, Node, Value
    from sieve_ext.syntax.tree import Argument


class Checker:
    """The state of checking one script."""

    def __init__(self, dialect: Dialect, source: Source, unit: Unit) -> None:
        """`unit` is shared with the scripts that are included."""
        self.dialect = dialect
        self.source = source
        self.unit = unit
        self.diagnostics: list[Diagnostic] = []
        self.enabled: set[str] = {""}
        """Capabilities that may be used from here on."""
        self.scope = Scope(dialect, self.enabled)
        self.state: dict[str, Any] = {}
        """What extensions remember while they check this script, by capability."""
        self.previous: Node | None = None
        """The command before the one being checked, in its block."""
        self.depth = 0
        """Blocks around the node being checked."""
        self.readers: list[Callable[[str], str]] = []
        """The functions of required capabilities that rewrite strings."""
        self.expands = False
        """Strings may hold variables."""
        self.assigned: set[str] = set()
        """Variables that something sets, in lower case; who checks a block may put another set here."""
        for name in dialect.assumed:
            self.enable(name)

    # Reporting

    def error(self, where: Node | Argument | GivenTag, code: str, text: str, hint: str = "") -> None:
        """Something that keeps the script from running. `text` is lower case, without full stop."""
        self._report(where, code, text, hint, Severity.ERROR)

    def warn(self, where: Node | Argument | GivenTag, code: str, text: str, hint: str = "") -> None:
        """Something that is most likely a mistake."""
        self._report(where, code, text, hint, Severity.WARNING)

    def _report(self, where: Any, code: str, text: str, hint: str, severity: Severity) -> None:
        if len(self.diagnostics) < limits.DIAGNOSTICS:
            found = self.source.diagnostic(where.start, where.end, code, text, hint, severity)
            self.diagnostics.append(found)

    @property
    def has_errors(self) -> bool:
        """True when an error was reported."""
        return any(one.severity is Severity.ERROR for one in self.diagnostics)

    # Capabilities

    def has(self, capability: str) -> bool:
        """True when the script may use the capability here."""
        return capability in self.enabled

    def enable(self, name: str) -> None:
        """Let the rest of the script use a capability, with those it brings."""
        capability = self.dialect.capabilities.get(name)
        if capability is None or name in self.enabled:
            return
        self.enabled.add(name)
        self.expands |= capability.expands_strings
        if capability.read_string is not None:
            self.readers.append(capability.read_string)
        for other in capability.brings:
            self.enable(other)

    # Arguments

    def constant(self, value: Value | None) -> str | None:
        """The string, None where it is none or depends on variables."""
        if not isinstance(value, Text) or (self.expands and len(split_template(value.value)) > 1):
            return None
        return value.value

    def constants(self, value: Value | None) -> list[Text]:
        """The strings of an argument that do not depend on variables, one by one."""
        found = texts(value)
        if not self.expands:
            return found
        for text in found:
            if "${" in text.value:
                return [text for text in found if self.constant(text) is not None]
        return found

    def variable(self, value: Value | None) -> Reference | None:
        """The variable that an argument names and the script may set; reports when it does not."""
        if not isinstance(value, Text):
            return None
        name = value.value
        if self.constant(value) is None:
            self.error(value, "dynamic-name", f"variable name '{name}' must be a constant string")
            return None
        if not all(is_name(part) for part in name.split(".")):
            self.error(value, "bad-variable", f"invalid variable name '{name}'")
            return None
        found = self.scope.resolve(name)
        if not isinstance(found, Reference):
            self.error(value, "bad-variable", found)
            return None
        if found.write is None:
            self.error(value, "read-only", f"cannot assign to variable '{name}'")
            return None
        self.assigned.add(name.lower())
        return found

    def check_references(self, arguments: Iterable[Argument]) -> None:
        """Report variables in strings that cannot be read."""
        if not self.expands:
            return
        for argument in arguments:
            for text in texts(argument):
                if "${" not in text.value:
                    continue
                for name in split_template(text.value)[1::2]:
                    found = self.scope.resolve(name)
                    if not isinstance(found, Reference):
                        self.error(text, "bad-variable", found)


def texts(value: Argument | None) -> list[Text]:
    """The strings of an argument, one by one."""
    if isinstance(value, TextList):
        return value.items
    return [value] if isinstance(value, Text) else []
