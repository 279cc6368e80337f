"""redirect-deliverby (RFC 6009 section 7): by when a redirected message is to be delivered. Status: complete.

:bytimerelative is the action's option "bytimerelative", seconds; :bytimeabsolute is "bytimeabsolute", a
time with its zone. "bymode" is "notify", also where it is not given, or "return"; "bytrace" is True if it
was given.
"""

from __future__ import annotations

from datetime import datetime

from sieve_ext.extend import (
    NUMBER,
    STRING,
    Action,
    ActionStep,
    Capability,
    Checker,
    Compiler,
    GivenTag,
    Node,
    Run,
    Tag,
)

SECONDS = 999_999_999
"""Longest time that BY= can say (RFC 2852 section 4)."""


def read_time(text: str) -> datetime | None:
    """A time as in RFC 3339, with its zone; None if it is none."""
    if len(text) < 20 or text[10:11] not in ("T", "t"):
        return None
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def absolute_time(text: str) -> str | None:
    """What is wrong with a value of :bytimeabsolute."""
    if read_time(text) is not None:
        return None
    return f"invalid :bytimeabsolute value '{text[:100]}': it is a time like 2026-12-31T23:59:00+01:00"


def mode(text: str) -> str | None:
    """What is wrong with a value of :bymode."""
    if text.lower() in ("notify", "return"):
        return None
    return f'invalid :bymode value \'{text[:100]}\': it is "notify" or "return"'


class Relative(Tag):
    """:bytimerelative <seconds: number>."""

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """BY= can say it."""
        if (node.number("bytime", 0) or 0) > SECONDS:
            checker.error(
                given, "bad-time",
                f"the :bytimerelative value is too large (max {SECONDS} seconds)",
            )  # fmt: skip

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        seconds = node.number("bytime", 0)

        def mark(run: Run, action: Action) -> None:
            action.options["bytimerelative"] = seconds
            action.options.setdefault("bymode", "notify")

        return mark


class Absolute(Tag):
    """:bytimeabsolute <time: string>."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        wanted = compiler.text(given.value)

        def mark(run: Run, action: Action) -> None:
            text = wanted.expand(run)
            found = read_time(text)
            if found is None:
                run.fail(absolute_time(text) or "")
            action.options["bytimeabsolute"] = found
            action.options.setdefault("bymode", "notify")

        return mark


class Dependent(Tag):
    """A tag that says how: it needs a time."""

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """There is a time."""
        if "bytime" not in node.tags:
            checker.error(
                given, "needs-time",
                f"the {self.tag} tag for the redirect command can only be used together with :bytimerelative"
                " or :bytimeabsolute",
            )  # fmt: skip


class Mode(Dependent):
    """:bymode "notify" / "return"."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        wanted = compiler.text(given.value)

        def mark(run: Run, action: Action) -> None:
            text = wanted.expand(run)
            problem = mode(text)
            if problem is not None:
                run.fail(problem)
            action.options["bymode"] = text.lower()

        return mark


class Trace(Dependent):
    """:bytrace."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        return _mark_trace


def _mark_trace(run: Run, action: Action) -> None:
    action.options["bytrace"] = True


CAPABILITIES = (
    Capability(
        "redirect-deliverby",
        tags=(
            Relative(":bytimerelative", ("redirect",), value=NUMBER, name="bytime"),
            Absolute(":bytimeabsolute", ("redirect",), value=STRING, name="bytime", check=absolute_time),
            Mode(":bymode", ("redirect",), value=STRING, check=mode),
            Trace(":bytrace", ("redirect",)),
        ),
        specification="RFC 6009 section 7",
    ),
)
