"""special-use (RFC 8579): specialuse_exists, and :specialuse on fileinto. Status: complete.

`:specialuse` is the action's option "specialuse": the host puts the message into a mailbox of this use if
there is one, else into the one that is named. It also works with :fcc (RFC 8580).
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from sieve_ext.extend import (
    STRING,
    Action,
    ActionStep,
    Capability,
    Checker,
    Compiler,
    GivenTag,
    Node,
    Request,
    Run,
    Step,
    Test,
    string,
    strings,
)
from sieve_ext.storing import COPIERS, StoreTag, prefixed

_is_attribute = re.compile(r"\\[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|~}]+").fullmatch


def attribute(text: str) -> str | None:
    """What is wrong with a special-use attribute (RFC 6154 section 6): a backslash and an atom."""
    if _is_attribute(text):
        return None
    return f"invalid special-use flag '{text[:100]}' specified"


@dataclass(frozen=True)
class SpecialUseExists(Request):
    """Is there a mailbox of this use? Answered by True or False.

    `mailbox` is the one that must have the use, "" for any. `attribute` is as the script has it; case does
    not matter.
    """

    mailbox: str
    attribute: str

    def unanswered(self) -> bool:
        """None has."""
        return False


class SpecialUseExistsTest(Test):
    """specialuse_exists [<mailbox: string>] <special-use-attrs: string-list> (section 3)."""

    word = "specialuse_exists"
    args_definition = (
        string("mailbox", required=False),
        strings("special-use-attrs", check=prefixed("specialuse_exists test", attribute)),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Ask for each of the uses; with a mailbox, it must have all of them."""
        given = self.given.get("mailbox")
        mailbox = compiler.text(given)
        attributes = compiler.texts(self.given["special-use-attrs"])

        def exist(run: Run) -> Generator[Request, Any, bool]:
            place = mailbox.expand(run)
            wanted = attributes.expand(run)
            for one in wanted:
                problem = attribute(one)
                if problem is not None:
                    run.fail(f"specialuse_exists test: {problem}")
            if given is not None and not place:
                return False
            for one in wanted:
                run.spend(1)
                if not (yield SpecialUseExists(place, one)):
                    return False
            return True

        return exist


class SpecialUse(StoreTag):
    """:specialuse <attr: string> (section 4)."""

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """The attribute is one, and :mailboxid is not there too (RFC 9042 section 4.3)."""
        StoreTag.check(self, node, given, checker)
        if "mailboxid" in node.tags:
            checker.error(
                given, "conflicting-tags",
                f"conflicting :specialuse and :mailboxid arguments specified for the {node.name} command",
            )  # fmt: skip

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        wanted = compiler.text(given.value)

        def mark(run: Run, action: Action) -> None:
            use = wanted.expand(run)
            problem = attribute(use)
            if problem is not None:
                run.fail(f"specialuse tag: {problem}")
            action.options["specialuse"] = use

        return mark


CAPABILITIES = (
    Capability(
        "special-use",
        words=(SpecialUseExistsTest,),
        tags=(
            SpecialUse(
                ":specialuse",
                ("fileinto", *COPIERS),
                value=STRING,
                check=prefixed("specialuse tag", attribute),
            ),
        ),
        specification="RFC 8579",
    ),
)
