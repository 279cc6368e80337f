"""What was answered or seen lately, of each user: empty files whose time of change is when that ends.

    sieve-answered/USER/DIGEST

Written by the store's threads, read by all of them; an answer too many is the worst that can come of a race.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import suppress

from mta.folders import FOLDER_FLAGS
from mta.scripts.names import file_stem

KEYS_MOST = 5000
"""Keys of one user. Some more may be there until the next look, which removes what is over, or else the ones
that end first."""


class Answered:
    """Remembers keys for some time."""

    def __init__(self, folder: str) -> None:
        """The folder is made when something is to be remembered."""
        self._folder = folder

    def has(self, user: str, key: bytes) -> bool:
        """Whether the key is remembered."""
        try:
            return os.stat(self._path(user, key)).st_mtime > time.time()
        except OSError:
            return False

    def add(self, user: str, key: bytes, seconds: int) -> None:
        """Remember a key. Raises OSError."""
        path = self._path(user, key)
        folder, digest = os.path.split(path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(folder, FOLDER_FLAGS)
        try:
            # A file that is new seems to be over, and another thread may look, or another process (reload).
            fcntl.flock(lock, fcntl.LOCK_EX)
            until = time.time() + seconds
            with open(path, "ab") as file:
                os.utime(file.fileno(), (until, until))
            if digest.startswith("0"):  # one of sixteen: to look at thousands of keys takes 15 ms
                self._sweep(folder)
        finally:
            os.close(lock)

    def remove(self, user: str, key: bytes) -> None:
        """Forget a key."""
        with suppress(OSError):
            os.unlink(self._path(user, key))

    def _path(self, user: str, key: bytes) -> str:
        digest = hashlib.sha256(key).hexdigest()[:40]
        return os.path.join(self._folder, hashlib.sha256(file_stem(user).encode()).hexdigest()[:40], digest)

    def _sweep(self, folder: str) -> None:
        """Remove what is over, now and then."""
        with suppress(OSError), os.scandir(folder) as entries:
            found = sorted((entry.stat().st_mtime, entry.path) for entry in entries)
            over = [path for until, path in found if until <= time.time()]
            for path in over or [path for _, path in found[: max(0, len(found) - KEYS_MOST)]]:
                os.unlink(path)
