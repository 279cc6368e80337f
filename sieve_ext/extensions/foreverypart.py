"""foreverypart (RFC 5703 section 3): foreverypart and break. Status: complete.

The loop begins with the message itself and goes through its parts in order, each before its own; a loop in a
loop goes through those within the part at hand. Loops may be nested `NESTING` deep.
"""

from __future__ import annotations

from typing import Any

from sieve_ext.extend import (
    STRING,
    Capability,
    Checker,
    Compiler,
    Control,
    Leave,
    Node,
    Run,
    Step,
    asks,
    tag,
)
from sieve_ext.runtime.parts import enter, leave, loops_around, parts_to_visit

NESTING = 4
"""Loops within loops, the outermost counted."""


def loop_name(node: Node) -> str | None:
    """The name given with :name, as it stands there: it tells loops apart when the script is loaded."""
    given = node.text("name")
    return None if given is None else given.value


class LoopEnded(Leave):
    """`break`: leaves the innermost loop, or that of a name."""

    def __init__(self, name: str | None) -> None:
        """None is the innermost one."""
        super().__init__()
        self.name = name


class ForeverypartCommand(Control):
    """foreverypart [":name" <string>] { ... }."""

    word = "foreverypart"
    accept_children = True
    args_definition = (tag("name", ":name", value=STRING),)

    def check(self, checker: Checker) -> None:
        """It is not nested too deep."""
        if len(loops_around(self)) >= NESTING:
            checker.error(
                self, "loop-nesting",
                f"the nested foreverypart loop exceeds the nesting limit (<= {NESTING} levels)",
            )  # fmt: skip

    def compile(self, compiler: Compiler) -> Step:
        """Do the block for each part."""
        name = loop_name(self)
        block = compiler.block(self.children)

        def is_ended(ended: LoopEnded) -> bool:
            return ended.name is None or ended.name == name

        if asks(block):

            def loop_asking(run: Run) -> Any:
                for part in parts_to_visit(run):
                    run.spend(1)
                    enter(run, part)
                    try:
                        yield from block(run)
                    except LoopEnded as ended:
                        if is_ended(ended):
                            return
                        raise
                    finally:
                        leave(run)

            return loop_asking

        def loop(run: Run) -> None:
            for part in parts_to_visit(run):
                run.spend(1)
                enter(run, part)
                try:
                    block(run)
                except LoopEnded as ended:
                    if is_ended(ended):
                        return
                    raise
                finally:
                    leave(run)

        return loop


class BreakCommand(Control):
    """break [":name" <string>]."""

    word = "break"
    args_definition = (tag("name", ":name", value=STRING),)

    def check(self, checker: Checker) -> None:
        """There is such a loop around it."""
        around = loops_around(self)
        if not self.has_tag("name"):
            if not around:
                checker.error(self, "no-loop", "the break command is not placed inside a foreverypart loop")
            return
        name = loop_name(self)
        if not any(loop_name(loop) == name for loop in around):
            checker.error(
                self, "no-loop", f"the break command is not placed inside a foreverypart loop named '{name}'"
            )

    def ends_block(self) -> bool:
        """True."""
        return True

    def compile(self, compiler: Compiler) -> Step:
        """Leave the loop."""
        name = loop_name(self)

        def leave_loop(run: Run) -> None:
            raise LoopEnded(name)

        return leave_loop


CAPABILITIES = (
    Capability("foreverypart", words=(ForeverypartCommand, BreakCommand), specification="RFC 5703 section 3"),
)
