"""imap4flags (RFC 5232): setflag, addflag, removeflag, hasflag, and :flags. Status: complete.

Flags are compared without regard to case and kept in the order in which they came. What is no flag of IMAP is
ignored with a warning. The internal variable is `run.state["imap4flags"]`, a list, and goes on to the next
script; a host may set it to the flags that the message has already. The flags of a store, or of a copy by
:fcc, are the action's option "flags", a tuple: those of :flags, else of the internal variable at that moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sieve_ext.extend import (
    MATCHING,
    STRINGS,
    Act,
    Action,
    ActionStep,
    Capability,
    Checker,
    Compiler,
    GivenTag,
    Node,
    Run,
    Step,
    StoreAction,
    TemplateList,
    Test,
    TextList,
    chain,
    strings,
    texts,
)
from sieve_ext.storing import COPIERS, StoreTag

SYSTEM = frozenset(("\\answered", "\\flagged", "\\deleted", "\\seen", "\\draft"))
"""Flags of IMAP that a script may set (RFC 3501 section 2.3.2), lower case."""

STATE = "imap4flags"
"""Where the internal variable is in the run's state."""

_is_keyword = re.compile(r'[^\x00-\x20\x7f-\U0010ffff(){%*"\\\]]+').fullmatch


def is_flag(text: str) -> bool:
    """True for a system flag that can be set, or a keyword."""
    return text.lower() in SYSTEM if text.startswith("\\") else _is_keyword(text) is not None


def unique(flags: Iterable[str]) -> list[str]:
    """Each flag once, as it was first spelt."""
    found: dict[str, str] = {}
    for flag in flags:
        found.setdefault(flag.lower(), flag)
    return list(found.values())


def split(lists: Iterable[str]) -> list[str]:
    """The flags in strings of flags separated by blanks; what is none is left out."""
    return unique(flag for text in lists for flag in text.split() if is_flag(flag))


def internal_flags(run: Run) -> list[str]:
    """The internal variable (section 2)."""
    flags: list[str] = run.state.setdefault(STATE, [])
    return flags


def check_flags(value: object, where: str, checker: Checker) -> None:
    """Warn of the first constant that is no flag."""
    for text in texts(value):  # type: ignore[arg-type]
        constant = checker.constant(text)
        wrong = next((flag for flag in (constant or "").split() if not is_flag(flag)), None)
        if wrong is not None:
            checker.warn(
                text, "invalid-flag",
                f"IMAP flag '{wrong[:100]}' specified for the {where} is invalid and will be ignored"
                " (only first invalid is reported)",
            )  # fmt: skip
            return


def check_variables(node: Node, checker: Checker) -> bool:
    """The names of variables given with a command or test are names; False when one is not."""
    value = node.given.get("variables")
    if value is None:
        return True
    if not checker.expands:
        checker.error(
            value, "no-variables",
            f"the {node.name} {node.kind} only allows for the specification of a variable name when the"
            " variables extension is active",
            'it needs: require "variables"',
        )  # fmt: skip
        return False
    found = [checker.variable(text) for text in texts(value)]
    return None not in found


class FlagCommand(Act):
    """A command that changes flags: [<variable: string>] <flags: string-list>."""

    args_definition = (strings("variables", required=False), strings("flags"))

    def check(self, checker: Checker) -> None:
        """The first of two arguments is the name of a variable."""
        variable = self.given.get("variables")
        if isinstance(variable, TextList):
            checker.error(
                variable, "argument-type",
                f"if a second argument is specified for the {self.name} command, the first must be a string"
                " (variable name), but a string list was found",
            )  # fmt: skip
            return
        if check_variables(self, checker):
            check_flags(self.given["flags"], f"{self.name} command", checker)

    def change(self, old: list[str], given: list[str]) -> list[str]:
        """The flags that come out of those that were and those given."""
        raise NotImplementedError(self.word)

    def compile(self, compiler: Compiler) -> Step:
        """Change the variable, by default the internal one."""
        flags = compiler.texts(self.given["flags"])
        named = self.given.get("variables")

        def spent(run: Run, old: list[str], given: list[str]) -> list[str]:
            run.spend(len(old) + len(given))
            return self.change(old, given)

        if named is None:

            def change_internal(run: Run) -> None:
                run.state[STATE] = spent(run, internal_flags(run), split(flags.expand(run)))

            return change_internal
        variable = compiler.variable(named)
        write = variable.write
        if write is None:
            raise ValueError("a variable that is only read")

        def change_variable(run: Run) -> None:
            changed = spent(run, split([variable.read(run)]), split(flags.expand(run)))
            write(run, run.limit_value(" ".join(changed)))

        return change_variable


class SetflagCommand(FlagCommand):
    """Makes the flags those given (section 3.1)."""

    word = "setflag"

    def change(self, old: list[str], given: list[str]) -> list[str]:
        """Those given."""
        return given


class AddflagCommand(FlagCommand):
    """Adds flags (section 3.2)."""

    word = "addflag"

    def change(self, old: list[str], given: list[str]) -> list[str]:
        """Both."""
        return unique([*old, *given])


class RemoveflagCommand(FlagCommand):
    """Removes flags (section 3.3)."""

    word = "removeflag"

    def change(self, old: list[str], given: list[str]) -> list[str]:
        """What is not given."""
        gone = {flag.lower() for flag in given}
        return [flag for flag in old if flag.lower() not in gone]


class Words(TemplateList):
    """Keys that hold several flags each, separated by blanks."""

    def __init__(self, keys: TemplateList) -> None:
        """Of a test's keys."""
        TemplateList.__init__(self, [])
        self._keys = keys
        self.constant = None if keys.constant is None else _words(keys.constant)

    def expand(self, run: Run) -> tuple[str, ...]:
        """The flags in this run."""
        return self.constant if self.constant is not None else _words(self._keys.expand(run))


def _words(keys: Iterable[str]) -> tuple[str, ...]:
    """Each word of the keys; an empty key has none."""
    return tuple(word for key in keys for word in key.split())


class HasflagTest(Test):
    """hasflag [MATCH-TYPE] [COMPARATOR] [<variables: string-list>] <flags: string-list> (section 4)."""

    word = "hasflag"
    args_definition = (*MATCHING, strings("variables", required=False), strings("flags"))

    def check(self, checker: Checker) -> None:
        """The variables are variables."""
        check_variables(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Compare flag by flag."""
        named = texts(self.given.get("variables"))
        variables = [compiler.variable(text) for text in named]
        matcher = compiler.matcher(self, Words(compiler.texts(self.given["flags"])))

        def values(run: Run) -> list[str]:
            if not named:
                return internal_flags(run)
            found = [flag for variable in variables for flag in split([variable.read(run)])]
            run.spend(len(found))
            return found

        return chain(values, matcher)


class Flags(StoreTag):
    """:flags <flags: string-list> (section 5)."""

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """Warn of what is no flag."""
        StoreTag.check(self, node, given, checker)
        check_flags(given.value, f":flags tag of the {node.name} command", checker)

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        flags = compiler.texts(given.value)

        def mark(run: Run, action: Action) -> None:
            action.options["flags"] = tuple(split(flags.expand(run)))

        return mark


def give_flags(run: Run, action: Action) -> None:
    """A store without :flags gets those of the internal variable (section 5)."""
    if isinstance(action, StoreAction):
        action.options.setdefault("flags", tuple(internal_flags(run)))


CAPABILITIES = (
    Capability(
        "imap4flags",
        words=(SetflagCommand, AddflagCommand, RemoveflagCommand, HasflagTest),
        tags=(Flags(":flags", ("keep", "fileinto", *COPIERS), value=STRINGS),),
        on_action=give_flags,
        specification="RFC 5232",
    ),
)
