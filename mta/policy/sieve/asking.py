"""What scripts ask while they run, and who answers: the asynchronous side of a stage.

A word with a remote side yields a `sieve_ext.Request`. The services of the worker answer it by its class, at
once or with an awaitable. A stage in which everything is answered at once costs no task; the first awaitable
turns it into a coroutine. What no service knows has the answer `Request.unanswered()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec import Struct, field

from mta.policy.sieve.facts import Facts
from mta.policy.sieve.outcome import NOTHING, Outcome
from sieve_ext import Envelope, Message, Request
from sieve_ext.extend import RunFailed

if TYPE_CHECKING:
    from mta.policy.sieve.program import Program

T = TypeVar("T")

Handler = Callable[[Any, Facts], Any]
"""Answers requests of one class, given what is known of the session: the answer, or an awaitable of it.

It bounds its own time, and says `Unavailable` when it cannot answer; what it raises is a bug, and ends the
run as an internal error (the client is answered 451)."""

Services = Mapping[type[Request], Handler]

STAGE_SECONDS = 30.0
"""For all that the scripts of one stage ask: less than clients wait for any reply (RFC 5321 section
4.5.3.2). When it is over the run fails, and the client is told to try again."""

DOUBT = 16
"""Runs of a stage, after one in which an answer had to be waited for, that must have all answers at once
before that is counted on again: what was done until then is done twice."""

Asking = Generator[Request, Any, T]
"""A run: yields what it asks, is sent the answers, returns what it came to."""


@dataclass(slots=True, frozen=True)
class Unavailable:
    """The answer of a service that cannot be reached, is too slow or answers nonsense."""

    reason: str
    """For the log: what was asked and what went wrong."""


def answer(services: Services, request: Request, facts: Facts) -> Any:
    """What the service for `request` says; may be an awaitable."""
    handler = services.get(type(request))
    return request.unanswered() if handler is None else handler(request, facts)


def finish(running: Asking[T], services: Services, facts: Facts) -> T | Awaitable[T]:
    """Go through a run; an awaitable of its end from the first answer on that is not there at once."""
    try:
        request = next(running)
        while True:
            try:
                given = answer(services, request, facts)
            except Exception as error:  # noqa: BLE001 - the run turns it into a fault
                request = running.throw(error)
                continue
            if hasattr(given, "__await__"):
                return _finish_later(running, given, services, facts)
            request = running.send(given)
    except StopIteration as end:
        value: T = end.value
        return value


class Waiting(BaseException):
    """A service cannot answer at once. No script must stop it on its way."""

    def __init__(self, request: Request, given: Awaitable[Any]) -> None:
        """`given` is the answer to come."""
        self.request = request
        self.given = given


Said = tuple[Request, Any, Exception | None]
"""What was asked, and the answer, or what went wrong."""


class AtOnce(Struct, eq=False):
    """Answers what the scripts of a stage ask, and remembers what it has said (a `DirectHost`).

    Most is answered at once, and then no generator is needed. Where it is not, all is done once more by one
    that waits (`asked`): scripts do the same again when they are told the same.
    """

    _services: Services
    _facts: Facts
    said: list[Said] = field(default_factory=list)

    def __call__(self, request: Request) -> Any:
        """The answer. Raises Waiting, and what the service does."""
        handler = self._services.get(type(request))  # as in `answer`
        try:
            given = request.unanswered() if handler is None else handler(request, self._facts)
        except Exception as error:
            self.said.append((request, None, error))
            raise
        if hasattr(given, "__await__"):
            raise Waiting(request, given)
        self.said.append((request, given, None))
        return given


def asked(
    program: Program,
    stage: str,
    environment: Mapping[str, str],
    envelope: Callable[[], Envelope],
    message: Message | None,
    services: Services,
    facts: Facts,
) -> Outcome | Awaitable[Outcome]:
    """What the scripts of a stage come to; an awaitable of it when an answer is not there at once."""
    doubts = program.doubts
    if doubt := doubts.get(stage, 0):
        outcome = finish(program.run(stage, environment, envelope, message), services, facts)
        doubts[stage] = DOUBT if hasattr(outcome, "__await__") else doubt - 1
        return outcome
    host = AtOnce(services, facts)
    glance = program.glances.get(stage)
    try:
        if glance is not None:
            try:
                is_idle = glance(environment, host)
            except Exception:  # noqa: BLE001 - the run meets it again, and says where
                is_idle = False
            if is_idle:
                return NOTHING
            host.said.clear()  # what is said is to stand there as the run asks for it
        return program.run_at_once(stage, environment, envelope, message, host)
    except Waiting as waiting:
        doubts[stage] = DOUBT
        running = program.run(stage, environment, envelope, message)
        return _catch_up(running, host.said, waiting, services, facts)


def _catch_up(
    running: Asking[T], said: Sequence[Said], waiting: Waiting, services: Services, facts: Facts
) -> T | Awaitable[T]:
    """Go through a run that asks again what has been answered, and wait for what could not be.

    A run that asks something else now, as when an hour has begun in between, is answered anew from there on.
    """
    try:
        request = next(running)
        for before, given, error in said:
            if not _is_same(request, before):
                break
            request = running.send(given) if error is None else running.throw(error)
        if _is_same(request, waiting.request):
            return _finish_later(running, waiting.given, services, facts)
    except StopIteration as end:
        _drop(waiting.given)
        value: T = end.value
        return value
    _drop(waiting.given)
    return _finish_later(running, _ask(services, request, facts), services, facts)


def _is_same(one: Request, other: Request) -> bool:
    """Whether two requests are the same question. The message of one is a copy of the other's, if edited."""
    if type(one) is not type(other):
        return False
    if one == other:
        return True
    message = getattr(other, "message", None)
    return (
        message is not None
        and getattr(one, "message", None) is not None
        and (replace(cast(Any, one), message=message) == other)
    )


def _drop(given: Awaitable[Any]) -> None:
    """Nobody wants an answer any more."""
    if isinstance(given, asyncio.Future):
        given.cancel()
    elif isinstance(given, Coroutine):
        given.close()


async def _finish_later(running: Asking[T], given: Awaitable[Any], services: Services, facts: Facts) -> T:
    until = asyncio.get_running_loop().time() + STAGE_SECONDS
    try:
        while True:
            try:
                value = await _in_time(given, until)
            except Exception as error:  # noqa: BLE001 - the run turns it into a fault
                request = running.throw(error)
            else:
                request = running.send(value)
            given = _ask(services, request, facts)
    except StopIteration as end:
        result: T = end.value
        return result


@dataclass(slots=True, frozen=True)
class _End:
    """What a run that went on in a thread came to."""

    value: Any


async def finish_aside(running: Asking[T], services: Services, facts: Facts) -> T:
    """Go through a run in threads, whose requests are answered on the event loop.

    Between a request and its answer the run is in no thread: however many wait, whatever they wait for finds
    a thread when it needs one.
    """
    until = asyncio.get_running_loop().time() + STAGE_SECONDS
    step: Callable[[], Request] = partial(next, running)
    while True:
        found = await asyncio.to_thread(_go_on, step)
        if isinstance(found, _End):
            return cast(T, found.value)
        try:
            step = partial(running.send, await _in_time(_ask(services, found, facts), until))
        except Exception as error:  # noqa: BLE001 - the run turns it into a fault
            step = partial(running.throw, error)


def _go_on(step: Callable[[], Request]) -> Request | _End:
    """The next request, or the end; a StopIteration cannot leave a thread."""
    try:
        return step()
    except StopIteration as end:
        return _End(end.value)


async def _ask(services: Services, request: Request, facts: Facts) -> Any:
    given = answer(services, request, facts)
    return await given if hasattr(given, "__await__") else given


async def _in_time(given: Awaitable[Any], until: float) -> Any:
    """The answer. Raises RunFailed when it is not there `until` then."""
    try:
        return await asyncio.wait_for(given, until - asyncio.get_running_loop().time())
    except TimeoutError:
        raise RunFailed(f"answers took longer than {STAGE_SECONDS:g} seconds") from None
