"""One run of a script: everything that its steps read and change."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import Struct

from sieve_ext.diagnostic import Position
from sieve_ext.message import Message
from sieve_ext.runtime.actions import START, Action, Keep
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.errors import LimitExceeded, RunFailed
from sieve_ext.runtime.result import Result
from sieve_ext.runtime.settings import Settings
from sieve_ext.runtime.tracing import Event, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sieve_ext.runtime.requests import Request

SLICE = 10_000
"""Most operations between two looks at the clock."""


class Run(Struct, eq=False):
    """The state of one run."""

    message: Message
    """The message with all edits; tests see it as it stands. Edits go through `edit`."""
    original: Message
    """The message as it was before the run."""
    _envelope: Envelope | Callable[[], Envelope]
    settings: Settings
    environment: Mapping[str, str]
    """What the host tells of the surroundings without being asked, by lower-case name (RFC 5183)."""
    _now: datetime | None
    result: Result
    state: dict[str, Any]
    """What extensions keep, by their capability's name; lives on in a following script."""
    variables: list[str]
    hooks: tuple[Callable[[Run, Action], None], ...]
    """The `on_action` of the script's capabilities."""
    trace: Trace | None
    mark: int
    """Actions that were there before the run."""
    left: int
    """Operations until somebody looks at the clock."""
    host: Callable[[Request], Any]
    """Answers at once what a script asks that was compiled for it (`sieve_ext.closures.unit.Unit.direct`)."""
    match_values: tuple[str, ...] | list[str] = ()
    """`${0}` and so on, from the last match (RFC 5229 section 3.2)."""
    position: Position = START
    """Of the command being done."""
    script: str = ""
    """Name of the included script being done."""
    is_timed: bool = False
    """False as long as the run has not done enough for anybody to look at the clock."""
    _is_shared: bool = True
    _spent: int = 0
    _cpu_start: float = 0.0
    _waited: float = 0.0

    @property
    def envelope(self) -> Envelope:
        """The envelope of the message; made when it is first asked for."""
        if not isinstance(self._envelope, Envelope):
            self._envelope = self._envelope()
        return self._envelope

    @envelope.setter
    def envelope(self, envelope: Envelope) -> None:
        """Another one, from now on."""
        self._envelope = envelope

    def add(self, action: Action) -> Action:
        """Add an action to the result; returns the one that stands for it there.

        Raises RunFailed for a conflict, LimitExceeded for too many.
        """
        action.position = self.position
        action.message = self.message
        self._is_shared = True
        for hook in self.hooks:
            hook(self, action)
        if self.trace is not None:
            self.trace(Event("action", action.describe(), self.position, script=self.script))
        return self.result.add(action, self.settings)

    def edit(self) -> Message:
        """The message, to be edited: actions added before keep it as it is now."""
        if self._is_shared:
            self.message = self.message.snapshot()
            self._is_shared = False
        return self.message

    @property
    def now(self) -> datetime:
        """The time of the run, the same whenever it is asked for, with its zone."""
        if self._now is None:
            self._now = datetime.now().astimezone()
        return self._now

    def fail(self, text: str) -> NoReturn:
        """End the run with an error at the command being done: the message is kept, the text reported."""
        raise RunFailed(text)

    def note(self, text: str) -> None:
        """Say something for the log, at the command being done."""
        self.result.note(text, self.position, self.script)

    def spend(self, operations: int) -> None:
        """Account for work that grows with the message or the script: values times keys, parts, fields.

        Raises LimitExceeded when the run has used up its operations or its processor time.
        """
        self.left -= operations
        if self.left < 0:
            self.refill()

    def refill(self) -> None:
        """What `spend` does once a slice of operations is used up; for loops that count `left` themselves."""
        limits = self.settings.limits
        self._spent += min(SLICE, limits.operations) - self.left
        if self._spent > limits.operations:
            raise LimitExceeded(f"script uses too many operations (max {limits.operations})")
        self.left = SLICE
        self.check_time()

    def check_time(self) -> None:
        """Raises LimitExceeded when the processor time is used up; before and after anything long."""
        limits = self.settings.limits
        now = time.thread_time()
        if not self.is_timed:
            self.is_timed = True
            self._cpu_start = now
        elif now - self._cpu_start - self._waited > limits.cpu_seconds:
            raise LimitExceeded(f"execution exceeded CPU time limit ({limits.cpu_seconds:g} seconds)")

    def waited(self, seconds: float) -> None:
        """The thread's clock went on by `seconds` of processor time while an answer was sought.

        Where the run goes on in another thread, which has another clock, it may have gone back as well.
        """
        self._waited += seconds

    def limit_value(self, value: str) -> str:
        """`value` cut to the longest that a variable may have, at a character (RFC 5229 section 5)."""
        most = self.settings.limits.variable_octets
        if len(value) * 4 <= most:
            return value
        octets = value.encode("utf-8", "surrogatepass")
        return value if len(octets) <= most else octets[:most].decode("utf-8", "ignore")

    def ask(self, request: Request) -> Any:
        """What the host answers at once; the time that it takes for that is not the run's."""
        if not self.is_timed:
            return self.host(request)
        before = time.thread_time()
        try:
            return self.host(request)
        finally:
            self.waited(time.thread_time() - before)

    def end(self) -> None:
        """Close the result: find out about the implicit keep."""
        self.result.message = self.message
        if not self.hooks:
            self.result.end()
            return
        keep = Keep(implicit=True, message=self.message)
        for hook in self.hooks:
            hook(self, keep)
        self.result.end(keep)
