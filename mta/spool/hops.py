"""Next hops as the queue's sites: their names, their limits, and what a delivery taught about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from mailqueue.schedule import Limits, Rate, Result
from mailqueue.schedule.values import ANSWERED, CUT, OVERLOADED, UNKNOWN, UNREACHABLE
from mta.delivery.outcome import NextHop, Outcome
from mta.delivery.sites import is_shared
from mta.envelope import Recipient
from mta.net.outbound import CANCELLED
from mta.reply import Reply
from mta.smtp.mailing import NOT_WANTED
from mta.smtp.opening import is_sent_away

OUR_OWN = frozenset({"4.3.0", "4.3.2", "4.3.5", "4.4.5", "4.4.7"})
"""Enhanced codes of local failures that say nothing of the next hop: our disk, our settings, our pool, our
deadline."""
SECURITY = "4.7."
"""How those begin that say what one domain or message demands of the next hop and does not get (MTA-STS,
DANE, REQUIRETLS, pins): others, with whom it shares the hosts, may be served all the same."""
GIVEN_UP = (NOT_WANTED, CANCELLED)
"""Tries that we gave up ourselves."""


def site_of(hop: NextHop) -> str:
    """The next hop as the queue keeps it, and the name of its site unless `Naming` knows another."""
    return f"{hop.transport}/{hop.host}" if hop.host else hop.transport


def hop_of(site: str) -> NextHop:
    """The inverse of `site_of`."""
    transport, _, host = site.partition("/")
    return NextHop(transport, host)


def limits_of(connections: int, initial: int, rate: int, *, ours: bool) -> Limits:
    """The limits of a configured next hop; `ours` is a back end, which is looked for again soon."""
    return Limits(
        concurrency=connections,
        initial=min(initial, connections),
        dead_first=5.0 if ours else 60.0,
        dead_most=60.0 if ours else 1800.0,
        recipients=1000 if ours else 100,
        rate=Rate(rate, 60.0, burst=max(1, rate // 60)) if rate else None,
        recalled=ours,
    )


def learned(outcomes: Sequence[Outcome], site: str = "") -> tuple[Result, str]:
    """What a try taught about its next hop, and the reply that said so.

    `site` is the name under which it is taken down: of hosts that domains share nothing is learned where
    they were not found, because the DNS of one domain did not say.
    """
    found = UNKNOWN
    reason = ""
    for outcome in outcomes:
        reply = outcome.reply
        if not reply.cause:  # the next hop's own words
            if reply.code != 421:
                return ANSWERED, ""
            found, reason = OVERLOADED, str(reply)
            continue
        failure = failed(reply)
        if failure is UNREACHABLE:
            if found is OVERLOADED or reply.enhanced.startswith(SECURITY):
                continue
            if outcome.passage is not None and not outcome.passage.site and is_shared(site):
                continue
            if outcome.sent and found is not UNREACHABLE:
                failure = CUT
        if failure is not UNKNOWN:
            found, reason = failure, f"{reply} ({reply.cause})"
    return found, reason


def failed(reply: Reply) -> Result:
    """What a failure says of the next hop; `reply` is ours and has a cause."""
    if is_sent_away(reply):
        return OVERLOADED
    if reply.is_temporary and reply.enhanced not in OUR_OWN and reply not in GIVEN_UP:
        return UNREACHABLE
    return UNKNOWN


def _itself(hop: str) -> str:
    return hop


def _nowhere(hop: str) -> str:
    return ""


def source_of(usual: str, hop: str) -> str:
    """The source of a next hop to the world; `usual` where its route names none."""
    kind, _, rest = hop.partition("/")
    if kind not in ("mx", "smtp"):
        return ""
    for option in rest.split(";")[1:]:
        name, _, value = option.partition("=")
        if name == "source":
            return value
    return usual


async def _known(hop: NextHop, deadline: float) -> None:
    return


@dataclass(slots=True, frozen=True)
class Naming:
    """Which next hops are one site, and which source they are reached from: what they share has one name."""

    name: Callable[[str], str] = _itself
    """From the next hop as the queue keeps it to the name of its site, as far as that is known."""
    prepare: Callable[[NextHop, float], Awaitable[None]] = _known
    """Find out a next hop's site by a deadline (loop time)."""
    source: Callable[[str], str] = _nowhere
    """From the next hop as the queue keeps it to the name of its source addresses, "" for none."""
    find: Callable[[Sequence[Recipient]], Awaitable[None]] | None = None
    """Learn what has to be known before recipients are routed; None where nothing has."""

    def site(self, hop: NextHop) -> str:
        """The name under which the limits of a next hop are kept now."""
        return self.name(site_of(hop))


PLAIN = Naming()
"""Each next hop is a site of its own."""


class SiteLimits:
    """The limits of each site, as a worker's share."""

    def __init__(self, known: Mapping[str, Limits], workers: int) -> None:
        """`known` by the name of the transport."""
        self._known = {name: limits.share(workers) for name, limits in known.items()}
        self._default = Limits().share(workers)

    def __call__(self, site: str) -> Limits:
        """The limits of a site."""
        return self._known.get(site.partition("/")[0], self._default)
