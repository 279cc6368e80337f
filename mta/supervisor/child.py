"""One child process: started by exec, told what to do over its channel, watched through a pidfd.

A child is started with the listening sockets of its role and runs `mta.worker`. It says hello, is sent
`Start`, and says `Ready` when it accepts connections. Its end is noticed by the kernel's pidfd, so no
SIGCHLD handler competes with other users of child processes, and a process id is never guessed.

States: starting -> ready -> draining -> gone; any state may go to "gone" directly, and a child that is told
to drain while it starts goes to "draining": it ends at once, unless it accepted clients in that very moment.
A child is its own process group: Ctrl-C in a terminal reaches the supervisor only, which drains the children.
"""

from __future__ import annotations

import asyncio
import enum
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mta.supervisor.channel import Channel
from mta.supervisor.messages import (
    Drain,
    Drained,
    Fault,
    Finding,
    Hello,
    Keep,
    LogLevel,
    Question,
    Ready,
    Snapshot,
    SnapshotRequest,
    Start,
    Topic,
    ToSupervisor,
)

LEAVE_GRACE = 5.0
"""Seconds between asking a process to leave with a signal, or during its start, and killing it: time to write
a last log line."""

ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": "16777216", "MALLOC_MMAP_THRESHOLD_": "4194304"}
"""How glibc's allocator keeps memory in a worker (mallopt(3), in octets), unless the environment says
otherwise. By default the buffers of each message of 100 kB are given back to the system and faulted in
again, which costs more than reading the message."""
LAST_WORDS = 1.0
"""Seconds to read what an ended process left in its channel; its end of the socket is closed already."""


class State(enum.Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


class Watcher(Protocol):
    """Who is told what happens to a child."""

    def child_ready(self, child: Child) -> None:
        """Tell that the child accepts connections."""

    def child_drained(self, child: Child) -> None:
        """Tell that the child uses the listening sockets no more."""

    def child_gone(self, child: Child) -> None:
        """Tell that the process has ended; `child.ending` says how."""

    def child_published(self, child: Child, topic: Topic) -> None:
        """Hand over something that the child tells the other workers."""

    def child_keeps(self, child: Child, keep: Keep) -> None:
        """Hand over what later workers of its generation begin with."""

    def child_snapshot(self, child: Child, snapshot: Snapshot) -> None:
        """Tell that `child.metrics` is new."""

    def child_found(self, child: Child, finding: Finding) -> None:
        """Hand over the answer to a question."""

    def child_fault(self, child: Child, text: str) -> None:
        """Hand over what the child, or its channel, complains about."""


class Child:
    """A running process of a crew."""

    def __init__(self, name: str, role: str, generation: int, slot: int, watcher: Watcher) -> None:
        """Describe a child that `spawn` will start."""
        self.name = name
        self.role = role
        self.generation = generation
        self.slot = slot
        self.state = State.STARTING
        self.pid = 0
        self.started_at = time.monotonic()
        self.heard_at = self.started_at
        self.metrics: dict[str, Any] | None = None
        """The last snapshot, None before the first."""
        self.answered = 0
        """Number of the last question that `metrics` answers."""
        self.aborted = False
        self.accepting = True
        """False once the child said that it uses the listening sockets no more, or is gone."""
        self.fault = ""
        self.return_code: int | None = None
        self._watcher = watcher
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._channel: Channel[ToSupervisor] = Channel(
            ToSupervisor, self._received, self._channel_closed, self._complained
        )
        self._timers: list[asyncio.TimerHandle] = []
        self._patience = 0.0

    async def spawn(
        self,
        daemon: str,
        sockets: Mapping[str, list[socket.socket]],
        start: Callable[[dict[str, list[int]]], Start],
        shared_memory_fd: int,
        environment: Mapping[str, str],
    ) -> None:
        """Start the process. `start` makes its first message from the descriptors of the sockets.

        Raises `OSError` when the kernel refuses another process.
        """
        descriptors = {name: [sock.fileno() for sock in group] for name, group in sockets.items()}
        passed = {shared_memory_fd, *(descriptor for group in descriptors.values() for descriptor in group)}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                self._process = _execute(daemon, theirs, passed, environment)
            self.pid = self._process.pid
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            ours.close()
            raise
        await self._channel.connect(ours)
        self._channel.send(start(descriptors))
        # Last, so that nobody hears of the end of a child before `spawn` has returned it.
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    @property
    def ending(self) -> str:
        """How the process ended, in words."""
        match self.return_code:
            case None:
                return "running"
            case 0:
                return "ended"
            case code if code < 0:
                return f"killed by {signal.Signals(-code).name}"
            case code:
                return f"ended with status {code}"

    @property
    def alive(self) -> bool:
        """True until the process has ended."""
        return self.state is not State.GONE

    @property
    def has_hung_up(self) -> bool:
        """True when nothing can be told it any more: the process has ended, or is about to."""
        return self._channel.closed

    def lived(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_at

    def tell(self, message: Topic | LogLevel | SnapshotRequest | Question) -> bool:
        """Send a message; False when the child is gone or does not read."""
        return self._channel.send(message)

    def drain(self, seconds: float) -> None:
        """Let the child finish within `seconds`, then kill it; one that still starts is to end at once.

        Nothing happens to a child that was told already.
        """
        if self.state in (State.DRAINING, State.GONE):
            return
        was_starting = self.state is State.STARTING
        self.state = State.DRAINING
        self._patience = seconds
        self._channel.send(Drain(seconds))
        self._cancel_timers()
        if was_starting:
            self.signal(signal.SIGTERM)  # before it reads its channel this is what it hears
            self._later(LEAVE_GRACE, self.kill)
        else:
            self._later(seconds + LEAVE_GRACE, self.kill)

    def abort(self) -> None:
        """End a child that hangs: SIGABRT, at which it writes where it hangs, then SIGKILL."""
        self.aborted = True
        self.signal(signal.SIGABRT)
        self._later(LEAVE_GRACE, self.kill)

    def kill(self) -> None:
        """End the process at once."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self._pidfd != -1:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return  # it has ended, and the pidfd will say so in this turn of the loop

    def _received(self, message: ToSupervisor) -> None:
        self.heard_at = time.monotonic()
        match message:
            case Hello():
                pass  # heard_at says it all
            case Ready():
                if self.state is State.STARTING:
                    self.state = State.READY
                    self._watcher.child_ready(self)
                elif self.state is State.DRAINING:  # it accepted clients when it was told to end
                    self._cancel_timers()
                    self._later(self._patience + LEAVE_GRACE, self.kill)
            case Drained():
                self.accepting = False
                self._watcher.child_drained(self)
            case Snapshot():
                self.metrics = message.data
                self.answered = max(self.answered, message.number)
                self._watcher.child_snapshot(self, message)
            case Finding():
                self._watcher.child_found(self, message)
            case Fault():
                self.fault = message.text
                self._watcher.child_fault(self, message.text)
            case Keep():
                self._watcher.child_keeps(self, message)
            case Topic():
                self._watcher.child_published(self, message)

    def _complained(self, text: str) -> None:
        self._watcher.child_fault(self, f"channel: {text}")

    def _channel_closed(self) -> None:
        if self.return_code is not None:
            self._gone()
        else:
            # A process without its channel can neither be drained nor counted. Normally it is ending anyway.
            self._later(LEAVE_GRACE, self.kill)

    def _ended(self) -> None:
        assert self._process is not None
        self.return_code = self._process.wait()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._cancel_timers()
        # The last words (a fault, the final counters) may still be in the channel, before its end.
        if self._channel.closed:
            self._gone()
        else:
            self._later(LAST_WORDS, self._channel.abort)

    def _gone(self) -> None:
        self._cancel_timers()
        self.state = State.GONE
        self.accepting = False
        self._watcher.child_gone(self)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, call))

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _execute(
    daemon: str, channel: socket.socket, passed: set[int], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    # -P: a worker does not import from the directory that it happens to be started in.
    command = [
        sys.executable,
        "-P",
        "-m",
        "mta.worker",
        "--channel",
        str(channel.fileno()),
        "--daemon",
        daemon,
    ]
    return subprocess.Popen(
        command,
        pass_fds=[channel.fileno(), *passed],
        stdin=subprocess.DEVNULL,
        env={**ALLOCATOR, **environment},
        process_group=0,
    )
