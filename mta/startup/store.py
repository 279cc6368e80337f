"""The stores of the queue keep what they promise (`mailqueue.store.probe`)."""

from __future__ import annotations

import asyncio

from mailqueue.store.base import StoreError, StoreRefused
from mailqueue.store.probe import probe
from mta.spool.stores import open_stores
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World


async def queue_store(site: Site, world: World) -> list[Result]:
    """All stores that the configuration names; what the probe writes it deletes."""
    settings = site.settings
    if not settings.queue.enabled:
        return [ok("queue", "queue.enabled", "off: nothing is kept")]
    names = ", ".join(settings.queue.stores)
    asked = "conditional writes, each through each endpoint"
    mend = f"[queue_stores.{settings.queue.stores[0]}]"
    tried: list[str] = []
    try:
        async with asyncio.timeout(world.seconds):
            store = open_stores(settings.queue, settings.queue_stores)
            try:
                await probe(store, tried.append)
            finally:
                await store.close()
    except StoreRefused as error:
        return [wrong(names, asked, str(error), f"{mend}: another store")]
    except TimeoutError:
        return [unknown(names, asked, f"no answer within {world.seconds:g} s", mend)]
    except (StoreError, OSError, ValueError) as error:
        return [unknown(names, asked, str(error), mend)]
    return [ok(names, asked, f"{len(tried)} trials went well")]
