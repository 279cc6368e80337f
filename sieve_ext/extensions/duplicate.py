"""duplicate (RFC 7352): has a message like this been seen before? Status: complete.

What identifies the message is asked of the host (`DuplicateSeen`) and only remembered once the result has
been carried out (`DuplicateRecord` among the result's `records`), so a delivery that fails is tried again
as if for the first time. Within a run the same question has the same answer (section 3). A message without
the field that identifies it is no duplicate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from sieve_ext.extend import (
    NUMBER,
    STRING,
    Capability,
    Checker,
    Compiler,
    Request,
    Run,
    Settings,
    Step,
    Test,
    header_name,
    tag,
)

DAY = 86400

STATE = "duplicate"
"""Answers of this run, by key, in the run's state."""


@dataclass(frozen=True)
class DuplicateSeen(Request):
    """Has the key been recorded, and has its time not passed? Answered by True or False."""

    key: bytes
    """20 octets; keys of different users are to be kept apart."""

    def unanswered(self) -> bool:
        """It has not."""
        return False


@dataclass(frozen=True)
class DuplicateRecord(Request):
    """Remember the key from now on."""

    key: bytes
    seconds: int
    """How long."""


class DuplicateTest(Test):
    """duplicate [:handle S] [:header S / :uniqueid S] [:seconds N] [:last] (section 3)."""

    word = "duplicate"
    args_definition = (
        tag("handle", ":handle", value=STRING),
        tag("header", ":header", value=STRING, warn=header_name),
        tag("uniqueid", ":uniqueid", value=STRING),
        tag("seconds", ":seconds", value=NUMBER),
        tag("last", ":last"),
    )

    def check(self, checker: Checker) -> None:
        """Only one thing identifies the message."""
        if self.has_tag("header") and self.has_tag("uniqueid"):
            checker.error(
                self, "conflicting-tags",
                "conflicting :header and :uniqueid arguments specified for the duplicate test",
            )  # fmt: skip

    def compile(self, compiler: Compiler) -> Step:
        """Ask, and have it remembered."""
        handle = compiler.text(self.value("handle")) if self.has_tag("handle") else None
        header = compiler.text(self.value("header"), "message-id")
        unique = compiler.text(self.value("uniqueid")) if self.has_tag("uniqueid") else None
        seconds = self.number("seconds")
        is_last = self.has_tag("last")

        def seen(run: Run) -> Generator[Request, Any, bool]:
            if unique is not None:
                found: str | None = unique.expand(run)
            else:
                found = run.message.text(header.expand(run).lower())
            if not found:
                return False
            key = duplicate_key(None if handle is None else handle.expand(run), found)
            answers: dict[bytes, bool] = run.state.setdefault(STATE, {})
            if key not in answers:
                answers[key] = bool((yield DuplicateSeen(key)))
            is_duplicate = answers[key]
            # Without :last the time runs from the first message (section 3.2).
            if not is_duplicate or is_last:
                record = DuplicateRecord(key, period(run.settings, seconds))
                if record not in run.result.records:
                    run.result.records.append(record)
            return is_duplicate

        return seen


def period(settings: Settings, seconds: int | None) -> int:
    """How long to remember, within the administrator's limit."""
    most = int(settings.period("sieve_duplicate_max_period", 60 * DAY))
    wanted = int(settings.period("sieve_duplicate_default_period", 7 * DAY)) if seconds is None else seconds
    return min(wanted, most) if most else wanted


def duplicate_key(handle: str | None, value: str) -> bytes:
    """What is remembered of a message: 20 octets of handle and identity."""
    digest = hashlib.blake2b(digest_size=20)
    for part in ("no-handle" if handle is None else f"handle {handle}", value):
        octets = part.encode("utf-8", "surrogatepass")
        digest.update(len(octets).to_bytes(4, "big") + octets)
    return digest.digest()


CAPABILITIES = (
    Capability(
        "duplicate",
        words=(DuplicateTest,),
        specification="RFC 7352",
        settings={
            "sieve_duplicate_default_period": "how long messages are remembered, 7 days by default",
            "sieve_duplicate_max_period": "longest such time, 60 days by default, 0 for no limit",
        },
    ),
)
