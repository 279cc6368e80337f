"""Messages whose client has left while they are being delivered, so that its retry waits for how that ends.

Who has such a message is remembered when its delivery has ended (`mta.unacknowledged`). A client that has
given up, or changed its network as a phone does, tries again before that; its retry would be delivered beside
the first try. Here all workers of the node learn that a message is under way, and when it is not any more.

Nothing is told of clients that stay, which nearly all do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

TOPIC = "abandoned"
"""The topic on which workers tell each other."""


class Node(Protocol):
    """What is needed of the other workers."""

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        """Tell all other workers of the node."""

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        """Hear what other workers tell."""


class Abandoned:
    """Deliveries under way whose client has gone."""

    def __init__(self, node: Node) -> None:
        """`node` are the other workers."""
        self._tries: dict[tuple[str, str], asyncio.Event] = {}
        """By message and name: what tells that the try has ended."""
        self._node = node
        node.subscribe(TOPIC, self._heard)

    def __bool__(self) -> bool:
        """True when there is anything to wait for."""
        return bool(self._tries)

    def begin(self, message: str, name: str, seconds: float) -> None:
        """The client of try `name` of a message (its `mta.unacknowledged.digest`) has left.

        After `seconds` it is taken for ended in any case: its worker may have died.
        """
        self._tell(message, name, seconds)

    def end(self, message: str, name: str) -> None:
        """That try is over, and who has the message is remembered."""
        self._tell(message, name, 0.0)

    async def ended(self, message: str, seconds: float) -> None:
        """Return when the tries of a message that are known now have ended, at last after `seconds`.

        Those that become known later are retries as well, and wait for the same.
        """
        waited_for = [event for (digest, _), event in self._tries.items() if digest == message]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for event in waited_for:
                    await event.wait()

    def _tell(self, message: str, name: str, seconds: float) -> None:
        self._keep(message, name, seconds)
        self._node.publish(TOPIC, {"message": message, "name": name, "seconds": seconds})

    def _heard(self, data: dict[str, Any]) -> None:
        self._keep(str(data["message"]), str(data["name"]), float(data["seconds"]))

    def _keep(self, message: str, name: str, seconds: float) -> None:
        if seconds > 0:
            self._tries[message, name] = asyncio.Event()
            asyncio.get_running_loop().call_later(seconds, self._over, message, name)
        else:
            self._over(message, name)

    def _over(self, message: str, name: str) -> None:
        event = self._tries.pop((message, name), None)
        if event is not None:
            event.set()
