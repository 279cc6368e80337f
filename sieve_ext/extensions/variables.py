"""variables (RFC 5229): set, string, modifiers, `${name}`. Status: complete.

References are found when the script is loaded (`sieve_ext.closures.variables`); a value is at most
`sieve_variables_max_value_size` octets long, 4096 by default, and cut there. The modifiers of case change
letters of ASCII only, as section 4.1.3 says.
"""

from __future__ import annotations

from sieve_ext.extend import (
    MATCHING,
    MODIFIERS,
    Capability,
    Checker,
    Compiler,
    Control,
    Modifier,
    Run,
    Step,
    Test,
    string,
    strings,
)


class SetCommand(Control):
    """set [MODIFIER] <name: string> <value: string>."""

    word = "set"
    args_definition = (MODIFIERS, string("name"), string("value"))

    def check(self, checker: Checker) -> None:
        """The name is one that can be set."""
        checker.variable(self.given["name"])

    def compile(self, compiler: Compiler) -> Step:
        """Assign."""
        write = compiler.variable(self.given["name"]).write
        value = compiler.text(self.given["value"])
        if write is None:
            raise ValueError("a variable that is only read")
        modify = compiler.modifier(self)

        def assign(run: Run) -> None:
            write(run, run.limit_value(modify(value.expand(run))))

        return assign


class StringTest(Test):
    """string [MATCH-TYPE] [COMPARATOR] <source: string-list> <keys: string-list>."""

    word = "string"
    args_definition = (*MATCHING, strings("source"), strings("keys"))

    def compile(self, compiler: Compiler) -> Step:
        """Compare; of empty strings none is counted (section 5)."""
        source = compiler.texts(self.given["source"])
        match_type = self.tags.get("match-type")
        if match_type is not None and match_type.tag == ":count":
            return compiler.match(self, lambda run: [text for text in source.expand(run) if text])
        return compiler.match(self, source.expand)


def upper(text: str) -> str:
    """a to z in upper case, other characters as they are."""
    return text.upper() if text.isascii() else text.encode("utf-8", "replace").upper().decode("utf-8")


def lower(text: str) -> str:
    """A to Z in lower case, other characters as they are."""
    return text.lower() if text.isascii() else text.encode("utf-8", "replace").lower().decode("utf-8")


def quote_wildcard(text: str) -> str:
    """`text` with a backslash before what `:matches` takes for more than itself."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


MODIFIERS_OF_SET = (
    Modifier(":lower", 40, lower),
    Modifier(":upper", 40, upper),
    Modifier(":lowerfirst", 30, lambda text: lower(text[:1]) + text[1:]),
    Modifier(":upperfirst", 30, lambda text: upper(text[:1]) + text[1:]),
    Modifier(":quotewildcard", 20, quote_wildcard),
    Modifier(":length", 10, lambda text: str(len(text))),
)

CAPABILITIES = (
    Capability(
        "variables",
        words=(SetCommand, StringTest),
        modifiers=MODIFIERS_OF_SET,
        expands_strings=True,
        specification="RFC 5229",
        settings={"sieve_variables_max_value_size": "longest value in octets, 4096 by default"},
    ),
)
