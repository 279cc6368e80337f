"""A renewed certificate is served only if senders will believe it: the part of `mta.daemon` about that.

Those who know DANE deliver to a host with TLSA records only if one of them matches. A certificate that none
matches would stop mail, so it is refused and the old one stays (docs/checks.md).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mta import config
from mta.net.certificates import Certificate
from mta.net.tls import Judge
from mta.startup.claims import is_local

if TYPE_CHECKING:
    from mta.net.resolver.base import Resolver


def build_judge(
    settings: config.Config, listener: config.Listener, resolver: Resolver | None
) -> Judge | None:
    """Who says whether a listener's new certificate may be served; None: nobody has to be asked."""
    if is_local(settings) or settings.checks.tlsa != "refuse" or resolver is None:
        return None
    ports = [address.port for address in listener.addresses if isinstance(address, config.Inet)]
    if listener.protocol == "lmtp" or not ports:
        return None
    hostname, asked = settings.identity.hostname.lower(), resolver

    async def judge(new: Certificate, old: Certificate) -> str:
        # Here, for it happens at a renewal only.
        from mta.net.certificates import covers
        from mta.startup.result import Outcome
        from mta.startup.tlsa import ders, judge_tlsa, tlsa_name
        from mta.startup.verdict import explain
        from mta.startup.world import World

        if not covers(new.names, hostname):
            return ""  # other names have no TLSA records that we know of
        world = World(asked)
        for port in ports:
            name = tlsa_name(port, hostname)
            result = judge_tlsa(name, ders(new), await world.ask(name, "TLSA"))
            if result.outcome is Outcome.OK:
                continue
            if result.outcome is Outcome.UNKNOWN and old.not_after.timestamp() <= time.time():
                continue  # nothing is proved against the new one, and the old one is over
            return explain(replace(result, check="tlsa"))
        return ""

    return judge
