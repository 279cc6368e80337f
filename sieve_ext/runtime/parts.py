"""The part of the message that a script has at hand (RFC 5703), shared by the capabilities that work on it.

A loop goes through the parts that the message had when the outermost loop began. Parts that the script
replaces meanwhile are put into the body of that message together, so that offsets never grow old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sieve_ext.language.node import Node
    from sieve_ext.message import Message, Part
    from sieve_ext.message.header import Header
    from sieve_ext.runtime.run import Run

KEY = "foreverypart"
"""Where the loops are in `Run.state`."""

LOOP = "foreverypart"
"""The word that makes a loop."""


@dataclass(slots=True)
class Loops:
    """The loops that a run is in, and what was replaced in them."""

    base: Message
    """The message when the outermost loop began."""
    stack: list[Part] = field(default_factory=list)
    """The part that each loop is at, the outermost first."""
    replaced: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """What stands now where a part was, header included, by octets of the body."""


def loops_of(run: Run) -> Loops | None:
    """The loops that a run is in, None outside of loops."""
    found = run.state.get(KEY)
    return found if isinstance(found, Loops) and found.stack else None


def part_at_hand(run: Run) -> Part:
    """The part that the innermost loop is at; outside of loops the message as a part."""
    loops = loops_of(run)
    return loops.stack[-1] if loops is not None else run.message.structure.root


def header_of(run: Run, part: Part) -> Header:
    """The header of a part; that of the message as it stands for the message itself."""
    return part.header if part.depth else run.message


def parts_to_visit(run: Run) -> Sequence[Part]:
    """What a loop that begins now goes through."""
    loops = loops_of(run)
    if loops is None:
        run.state[KEY] = Loops(run.message)
        return list(run.message.structure.root.walk())
    return list(loops.stack[-1].walk())[1:]


def enter(run: Run, part: Part) -> None:
    """A loop comes to a part; `parts_to_visit` has been called for it."""
    loops: Loops = run.state[KEY]
    loops.stack.append(part)


def leave(run: Run) -> None:
    """A loop is done with a part."""
    loops = loops_of(run)
    if loops is not None:
        loops.stack.pop()


def edit_body(run: Run) -> Message:
    """The message, for its body to be replaced: parts at hand keep what they were read from."""
    run.message = run.message.snapshot()
    return run.edit()


def replaced_whole(run: Run) -> None:
    """The whole body was replaced: what loops still come to is gone."""
    loops = loops_of(run)
    if loops is not None:
        loops.replaced = {(0, loops.base.body_size): b""}


def replace_part(run: Run, part: Part, octets: bytes) -> None:
    """Put `octets`, with a header of their own, where a part of the message is, in a loop.

    A part within one that was replaced before is gone, and nothing is changed.
    """
    loops = loops_of(run)
    if loops is None:
        return
    place = (part.header_start, part.end)
    if any(start <= place[0] and place[1] <= end and (start, end) != place for start, end in loops.replaced):
        return
    for other in list(loops.replaced):
        if place[0] <= other[0] and other[1] <= place[1]:
            del loops.replaced[other]
    loops.replaced[place] = octets
    body = b"".join(loops.base.body_chunks())
    run.spend(len(body) // 1000 + 1)
    pieces: list[bytes] = []
    position = 0
    for (start, end), new in sorted(loops.replaced.items()):
        pieces += (body[position:start], new)
        position = end
    pieces.append(body[position:])
    edit_body(run).replace_body(b"".join(pieces))


def loops_around(node: Node) -> list[Node]:
    """The loops that a command or test stands in, the innermost first."""
    found: list[Node] = []
    around = node.parent
    while around is not None:
        if around.name == LOOP:
            found.append(around)
        around = around.parent
    return found
