"""Verifying passwords without blocking the event loop.

A slow hash runs in one of a few threads, which do not hold the interpreter lock while they hash. When too
many wait, the next is told to come back (`BusyError`, 454 4.7.0): a flood of logins delays logins, not mail.
A right password is remembered for a short while, for mail clients log in for every message; what is kept
is an HMAC under a key of this process over hash and password, so a changed hash is a different entry.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from mailqueue.threads import started_pool
from mta.accounts import passwords
from mta.accounts.passwords import StoredPassword

THREADS = 2
"""Hashes at once in a worker: enough for 50 logins a second, and 38 MiB of memory while they run."""
MAX_WAITING = 64
"""Logins waiting for a thread: about a second and a half of work."""
REMEMBER_SECONDS = 120.0
"""How long a right password is remembered: a burst of messages from one client, not a working day."""
MAX_REMEMBERED = 1024
"""Passwords remembered, about 200 octets each."""

_T = TypeVar("_T")


class BusyError(Exception):
    """All threads have enough to do (environment)."""


class PasswordVerifier:
    """Threads and memory for verifications; one in each worker."""

    def __init__(
        self,
        *,
        threads: int = THREADS,
        max_waiting: int = MAX_WAITING,
        remember_seconds: float = REMEMBER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`remember_seconds` 0 remembers nothing. Raises OSError when the system has no threads to give."""
        self._executor = started_pool(threads, "password")
        self._limit = threads + max_waiting
        self._running = 0
        self._lock = threading.Lock()
        self._remember_seconds = remember_seconds
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, float] = {}

    def remembers(self, stored: StoredPassword, password: str) -> bool:
        """True when this password was right for this hash a short while ago."""
        expiry = self._remembered.get(self._digest(stored, password))
        return expiry is not None and self._clock() < expiry

    def remember(self, stored: StoredPassword, password: str) -> None:
        """Keep a right password; the oldest makes room."""
        if self._remember_seconds <= 0:
            return
        digest = self._digest(stored, password)
        self._remembered.pop(digest, None)
        while len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = self._clock() + self._remember_seconds

    async def verify(self, stored: StoredPassword, password: str) -> bool:
        """`passwords.verify` in a thread. Raises BusyError, HashingError."""
        return await self.run(lambda: passwords.verify(stored, password))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Some work of tens of milliseconds in a thread. Raises BusyError and what the work raises."""
        with self._lock:
            if self._running >= self._limit:
                raise BusyError(f"{self._running} passwords are being verified")
            self._running += 1
        future = self._executor.submit(work)
        # Counted until the thread is done, not until the waiting session has gone away.
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let running hashes end, forget the waiting ones."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._remembered.clear()

    def _done(self, _future: Future[_T]) -> None:
        with self._lock:
            self._running -= 1

    def _digest(self, stored: StoredPassword, password: str) -> bytes:
        return hmac.digest(self._key, f"{stored.text}\0{password}".encode(), "sha256")
