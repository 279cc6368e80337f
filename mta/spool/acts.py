"""What an administrator does to queued messages: one message at a time, durable before it counts as done.

A message is withdrawn from the dispatcher first. What is under way at that moment is not interrupted: those
recipients may still get it, so nothing is done to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mailqueue.model import Change, NewMessage, QueuedRecipient, Status, UnknownMessage
from mailqueue.queue import MailQueue
from mta import log
from mta.address import parse_address
from mta.envelope import OriginalRecipient, Recipient, joint_notify
from mta.reply import Reply
from mta.spool.attempt import Attempts
from mta.spool.hops import PLAIN, Naming, site_of
from mta.spool.record import decode_recipient, decode_record, encode_recipient
from mta.spool.reports import Route
from mta.spool.runner import Runner
from mta.spool.walk import walk

ACTIONS = ("retry", "hold", "release", "delete", "bounce", "redirect")

BOUNCED = Reply(554, "5.0.0", "returned by an administrator")
"""What the sender reads of a message that was bounced by hand."""


_LOG = log.get("queue")


class Acts:
    """Does things to the messages of one queue."""

    def __init__(
        self,
        queue: MailQueue,
        runner: Runner,
        attempts: Attempts,
        route: Route,
        now: Callable[[], float],
        naming: Naming = PLAIN,
    ) -> None:
        """`now` is seconds of the epoch."""
        self._queue = queue
        self._runner = runner
        self._attempts = attempts
        self._route = route
        self._now = now
        self._naming = naming

    async def act(self, action: str, name: str, to: str = "") -> bool:
        """Do one of `ACTIONS` to a message; False when there is nothing to do it to.

        Raises QueueError but for UnknownMessage.
        """
        try:
            handle = self._queue.live.handle_of(name)
        except UnknownMessage:
            return False
        busy = self._runner.withdraw(handle)
        try:
            done = await self._do(action, name, handle, busy, to)
            if done:
                await self._queue.written()
            return done
        except UnknownMessage:
            return False
        finally:
            self._runner.changed(handle)

    async def flush(self, site: str) -> int:
        """Look for dead next hops now, and let what waits for them be due; how many messages.

        Others get their turn meanwhile: a sign of life must not wait until a million messages were looked at.
        """
        now, live = self._now(), self._queue.live
        sites: set[str] = set()
        count = 0
        async for handle in walk(live):
            waits_for = self._waits_for(handle)
            if not waits_for or (site and not self._is_meant(site, waits_for)):
                continue
            new = ({site} if site in waits_for else waits_for) - sites
            if new:
                sites |= new
                self._runner.flush(sorted(new))
            self._runner.due_now(handle, now)
            count += 1
        return count

    def site(self, hop: str) -> str:
        """The site of a next hop as the queue keeps it, as far as it is known: its limits are kept there."""
        return self._naming.name(hop)

    def _is_meant(self, site: str, waits_for: set[str]) -> bool:
        """True when a name (of a next hop, a site, or a domain of the world) is one that is waited for; "@"
        and a domain of the world are those under it."""
        if site.startswith("@"):
            return any(one.startswith("mx/") and one.endswith(f".{site[1:]}") for one in waits_for)
        if site in waits_for or f"mx/{site}" in waits_for:
            return True
        return any(self._naming.name(one) == site for one in waits_for)

    def _waits_for(self, handle: int) -> set[str]:
        """The next hops that a message waits for."""
        return {site for _, site, _, _ in self._queue.live.waiting(handle)}

    async def _do(self, action: str, name: str, handle: int, busy: Sequence[int], to: str) -> bool:
        states = [
            state
            for state in self._queue.live.recipients(handle)
            if state.status.is_live and state.position not in busy
        ]
        now = self._now()
        match action:
            case "retry":
                wanted = [state for state in states if state.status is not Status.HELD]
                changes = [Change(state.position, state.status, now) for state in wanted]
                self._runner.flush(sorted({state.site for state in wanted}))
            case "hold":
                wanted = [state for state in states if state.status is not Status.HELD]
                changes = [Change(state.position, Status.HELD, now) for state in wanted]
            case "release":
                wanted = [state for state in states if state.status is Status.HELD]
                changes = [Change(state.position, Status.QUEUED, now) for state in wanted]
            case "delete":
                changes = [Change(state.position, Status.CANCELLED) for state in states]
            case "bounce":
                if states:
                    await self._attempts.decide(name, [state.position for state in states], BOUNCED)
                return bool(states)
            case "redirect":
                return await self._redirect(name, [state.position for state in states], to)
            case _:
                raise ValueError(f"the queue knows no {action!r}")
        if changes:
            await self._queue.settle(name, changes, urgent=True)
        return bool(changes)

    async def _redirect(self, name: str, positions: Sequence[int], to: str) -> bool:
        """Send it to another address instead: a new message, in the same write that ends the old one."""
        if not positions:
            return False
        message = await self._queue.load(name)
        record = decode_record(message.envelope)
        states = [message.recipients[position] for position in positions]
        recipient = _stand_in(to, [decode_recipient(state.address, state.data) for state in states])
        envelope = record.envelope(message.sender, self._now())
        hop = self._route(record.origin.session(), envelope, recipient)
        site = "" if isinstance(hop, Reply) else site_of(hop)
        new = NewMessage(
            message.sender,
            [QueuedRecipient(to, site, Status.QUEUED, self._now(), data=encode_recipient(recipient))],
            message.header,
            await message.body.fetch(),
            message.envelope,
            message.created,
            message.expires,
            message.priority,
            message.tags,
        )
        changes = [
            Change(position, Status.EXPANDED, reply=f"250 2.1.5 redirected to {to}") for position in positions
        ]
        for added in await self._queue.settle(name, changes, urgent=True, follow=[new]):
            self._runner.added(added)
        return True


def _stand_in(to: str, before: Sequence[Recipient]) -> Recipient:
    """Who gets the message in the place of others: the sender hears of it as it was to hear of these."""
    first = before[0]
    recipient = Recipient(parse_address(to), joint_notify(before))
    if len(before) == 1:  # of several there is not one that it stands for
        recipient.original = first.original or OriginalRecipient.of(first.address)
    if all((one.sender, one.owners) == (first.sender, first.owners) for one in before):
        recipient.sender, recipient.owners = first.sender, first.owners
    return recipient


def log_orders(action: str, names: Iterable[str], to: str) -> None:
    """Say what was done to messages by order: who looks for one in the log finds its end there."""
    if action != "retry":  # its tries have lines of their own
        more = {"to": to} if action == "redirect" else {}
        for name in names:
            _LOG.info("ordered", queue=name, order=action, **more)
