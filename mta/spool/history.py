"""What the tries of queued messages came to, for whoever asks about one of them.

The queue itself keeps of each recipient the number of tries and the last reply. The replies before that are
remembered here, by the worker that made the tries, in bounded memory: a restart forgets them, and the log has
them all.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import NamedTuple

from mta.reply import Reply

TRIES = 20_000
"""Tries that are remembered, of all messages: 6 MB."""
EACH = 50
"""Of one message."""


class Tried(NamedTuple):
    """One recipient in one try."""

    at: float
    """Seconds of the epoch."""
    to: str
    reply: Reply
    peer: str
    """Who said so, "" when nobody was reached."""


class History:
    """The latest tries of the messages that were tried last."""

    __slots__ = ("_count", "_messages")

    def __init__(self) -> None:
        """Nothing was tried."""
        self._messages: OrderedDict[str, deque[Tried]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """How many tries are remembered."""
        return self._count

    def note(self, id: str, tries: Iterable[Tried]) -> None:
        """Remember these of a message; others that were tried long ago are forgotten for them."""
        known = self._messages.pop(id, None)
        if known is None:
            known = deque(maxlen=EACH)
        self._count -= len(known)
        known.extend(tries)
        self._count += len(known)
        self._messages[id] = known
        while self._count > TRIES:
            self._count -= len(self._messages.popitem(last=False)[1])

    def of(self, id: str) -> list[Tried]:
        """What is known of a message, oldest first."""
        return list(self._messages.get(id, ()))
