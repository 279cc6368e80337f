"""One director in a worker: from a user to the next hop that has its mailbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mta.delivery.outcome import BACKEND, NextHop
from mta.director.places import Places
from mta.director.spread import choose
from mta.director.state import DirectorState
from mta.reply import Reply

UNKNOWN = Reply(
    451, "4.3.5", "It is not known yet which mail store has this mailbox", "director: state not read"
)
UNTOLD = Reply(
    451, "4.3.5", "It is not known at the moment which mail store has this mailbox",
    "director: the table of users does not answer",
)  # fmt: skip
NOBODY = Reply(
    451, "4.3.5", "No mail store takes this mailbox at the moment", "director: no back end has a weight"
)
REMEMBERED = 10_000
"""Users whose place is remembered."""


@dataclass(slots=True)
class Director:
    """Chooses. Until the state was read once it says 451: a user may have been moved."""

    name: str
    configured: Mapping[str, int]
    """Back ends and their weights by the configuration."""
    table: Callable[[], Mapping[str, str]] = dict
    """Users whose back end the administrator's table says, in normal form; they come first."""
    is_down: Callable[[str], bool] = lambda name: False
    """Tells whether a back end is known to be down, where its users go to others meanwhile."""
    places: Places | None = None
    """Somebody else's word, after that of the table and before all others."""
    state: DirectorState | None = None
    _weights: dict[str, int] = field(default_factory=dict)
    _remembered: dict[str, str] = field(default_factory=dict)

    def apply(self, state: DirectorState) -> bool:
        """From now on this state holds; False when it did already."""
        if state == self.state:
            return False
        self.state = state
        self._weights = state.effective(self.configured)
        self._remembered.clear()
        return True

    async def find(self, user: str) -> None:
        """Know before `hop` what others say of a user."""
        if self.places is not None:
            await self.places.learn(user)

    def place(self, user: str) -> str:
        """The back end of a user whom `places` does not know, "" when nobody takes it. Needs a state."""
        assert self.state is not None
        told = self.table().get(user) or self.state.moved.get(user)
        if told:
            return told
        found = self._remembered.get(user)
        if found is None:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            found = self._remembered[user] = choose(user, self._weights)
        if found and self.is_down(found):
            down = [name for name in self._weights if self.is_down(name)]
            return choose(user, self._weights, down) or found
        return found

    def hop(self, user: str) -> NextHop | Reply:
        """Where mail of a user goes now."""
        if self.state is None:
            return UNKNOWN
        if self.places is not None and user not in self.table():
            told = self.places.get(user)
            if told is None:
                return UNTOLD
            if told:
                return NextHop(f"{BACKEND}{told}")
        found = self.place(user)
        return NextHop(f"{BACKEND}{found}") if found else NOBODY
