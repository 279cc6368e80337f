"""What the world does to a server that is no news: turned into numbers and few log lines.

`quieten` takes the errors that the loop and the interpreter report on their own - a peer that resets in the
middle of a handshake, a server name that is no ASCII - and counts them; what is not known to be harmless is
logged as an error with its traceback. `Throttle` lets only so many lines a second through, because one line
for each refused connection of a flood would make the log the next victim.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from mta.net.tlsinfo import failure_class

LINES_PER_SECOND = 10
"""Lines of one `Throttle`: enough to see what goes on, 100 kB a minute at the worst."""


class Log(Protocol):
    """Writes a structured log line: an event and its fields."""

    def __call__(self, event: str, **fields: Any) -> object:
        """Write one line."""


class Throttle:
    """A log that passes `per_second` lines on and says in the next second how many it kept back."""

    __slots__ = ("_clock", "_kept_back", "_log", "_per_second", "_second", "_written")

    def __init__(
        self, log: Log, per_second: int = LINES_PER_SECOND, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`log` writes the lines that pass."""
        self._log = log
        self._per_second = per_second
        self._clock = clock
        self._second = -1
        self._written = 0
        self._kept_back = 0

    def __call__(self, event: str, **fields: Any) -> None:
        """Write the line, if there is room for it."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._written = 0
            if self._kept_back:
                self._log("log lines kept back", count=self._kept_back)
                self._kept_back = 0
        if self._written < self._per_second:
            self._written += 1
            self._log(event, **fields)
        else:
            self._kept_back += 1


def quieten(loop: asyncio.AbstractEventLoop, counts: Counter[str], error_log: Log) -> None:
    """Handle what `loop` and the interpreter report on their own.

    `counts` gets `tls_<failure class>` and `connection_error` for noise; `error_log` gets the rest. The
    interpreter's hook is set for the whole process; what it does not know goes to the hook before it.
    """

    def on_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, ssl.SSLError):
            counts[f"tls_{failure_class(error)}"] += 1
        elif isinstance(error, ConnectionError | TimeoutError):
            counts["connection_error"] += 1
        else:
            text = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
            error_log("unexpected error", message=str(context.get("message", "")), traceback=text)

    before = sys.unraisablehook

    def on_unraisable(unraisable: Any) -> None:
        # A server name with octets outside ASCII: the library refuses the handshake, the interpreter
        # would print a traceback for whoever sends one.
        if isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes):
            counts["tls_bad_server_name"] += 1
        else:
            before(unraisable)

    loop.set_exception_handler(on_loop_error)
    sys.unraisablehook = on_unraisable
