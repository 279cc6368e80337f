"""Running a script at once, with a host that answers without waiting: tools, tests, simple servers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from sieve_ext.message import Message
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.result import Result
from sieve_ext.runtime.script import Script
from sieve_ext.runtime.settings import Settings
from sieve_ext.runtime.tracing import Trace


class Host(Protocol):
    """Answers the requests of a run."""

    def answer(self, request: Request) -> Any:
        """The answer to `request`; `request.unanswered()` for what the host does not know.

        What it raises ends the run as an internal error.
        """


class NoHost:
    """Knows nothing."""

    def answer(self, request: Request) -> Any:
        """The answer that the request has when nobody knows."""
        return request.unanswered()


def execute(
    script: Script,
    message: Message | bytes,
    envelope: Envelope | None = None,
    host: Host | None = None,
    *,
    settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
    now: datetime | None = None,
    result: Result | None = None,
    state: dict[str, Any] | None = None,
    trace: Trace | None = None,
) -> Result:
    """Run `script`, letting `host` answer; see `Script.run`."""
    if isinstance(message, bytes):
        message = Message(message)
    if not script.asks and trace is None:
        return script.run_plain(
            message,
            envelope,
            settings=settings,
            environment=environment,
            now=now,
            result=result,
            state=state,
        )
    running = script.run(
        message,
        envelope,
        settings=settings,
        environment=environment,
        now=now,
        result=result,
        state=state,
        trace=trace,
    )
    known = host or NoHost()
    try:
        request = next(running)
        while True:
            try:
                answer = known.answer(request)
            except Exception as error:  # noqa: BLE001 - the run turns it into a fault
                request = running.throw(error)
            else:
                request = running.send(answer)
    except StopIteration as end:
        finished: Result = end.value
        return finished
