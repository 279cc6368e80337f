"""A worker's side of the supervisor: its slot, the shared memory, and what workers tell each other.

`WorkerLink` is what the daemon may use; `Link` is the real one. What a worker publishes reaches all
*other* workers of the node, of the old and the new generation alike; its own subscribers are not called,
for it knows already. Delivery is at most once and in order per publisher; nothing is promised when the
supervisor is gone, and `publish` never fails or blocks.

Records of a topic that nobody has subscribed to yet are kept (at most `MAX_EARLY`) until `settle`, so that
it does not matter when during the start of the daemon somebody subscribes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from mta.supervisor.messages import Keep, Start, Topic

MAX_EARLY = 20_000
"""Records kept for subscribers that are still to come; more than the supervisor remembers."""


class WorkerLink(Protocol):
    """What the daemon sees of the rest of the node."""

    slot: int
    """Number of this process among all living ones, 0 .. slots-1."""
    slots: int
    """How many slots there are."""
    shared_memory_fd: int
    """Anonymous memory shared by all workers; each writes only in the row of its slot."""

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        """Tell all other workers of the node; see the module for what is promised."""

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        """Call `callback` with every record of the topic, those that came before included."""

    def keep(self, key: str, data: dict[str, Any]) -> None:
        """Give workers of the same generation that start later something to begin with; it may be secret."""

    def kept(self, key: str) -> dict[str, Any] | None:
        """What was given under `key` before this worker started, None for nothing."""


class Link:
    """The link over the channel to the supervisor."""

    def __init__(self, start: Start, send: Callable[[msgspec.Struct], bool]) -> None:
        """Begin with what the first message says; `send` is the channel's."""
        self.slot = start.slot
        self.slots = start.slots
        self.shared_memory_fd = start.shared_memory_fd
        self._send = send
        self._kept = {one.key: one.data for one in start.kept}
        self._subscribers: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
        self._early: list[Topic] | None = list(start.remembered)

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        """Tell all other workers (`WorkerLink`)."""
        self._send(Topic(topic, data))

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        """Call `callback` from now on, and now with what came earlier (`WorkerLink`)."""
        self._subscribers.setdefault(topic, []).append(callback)
        for record in self._early or ():
            if record.topic == topic:
                callback(record.data)

    def keep(self, key: str, data: dict[str, Any]) -> None:
        """Give it to workers that start later (`WorkerLink`)."""
        self._send(Keep(key, data))

    def kept(self, key: str) -> dict[str, Any] | None:
        """What was given under `key` (`WorkerLink`)."""
        return self._kept.get(key)

    def deliver(self, record: Topic) -> None:
        """Hand a record of another worker to the subscribers."""
        if self._early is not None and len(self._early) < MAX_EARLY:
            self._early.append(record)
        for callback in self._subscribers.get(record.topic, ()):
            callback(record.data)

    def settle(self) -> None:
        """The daemon has started: nobody subscribes or asks for what was kept any more."""
        self._early = None
        self._kept = {}
