"""vnd.tamis.reply: what the client is told. Status: complete.

    reply [:code <n>] [:enhanced <code>] [:tempfail / :permfail] <text>
    defer [<text>]
    accept
    disconnect
    tarpit <seconds>

None but `accept` ends the script; of several the strongest counts (`mta.policy.sieve.decision`). `reject` and
`ereject` (RFC 5429) are here too: 550 5.7.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.policy.sieve.facts import ALWAYS, BOUNCE, FROM_DATA, IN_SESSION
from mta.policy.sieve.stages import OF_RECIPIENTS, stage_of
from mta.reply import Reply
from sieve_ext.extend import (
    NUMBER,
    STRING,
    Act,
    Action,
    Capability,
    Checker,
    Compiler,
    Node,
    Run,
    Step,
    Stopped,
    number,
    string,
    tag,
)

TARPIT_MOST = 60
"""Seconds that one stage may be delayed: less than clients wait for a reply (RFC 5321 section 4.5.3.2)."""
TEXT_MOST = 1000
"""Characters of a reply's text that are sent."""
TRY_LATER = "try again later"
NOT_NOW = 421
"""The code after which the server closes (RFC 5321 section 3.8)."""

_is_enhanced = re.compile(r"[45]\.\d{1,3}\.\d{1,3}").fullmatch


class PolicyAction(Action):
    """Something that a policy asks for; any number of them go together."""

    @property
    def cancels_keep(self) -> bool:
        """False: what is not refused goes on."""
        return False


class SignAction(PolicyAction):
    """Something that stage "sign" asks of who signs."""


@dataclass(eq=False)
class Answer(PolicyAction):
    """Refuse the command or the message with `reply`."""

    reply: Reply
    name = "reply"

    def describe(self) -> str:
        """One line for people."""
        return f"reply {self.reply}"


@dataclass(eq=False)
class Accept(PolicyAction):
    """No more scripts in this stage."""

    name = "accept"


@dataclass(eq=False)
class Disconnect(PolicyAction):
    """End the session after the reply."""

    name = "disconnect"


@dataclass(eq=False)
class Tarpit(PolicyAction):
    """Answer `seconds` later."""

    seconds: int
    name = "tarpit"

    def describe(self) -> str:
        """One line for people."""
        return f"tarpit {self.seconds}"


def bad_text(text: str) -> str | None:
    """What is wrong with the text of a reply."""
    if not text.strip():
        return "the text of a reply is empty"
    if not text.isascii():
        return "the text of a reply has characters that are not ASCII, which most clients cannot read"
    if len(text) > TEXT_MOST:
        return f"the text of a reply is longer than {TEXT_MOST} characters"
    return None


def clean_text(text: str) -> str:
    """A text that may hold anything as one for a reply: its lines in ASCII, cut to `TEXT_MOST`."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")[:TEXT_MOST].strip().split("\n")
    return "\n".join("".join(c if " " <= c <= "~" else "?" for c in line) for line in lines) or "refused"


def check_temporary(node: Node, checker: Checker) -> None:
    """A temporary refusal after the data cannot be of one recipient alone."""
    if checker.unit.settings.boolean(OF_RECIPIENTS) and stage_of(node) == "data":
        checker.error(
            node, "not-temporary", "after the data one recipient cannot be deferred alone",
            'defer it in stage "rcpt", or refuse it for good',
        )  # fmt: skip


class ReplyCommand(Act):
    """reply [:code <n>] [:enhanced <code>] [:tempfail / :permfail] <text: string>."""

    word = "reply"
    stages = ALWAYS - BOUNCE
    args_definition = (
        tag("code", ":code", value=NUMBER),
        tag("enhanced", ":enhanced", value=STRING),
        tag("class", ":tempfail", ":permfail"),
        string("text", check=bad_text),
    )

    def check(self, checker: Checker) -> None:
        """Codes are refusals, and all say the same: temporary or permanent."""
        code, text = self.number("code"), self.text("enhanced")
        if code is not None and not (400 <= code <= 599 and code // 10 % 10 <= 5):
            checker.error(
                self.tags["code"], "bad-code", f"{code} is no code of a refusal",
                "temporary codes are 400 to 459, permanent ones 500 to 559",
            )  # fmt: skip
            return
        if code == NOT_NOW and checker.unit.settings.boolean(OF_RECIPIENTS):
            checker.error(
                self.tags["code"], "not-yours", "421 ends the session, for all recipients",
                "450 and 451 refuse for now",
            )  # fmt: skip
            return
        enhanced = checker.constant(text)
        if text is not None and (enhanced is None or not _is_enhanced(enhanced)):
            checker.error(
                text, "bad-code", "the enhanced code of a refusal is a constant such as 5.7.1 (RFC 3463)"
            )
            return
        classes = self._classes(checker.constant(text))
        if 4 in classes:
            check_temporary(self, checker)
        if len(classes) > 1:
            checker.error(
                self, "mixed-codes", "the codes of this reply are temporary and permanent at once",
                "the first digits must be the same; :tempfail is 4, :permfail is 5",
            )  # fmt: skip

    @property
    def is_permanent(self) -> bool:
        """It refuses for good; of a node that was checked."""
        given = self.text("enhanced")
        return next(iter(self._classes(None if given is None else given.value)), 5) == 5

    def _classes(self, enhanced: str | None) -> set[int]:
        """The first digits that are given."""
        found = set()
        code, kind = self.number("code"), self.tags.get("class")
        if code is not None:
            found.add(code // 100)
        if enhanced:
            found.add(int(enhanced[0]))
        if kind is not None:
            found.add(4 if kind.tag == ":tempfail" else 5)
        return found

    def compile(self, compiler: Compiler) -> Step:
        """Add the action; the reply is made now if its text is constant."""
        given = self.text("enhanced")
        enhanced = given.value if given is not None else ""
        leading = next(iter(self._classes(enhanced)), 5)
        code = self.number("code") or (451 if leading == 4 else 550)
        enhanced = enhanced or f"{leading}.7.1"
        text = compiler.text(self.given["text"])
        if text.constant is not None:
            constant = Reply(code, enhanced, clean_text(text.constant))
            return compiler.action(self, lambda run: Answer(constant))
        return compiler.action(self, lambda run: Answer(Reply(code, enhanced, clean_text(text.expand(run)))))


class DeferCommand(Act):
    """defer [<text: string>]."""

    word = "defer"
    stages = IN_SESSION
    args_definition = (string("text", required=False, check=bad_text),)

    def check(self, checker: Checker) -> None:
        """Somebody can be told to come again."""
        check_temporary(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        text = compiler.text(self.given.get("text"), TRY_LATER)
        return compiler.action(self, lambda run: Answer(Reply(451, "4.7.1", clean_text(text.expand(run)))))


class AcceptCommand(Act):
    """accept."""

    word = "accept"

    def ends_block(self) -> bool:
        """True."""
        return True

    def compile(self, compiler: Compiler) -> Step:
        """Add the action and leave."""

        def accept(run: Run) -> None:
            run.add(Accept())
            raise Stopped

        return accept


class DisconnectCommand(Act):
    """disconnect."""

    word = "disconnect"
    stages = IN_SESSION

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        return compiler.action(self, lambda run: Disconnect())


class TarpitCommand(Act):
    """tarpit <seconds: number>."""

    word = "tarpit"
    stages = IN_SESSION - FROM_DATA
    elsewhere = "the message has been received by now: delay a stage before"
    args_definition = (number("seconds"),)

    def check(self, checker: Checker) -> None:
        """No longer than clients wait."""
        seconds = self.number("seconds", 0) or 0
        if not 0 < seconds <= TARPIT_MOST:
            checker.error(
                self.given["seconds"], "bad-delay", f"a delay is 1 to {TARPIT_MOST} seconds, not {seconds}"
            )

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        seconds = self.number("seconds", 0) or 0
        return compiler.action(self, lambda run: Tarpit(seconds))


class RejectCommand(Act):
    """reject <reason: string>."""

    word = "reject"
    stages = ALWAYS - BOUNCE
    args_definition = (string("reason", check=bad_text),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action: 550 5.7.1 (RFC 5429 section 2.1.1)."""
        text = compiler.text(self.given["reason"])
        return compiler.action(self, lambda run: Answer(Reply(550, "5.7.1", clean_text(text.expand(run)))))


class ErejectCommand(RejectCommand):
    """ereject <reason: string>."""

    word = "ereject"


CAPABILITIES = (
    Capability(
        "vnd.tamis.reply",
        words=(ReplyCommand, DeferCommand, AcceptCommand, DisconnectCommand, TarpitCommand),
        specification="docs/policy/reply.md",
    ),
    Capability("reject", words=(RejectCommand,), specification="RFC 5429 section 2.2"),
    Capability("ereject", words=(ErejectCommand,), specification="RFC 5429 section 2.1"),
)
