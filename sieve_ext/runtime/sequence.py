"""Several scripts for one message: site before, personal, site after.

The next script runs while the message is still to be kept: the one before ended in a keep, implicit or
explicit. Its keep is then superseded by what the next decides; everything else that it decided stays, counts
for conflicts and limits, and so do edits of the message and what extensions remember. A script that fails
ends the sequence: the message is kept, and what earlier scripts decided stands.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import datetime
from typing import Any

from sieve_ext.message import Message
from sieve_ext.runtime.actions import Action, StoreAction
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.result import Result
from sieve_ext.runtime.script import Script
from sieve_ext.runtime.settings import Settings
from sieve_ext.runtime.tracing import Trace


def run_sequence(
    scripts: Iterable[Script],
    message: Message,
    envelope: Envelope | None = None,
    *,
    settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
    now: datetime | None = None,
    between: Callable[[Result], None] | None = None,
    trace: Trace | None = None,
) -> Generator[Request, Any, Result]:
    """Run `scripts` in order; yields their requests, returns the result of all, see `Script.run`.

    `between` is called with the result after a script that another follows: a host that carries actions out
    at once does it there, and marks them as executed. Without scripts the message is kept.
    """
    result = Result(message=message)
    state: dict[str, Any] = {}
    is_first = True
    for script in scripts:
        if not is_first:
            if result.failed or not result.keeps:
                break
            if between is not None:
                between(result)
            result.actions = [one for one in result.actions if not _is_superseded(one)]
        is_first = False
        result = yield from script.run(
            result.message or message,
            envelope,
            settings=settings,
            environment=environment,
            now=now,
            result=result,
            state=state,
            trace=trace,
        )
    if is_first:
        result.keep()
    return result


def _is_superseded(action: Action) -> bool:
    """True for a keep that has not been carried out, for the next script decides whether there is one."""
    return isinstance(action, StoreAction) and action.target.upper() == "INBOX" and not action.executed
