"""All messages of a queue, without keeping the loop from its turn."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator

from mailqueue.live import Live

BURST = 500
"""Messages that are looked at without giving the loop its turn: some milliseconds."""


async def walk(live: Live) -> AsyncIterator[int]:
    """The handles of the messages that are live now, those left out that have gone when their turn comes."""
    for number, handle in enumerate(array("Q", live.handles())):
        if number % BURST == 0:
            await asyncio.sleep(0)
        if handle in live:
            yield handle
