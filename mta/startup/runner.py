"""Runs checks: all at once, each with its own end; what stays unknown is asked again while there is time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

from mta.startup.claims import Site
from mta.startup.result import Outcome, Result, unknown
from mta.startup.table import CHECKS, Check
from mta.startup.world import World

SECONDS = 25.0
"""For one check; its questions have shorter limits of their own."""
PAUSE, LONGEST_PAUSE = 1.0, 8.0
"""Seconds before what is unknown is asked again, doubled each time."""

Findings = dict[str, list[Result]]
"""The results of each check, by its name, in the order of the table."""


def wanted(site: Site, only: Collection[str] = (), *, local: bool = False) -> list[Check]:
    """The checks to make: those of `only`, or all that are not off; of a `local` server not the published."""
    if only:
        return [check for check in CHECKS if check.name in only]
    return [
        check
        for check in CHECKS
        if getattr(site.settings.checks, check.name) != "off" and not (local and check.published)
    ]


async def run(site: Site, world: World, checks: Sequence[Check]) -> Findings:
    """Make all of them at the same time."""
    found = await asyncio.gather(*(_run_one(site, world, check) for check in checks))
    return {check.name: results for check, results in zip(checks, found, strict=True)}


async def _run_one(site: Site, world: World, check: Check) -> list[Result]:
    try:
        async with asyncio.timeout(SECONDS):
            results = await check.look(site, world)
    except TimeoutError:
        results = [unknown(check.name, check.name, f"not done within {SECONDS:g} s")]
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide what the others say
        results = [unknown(check.name, check.name, f"the check itself failed: {error!r}", settled=True)]
    return [replace(result, check=check.name) for result in results]


async def run_patiently(site: Site, world: World, checks: Sequence[Check], patience: float) -> Findings:
    """As `run`; for `patience` seconds checks are made again that found out nothing for sure.

    Something wrong that does not pass within that time ends it: waiting would not help.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    found = await run(site, world, checks)
    pause = PAUSE
    while True:
        left = until - loop.time()
        again = [check for check in checks if any(_is_open(one, left) for one in found[check.name])]
        proved = any(
            result.outcome is Outcome.WRONG and not _is_open(result, left)
            for results in found.values()
            for result in results
        )
        if not again or proved or loop.time() + pause > until:
            return found
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        found |= await run(site, world, again)


def _is_open(result: Result, left: float) -> bool:
    """Whether something may be otherwise within the seconds that are left."""
    if result.outcome is Outcome.WRONG:
        return 0 < result.passing < left
    return result.outcome is Outcome.UNKNOWN and not result.settled
