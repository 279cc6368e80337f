"""Memory of deliveries that the client was not told of, so that its retry makes no second copy.

A message was delivered, but the client had gone before it could read the answer (or the answer had to be
temporary because of other recipients). The client will try again; this memory recognises the retry by
sender, recipient and a digest of the octets as received, and the recipient is answered 250 at once.

Records live some hours, are bounded in number (the oldest make room), are shared by all workers of the node
and survive a reload. Nothing is computed for a message while the memory is empty: the normal case.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from mta.abandoned import Abandoned, Node
from mta.address import Address
from mta.content import Content

DIGEST_SIZE = 16
"""Octets of a digest: 128 bits, far from any accident."""
DIGEST_AT_ONCE = 256 * 1024
"""Octets up to which a digest is computed on the event loop: well under a millisecond."""
OWED = "!"
"""In the key of a delivery of which the sender wants to hear, and has not heard."""
TOPIC = "unacknowledged"
"""The topic on which workers tell each other; the supervisor keeps its records for new workers."""


def digest(sender: Address, content: Content) -> str:
    """The identity of a message: its sender and its octets as received. Reads all of it."""
    hash_ = hashlib.blake2b(sender.text.encode("utf-8") + b"\0", digest_size=DIGEST_SIZE)
    for chunk in content.chunks():
        hash_.update(chunk)
    return hash_.hexdigest()


def _key(message: str, recipient: Address, mark: str = ":") -> str:
    # In the client's letters: for other hosts bob and BOB may be two, and what one has the other may lack.
    return f"{message}{mark}{recipient.local}@{recipient.domain}"


async def identity_of(sender: Address, content: Content) -> str:
    """The digest, of large messages made in a thread."""
    if content.size <= DIGEST_AT_ONCE:
        return digest(sender, content)
    return await asyncio.to_thread(digest, sender, content)


class Unacknowledged:
    """Deliveries whose answer did not arrive."""

    def __init__(
        self, node: Node, clock: Callable[[], float], *, ttl: float = 4 * 3600.0, entries: int = 10_000
    ) -> None:
        """`clock` gives seconds since the epoch, for records outlive processes; `ttl` 0 remembers nothing."""
        self._records: dict[str, float] = {}
        self._node = node
        self._clock = clock
        self._ttl = ttl
        self._entries = entries
        self.abandoned = Abandoned(node)
        """What is under way whose client has gone."""
        node.subscribe(TOPIC, self._heard)

    def __bool__(self) -> bool:
        """True when there is anything to look up."""
        return bool(self._records)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def is_off(self) -> bool:
        """True when nothing is remembered."""
        return self._ttl <= 0

    def remember(self, message: str, recipients: Iterable[Address], *, owed: bool = False) -> None:
        """A message (its `digest`) was delivered to these recipients and the client does not know.

        `owed`: its sender wanted a report of that (NOTIFY=SUCCESS), and there is none.
        """
        if self.is_off:
            return
        expires = self._clock() + self._ttl
        for recipient in recipients:
            key = _key(message, recipient, OWED if owed else ":")
            self._keep(key, expires)
            self._node.publish(TOPIC, {"key": key, "expires": expires})

    def knows(self, message: str, recipient: Address) -> bool:
        """True when this recipient has this message already."""
        return self._has(_key(message, recipient)) or self.owes(message, recipient)

    def owes(self, message: str, recipient: Address) -> bool:
        """True when it has it, and a report of that is still owed."""
        return self._has(_key(message, recipient, OWED)) and not self._has(_key(message, recipient))

    def _has(self, key: str) -> bool:
        expires = self._records.get(key)
        return expires is not None and expires > self._clock()

    def _heard(self, data: dict[str, Any]) -> None:
        self._keep(str(data["key"]), float(data["expires"]))

    def _keep(self, key: str, expires: float) -> None:
        records = self._records
        records.pop(key, None)
        records[key] = expires
        while len(records) > self._entries:
            del records[next(iter(records))]
        now = self._clock()
        while records:  # insertion order is nearly the order of expiry
            oldest = next(iter(records))
            if records[oldest] > now:
                break
            del records[oldest]
