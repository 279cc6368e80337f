"""Memory: bytes an open session, and what a large message takes.

`memory_session`: sessions are opened and wait after EHLO while mail flows through the server: 5,000 for
Tamis, 150 for Postfix, which has a process for each. The figure is the growth of the proportional set size
of all processes, divided by the sessions; the server had the same mail before, so that its first growth is
not counted. Afterwards every session must still answer. Buffers in the kernel are not in it.

`memory_large_message`: how much the resident memory of the worker grows, at its peak, while a message of
50 MiB comes in over SMTP and goes out over LMTP: the first one of a server that has just started, for what
thousands of sessions have given back would be used again.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator

import uvloop

from bench.client import Session, message, open_session
from bench.command import Options, run
from bench.figures import Figure
from bench.load import PATIENCE, SETTLE, Load, send
from bench.processes import peak_resident_bytes, pss_bytes, reset_peak, resident_bytes, tree
from bench.side_by_side import alone, both
from bench.system import System

TAMIS_SESSIONS = 5000
POSTFIX_SESSIONS = 150
QUICK_PART = 5
"""Which part of the sessions is opened with --quick."""
FLOW = Load(4096, sessions=2)
FLOW_MESSAGES = 400
WARM_UP = Load(4096, sessions=20)
OPENING = 100
"""Sessions that are opened at the same time."""
LARGE = 50 * 1024 * 1024
DESCRIPTORS = TAMIS_SESSIONS + 1000
MEBIBYTE = 1024 * 1024


def measure(options: Options) -> list[Figure]:
    """Measure sessions of both servers and a large message through Tamis."""
    _raise_descriptor_limit()
    part = QUICK_PART if options.quick else 1
    with both(options.folder) as pair:
        ours = session_bytes(pair.tamis, TAMIS_SESSIONS // part)
        theirs = session_bytes(pair.postfix, POSTFIX_SESSIONS // part)
    with alone(options.folder) as system:
        large = large_message_bytes(system)
    return [
        Figure("memory_session", ours, "bytes", theirs),
        Figure("memory_large_message", large / MEBIBYTE, "MiB"),
    ]


def session_bytes(system: System, sessions: int) -> float:
    """Memory of one idle session. Raises Refused if a session is dropped, RuntimeError if mail is refused."""
    send(system, WARM_UP, FLOW_MESSAGES)
    send(system, FLOW, FLOW_MESSAGES)
    time.sleep(SETTLE)
    before = pss_bytes(system.process)
    after = uvloop.run(hold(system, sessions))
    return (after - before) / sessions


async def hold(system: System, sessions: int) -> int:
    """Memory of the server while sessions are open and mail flows. Raises Refused if one is dropped."""
    opened: list[Session] = []
    for count in batches(sessions, OPENING):
        opened += await asyncio.gather(*(open_session(system.port) for _ in range(count)))
    await asyncio.to_thread(send, system, FLOW, FLOW_MESSAGES)
    await asyncio.sleep(SETTLE)
    memory = pss_bytes(system.process)
    for session in opened:
        await session.command(b"NOOP\r\n", 250)
    for session in opened:
        await session.quit()
    return memory


def batches(total: int, size: int) -> Iterator[int]:
    """Cut a number into parts of at most `size`."""
    for begin in range(0, total, size):
        yield min(size, total - begin)


def large_message_bytes(system: System) -> int:
    """Growth of resident memory, at its peak, of that process which grows most with a message of 50 MiB."""
    return uvloop.run(_large_message(system))


async def _large_message(system: System) -> int:
    content = message(LARGE)
    arrived = system.sink.count()
    session = await open_session(system.port)
    processes = tree(system.process)
    before = [resident_bytes(process) for process in processes]
    for process in processes:
        reset_peak(process)
    await session.message(content)
    system.sink.wait(arrived + 1, PATIENCE)
    peaks = [peak_resident_bytes(process) for process in processes]
    await session.quit()
    return max(peak - first for peak, first in zip(peaks, before, strict=True))


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))


if __name__ == "__main__":
    run("memory", measure)
