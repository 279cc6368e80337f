"""A clock that is set back: what was planned by it does not wait until it is there again.

Messages are due by the clock of the wall, as they outlive processes and machines. A machine that starts with
a clock that is ahead and hears of the time later would leave alone what it has tried meanwhile for as long as
it was ahead, a year perhaps. A clock that is set forward needs no more than a look at it (`LOOK`): what is
due is tried then.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable

from mailqueue.live import Live
from mailqueue.model import Change, QueueError, UnknownMessage
from mailqueue.queue import MailQueue
from mta.spool.walk import BURST

AHEAD = 5.0
"""Seconds by which a clock is ahead, or set back, until that counts: corrections are small, and times of
tries are kept in whole seconds."""
LOOK = 60.0
"""Seconds after which the clock is looked at again: a machine without one may start in 1970, and what waits
is due in half a century until it hears of the time."""


class Setbacks:
    """Looks after the messages of one queue."""

    __slots__ = ("_changed", "_now", "_offset", "_queue")

    def __init__(self, queue: MailQueue, now: Callable[[], float], changed: Callable[[int], None]) -> None:
        """`now` is seconds of the epoch; `changed` is told of messages that are due at another time."""
        self._queue = queue
        self._now = now
        self._changed = changed
        self._offset = float("-inf")

    def seconds(self, wall: float, steady: float) -> float:
        """By how much the clock was set back since the last call; 0.0 when it was not.

        `wall` is seconds of the epoch, `steady` those of a clock that is never set.
        """
        before, self._offset = self._offset, wall - steady
        back = before - self._offset
        return back if back > AHEAD else 0.0

    async def mend(self, handles: Iterable[int] | None = None, back: float = 0.0) -> None:
        """Have messages (None: all) due at the time that was meant, by a clock that is as it is now. It was
        set `back` by some seconds; 0.0 when that is not known."""
        live = self._queue.live
        for number, handle in enumerate(array("Q", live.handles() if handles is None else handles)):
            if number % BURST == BURST - 1:
                await asyncio.sleep(0)
            if handle not in live:
                continue
            changes = planned_ahead(live, handle, self._now(), back)
            if changes:
                try:
                    await self._queue.settle(handle, changes, urgent=False)
                except UnknownMessage:
                    continue
                except QueueError:
                    return  # it is not ours any more
                self._changed(handle)


def planned_ahead(live: Live, handle: int, now: float, back: float = 0.0) -> list[Change]:
    """What is to be changed of a message that was planned by a clock that was ahead of `now`.

    `back` is by how much it was set back; when that is not known the time that has gone by since does not
    count. Raises UnknownMessage.
    """
    created = live.terms(handle)[1]
    wrong: dict[int, float] = {}
    for position, _, due, last in live.waiting(handle):
        # What was not tried yet may be for a time that was asked for; not so what was due when it came.
        planned = last or (created if due <= created + 1 else 0.0)
        if planned > now + AHEAD and due >= planned:
            wrong[position] = due - max(back, planned - now)
    if not wrong:
        return []
    states = live.recipients(handle)
    return [Change(position, states[position].status, due) for position, due in wrong.items()]
