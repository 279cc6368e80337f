"""A worker process: `python -m mta.worker --channel FD --daemon MODULE:CLASS`, started by the supervisor.

It says hello on the channel, gets configuration and sockets, runs the daemon on uvloop, says when it is
ready, and answers questions about its counters. It ends

* when told to drain, or on SIGTERM: it stops accepting, lets sessions finish, sends its last counters;
  while it does not accept yet it ends at once;
* when the channel closes, which means that the supervisor is dead: the same, so that a new supervisor
  finds the ports free once the last session is done;
* when the daemon cannot start: the reason goes to the supervisor, the status is 1.

SIGINT and SIGHUP are the supervisor's business and ignored here. SIGABRT writes the stack of every thread
to standard error before the process dies: so the supervisor ends a worker that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import importlib
import os
import signal
import socket
import sys
import threading
from typing import Any, Protocol

import uvloop

import mta
from mta import config, log
from mta.largepages import collapse
from mta.processname import name_process
from mta.supervisor.channel import Channel
from mta.supervisor.link import Link, WorkerLink
from mta.supervisor.messages import (
    Drain,
    Drained,
    Fault,
    Finding,
    Hello,
    LogLevel,
    Question,
    Ready,
    Refused,
    Snapshot,
    SnapshotRequest,
    Start,
    Topic,
    ToWorker,
)

GC_ALLOCATIONS = 20_000
"""Containers made and not freed between two runs of the collector. A session leaves no cycles behind, so
that it hardly ever finds anything; the default of 700 would let it look every few messages."""
SETTLED = 5.0
"""Seconds from the start until memory is put together in large pages: by then it holds what clients need."""
LAST_WORDS = 2.0
"""Seconds to write the last counters into a channel whose other end may hang."""


class Daemon(Protocol):
    """What a worker runs: the mail server, or the embedded store."""

    def __init__(
        self, configuration: config.Config, sockets: dict[str, list[socket.socket]], link: WorkerLink
    ) -> None:
        """Prepare; nothing is accepted yet."""

    async def prepare(self) -> None:
        """Build what takes time. The process may be ended in here as by a kill: nobody was answered yet.

        Raises `OSError` or `ValueError` for what the administrator must mend.
        """

    async def start(self) -> None:
        """Accept from here on. Raises as `prepare` does."""

    async def drain(self, seconds: float) -> None:
        """Stop accepting before the first await; return when the sessions have ended, or after `seconds`."""

    def snapshot(self) -> dict[str, Any]:
        """Give the counters (`mta.metrics`)."""

    async def answer(self, topic: str, data: dict[str, Any]) -> dict[str, Any]:
        """Answer an administrator. Raises `ValueError` with a text for whoever asked."""


class Worker:
    """One life of a worker process."""

    def __init__(self, daemon_class: type[Daemon]) -> None:
        """Prepare to run a daemon of this class."""
        self._class = daemon_class
        self._channel: Channel[ToWorker] = Channel(ToWorker, self._received, self._orphaned, self._complained)
        self._start: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
        self._leave: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._closed = asyncio.Event()
        self._link: Link | None = None
        self._daemon: Daemon | None = None
        self._patience = 0.0
        self._may_drop = True
        """Whether the process can end as it is: it has answered nobody and has nothing to say."""
        self._log = log.get("worker")
        self._answering: set[asyncio.Task[None]] = set()

    async def run(self, channel: socket.socket) -> int:
        """Live; return the exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, None)
        await self._channel.connect(channel)
        self._channel.send(Hello(os.getpid(), mta.__version__))
        start = await self._start
        self._patience = start.drain_timeout
        try:
            await self._begin(start)
        except (OSError, ValueError) as problem:
            return await self._fail(str(problem) or repr(problem))
        except Exception as problem:
            await self._fail(f"internal error: {problem!r}")
            raise
        assert self._daemon is not None
        self._channel.send(Ready())
        # What lives now lives as long as the process: the collector need not look at it any more.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS)
        gc.enable()
        loop.call_later(SETTLED, _collapse)
        seconds = await self._leave
        drain = loop.create_task(self._daemon.drain(seconds))
        await asyncio.sleep(0)
        self._channel.send(Drained())
        await drain
        self._channel.send(Snapshot(0, self._daemon.snapshot()))
        await self._hang_up()
        return 0

    async def _begin(self, start: Start) -> None:
        settings = config.from_json(start.configuration)
        log.configure(settings.log)
        if start.log_level:
            log.set_level(start.log_level)
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        sockets = {name: [_listening(fd) for fd in group] for name, group in start.sockets.items()}
        assert self._link is not None
        daemon = self._class(settings, sockets, self._link)
        await daemon.prepare()
        self._may_drop = False
        await daemon.start()
        self._daemon = daemon  # only now there are counters to ask it for
        self._link.settle()

    async def _fail(self, reason: str) -> int:
        self._may_drop = False
        if not self._leave.done():
            self._leave.set_result(0.0)  # what comes is our own end, and no orphan's
        self._channel.send(Fault(reason))
        await self._hang_up()
        return 1

    async def _hang_up(self) -> None:
        self._channel.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), LAST_WORDS)

    def _received(self, message: ToWorker) -> None:
        match message:
            case Start():
                self._link = Link(message, self._channel.send)
                self._start.set_result(message)
            case Drain():
                self._end(message.seconds)
            case SnapshotRequest():
                data = self._daemon.snapshot() if self._daemon is not None else {}
                self._channel.send(Snapshot(message.number, data))
            case Question():
                task = asyncio.get_running_loop().create_task(self._answer(message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case LogLevel():
                log.set_level(message.level)
            case Topic():
                assert self._link is not None
                self._link.deliver(message)

    async def _answer(self, question: Question) -> None:
        data: dict[str, Any] = {}
        error = code = ""
        try:
            if self._daemon is None:
                raise ValueError("the process is still starting")
            data = await self._daemon.answer(question.topic, question.data)
        except ValueError as problem:
            error = str(problem)
            code = problem.code if isinstance(problem, Refused) else ""
        except Exception as problem:  # noqa: BLE001 - a bug here must not end the worker; both sides hear of it
            self._log.error("internal error", topic=question.topic, exc_info=problem)
            error = f"internal error: {problem!r}"
        self._channel.send(Finding(question.number, data, error, code))

    def _end(self, seconds: float | None) -> None:
        if self._may_drop:
            # Not by an exception: threads that build something may take long.
            self._channel.close()
            log.flush()
            os._exit(0)
        if not self._leave.done():
            self._leave.set_result(self._patience if seconds is None else seconds)

    def _orphaned(self) -> None:
        self._closed.set()
        if not self._may_drop and not self._leave.done():
            self._log.warning("supervisor is gone, draining", seconds=self._patience)
        self._end(None)

    def _complained(self, text: str) -> None:
        self._log.error("channel fault", reason=text)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._log.error("unhandled exception", what=context.get("message"), exc_info=context.get("exception"))


def _collapse() -> None:
    """Put memory together in a thread, for it takes some milliseconds."""
    with contextlib.suppress(RuntimeError):  # no room for a thread: then not
        threading.Thread(target=collapse, daemon=True).start()


def _listening(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def load_daemon(name: str) -> type[Daemon]:
    """Import "module:Class". Raises `ImportError` or `AttributeError`."""
    module, _, attribute = name.partition(":")
    found: type[Daemon] = getattr(importlib.import_module(module), attribute)
    return found


def main(arguments: list[str]) -> int:
    """Run a worker as the supervisor's command line says."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    gc.disable()  # until the start is done: hardly anything that is made now becomes garbage
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    name_process("tamis-worker")
    channel = socket.socket(fileno=int(options["--channel"]))
    channel.set_inheritable(False)
    daemon_class = load_daemon(options["--daemon"])

    async def live() -> int:
        return await Worker(daemon_class).run(channel)

    return uvloop.run(live())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
