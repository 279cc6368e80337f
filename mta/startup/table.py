"""All checks, in the order in which they are shown: from ourselves to what the world knows of us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mta.startup import (
    backends,
    capability,
    certificates,
    clock,
    dkim,
    dmarc,
    dnssec,
    identity,
    milters,
    mtasts,
    mx,
    policy,
    postmaster,
    resolver,
    spf,
    srv,
    starttls,
    store,
    tables,
    tlsa,
    tlsrpt,
)
from mta.startup.claims import Site
from mta.startup.result import Result
from mta.startup.world import World

Look = Callable[[Site, World], Awaitable[list[Result]]]


@dataclass(slots=True, frozen=True)
class Check:
    """One check. `name` is its key in `[checks]`; `published`: it asks what the world knows of us."""

    name: str
    look: Look
    published: bool = True


CHECKS = (
    Check("resolver", resolver.resolver),
    Check("clock", clock.clock, published=False),
    Check("policy", policy.policy, published=False),
    Check("open_relay", policy.open_relay, published=False),
    Check("queue_store", store.queue_store, published=False),
    Check("backends", backends.backends, published=False),
    Check("postmaster", postmaster.postmaster, published=False),
    Check("milters", milters.milters, published=False),
    Check("tables", tables.tables, published=False),
    Check("identity", identity.identity),
    Check("forward", identity.forward),
    Check("reverse", identity.reverse),
    Check("mx", mx.mx),
    Check("dnssec", dnssec.dnssec),
    Check("certificates", certificates.certificates, published=False),
    Check("chain", certificates.chain),
    Check("starttls", starttls.starttls, published=False),
    Check("tlsa", tlsa.tlsa),
    Check("capability", capability.capability),
    Check("srv", srv.srv),
    Check("spf", spf.spf),
    Check("dkim", dkim.dkim),
    Check("dmarc", dmarc.dmarc),
    Check("mta_sts", mtasts.mta_sts),
    Check("tls_rpt", tlsrpt.tls_rpt),
)
NAMES = tuple(check.name for check in CHECKS)
