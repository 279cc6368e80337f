"""How compiled commands and tests are put together.

A step is a function that takes the run. Most are plain functions. One that needs an answer from the host is
a generator function: it yields requests and is sent their answers. What contains only plain steps is plain
itself: a script that asks nothing runs without a generator anywhere. A block of one command that asks gives
the generator of the command, for every generator around it is gone through with each answer.

A script may be compiled for hosts that answer at once, too: then each step that asks is made plain where it
stands (`directly`), and no generator is around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import CO_GENERATOR
from typing import TYPE_CHECKING, Any

from sieve_ext.diagnostic import Position
from sieve_ext.runtime.glances import (
    nothing_done,
    of_choice,
    of_junction,
    of_negation,
    of_sequence,
    with_glance,
)

if TYPE_CHECKING:
    from sieve_ext.runtime.requests import Request
    from sieve_ext.runtime.run import Run

Step = Callable[["Run"], Any]
"""Does a command, or says whether a test holds."""

Placed = tuple[Position, Step]
"""A command and where it stands."""


def asks(step: Callable[..., Any]) -> bool:
    """True when `step` makes a generator, whose requests have to be passed on."""
    try:
        return bool(step.__code__.co_flags & CO_GENERATOR) or _GIVES in step.__dict__
    except AttributeError:
        return False


_GIVES = "gives_generator"
"""Attribute of a function that is none of a generator itself."""


_ASKS_HOST = "asks_host"
"""Attribute of a plain step that has its requests answered by the host."""
_DIRECT = "direct"
"""Attribute of a step that asks: what does the same, given a host that answers at once."""


def asking(
    request: Request, then: Callable[[Run, Any], Any], told: Callable[[Any], bool] | None = None
) -> Step:
    """Ask one thing, and go on with the answer: `then` is plain.

    `told` is for a glance: given the answer it says whether the test holds, or that the command does nothing.
    """

    def ask(run: Run) -> Any:
        return then(run, (yield request))

    def ask_host(run: Run) -> Any:
        return then(run, run.ask(request))

    if told is not None:
        with_glance(ask_host, lambda environment, host: told(host(request)))
    setattr(ask, _DIRECT, ask_host)
    return ask


def directly(step: Step) -> Step:
    """What `step`, which asks, does in a run whose host answers at once (`Run.ask`): a plain step."""
    direct: Step = getattr(step, _DIRECT, None) or _answered(step)
    setattr(direct, _ASKS_HOST, True)
    return direct


def asks_host(step: Step) -> bool:
    """True for a step that `directly` has made: it costs what the host's answers cost."""
    return getattr(step, _ASKS_HOST, False)


def _answered(step: Step) -> Step:
    def answered(run: Run) -> Any:
        steps = step(run)
        try:
            request = steps.send(None)
            while True:
                try:
                    given = run.ask(request)
                except Exception as error:  # noqa: BLE001 - the step may know what to do, as with any answer
                    request = steps.throw(error)
                else:
                    request = steps.send(given)
        except StopIteration as end:
            return end.value

    return answered


def sequence(steps: Sequence[Placed]) -> Step:
    """Commands one after the other; the run knows at which it is."""
    if not steps:
        return _nothing
    if len(steps) == 1:
        return _only(*steps[0])
    if True in [asks(step) for _, step in steps]:
        marked: list[tuple[Position, Any, bool]] = [(at, step, asks(step)) for at, step in steps]

        def run_asking(run: Run) -> Any:
            for position, step, does_ask in marked:
                run.position = position
                if does_ask:
                    yield from step(run)
                else:
                    step(run)

        return run_asking
    placed = tuple(steps)

    def run_all(run: Run) -> None:
        for position, step in placed:
            run.position = position
            step(run)

    return with_glance(run_all, of_sequence([step for _, step in placed]))


def _only(position: Position, step: Step) -> Step:
    def run_one(run: Run) -> Any:
        run.position = position
        return step(run)

    if asks(step):
        setattr(run_one, _GIVES, True)
    return with_glance(run_one, of_sequence([step]))


def _nothing(run: Run) -> None:
    """An empty block."""


with_glance(_nothing, nothing_done)


def choice(branches: Sequence[tuple[Step, Step]], otherwise: Step | None) -> Step:
    """The block of the first test that holds; `otherwise` if none does."""
    if True in [asks(step) for branch in branches for step in branch] or (otherwise and asks(otherwise)):
        marked = [(test, asks(test), block, asks(block)) for test, block in branches]
        last: Any = otherwise or _nothing
        last_asks = asks(last)

        def choose_asking(run: Run) -> Any:
            for test, test_asks, block, block_asks in marked:
                if (yield from test(run)) if test_asks else test(run):
                    if block_asks:
                        yield from block(run)
                    else:
                        block(run)
                    return
            if last_asks:
                yield from last(run)
            else:
                last(run)

        return choose_asking
    glance = of_choice(branches, otherwise)
    if len(branches) == 1:
        ((only_test, only_block),) = branches
        if otherwise is None:

            def choose_one(run: Run) -> None:
                if only_test(run):
                    only_block(run)

            return with_glance(choose_one, glance)
    pairs = tuple(branches)

    def choose(run: Run) -> None:
        for test, block in pairs:
            if test(run):
                block(run)
                return
        if otherwise is not None:
            otherwise(run)

    return with_glance(choose, glance)


def negation(test: Step) -> Step:
    """True where `test` is false."""
    if asks(test):

        def not_asking(run: Run) -> Any:
            return not (yield from test(run))

        return not_asking

    def is_not(run: Run) -> bool:
        return not test(run)

    return with_glance(is_not, of_negation(test))


def all_of(tests: Sequence[Step]) -> Step:
    """True when all hold; those behind the first that does not are not made."""
    return _junction(tests, False)


def any_of(tests: Sequence[Step]) -> Step:
    """True when one holds; those behind it are not made."""
    return _junction(tests, True)


def _junction(tests: Sequence[Step], decisive: bool) -> Step:
    if any(map(asks, tests)):
        marked = [(test, asks(test)) for test in tests]

        def junction_asking(run: Run) -> Any:
            for test, does_ask in marked:
                if bool((yield from test(run)) if does_ask else test(run)) is decisive:
                    return decisive
            return not decisive

        return junction_asking
    each = tuple(tests)
    glance = of_junction(tests, decisive)
    if decisive:

        def any_holds(run: Run) -> bool:
            for test in each:  # noqa: SIM110 - a generator expression costs more than the tests
                if test(run):
                    return True
            return False

        return with_glance(any_holds, glance)

    def all_hold(run: Run) -> bool:
        for test in each:  # noqa: SIM110
            if not test(run):
                return False
        return True

    return with_glance(all_hold, glance)


def chain(first: Step, then: Callable[[Run, Any], Any]) -> Step:
    """`then`, given what `first` yields; either may ask."""
    first_asks, then_asks = asks(first), asks(then)
    if first_asks or then_asks:

        def chained_asking(run: Run) -> Any:
            value = (yield from first(run)) if first_asks else first(run)
            return (yield from then(run, value)) if then_asks else then(run, value)

        return chained_asking

    def chained(run: Run) -> Any:
        return then(run, first(run))

    return chained
