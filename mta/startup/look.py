"""The checks with everything they need put together: resolver, world, runner."""

from __future__ import annotations

from collections.abc import Collection

from mta.daemon_dns import build_resolver
from mta.startup.claims import Site
from mta.startup.runner import Findings, run, run_patiently, wanted
from mta.startup.world import World


async def look(site: Site, only: Collection[str], *, local: bool, patience: float, live: bool) -> Findings:
    """Make the checks that the configuration wants, or those of `only`."""
    resolver = build_resolver(site.settings)
    try:
        world = World(resolver, dns_seconds=site.settings.dns.timeout, live=live)
        checks = wanted(site, only, local=local)
        return await (run_patiently(site, world, checks, patience) if patience else run(site, world, checks))
    finally:
        if resolver is not None:
            resolver.close()
