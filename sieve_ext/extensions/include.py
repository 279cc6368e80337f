"""include (RFC 6609): include, return, global, `${global.name}`. Status: complete.

Included scripts are found, checked and compiled with the script that includes them; the store is asked once
for each (`sieve_ext.closures.unit.ScriptStore`). Each has capabilities, variables and match values of its
own; global variables live for one run. A script that includes itself, by whatever way, is an error, but for
:once.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from sieve_ext.closures.variables import NAME, VARIABLES
from sieve_ext.extend import (
    Capability,
    Checker,
    Compiler,
    Control,
    Leave,
    Namespace,
    Reference,
    Request,
    Run,
    Step,
    asks,
    is_name,
    string,
    strings,
    tag,
    texts,
)
from sieve_ext.runtime.script import HOOKS, PARSE_FAILED, VALIDATION_FAILED, Script, load_unit

STATE = "include"
"""Where this extension keeps things in the state of units, checkers and runs."""

NAME_LENGTH = 128
"""Longest name of a script, in characters (RFC 5804 section 1.6)."""

_is_script_name = re.compile("[^\x00-\x1f/\x7f-\x9f\u2028\u2029]+").fullmatch


class Returned(Leave):
    """`return`: the script that includes goes on."""


@dataclass(eq=False)
class Included:
    """A script that is included, from the moment when it is found."""

    location: str
    name: str
    script: Script | None = None
    """None while it is being compiled, and when it is faulty."""
    is_open: bool = True
    """It is being compiled."""


@dataclass(eq=False)
class Library:
    """What the scripts of a unit have included, and their global variables."""

    scripts: dict[tuple[str, str], Included | None] = field(default_factory=dict)
    """By location and name; None for what does not exist."""
    variables: set[str] = field(default_factory=set)
    count: int = 0
    """Scripts that were found."""
    is_full: bool = False
    """It has been reported that there are too many."""


@dataclass(eq=False)
class Memory:
    """What one run keeps."""

    variables: dict[str, str] = field(default_factory=dict)
    done: set[Included] = field(default_factory=set)


def memory(run: Run) -> Memory:
    """That of this run; another run that shares the state has its own."""
    held: dict[Run, Memory] = run.state.setdefault(STATE, {})
    found = held.get(run)
    if found is None:
        found = held[run] = Memory()
    return found


def library(unit: Any) -> Library:
    """That of a unit."""
    found: Library = unit.state.setdefault(STATE, Library())
    return found


class IncludeCommand(Control):
    """include [:personal / :global] [:once] [:optional] <name: string> (section 3.2)."""

    word = "include"
    args_definition = (
        tag("location", ":personal", ":global"),
        tag("once", ":once"),
        tag("optional", ":optional"),
        string("value"),
    )

    def __init__(self, *arguments: object, **more: object) -> None:
        """See `Node`."""
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self.included: Included | None = None

    def check(self, checker: Checker) -> None:
        """Find the script, and check and compile it unless that has been done."""
        value = self.given["value"]
        name = checker.constant(value)
        if name is None:
            checker.error(
                value, "dynamic-name",
                "the include command requires a constant string for its value argument",
            )  # fmt: skip
            return
        if not _is_script_name(name) or len(name) > NAME_LENGTH:
            checker.error(value, "bad-name", f"include: invalid script name '{name[:NAME_LENGTH]}'")
            return
        location = self.tags["location"].tag.removeprefix(":") if self.has_tag("location") else "personal"
        known = library(checker.unit).scripts
        if (location, name) not in known:
            self._read(location, name, checker)
        found = known.get((location, name))
        if found is None:
            if not self.has_tag("optional") and (location, name) in known:
                checker.error(
                    value, "no-script", f"included {location} script '{name}' does not exist"
                )  # fmt: skip
            return
        if found.is_open and not self.has_tag("once"):
            checker.error(self, "circular-include", "circular include")
            return
        self.included = found

    def _read(self, location: str, name: str, checker: Checker) -> None:
        unit, value = checker.unit, self.given["value"]
        shared = library(unit)
        known = shared.scripts
        most = unit.settings.number("sieve_include_max_includes", 255)
        deepest = unit.settings.number("sieve_include_max_nesting_depth", 10)
        if unit.depth >= deepest:
            checker.error(self, "deep-include", f"cannot nest includes deeper than {deepest} levels")
            return
        try:
            text = unit.load(location, name)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            checker.error(
                value, "unreadable-script", f"included {location} script '{name}' cannot be read: {reason}"
            )
            return
        if text is None:
            known[location, name] = None
            return
        if shared.count >= most:
            if not shared.is_full:
                shared.is_full = True
                checker.error(
                    self, "too-many-includes",
                    f"failed to include script '{name}': no more than {most} includes allowed",
                )  # fmt: skip
            return
        included = known[location, name] = Included(location, name)
        shared.count += 1
        unit.depth += 1
        try:
            included.script, found = load_unit(text, checker.dialect, unit, name)
        finally:
            unit.depth -= 1
            included.is_open = False
        closing = {PARSE_FAILED: "parse", VALIDATION_FAILED: "validate"}
        checker.diagnostics += [one for one in found if one.code not in closing]
        if included.script is None:
            what = next((closing[one.code] for one in reversed(found) if one.code in closing), "validate")
            checker.error(self, "bad-include", f"failed to {what} included script '{name}'")

    def compile(self, compiler: Compiler) -> Step | None:
        """Run the script, with its own variables."""
        included = self.included
        if included is None:
            return None
        is_once = self.has_tag("once")
        if included.script is not None and not included.script.asks:
            script = included.script

            def include(run: Run) -> None:
                if not _enter(run, included, is_once):
                    return
                before = _swap(run, script)
                try:
                    script.step(run)
                except Returned:
                    pass
                except Leave:
                    _restore(run, before)
                    raise
                _restore(run, before)

            return include

        def include_asking(run: Run) -> Generator[Request, Any, None]:
            script = included.script
            if script is None or not _enter(run, included, is_once):
                return
            before = _swap(run, script)
            try:
                if asks(script.step):
                    yield from script.step(run)
                else:
                    script.step(run)
            except Returned:
                pass
            except Leave:
                _restore(run, before)
                raise
            _restore(run, before)

        return include_asking


Before = tuple[list[str], Any, str, Any]


def _enter(run: Run, included: Included, is_once: bool) -> bool:
    run.spend(1)
    done = memory(run).done
    if is_once and included in done:
        return False
    done.add(included)
    return True


def _swap(run: Run, script: Script) -> Before:
    before = (run.variables, run.match_values, run.script, run.position)
    run.variables = [""] * script.variables
    run.match_values = ()
    run.script = script.name
    # What its capabilities do with actions they do to the end of the run, as to the implicit keep.
    if script.hooks:
        run.hooks = run.state[HOOKS] = tuple(dict.fromkeys((*run.hooks, *script.hooks)))
    return before


def _restore(run: Run, before: Before) -> None:
    # Not after an error: it is reported where it happened.
    run.variables, run.match_values, run.script, run.position = before


class ReturnCommand(Control):
    """return: the including script goes on, or the script ends (section 3.3)."""

    word = "return"

    def ends_block(self) -> bool:
        """True."""
        return True

    def compile(self, compiler: Compiler) -> Step:
        """Leave the script."""
        return _return


def _return(run: Run) -> None:
    raise Returned


class GlobalCommand(Control):
    """global <names: string-list>: the variables are those of all scripts (section 3.4.1)."""

    word = "global"
    args_definition = (strings("value"),)

    def check(self, checker: Checker) -> None:
        """The names are not those of variables of this script; from here on they are global."""
        if not checker.expands:
            checker.error(
                self, "no-variables", "global command requires that variables extension is active",
                'it needs: require "variables"',
            )  # fmt: skip
            return
        declared: set[str] = checker.state.setdefault(STATE, set())
        shared = library(checker.unit).variables
        for text in texts(self.given["value"]):
            name = checker.constant(text)
            if name is None or not is_name(name) or len(name) > NAME:
                checker.error(text, "bad-variable", f"invalid variable identifier '{text.value[:100]}'")
                return
            name = name.lower()
            if name not in declared and checker.scope.is_known(name):
                checker.error(
                    text, "local-variable",
                    f"declaration of new global variable '{name}' conflicts with earlier local use",
                )  # fmt: skip
                return
            problem = _declare(shared, name)
            if problem is not None:
                checker.error(text, "too-many-variables", problem)
                return
            declared.add(name)
            checker.scope.declare(name, _reference(name))

    def compile(self, compiler: Compiler) -> None:
        """Nothing is left to be done."""


def _declare(shared: set[str], name: str) -> str | None:
    if name not in shared and len(shared) >= VARIABLES:
        return f"declaration of new global variable '{name}' exceeds the limit (max variables: {VARIABLES})"
    shared.add(name)
    return None


def _reference(name: str) -> Reference:
    def read(run: Run) -> str:
        return memory(run).variables.get(name, "")

    def write(run: Run, value: str) -> None:
        memory(run).variables[name] = value

    return Reference(read, write)


def resolve(scope: Any, name: str) -> Reference | str:
    """`${global.name}` (section 3.4.2)."""
    if "." in name:
        return "invalid variable name within global namespace: encountered sub-namespace"
    if not is_name(name) or len(name) > NAME:
        return f"invalid variable name within global namespace '{name[:100]}'"
    return _reference(name.lower())


CAPABILITIES = (
    Capability(
        "include",
        words=(IncludeCommand, ReturnCommand, GlobalCommand),
        namespaces=(Namespace("global", resolve),),
        specification="RFC 6609",
        settings={
            "sieve_include_max_includes": "scripts that one script may include, 255 by default",
            "sieve_include_max_nesting_depth": "how deep included scripts may include others, 10 by default",
        },
    ),
)
