"""vnd.tamis.queue: what the queue does with a message that it gets. Status: complete for what is listed.

hold [<reason>]             queued without a try, until somebody releases it
priority <n: string>        "-9" to "9", or "low", "normal", "high" (RFC 6710)
expire <period: string>     "6h": given up after that time in the queue
retry_after <period: string>            stage retry: the next try then
retry_schedule <periods: string-list>   stage retry: after the first try, the second...; the last one repeats
tag <words: string-list>    kept with the message in the queue
delay <period: string>      "10m": queued, and tried for the first time after that
dsn ...                     what reports there are (`mta.policy.sieve.dsn`)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.config.units import parse_duration
from mta.policy.sieve.dsn import DsnCommand
from mta.policy.sieve.facts import DATA, RETRY
from mta.policy.sieve.reply import PolicyAction
from sieve_ext.extend import Act, Capability, Checker, Compiler, Run, Step, string, strings, texts

QUEUE = "tamis_queue"
"""The setting that says whether there is a queue."""
PRIORITIES = {"low": -4, "normal": 0, "high": 4}
EXPIRE_LEAST = 60.0
"""Seconds: a shorter time leaves no second try."""
TAGS_MOST = 16
"""Tags of one message."""
DELAY_MOST = 30 * 86400.0
"""Seconds, as for clients (FUTURERELEASE)."""

_is_tag = re.compile(r"[A-Za-z0-9._:+-]{1,64}").fullmatch


@dataclass(eq=False)
class Hold(PolicyAction):
    """Queue it and do not try."""

    reason: str
    name = "hold"


@dataclass(eq=False)
class Priority(PolicyAction):
    """How urgent it is, -9 to 9."""

    value: int
    name = "priority"

    def describe(self) -> str:
        """One line for people."""
        return f"priority {self.value}"


@dataclass(eq=False)
class Expire(PolicyAction):
    """Give it up after `seconds`."""

    seconds: float
    name = "expire"

    def describe(self) -> str:
        """One line for people."""
        return f"expire {self.seconds:g}"


@dataclass(eq=False)
class RetryAfter(PolicyAction):
    """Try again in `seconds`."""

    seconds: float
    name = "retry_after"

    def describe(self) -> str:
        """One line for people."""
        return f"retry_after {self.seconds:g}"


@dataclass(eq=False)
class SetTags(PolicyAction):
    """Words for filters."""

    tags: tuple[str, ...]
    name = "tag"

    def describe(self) -> str:
        """One line for people."""
        return f"tag {' '.join(self.tags)}"


@dataclass(eq=False)
class Delay(PolicyAction):
    """Try it in `seconds` for the first time."""

    seconds: float
    name = "delay"

    def describe(self) -> str:
        """One line for people."""
        return f"delay {self.seconds:g}"


def read_priority(text: str) -> int | None:
    """The number that a priority stands for, None if it is none."""
    word = text.strip().lower()
    if word in PRIORITIES:
        return PRIORITIES[word]
    return int(word) if re.fullmatch(r"[+-]?[0-9]", word) else None


def bad_priority(text: str) -> str | None:
    """What is wrong with a priority."""
    if read_priority(text) is None:
        return f'\'{text[:40]}\' is no priority: "-9" to "9", "low", "normal" or "high"'
    return None


def bad_period(text: str) -> str | None:
    """What is wrong with a period."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        return f"'{text[:40]}' is no period: {error}"
    return None if seconds >= EXPIRE_LEAST else f"'{text}' is less than a minute"


def bad_delay(text: str) -> str | None:
    """What is wrong with a delay."""
    problem = bad_period(text)
    if problem is None and parse_duration(text) > DELAY_MOST:
        return f"'{text}' is more than 30 days: the queue is no archive"
    return problem


def bad_tag(text: str) -> str | None:
    """What is wrong with a tag."""
    if _is_tag(text):
        return None
    return f"'{text[:80]}' is no tag: 1 to 64 letters, digits and . _ : + -"


class _Queued(Act):
    """Something for the queue, which must be there."""

    stages = DATA

    def check(self, checker: Checker) -> None:
        """There is a queue."""
        if not checker.unit.settings.boolean(QUEUE):
            checker.error(
                self, "no-queue", f"the {self.name} command needs the queue", "set queue.enabled = true"
            )


class HoldCommand(_Queued):
    """hold [<reason: string>]."""

    word = "hold"
    stages = DATA | RETRY
    args_definition = (string("reason", required=False),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        reason = compiler.text(self.given.get("reason"), "held by the policy")
        return compiler.action(self, lambda run: Hold(reason.expand(run)[:200]))


class PriorityCommand(_Queued):
    """priority <value: string>."""

    word = "priority"
    args_definition = (string("value", check=bad_priority),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        text = compiler.text(self.given["value"])

        def make(run: Run) -> Priority:
            value = read_priority(text.expand(run))
            if value is None:
                run.fail(f"priority action: {bad_priority(text.expand(run))}")
            return Priority(value)

        return compiler.action(self, make)


class ExpireCommand(_Queued):
    """expire <period: string>."""

    word = "expire"
    stages = DATA | RETRY
    args_definition = (string("period", check=bad_period),)

    def check(self, checker: Checker) -> None:
        """A constant."""
        super().check(checker)
        if checker.constant(self.given["period"]) is None:
            checker.error(self.given["period"], "bad-period", 'a period is constant, as "6h"')

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        seconds = parse_duration(compiler.text(self.given["period"]).constant or "")
        return compiler.action(self, lambda run: Expire(seconds))


class DelayCommand(_Queued):
    """delay <period: string>."""

    word = "delay"
    args_definition = (string("period", check=bad_delay),)

    def check(self, checker: Checker) -> None:
        """A constant."""
        super().check(checker)
        if checker.constant(self.given["period"]) is None:
            checker.error(self.given["period"], "bad-period", 'a period is constant, as "10m"')

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        seconds = parse_duration(compiler.text(self.given["period"]).constant or "")
        return compiler.action(self, lambda run: Delay(seconds))


class _RetryCommand(_Queued):
    """One or more periods, of which the number of tries so far chooses one."""

    stages = RETRY
    argument = ""

    def check(self, checker: Checker) -> None:
        """Constants."""
        super().check(checker)
        for text in texts(self.given[self.argument]):
            if checker.constant(text) is None:
                checker.error(text, "bad-period", 'a period is constant, as "15m"')

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        periods = [parse_duration(text.value) for text in texts(self.given[self.argument])]

        def make(run: Run) -> RetryAfter:
            attempts = int(run.environment.get("vnd.tamis.attempts") or "1")
            return RetryAfter(periods[min(max(attempts, 1), len(periods)) - 1])

        return compiler.action(self, make)


class RetryAfterCommand(_RetryCommand):
    """retry_after <period: string>."""

    word = "retry_after"
    argument = "period"
    args_definition = (string("period", check=bad_period),)


class RetryScheduleCommand(_RetryCommand):
    """retry_schedule <periods: string-list>."""

    word = "retry_schedule"
    argument = "periods"
    args_definition = (strings("periods", check=bad_period),)


class TagCommand(_Queued):
    """tag <words: string-list>."""

    word = "tag"
    args_definition = (strings("words", check=bad_tag),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        words = compiler.texts(self.given["words"])

        def make(run: Run) -> SetTags:
            found = words.expand(run)
            for word in found:
                run.spend(1)
                problem = bad_tag(word)
                if problem is not None:
                    run.fail(f"tag action: {problem}")
            return SetTags(found)

        return compiler.action(self, make)


CAPABILITIES = (
    Capability(
        "vnd.tamis.queue",
        words=(
            HoldCommand,
            PriorityCommand,
            ExpireCommand,
            RetryAfterCommand,
            RetryScheduleCommand,
            TagCommand,
            DelayCommand,
            DsnCommand,
        ),
        specification="docs/policy/queue.md",
    ),
)
