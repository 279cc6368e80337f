"""A daemon that is not a mail server: it lets a client order the things that a worker's life is tested with.

Given to `tamis serve --daemon tests.peers.toy_daemon:ToyDaemon`. A connection is greeted with
"hello PID SLOT BANNER"; then each line is a command: `echo WORD`, `count`, `crash`, `hang`, `publish WORD`,
`heard`, `uid`, `sockets`, `debug WORD`. The banner of the first listener is its character: "bad" cannot
start, "buggy" has an error at the start, "mortal" dies soon after it got ready, "late" never gets ready,
"lonely" neither where there is another already, "stuck" cannot even be told to end then, "divided" cannot
start where there are two others, "slow" takes half a second. Like the real one it has no counters before it
has started.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from mta import log, metrics
from mta.config import Config
from mta.supervisor.link import WorkerLink


class ToyDaemon:
    """See the module."""

    def __init__(self, config: Config, sockets: dict[str, list[socket.socket]], link: WorkerLink) -> None:
        self.character = config.listener[0].banner
        self.sockets = sockets
        self.link = link
        self.heard: list[str] = []
        self.stats: metrics.Stats
        self.servers: list[asyncio.AbstractServer] = []
        self.open: set[Connection] = set()
        self.none_open = asyncio.Event()
        link.subscribe("unacknowledged", lambda data: self.heard.append(data["key"]))

    async def prepare(self) -> None:
        match self.character:
            case "bad":
                raise ValueError("the toy is bad today")
            case "buggy":
                raise KeyError("toy")
            case "stuck" if self.link.slot:
                print("the toy is at it", file=sys.stderr, flush=True)
                time.sleep(1000)  # noqa: ASYNC251 - that its loop stands still is the point
            case "late":
                await asyncio.sleep(1000)
            case "divided" if self.link.slot > 1:
                await asyncio.sleep(1.5)
                raise ValueError("the toy is bad today")
            case "slow":
                await asyncio.sleep(0.5)
            case "lonely" if self.link.slot:
                print("the toy is at it", file=sys.stderr, flush=True)
                await asyncio.sleep(1000)
            case "mortal":
                asyncio.get_running_loop().call_later(0.05, os._exit, 3)
        self.stats = metrics.Stats()
        self.stats.queue_open = 1

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for group in self.sockets.values():
            for sock in group:
                self.servers.append(await loop.create_server(lambda: Connection(self), sock=sock))

    async def drain(self, seconds: float) -> None:
        for server in self.servers:
            server.close()
        if self.open:
            try:
                await asyncio.wait_for(self.none_open.wait(), seconds)
            except TimeoutError:
                for connection in self.open:
                    connection.say("421 time is up")

    def snapshot(self) -> dict[str, Any]:
        return self.stats.snapshot()

    async def answer(self, topic: str, data: dict[str, Any]) -> dict[str, Any]:
        match data.get("op"):
            case "echo":
                return {"pid": os.getpid(), "topic": topic, **data}
            case "bug":
                raise KeyError("toy")
            case "ponder":
                await asyncio.sleep(data["seconds"])
                return {}
            case "die":
                os._exit(3)
        raise ValueError(f"the toy knows no {data.get('op')}")


class Connection(asyncio.Protocol):
    def __init__(self, daemon: ToyDaemon) -> None:
        self.daemon = daemon

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.daemon.open.add(self)
        self.daemon.none_open.clear()
        self.say(f"hello {os.getpid()} {self.daemon.link.slot} {self.daemon.character}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.daemon.open.discard(self)
        if not self.daemon.open:
            self.daemon.none_open.set()

    def say(self, text: str) -> None:
        self.transport.write(text.encode() + b"\n")

    def data_received(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            self.obey(*line.split())

    def obey(self, command: str, word: str = "") -> None:
        match command:
            case "echo":
                self.say(f"{word} {os.getpid()}")
            case "count":
                self.daemon.stats.messages["delivered"] += 1
                self.say("counted")
            case "crash":
                os._exit(3)
            case "hang":
                time.sleep(1000)
            case "publish":
                self.daemon.link.publish("unacknowledged", {"key": word, "expires": time.time() + 60})
                self.say("published")
            case "heard":
                self.say(" ".join(sorted(self.daemon.heard)) or "nothing")
            case "debug":
                log.get("toy").debug(word)
                log.flush()
                self.say("logged")
            case "uid":
                lines = Path("/proc/self/status").read_text().splitlines()
                status = dict(line.split(":", 1) for line in lines if ":" in line)
                groups = ",".join(map(str, os.getgroups()))
                keys = ("CapPrm", "CapAmb", "NoNewPrivs")
                facts = " ".join(f"{key}={status[key].strip()}" for key in keys)
                self.say(f"uid={os.getresuid()[0]} gid={os.getresgid()[0]} groups={groups} {facts}")
            case "sockets":
                names = {name: len(group) for name, group in self.daemon.sockets.items()}
                self.say(" ".join(f"{name}={count}" for name, count in sorted(names.items())))
