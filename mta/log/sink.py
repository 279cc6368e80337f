"""Where log lines go: collected, then written in few system calls, never in the way of the mail.

* Lines of one turn of the event loop and of the next `DELAY` seconds are written together; an urgent one, and
  everything outside of an event loop, at once.
* Writing never blocks: pipes and terminals are opened anew without blocking (the flag is ours then, not that
  of everybody who shares them), sockets are written with MSG_DONTWAIT. Who is to become another user does so
  before (`take_stderr`): the pipe belongs to whoever made it.
* Several processes share the target. Files are appended to; to pipes and sockets no write has more than
  `ATOMIC` octets unless a single line has, so lines do not run into each other.
* A file that was renamed or removed is let go within `LOOK` seconds: logs are rotated also while a reload,
  which opens the target anew, is refused.
* What cannot be written now waits, up to `BACKLOG` octets (a full disk, a reader that stands still). What
  does not fit, and what a dead reader would have got, is counted in `dropped`; the first line that passes
  again is preceded by one that says how many are missing.
* Nothing raises but `open_target`.

Threads may log: lines go through a deque, writing is under a lock. A thread may log while it writes, for the
garbage collector runs when it likes and what it finds has something to say. Such a line goes along.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

DELAY = 0.05
"""Seconds that a line may wait for company."""
USUAL_LINE = 256
"""Octets that a line counts for before it is rendered."""
ATOMIC = 4096
"""Octets that a pipe takes whole (PIPE_BUF of Linux)."""
BACKLOG = 4 * 1024 * 1024
"""Octets that wait for a target that takes nothing now: some ten thousand lines."""
URGENT_SIZE = 256 * 1024
"""Octets collected after which nobody waits for `DELAY`."""
RETRY = 1.0
"""Seconds between tries of a target that failed."""
LOOK = 1.0
"""Seconds between two looks whether a file still has its name."""
LAST_WAIT = 1.0
"""Seconds that the last flush waits for a target that takes nothing."""

STAYS = "log lines go on in the file that had this name"

_WAITING = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS})


class Target:
    """An open log target: a file, a pipe, a terminal or a socket."""

    __slots__ = ("_inode", "_socket", "fd", "path", "terminal", "whole")

    def __init__(self, fd: int, path: str) -> None:
        """Take over the descriptor `fd`; `path` is "" for standard error."""
        status = os.fstat(fd)
        mode = status.st_mode
        self._inode = status.st_dev, status.st_ino
        self.fd = fd
        self.path = path
        self.whole = stat.S_ISREG(mode)
        self.terminal = stat.S_ISCHR(mode) and os.isatty(fd)
        self._socket = socket.socket(fileno=fd) if stat.S_ISSOCK(mode) else None

    def write(self, octets: bytes) -> int:
        """Write some of `octets`, return how many. Raises OSError."""
        if self._socket is None:
            return os.write(self.fd, octets)
        return self._socket.send(octets, socket.MSG_DONTWAIT)

    def has_name(self) -> bool:
        """False when the file was renamed or removed: at its path is another one, or none."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            return not isinstance(error, FileNotFoundError)
        return (found.st_dev, found.st_ino) == self._inode

    def close(self) -> None:
        """Close the descriptor."""
        with contextlib.suppress(OSError):  # a file system may report a late error; nobody can act on it
            if self._socket is None:
                os.close(self.fd)
            else:
                self._socket.close()


def open_target(path: str) -> Target:
    """Open a log target: a path, or "stderr". Raises OSError."""
    if path != "stderr":
        return Target(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), path)
    anew = _stderr_anew()
    return Target(os.dup(2) if anew < 0 else anew, "")


def take_stderr() -> None:
    """Open the pipe or terminal behind descriptor 2 anew without blocking, for us and for all whom we start.

    To be called while we have the rights of whoever opened it.
    """
    anew = _stderr_anew()
    if anew >= 0:
        os.dup2(anew, 2)
        os.close(anew)


def _stderr_anew() -> int:
    """A descriptor of the same pipe or terminal that does not block; -1 for another kind of file."""
    mode = os.fstat(2).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):  # /proc is not mounted, or it belongs to another user
            return os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return -1


class Sink:
    """Collects lines and writes them to a target."""

    __slots__ = (
        "_begun", "_blocks", "_busy", "_collected", "_dropped_line", "_look_at", "_loop", "_reported",
        "_retry_at", "_size", "_stays", "_target", "_torn", "_waiting", "_writing", "dropped",
    )  # fmt: skip

    def __init__(self, target: Target, dropped_line: Callable[[int], bytes]) -> None:
        """`dropped_line` makes the line that tells how many lines are missing."""
        self._target = target
        self._dropped_line = dropped_line
        self._collected: deque[bytes | Callable[[], bytes]] = deque()
        self._size = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writing = threading.RLock()
        self._busy = False  # somebody writes; it can only be seen by the thread that does
        self._blocks: deque[bytes] = deque()  # what each write gets
        self._waiting = 0  # octets in them
        self._begun = False  # a part of the first block has been written
        self._torn = False  # the last line in the target has no end
        self._retry_at = 0.0
        self._look_at = 0.0
        self._stays = False  # the file was rotated away, and the one with its name is closed to us
        self._reported = 0
        self.dropped = 0
        """Lines that were lost since the start of the process."""

    @property
    def target(self) -> Target:
        """What is written to."""
        return self._target

    def put(self, line: bytes | Callable[[], bytes], urgent: bool) -> None:
        """Take a line with its line end, or what makes it when it is written; costs a fraction of a
        microsecond unless `urgent`."""
        self._collected.append(line)
        self._size += len(line) if isinstance(line, bytes) else USUAL_LINE
        if not urgent and self._size < URGENT_SIZE:
            if self._loop is not None and not self._loop.is_closed():
                return
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                pass  # no event loop in this thread: nobody would write it later
            else:
                self._loop = loop
                loop.call_later(DELAY, self._later)
                return
        self.write()

    def write(self) -> None:
        """Write what was collected, as far as the target takes it now."""
        with self._turn() as mine:
            if not mine:
                return
            self._write(time.monotonic())
            while self._collected:  # said meanwhile
                self._write(time.monotonic())
            if self._blocks:
                self._write_later()

    def flush(self) -> None:
        """Write everything; wait up to `LAST_WAIT` seconds for a target that takes nothing."""
        end = time.monotonic() + LAST_WAIT
        with self._turn() as mine:
            if not mine:
                return
            self._retry_at = 0.0
            self._write(time.monotonic())
            while self._blocks and (wait := end - time.monotonic()) > 0:
                poll = select.poll()
                poll.register(self._target.fd, select.POLLOUT)
                if poll.poll(wait * 1000):
                    time.sleep(0.001)  # a full disk polls as writable
                    self._retry_at = 0.0
                    self._write(time.monotonic())

    def change_target(self, target: Target) -> None:
        """Write what can be written to the old target, close it, and go on with `target`."""
        with self._turn() as mine:
            if mine:
                self._write(time.monotonic())
            self._target.close()
            self._target = target
            self._retry_at = self._look_at = 0.0
            self._torn = False

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """The right to write; False where this very thread has it already and is in the midst of it."""
        with self._writing:
            mine = not self._busy
            self._busy = True
            try:
                yield mine
            finally:
                if mine:
                    self._busy = False

    def _later(self) -> None:
        self._loop = None
        self.write()

    def _write_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the next line, or the flush at the end, takes it along
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(DELAY, self._later)

    def _write(self, now: float) -> None:
        if self._target.path and now >= self._look_at:
            self._look_at = now + LOOK
            self._follow()
        self._drain(now)
        lines = []
        while self._collected:
            line = self._collected.popleft()
            if not isinstance(line, bytes):
                try:
                    line = line()
                except Exception:  # noqa: BLE001 - a line that cannot be made must not take others along
                    self.dropped += 1
                    continue
            lines.append(line)
        self._size = 0
        if not self._blocks and self.dropped > self._reported:
            lines.insert(0, self._dropped_line(self.dropped - self._reported))
            self._reported = self.dropped
        for block in _blocks(lines, URGENT_SIZE if self._target.whole else ATOMIC):
            if self._waiting + len(block) > BACKLOG:
                self.dropped += block.count(b"\n")
            else:
                self._blocks.append(block)
                self._waiting += len(block)
        self._drain(now)

    def _follow(self) -> None:
        """Go on with the file that has the name now, where ours was rotated away."""
        if self._target.has_name():
            return
        try:
            target = open_target(self._target.path)
        except OSError as error:
            # The old one is better than none. Whoever rotates will look for the lines in the new one.
            if not self._stays:
                self._stays = True
                _tell(f"tamis: {self._target.path}: {error.strerror}: {STAYS}\n")
            return
        self._target.close()
        self._target = target
        self._torn = self._stays = False

    def _drain(self, now: float) -> None:
        """Write blocks until there are none or the target takes no more."""
        if now < self._retry_at:
            return
        while self._blocks:
            block = self._blocks[0] if not self._torn else b"\n" + self._blocks[0]
            try:
                written = self._target.write(block)
            except OSError as error:
                self._failed(error, now)
                return
            written -= self._torn
            if written >= 0:
                self._torn = False
                self._waiting -= written
                self._blocks[0] = self._blocks[0][written:]
            if not self._blocks[0]:
                self._blocks.popleft()
                self._begun = False
            else:
                self._begun = True

    def _failed(self, error: OSError, now: float) -> None:
        if error.errno in _WAITING:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._retry_at = now + RETRY
            return
        # A dead reader, an I/O error: what waits is lost.
        self._retry_at = now + RETRY
        self.dropped += sum(block.count(b"\n") for block in self._blocks)
        self._blocks.clear()
        self._waiting = 0
        self._torn, self._begun = self._torn or self._begun, False


def _tell(text: str) -> None:
    """On standard error, as far as somebody reads it."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "backslashreplace"))


def _blocks(lines: list[bytes], room: int) -> Iterator[bytes]:
    """Lines put together to blocks of at most `room` octets; a longer line is a block of its own."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > room and block:
            yield b"".join(block)
            block, size = [], 0
        block.append(line)
        size += len(line)
    if block:
        yield b"".join(block)
