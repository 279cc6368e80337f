"""What tags of mailboxes have in common: they belong to what stores a message, a copy by :fcc too.

`:create`, `:flags`, `:specialuse` and `:mailboxid` come from different capabilities and work the same way: on
`fileinto` they say how the message is stored, on `vacation` and `notify` how the copy that `:fcc` asks for is
(RFC 8580 section 3). They stand in the action's `options` under the same names.
"""

from __future__ import annotations

from sieve_ext.language.arguments import Check
from sieve_ext.language.capability import Tag
from sieve_ext.language.node import GivenTag, Node
from sieve_ext.validate.checker import Checker

COPIERS = ("vacation", "notify")
"""Commands that take :fcc."""


class StoreTag(Tag):
    """A tag of a command that stores, or that stores a copy when :fcc is given with it."""

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """With vacation and notify it needs :fcc."""
        if node.name in COPIERS and "fcc" not in node.tags:
            hint = "" if checker.has("fcc") else 'it needs: require "fcc"'
            checker.error(
                given, "needs-fcc",
                f"the {self.tag} tag for the {node.name} command can only be used together with :fcc", hint,
            )  # fmt: skip


def prefixed(where: str, check: Check) -> Check:
    """`check`, saying where it found something wrong: "metadata test"."""

    def checked(text: str) -> str | None:
        problem = check(text)
        return None if problem is None else f"{where}: {problem}"

    return checked


def annotation_name(text: str) -> str | None:
    """What is wrong with the name of an annotation (RFC 5464 section 3.2), None if nothing is."""
    problem = None
    lower = text.lower()
    if not text.startswith("/"):
        problem = "entry name must begin with '/'"
    elif not lower.startswith(("/private/", "/shared/")):
        problem = "entry name must begin with /private/ or /shared/"
    elif text.endswith("/"):
        problem = "entry name can't end with '/'"
    elif "//" in text:
        problem = "entry name can't contain consecutive '/'"
    elif "*" in text or "%" in text:
        problem = "entry name can't contain '*' or '%'"
    elif not text.isascii() or not text.isprintable():
        problem = "entry name can only contain printable ASCII characters"
    return None if problem is None else f"specified annotation name '{text[:200]}' is invalid: {problem}"
