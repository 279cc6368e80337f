"""Where a FileStore writes files before they get their name: one folder a process, swept when it is dead.

`.tmp/<random>/` belongs to one open store, which holds a lock (flock) on the file `lock` in it for as long
as it lives. A store that begins to write removes the folders whose lock it gets: their owner is dead. Where a
file system has no such locks the age decides (`LEFT_OVER`).

All functions block and raise OSError.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import secrets
import time
from contextlib import suppress

FOLDER = ".tmp"
"""No segment of a key begins with a dot."""
LOCK = "lock"
LEFT_OVER = 36 * 3600.0
"""Seconds after which a folder without a usable lock is nobody's any more."""


class Scratch:
    """The folder of one store that is written to."""

    __slots__ = ("_counter", "_lock_fd", "_parent", "fd", "name")

    def __init__(self, root: int) -> None:
        """Make one under the folder that `root` is open on."""
        with suppress(FileExistsError):
            os.mkdir(FOLDER, 0o700, dir_fd=root)
        self._parent = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        self._counter = itertools.count(1)
        try:
            while not self._claim():
                pass
        except BaseException:
            os.close(self._parent)
            raise

    def next(self) -> str:
        """A new file name in `fd`. Safe to call from several threads."""
        return str(next(self._counter))

    def sweep(self) -> int:
        """Remove what dead processes left; returns how many files.

        What cannot be removed is passed over: it does no harm there.
        """
        removed = 0
        for name in os.listdir(self._parent):
            if name != self.name:
                with suppress(OSError):
                    removed += self._sweep(name)
        return removed

    def close(self) -> None:
        """Remove the folder and release the lock."""
        with suppress(OSError):
            os.unlink(LOCK, dir_fd=self.fd)
            os.rmdir(self.name, dir_fd=self._parent)
        for fd in (self._lock_fd, self.fd, self._parent):
            os.close(fd)

    def _claim(self) -> bool:
        """False when somebody swept the folder before it was locked."""
        self.name = secrets.token_hex(8)
        os.mkdir(self.name, 0o700, dir_fd=self._parent)
        self.fd = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._parent)
        try:
            self._lock_fd, locked = _lock(self.fd, os.O_CREAT)
        except FileNotFoundError:
            os.close(self.fd)
            return False
        except BaseException:  # no room for the lock: whoever tries again makes another
            os.close(self.fd)
            with suppress(OSError):
                os.rmdir(self.name, dir_fd=self._parent)
            raise
        if locked is not False and os.fstat(self._lock_fd).st_nlink:
            return True
        os.close(self._lock_fd)
        os.close(self.fd)
        return False

    def _sweep(self, name: str) -> int:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._parent)
        lock, locked = -1, None
        try:
            old = time.time() - os.fstat(folder).st_mtime > LEFT_OVER
            with suppress(FileNotFoundError):  # no lock file: its owner is about to make it, or died before
                lock, locked = _lock(folder)
            if locked is False or (locked is None and not old):
                return 0
            # The lock is held until all is gone, so that an owner that is only slow sees that it lost it.
            files = [file for file in os.listdir(folder) if file != LOCK]
            for file in files:
                os.unlink(file, dir_fd=folder)
            if lock >= 0:
                os.unlink(LOCK, dir_fd=folder)
            os.rmdir(name, dir_fd=self._parent)
            return len(files)
        finally:
            os.close(folder)
            if lock >= 0:
                os.close(lock)


def _lock(folder: int, flags: int = 0) -> tuple[int, bool | None]:
    """The open lock file, and whether we hold the lock; None where the file system knows no locks."""
    fd = os.open(LOCK, os.O_RDONLY | os.O_CLOEXEC | flags, 0o600, dir_fd=folder)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # NFS locks only what is open for writing. (Elsewhere that would hinder a remount.)
            os.close(fd)
            fd = os.open(LOCK, os.O_RDWR | os.O_CLOEXEC, dir_fd=folder)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return fd, False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            return fd, None
        os.close(fd)
        raise
    return fd, True
