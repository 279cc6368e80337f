"""`:on_error`: what happens when a service that a word asks cannot answer.

    :on_error "defer"     the client is told to try again later, and the stage ends (the default)
    :on_error "ignore"    a test does not hold, a command does nothing
    :on_error "reject"    the client is refused, and the stage ends

In each case the log has the reason, with file and line of the word.
"""

from __future__ import annotations

from typing import NoReturn

from mta.policy.sieve.asking import Unavailable
from mta.policy.sieve.reply import Accept, Answer
from mta.reply import Reply
from sieve_ext.extend import STRING, Checker, Node, Run, Stopped, tag

ON_ERROR = tag("on_error", ":on_error", value=STRING)
"""The tag for `args_definition` of a word that asks a service."""

WAYS = ("defer", "ignore", "reject")
DEFER = Reply(451, "4.7.1", "a service needed to check this is not available, try again later")
REJECT = Reply(554, "5.7.1", "a service needed to check this is not available")


def check_on_error(node: Node, checker: Checker) -> None:
    """What `check` of such a word calls: the value is a constant and one of `WAYS`."""
    given = node.text("on_error")
    if given is None:
        return
    way = checker.constant(given)
    if way is None or way.lower() not in WAYS:
        known = ", ".join(f'"{one}"' for one in WAYS)
        checker.error(
            given, "bad-on-error", f"'{given.value}' is nothing to do on an error", f"one of {known}"
        )


def way_of(node: Node) -> str:
    """The way of a word that is checked."""
    given = node.text("on_error")
    return "defer" if given is None else given.value.lower()


def unavailable(run: Run, way: str, what: str, answer: Unavailable) -> None:
    """Note that `what` could not be asked; returns for "ignore" alone, else ends the stage with a reply."""
    run.note(f"{what}: {answer.reason}")
    if way != "ignore":
        end_stage(run, DEFER if way == "defer" else REJECT)


def end_stage(run: Run, reply: Reply) -> NoReturn:
    """Answer with `reply`, and ask no more scripts."""
    run.add(Answer(reply))
    run.add(Accept())
    raise Stopped
