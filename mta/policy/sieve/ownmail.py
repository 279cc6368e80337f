"""Who gets mail that the server writes itself: reports, journals, what the postmaster is told.

Stage rcpt of the site's scripts and of the base policy is asked about its recipients as about those of a
message that a session on this machine brings, from the sender that it has, mostly the null one. So aliases
lead the same way as for mail that comes in. Only `expand` counts: what a script rewrites or routes is about
mail that comes in, and the address of an archive has been named by a script itself.

Nobody has to be kept out, so words that judge clients find nothing: rates do not count it, greylists do not
delay it, block lists do not list it, and neither milters nor policy servers take part. A refusal counts for
those to whom an alias has led; what is refused for good without one goes as it is. Scripts of domains and
users are not asked. A table that is away defers, whatever `:on_error` says: no client is there that could be
told, and the mail may wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from msgspec import structs

from mta.envelope import Envelope, Recipient
from mta.policy.ground import Ground
from mta.policy.sieve.asking import Handler, Services, Unavailable
from mta.policy.sieve.dnsnet import DnsLists, ReverseName
from mta.policy.sieve.expand import Expand
from mta.policy.sieve.facts import Facts
from mta.policy.sieve.greylist import AskGreylist
from mta.policy.sieve.milter import AskMilter
from mta.policy.sieve.onerror import DEFER
from mta.policy.sieve.policyserver import AskPolicyServer
from mta.policy.sieve.rate import Count
from mta.policy.sieve.tables import Lookup
from mta.policy.verdict import Policy, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext import Request

HERE = "127.0.0.1"
"""Where the session of our own mail comes from."""
HERE_NAME = "localhost"


class _OwnSession(Session, eq=False):
    """The session that our own mail seems to come by."""

    is_away: bool = False
    """A table could not be asked."""


_NOTHING: dict[type[Request], Handler] = {
    Count: lambda request, facts: False,
    AskGreylist: lambda request, facts: 0.0,
    ReverseName: lambda request, facts: HERE_NAME,
    DnsLists: lambda request, facts: [[] for _ in request.lists],
}


def own_services(services: Services) -> Services:
    """Who answers what scripts ask about our own mail, of those who answer for others' mail."""
    left = {one: handler for one, handler in services.items() if one not in (AskMilter, AskPolicyServer)}
    tables: tuple[type[Request], ...] = (Expand, Lookup)
    watched = {one: _watched(left[one]) for one in tables if one in left}
    return {**left, **watched, **_NOTHING}


def _watched(handler: Handler) -> Handler:
    """The service, whose sessions know when a table is away."""

    def watch(request: Any, facts: Facts) -> Any:
        answer = handler(request, facts)
        return later(answer, facts) if isinstance(answer, Awaitable) else seen(answer, facts)

    async def later(answer: Awaitable[Any], facts: Facts) -> Any:
        return seen(await answer, facts)

    def seen(answer: Any, facts: Facts) -> Any:
        if isinstance(answer, Unavailable) and isinstance(facts.session, _OwnSession):
            facts.session.is_away = True
        return answer

    return watch


def own_ground(ground: Ground) -> Ground:
    """The ground for our own mail: it may go anywhere."""
    return Ground(replace(ground.settings, is_trusted=lambda address: True))


class OwnMail:
    """`mta.spool.addressing.Find` by a policy."""

    def __init__(self, policy: Policy) -> None:
        """`policy` stands on `own_ground` and asks `own_services`."""
        self._policy = policy

    async def __call__(
        self, name: str, envelope: Envelope, recipient: Recipient
    ) -> Sequence[Recipient] | Reply | None:
        """Who gets a message in a recipient's place; why nobody does, or not now; None: it goes as it is.

        `name` is the message's, for the log.
        """
        session = _OwnSession(name, "", "smtp", HERE, client_name=HERE_NAME, helo=HERE_NAME)
        asked = Recipient(recipient.address, recipient.notify)
        verdict = self._policy.rcpt(session, structs.replace(envelope, recipients=[]), asked)
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        reply = verdict.reply
        if session.is_away:
            return reply if reply is not None and reply.is_temporary else DEFER
        if reply is not None and reply.is_temporary:
            return reply
        is_rewritten = asked.address != recipient.address and not asked.by_site
        if asked.original is None or (is_rewritten and not asked.members):
            return None  # no alias: that sets the address named, and has led by the site's will
        if reply is not None and not reply.is_positive:
            return reply
        found = [structs.replace(one, route=recipient.route) for one in asked.behind]
        return None if len(found) == 1 and _is_same(found[0], recipient) else found


def _is_same(one: Recipient, other: Recipient) -> bool:
    return one.address == other.address and one.sender == other.sender
