"""Answers that come after their message was queued: the next hop had it all when the deadline came.

What a next hop says then is what a try of the queue would have come to, so it is written down as one. Without
that a mail store that takes longer than `delivery.deadline` would get each message twice. A recipient that
the queue tries already is left to that try.
"""

from __future__ import annotations

from msgspec.structs import replace

from mailqueue.model import QueueError, UnknownMessage
from mailqueue.queue import MailQueue
from mta.delivery.outcome import Outcome
from mta.spool.hops import hop_of
from mta.spool.runner import Runner


async def hear(queue: MailQueue, runner: Runner, name: str, position: int, outcome: Outcome) -> None:
    """Settle a recipient of a queued message as its next hop's late answer says.

    A temporary answer changes nothing: the recipient waits for its next try as it is.
    """
    if outcome.reply.is_temporary:
        return
    try:
        handle = queue.live.handle_of(name)
    except UnknownMessage:
        return  # settled meanwhile
    try:
        states = [state for state in queue.live.recipients(handle) if state.position == position]
        if states and states[0].status.is_live and position not in runner.withdraw(handle):
            loaded = await runner.attempts.load(name)
            if loaded is not None:
                mine = replace(outcome, recipient=loaded.recipients[position])
                transport = hop_of(states[0].site).transport
                await runner.attempts.conclude(loaded, transport, [(position, mine)])
    except UnknownMessage:
        return  # settled meanwhile
    except QueueError:
        return  # the store is away: it is tried again, which may bring a second copy
    finally:
        runner.changed(handle)
