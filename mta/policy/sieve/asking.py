"""What scripts ask while they run, and who answers: the asynchronous side of a stage.

A word with a remote side yields a `sieve_ext.Request`. The services of the worker answer it by its class, at
once or with an awaitable. A stage in which everything is answered at once costs no task; the first awaitable
turns it into a coroutine. What no service knows has the answer `Request.unanswered()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from mta.policy.sieve.facts import Facts
from sieve_ext import Request
from sieve_ext.extend import RunFailed

T = TypeVar("T")

Handler = Callable[[Any, Facts], Any]
"""Answers requests of one class, given what is known of the session: the answer, or an awaitable of it.

It bounds its own time, and says `Unavailable` when it cannot answer; what it raises is a bug, and ends the
run as an internal error (the client is answered 451)."""

Services = Mapping[type[Request], Handler]

STAGE_SECONDS = 30.0
"""For all that the scripts of one stage ask: less than clients wait for any reply (RFC 5321 section
4.5.3.2). When it is over the run fails, and the client is told to try again."""

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
