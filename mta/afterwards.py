"""Work that goes on when the connection that it began with is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

_running: set[asyncio.Task[None]] = set()


def keep_running(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end; the set keeps it from being collected."""
    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
