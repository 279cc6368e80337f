"""redirect-dsn (RFC 6009 section 5): :notify and :ret on redirect. Status: complete.

They are the action's options "notify", a tuple of keywords in upper case, and "ret", "FULL" or "HDRS". A
redirect without them asks for what its host does by default.
"""

from __future__ import annotations

from sieve_ext.extend import (
    STRING,
    Action,
    ActionStep,
    Capability,
    Compiler,
    GivenTag,
    Node,
    Run,
    Tag,
)

KEYWORDS = ("SUCCESS", "FAILURE", "DELAY")


def notify_value(text: str) -> str | None:
    """What is wrong with a value of :notify: NEVER, or others separated by commas, each once."""
    words = text.upper().split(",")
    if words == ["NEVER"] or (set(words) <= set(KEYWORDS) and len(set(words)) == len(words)):
        return None
    return (
        f"invalid :notify value '{text[:100]}' for the redirect command: it is \"NEVER\", or a list of"
        ' "SUCCESS", "FAILURE" and "DELAY" separated by commas'
    )


def ret_value(text: str) -> str | None:
    """What is wrong with a value of :ret."""
    if text.upper() in ("FULL", "HDRS"):
        return None
    return f'invalid :ret value \'{text[:100]}\' for the redirect command: it is "FULL" or "HDRS"'


class Notify(Tag):
    """:notify <value: string>."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        wanted = compiler.text(given.value)

        def mark(run: Run, action: Action) -> None:
            text = wanted.expand(run)
            problem = notify_value(text)
            if problem is not None:
                run.fail(problem)
            action.options["notify"] = tuple(text.upper().split(","))

        return mark


class Ret(Tag):
    """:ret "FULL" / "HDRS"."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        wanted = compiler.text(given.value)

        def mark(run: Run, action: Action) -> None:
            text = wanted.expand(run)
            problem = ret_value(text)
            if problem is not None:
                run.fail(problem)
            action.options["ret"] = text.upper()

        return mark


CAPABILITIES = (
    Capability(
        "redirect-dsn",
        tags=(
            Notify(":notify", ("redirect",), value=STRING, check=notify_value),
            Ret(":ret", ("redirect",), value=STRING, check=ret_value),
        ),
        specification="RFC 6009 section 5",
    ),
)
