"""The stores of the queue keep what they promise (`mailqueue.store.probe`)."""

from __future__ import annotations

import asyncio
import os

from mailqueue.store.base import StoreError, StoreMissing, StoreRefused
from mailqueue.store.probe import probe
from mta import config
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
    if _comes_with_the_start(settings):
        return [
            ok(names, asked, f"{settings.process.state_directory} is not there yet; the first start makes it")
        ]
    try:
        async with asyncio.timeout(world.seconds):
            store = open_stores(settings.queue, settings.queue_stores)
            try:
                await probe(store, tried.append)
            finally:
                await store.close()
    except StoreRefused as error:
        missing = isinstance(error, StoreMissing)
        return [
            wrong(
                names, asked, str(error), f"make it, or {mend} url" if missing else f"{mend}: another store"
            )
        ]
    except TimeoutError:
        return [unknown(names, asked, f"no answer within {world.seconds:g} s", mend)]
    except (StoreError, OSError, ValueError) as error:
        return [unknown(names, asked, str(error), mend)]
    return [ok(names, asked, f"{len(tried)} trials went well")]


def _comes_with_the_start(settings: config.Config) -> bool:
    """Whether all stores are folders in a state directory that is not there yet."""
    state = settings.process.state_directory
    urls = [settings.queue_stores[name].url for name in settings.queue.stores]
    folders = [url.removeprefix("file:") for url in urls if url.startswith("file:")]
    return not os.path.lexists(state) and [state] * len(urls) == [os.path.dirname(one) for one in folders]
