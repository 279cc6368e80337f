"""Recipients whose next hop had the message at the deadline and says 250 after the client was told 4xx.

The client will send the message again. Those who have it by then are remembered, so that this brings no
second copy. (What was queued is the queue's: `mta.spool.late`.)
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from msgspec import structs

from mta.afterwards import keep_running
from mta.delivery.outcome import Outcome
from mta.envelope import Recipient
from mta.firsttry import untold
from mta.reply import Reply


class Remember(Protocol):
    """`mta.transaction.Transactions.remember` of one message."""

    def __call__(
        self, recipients: Sequence[Recipient], *, owed: Sequence[Recipient], retried: bool
    ) -> Coroutine[Any, Any, None]:
        """These recipients have it; of those that are `owed` the sender wanted to hear and has not heard.
        `retried` says that the client was told to try again."""


def await_late(outcomes: Sequence[Outcome], remember: Remember, retried: bool) -> None:
    """Remember those of `outcomes` that turn out to be delivered."""
    for outcome in outcomes:
        if outcome.late is not None and not outcome.queue_id:
            outcome.late.tell(partial(_heard, outcome, remember, retried))


def _heard(outcome: Outcome, remember: Remember, retried: bool, reply: Reply) -> None:
    if reply.is_positive:
        owed = untold([structs.replace(outcome, reply=reply)])
        keep_running(remember([outcome.recipient], owed=owed, retried=retried))
