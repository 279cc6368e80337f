"""The limits of next hops for first tries, which they share with the tries of the queue.

A next hop that is known not to answer is not tried while a client waits: the message goes to the queue, or
back to the client, at once. How many sessions there may be is the pool's business for a first try: it waits
for its turn under its own deadline. Its sessions count, so that the queue takes what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from mailqueue.schedule import Busy, Dead, Dispatcher, Token
from mta.delivery.outcome import NextHop, Outcome
from mta.reply import Reply
from mta.spool.hops import PLAIN, Naming, learned, site_of


class Gate:
    """`mta.handover.Gate` over a dispatcher."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        now: Callable[[], float],
        learnt: Callable[[], None],
        naming: Naming = PLAIN,
    ) -> None:
        """`now` is the dispatcher's time; `learnt` is called when a session came back and
        mail of the queue waits or is under way."""
        self._naming = naming
        self._dispatcher = dispatcher
        self._now = now
        self._learnt = learnt

    async def prepare(self, next_hop: NextHop, deadline: float) -> None:
        """Know what the limits of a next hop are; `deadline` is loop time."""
        await self._naming.prepare(next_hop, deadline)

    def enter(self, next_hop: NextHop) -> Permit | Reply | None:
        """Begin a try now, or say why not."""
        naming = self._naming
        hop = site_of(next_hop)
        answer = self._dispatcher.try_acquire(naming.name(hop), self._now(), naming.source(hop))
        if isinstance(answer, Token):
            return Permit(self, answer)
        if isinstance(answer, Dead):
            return Reply(451, "4.4.1", "The next server cannot be reached at the moment", answer.reason)
        assert isinstance(answer, Busy)
        if answer.cause == "probe":
            return Reply(451, "4.4.1", "The next server cannot be reached at the moment", "being probed")
        if answer.cause in ("rate", "source"):
            return Reply(451, "4.4.5", "The next server gets no more messages at the moment", "rate")
        return None

    def any_dead(self) -> bool:
        """False when all next hops answer, as far as is known."""
        return self._dispatcher.any_dead()

    def is_dead(self, next_hop: NextHop) -> bool:
        """True when a next hop is known not to answer."""
        return self._dispatcher.dead(self._naming.site(next_hop), self._now()) is not None

    def leave(self, token: Token, outcomes: Sequence[Outcome]) -> None:
        """A try is over."""
        result, reason = learned(outcomes, token.site)
        dispatcher = self._dispatcher
        dispatcher.release(token, result, self._now(), reason)
        if dispatcher.has_work:  # mail that waits may go now, or not any more
            self._learnt()


class Permit(Struct, eq=False):
    """`mta.handover.Permit`: a session that counts among those to its site until it is given back."""

    gate: Gate
    token: Token

    def leave(self, outcomes: Sequence[Outcome]) -> None:
        """The try is over."""
        self.gate.leave(self.token, outcomes)
