"""The administrator's desk: the control socket and the HTTP endpoint, wired to a supervisor.

`Desk` serves whatever sockets the plan gives it under the names "control" and "metrics", and changes over
to others at a reload. It answers with facts of the supervisor; it decides nothing itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import mta
from mta import metrics
from mta.admin.control import MAX_LINE, Answer, ControlServer, Request
from mta.admin.http import MAX_HEAD, HttpServer
from mta.socketfile import KEEP
from mta.supervisor.child import Child, State
from mta.supervisor.core import Supervisor
from mta.supervisor.generation import Generation
from mta.supervisor.messages import ENDED, Refused
from mta.supervisor.plan import SUPERVISOR, WORKER
from mta.supervisor.planning import CONTROL, METRICS
from mta.supervisor.reloaded import Reloaded
from mta.supervisor.sockets import SocketSet
from mta.supervisor.staff import Log

QUESTION_TIMEOUT = 60.0
"""Seconds that a worker may take for a question about its queue: it reads its stores for it."""

TROUBLE_TIMEOUT = 2.0
"""Seconds that a worker may take to say why its queue is not open."""

LOG_LEVELS = ("debug", "info", "warning", "error")


class Desk:
    """Serves the administrators of one supervisor."""

    def __init__(self, supervisor: Supervisor, log: Log) -> None:
        """Prepare; `serve` begins."""
        self._supervisor = supervisor
        self._control = ControlServer(
            {
                "status": self._status,
                "reload": self._reload,
                "stop": self._stop,
                "metrics": self._metrics,
                "log-level": self._log_level,
                "queue": self._queue,
            },
            lambda reason, uid: log.warning("control connection refused", reason=reason, uid=uid),
        )
        self._http = HttpServer(self._exposition, self._ready)
        self._servers: dict[socket.socket, asyncio.Server] = {}

    async def serve(self, sockets: SocketSet) -> None:
        """Serve these sockets from now on, and others no more (`Frontend`)."""
        wanted: dict[socket.socket, tuple[Callable[..., Any], int]] = {}
        for sock in sockets.of(SUPERVISOR).get(CONTROL, ()):
            wanted[sock] = (self._control.connection, MAX_LINE)
        for sock in sockets.of(SUPERVISOR).get(METRICS, ()):
            wanted[sock] = (self._http.connection, MAX_HEAD)
        for sock in [sock for sock in self._servers if sock not in wanted]:
            self._servers.pop(sock).close()
        for sock, (connection, limit) in wanted.items():
            if sock not in self._servers:
                # A duplicate, since asyncio closes what it is given, and the socket book owns the original.
                self._servers[sock] = await _listen(sock.dup(), connection, limit)

    async def close(self) -> None:
        """End all connections (`Frontend`)."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        await self._control.close()
        await self._http.close()

    async def _status(self, request: Request) -> Answer:
        facts = describe(self._supervisor)
        snapshot = await self._supervisor.staff.metrics()
        facts["sessions"] = {
            "open": metrics.value(snapshot, "sessions_open"),
            "total": metrics.value(snapshot, "sessions"),
        }
        results = {key.partition("\t")[0] for key in snapshot.get("messages", {})}
        facts["messages"] = {
            result: metrics.value(snapshot, "messages", result) for result in sorted(results)
        }
        facts["queue"] = {
            "open": metrics.value(snapshot, "queue_open") > 0,
            "troubles": await self._troubles(snapshot),
        }
        facts["metrics"] = snapshot
        return Answer(True, facts)

    async def _troubles(self, snapshot: metrics.Snapshot) -> dict[str, str]:
        """Why nothing can be queued, by worker."""
        if metrics.value(snapshot, "queue_open") > 0 or not self._has_queue:
            return {}
        staff = self._supervisor.staff

        async def trouble(child: Child) -> str:
            try:
                found = await staff.ask(child, "queue", {"op": "trouble"}, TROUBLE_TIMEOUT)
            except ValueError as refusal:
                return str(refusal)
            return str(found["trouble"])

        workers = [child for child in staff.children if child.role == WORKER and child.state is State.READY]
        told = await asyncio.gather(*map(trouble, workers))
        return {child.name: why for child, why in zip(workers, told, strict=True) if why}

    @property
    def _has_queue(self) -> bool:
        """False where nothing is to be queued: queue.enabled is off, or another daemon is run."""
        current = self._supervisor.current
        return current is not None and bool(current.plan.queue_store)

    def _ready(self) -> str:
        """What a probe reads while mail is taken."""
        if not self._supervisor.serving:
            return ""
        known = [
            child.metrics
            for child in self._supervisor.staff.children
            if child.role == WORKER and child.state is State.READY and child.metrics
        ]
        if self._has_queue and any(not metrics.value(snapshot, "queue_open") for snapshot in known):
            return "ready, but the queue is not open: what cannot be delivered at once is answered 4xx"
        return "ready"

    async def _reload(self, request: Request) -> Answer:
        result = await self._supervisor.reload()
        if result.ok:
            return Answer(True, _reload_facts(result))
        return Answer(
            False,
            error="the configuration is wrong" if result.configuration_wrong else "the reload failed",
            problems=result.problems,
            configuration_wrong=result.configuration_wrong,
        )

    async def _stop(self, request: Request) -> Answer:
        # In the next turn of the loop: the answer is on its way before connections are ended.
        asyncio.get_running_loop().call_soon(self._supervisor.stop, request.now)
        return Answer(True, {"pid": os.getpid()})

    async def _metrics(self, request: Request) -> Answer:
        return Answer(True, await self._supervisor.staff.metrics())

    async def _log_level(self, request: Request) -> Answer:
        if request.level not in LOG_LEVELS:
            return Answer(False, error=f"a level is one of {', '.join(LOG_LEVELS)}")
        self._supervisor.set_log_level(request.level)
        return Answer(True, {"level": request.level})

    async def _queue(self, request: Request) -> Answer:
        """Pass a question about the queue to the worker that is named; without a name, say who there is.

        The oldest come first: they may hand messages over to the others, and not the other way round.
        """
        staff = self._supervisor.staff
        living = [child for child in staff.children if child.role == WORKER]
        living.sort(key=lambda child: (child.generation, child.name))
        workers = {child.name: child for child in living if child.state is not State.STARTING}
        if not request.worker:
            return Answer(
                True,
                {
                    "workers": list(workers),
                    "pids": {name: child.pid for name, child in workers.items()},
                    "starting": [child.name for child in living if child.state is State.STARTING],
                },
            )
        child = workers.get(request.worker)
        if child is None:
            return Answer(False, error=f"there is no worker {request.worker} any more", code=ENDED)
        try:
            return Answer(True, await staff.ask(child, "queue", request.data, QUESTION_TIMEOUT))
        except ValueError as refusal:
            code = refusal.code if isinstance(refusal, Refused) else ""
            return Answer(False, error=str(refusal), code=code)

    async def _exposition(self) -> bytes:
        return metrics.exposition(await self._supervisor.staff.metrics())


def describe(supervisor: Supervisor) -> dict[str, Any]:
    """Facts about a supervisor and its processes, for people and for JSON."""
    current = supervisor.current
    restarts = {seat.child: seat.restarts for g in supervisor.staff.generations for seat in g.seats}
    if current is None:
        state = "starting"
    elif supervisor.stopping:
        state = "stopping"
    else:
        state = "reloading" if supervisor.reloading else "running"
    children = sorted(supervisor.staff.children, key=lambda child: (child.generation, child.name))
    return {
        "version": mta.__version__,
        "pid": os.getpid(),
        "state": state,
        "serving": supervisor.serving,
        "uptime": round(time.monotonic() - supervisor.started_at, 3),
        "generation": current.number if current is not None else 0,
        "listening": current.sockets.addresses(WORKER) if current is not None else [],
        "remembered": len(supervisor.staff.memory),
        "last_reload": _reload_facts(supervisor.last_reload) if supervisor.last_reload else None,
        "workers": [
            {
                "name": child.name,
                "role": child.role,
                "pid": child.pid,
                "slot": child.slot,
                "generation": child.generation,
                "state": child.state.value,
                "uptime": round(child.lived(), 3),
                "restarts": restarts.get(child, 0),
            }
            for child in children
        ],
        "restarting": [] if current is None else [*_restarting(current)],
    }


def _restarting(generation: Generation) -> Iterator[dict[str, Any]]:
    """The places of processes that have ended and are started again after a pause."""
    now = asyncio.get_running_loop().time()
    for seat in generation.seats:
        if seat.child is None and seat.timer is not None and not generation.draining:
            seconds = round(max(0.0, seat.timer.when() - now), 3)
            yield {"name": seat.name, "seconds": seconds, "restarts": seat.restarts, "reason": seat.trouble}


def _reload_facts(result: Reloaded) -> dict[str, Any]:
    return {
        "ok": result.ok,
        "generation": result.generation,
        "seconds": result.seconds,
        "problems": list(result.problems),
        "warnings": list(result.warnings),
        "left": result.left,
    }


async def _listen(sock: socket.socket, connection: Callable[..., Any], limit: int) -> asyncio.Server:
    if sock.family == socket.AF_UNIX:
        return await asyncio.start_unix_server(connection, sock=sock, limit=limit, **KEEP)
    return await asyncio.start_server(connection, sock=sock, limit=limit)
