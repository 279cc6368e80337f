"""What can be told of a step at a glance: without a run.

Policies run for every command of every session, and nearly always have nothing to say. A step may come with a
glance, which looks at the environment and asks the host, and at nothing else: of a test it says whether the
test holds; of a command True when the command does nothing, False when that is not known. Where a glance
says that a whole script does nothing, no run is made. Steps that look at more have no glance, and what
contains them has none where it would be needed to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sieve_ext.runtime.requests import Request

Glance = Callable[[Mapping[str, str], "Callable[[Request], Any]"], bool]
"""Given the environment and the host; raises what the host raises."""
_GLANCE = "glance"
T = TypeVar("T", bound=Callable[..., Any])


def with_glance(step: T, glance: Glance | None) -> T:
    """The step, of which `glance` tells; None: nothing does."""
    if glance is not None:
        setattr(step, _GLANCE, glance)
    return step


def glance_of(step: Callable[..., Any]) -> Glance | None:
    """What tells of a step, None if nothing does."""
    return getattr(step, _GLANCE, None)


def nothing_done(environment: Mapping[str, str], host: Callable[[Request], Any]) -> bool:
    """Of an empty block."""
    return True


def joined(glances: Sequence[Glance | None], decisive: bool) -> Glance | None:
    """`decisive` where one of them says so, else the other. None where one of them is missing."""
    each = [glance for glance in glances if glance is not None]
    if len(each) < len(glances):
        return None
    if len(each) == 1:
        return each[0]

    def junction(environment: Mapping[str, str], host: Callable[[Request], Any]) -> bool:
        for glance in each:
            if glance(environment, host) is decisive:
                return decisive
        return not decisive

    return junction


def of_sequence(steps: Sequence[Callable[..., Any]]) -> Glance | None:
    """Of commands one after the other: whether all do nothing."""
    return of_junction(steps, False)


def of_negation(test: Callable[..., Any]) -> Glance | None:
    """Of `not`."""
    glance = glance_of(test)
    return None if glance is None else lambda environment, host: not glance(environment, host)


def of_junction(tests: Sequence[Callable[..., Any]], decisive: bool) -> Glance | None:
    """Of `anyof`, where one that holds is decisive, and `allof`."""
    return joined([glance_of(test) for test in tests], decisive)


def of_choice(
    branches: Sequence[tuple[Callable[..., Any], Callable[..., Any]]],
    otherwise: Callable[..., Any] | None,
) -> Glance | None:
    """Of the block of the first test that holds. Behind a test without a glance nothing is known."""
    known: list[tuple[Glance, Glance | None]] = []
    end = nothing_done if otherwise is None else glance_of(otherwise)
    for test, block in branches:
        glance = glance_of(test)
        if glance is None:
            end = None
            break
        known.append((glance, glance_of(block)))
    if end is None and not any(block is not None for _, block in known):
        return None

    def choice(environment: Mapping[str, str], host: Callable[[Request], Any]) -> bool:
        for test, block in known:
            if test(environment, host):
                return block is not None and block(environment, host)
        return end is not None and end(environment, host)

    return choice
