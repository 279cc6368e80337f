"""ETRN (RFC 1985): a server that was away asks for what waits for it.

Whoever may relay may ask, for any domain: to look at the whole queue at a stranger's word would be too much.
Nothing is delivered over the session itself; the next hops of the domain are tried now, by all workers of the
node. `@domain` means the domains under it, too, as far as mail for them goes to their own servers; queues by
name (`#name`) there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mta.address import Address
from mta.afterwards import keep_running
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.reply import Reply
from mta.session import Session
from mta.spool.hops import site_of
from mta.spool.service import QueueService

TOPIC = "etrn"
"""What workers tell each other."""

NOT_ALLOWED = Reply(459, "4.7.1", "you may not start the queue here")
NO_QUEUE = Reply(458, "4.3.0", "the queue is not ready")
NO_NODE = Reply(458, "4.4.4", "no mail is kept for such a node")


class Node(Protocol):
    """What this needs of the other workers."""

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        """Tell all workers of the node."""

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        """Hear what other workers tell."""


class Etrn:
    """Answers ETRN."""

    def __init__(
        self,
        node: Node,
        queue: QueueService,
        route: Callable[[Session, Envelope, Recipient], NextHop | Reply],
        is_trusted: Callable[[str], bool],
    ) -> None:
        """`route` tells the next hop of a recipient, `is_trusted` who may ask without a login."""
        self._node = node
        self._queue = queue
        self._route = route
        self._is_trusted = is_trusted
        node.subscribe(TOPIC, self._heard)

    def __call__(self, session: Session, argument: str) -> Reply:
        """The answer to ETRN with `argument`; the tries begin after it."""
        if not (session.user or self._is_trusted(session.client_address)):
            return NOT_ALLOWED
        if argument.startswith("#"):
            return NO_NODE
        domain = argument.removeprefix("@")
        postmaster = Recipient(Address("postmaster", domain, f"postmaster@{domain}"))
        hop = self._route(session, Envelope(postmaster.address), postmaster)
        if isinstance(hop, Reply):
            return NO_NODE
        if self._queue.acts is None:
            return NO_QUEUE
        sites = [site_of(hop)] if argument == domain else [site_of(hop), f"@{domain}"]
        self._start(sites)
        self._node.publish(TOPIC, {"sites": sites})
        return Reply(250, "2.0.0", f"queuing for node {domain} started")

    def _heard(self, data: dict[str, Any]) -> None:
        self._start([str(site) for site in data.get("sites", ())])

    def _start(self, sites: list[str]) -> None:
        keep_running(self._flush(sites))

    async def _flush(self, sites: list[str]) -> None:
        for site in sites:
            acts = self._queue.acts
            if acts is not None:
                await acts.flush(site)
