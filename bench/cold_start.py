"""A queue of a million messages is opened by a process that knows nothing of it.

`cold_start_1m`: seconds until all of them are in its schedule, after the process that took them was killed;
the bodies are not read. `queue_memory`: octets of resident memory that each message takes then.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from multiprocessing.connection import Connection

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.processes import resident_bytes
from bench.system import Failure
from bench.takeover import filling
from mailqueue.queue import MailQueue
from mailqueue.schedule import Timetable
from mailqueue.settings import QueueSettings
from mailqueue.store.urls import open_store

MESSAGES = 1_000_000
QUICK_MESSAGES = 20_000
PATIENCE = 300.0
POLL = 0.05


def measure(options: Options) -> list[Figure]:
    """Fill a queue, kill its owner, open it."""
    count = QUICK_MESSAGES if options.quick else MESSAGES
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(options.folder))
        url = f"file:{place / 'queue'}"
        with filling(url, count) as process:
            process.kill()
        ours, theirs = multiprocessing.Pipe()
        # A fresh interpreter: what this one has in memory would hide what the queue takes.
        child = multiprocessing.get_context("spawn").Process(target=_open, args=(url, count, theirs))
        child.start()
        stack.callback(child.kill)
        if not ours.poll(PATIENCE):
            raise Failure(f"not open after {PATIENCE:g} s")
        seconds, memory = ours.recv()
    return [
        Figure("cold_start_1m" if not options.quick else "cold_start", seconds, "s"),
        Figure("queue_memory", memory, "bytes"),
    ]


def _open(url: str, count: int, report: Connection) -> None:
    asyncio.run(_measure(url, count, report))


async def _measure(url: str, count: int, report: Connection) -> None:
    pid = multiprocessing.current_process().pid
    assert pid is not None
    before = resident_bytes(pid)
    begin = time.monotonic()
    timetable = Timetable(time.time() - 1)
    queue = await MailQueue.open(open_store(url), QueueSettings(node="filler"))
    while len(queue.live) < count:  # noqa: ASYNC110 - as who waits for it would see it
        await asyncio.sleep(POLL)
    for handle in queue.live.handles():
        timetable.add(handle, queue.live.row(handle).due)
    seconds = time.monotonic() - begin
    report.send((seconds, (resident_bytes(pid) - before) / count))
    await asyncio.Event().wait()


if __name__ == "__main__":
    run("cold_start", measure)
