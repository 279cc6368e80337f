"""What a daemon sees of the live messages: by handle, with texts for numbers."""

from __future__ import annotations

from collections.abc import Iterator

from mailqueue.ids import id_octets, id_text
from mailqueue.index import Index
from mailqueue.model import RecipientState, Row, Status, UnknownMessage
from mailqueue.recipients import HELD

_STATUS = tuple(Status)
"""By number: a third of the time of `Status(number)`."""


class Live:
    """The messages of this stream in memory, by handle.

    A handle is a small number. It is used again for another message some time after its own has left the
    queue: forget it when `MailQueue.settle` has settled the last recipient.
    """

    __slots__ = ("_index",)

    def __init__(self, index: Index) -> None:
        """A view of `index`."""
        self._index = index

    def __len__(self) -> int:
        return self._index.messages

    def __contains__(self, handle: int) -> bool:
        return self._index.is_live(handle)

    def handles(self) -> Iterator[int]:
        """All of them; nothing may change while iterating."""
        return self._index.slots()

    def handle_of(self, id: str) -> int:
        """The handle of an id. Raises UnknownMessage."""
        try:
            slot = self._index.find(id_octets(id))
        except ValueError:
            slot = -1
        if slot < 0:
            raise UnknownMessage(id)
        return slot

    def resolve(self, message: int | str) -> int:
        """The handle of an id or a handle that is live. Raises UnknownMessage."""
        if isinstance(message, str):
            return self.handle_of(message)
        if not self._index.is_live(message):
            raise UnknownMessage(message)
        return message

    def id_of(self, handle: int) -> str:
        """The id of a message. Raises UnknownMessage."""
        return id_text(self._index.id_of(self.resolve(handle)))

    def due(self, handle: int) -> float:
        """`Row.due` alone. Raises UnknownMessage."""
        return self._index.summary(self.resolve(handle))[1]

    def terms(self, handle: int) -> tuple[float, float, float, int]:
        """`due`, `created`, `expires` and `priority` of its `Row`. Raises UnknownMessage."""
        slot, index = self.resolve(handle), self._index
        return (
            index.summary(slot)[1],
            float(index.created[slot]),
            float(index.expires[slot]),
            index.priority[slot],
        )

    def row(self, handle: int) -> Row:
        """The message at a glance. Raises UnknownMessage."""
        slot, index = self.resolve(handle), self._index
        status, due, site = index.summary(slot)
        return Row(
            slot,
            index.id_of(slot),
            due,
            site,
            index.priority[slot],
            index.size[slot],
            float(index.created[slot]),
            float(index.expires[slot]),
            index.count[slot],
            index.live_in(slot),
            _STATUS[status],
        )

    def waiting(self, handle: int) -> list[tuple[int, str, float, float]]:
        """Position, site, due time and last attempt of the recipients QUEUED or DEFERRED, for whoever looks
        at very many messages. Raises UnknownMessage."""
        slot, index = self.resolve(handle), self._index
        many, text = index.many.get(slot), index.sites.text
        if many is not None:
            return [(position, text(site), due, last) for position, site, due, last in many.waiting()]
        if index.status[slot] >= HELD:
            return []
        return [(0, text(index.site[slot]), index.due[slot], float(index.last[slot]))]

    def recipients(self, handle: int) -> list[RecipientState]:
        """All recipients in order. Raises UnknownMessage."""
        return [
            RecipientState(
                position,
                state.site,
                _STATUS[state.status],
                state.due,
                state.attempts,
                state.reply,
                state.last,
            )
            for position, state in enumerate(self._index.states(self.resolve(handle)))
        ]
