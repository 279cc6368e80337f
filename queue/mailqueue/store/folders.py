"""Open folders of a FileStore whose way down from the root is known to be on the disk.

A file is durable only when the folder that names it is, and so on up to the root. A folder that was found
rather than made may have been made a moment ago by another process that has not flushed it yet, so the
first use of a folder flushes every folder above it, whoever made it; afterwards the open descriptor is the
proof. Empty folders are removed by whoever deletes their last file: a descriptor of a removed folder takes
no new names (link(2) says ENOENT), which is how a user hears that it has to ask again with `forget`.

All functions block and raise OSError; they may be called from several threads.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

KEPT_OPEN = 64
"""Folders kept open when nobody uses them: a process writes to a handful, a sweep reads in many."""
ATTEMPTS = 16
"""How often to begin again when folders vanish while they are made."""
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MODE = 0o700


@dataclass(slots=True)
class _Folder:
    fd: int
    users: int = 0
    forgotten: bool = False


class Folders:
    """The open folders below one root."""

    __slots__ = ("_flush", "_lock", "_open", "_root")

    def __init__(self, root: int, flush: Callable[[int], None]) -> None:
        """`root` is the descriptor of an existing, durable folder; `flush` is fsync of a folder."""
        self._root = root
        self._flush = flush
        self._open: OrderedDict[str, _Folder] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def use(self, path: str) -> Iterator[int]:
        """A descriptor of the folder at `path` (relative, "" is the root), made when it does not exist."""
        if not path:
            yield self._root
            return
        folder = self._take(path)
        try:
            yield folder.fd
        finally:
            with self._lock:
                folder.users -= 1
                self._close_unused()
                if folder.forgotten and not folder.users:
                    os.close(folder.fd)

    def forget(self, path: str) -> None:
        """The folder at `path` was removed: the next use makes it again."""
        with self._lock:
            folder = self._open.pop(path, None)
            if folder is not None:
                folder.forgotten = True
                if not folder.users:
                    os.close(folder.fd)

    def close(self) -> None:
        """Close all; nobody may be using them."""
        for path in list(self._open):
            self.forget(path)

    def _take(self, path: str) -> _Folder:
        with self._lock:
            folder = self._open.get(path)
            if folder is not None:
                folder.users += 1
                self._open.move_to_end(path)
                return folder
        made = _Folder(self._make(path))
        with self._lock:
            folder = self._open.setdefault(path, made)
            folder.users += 1
        if folder is not made:
            os.close(made.fd)
        return folder

    def _make(self, path: str) -> int:
        # Somebody may remove an empty folder at any step. (The last attempt raises: the root may be gone.)
        for _ in range(ATTEMPTS - 1):
            with suppress(FileNotFoundError):
                return self._walk(path.split("/"))
        return self._walk(path.split("/"))

    def _walk(self, names: list[str]) -> int:
        above = os.dup(self._root)
        try:
            for name in names:
                with suppress(FileExistsError):
                    os.mkdir(name, MODE, dir_fd=above)
                below = os.open(name, FLAGS, dir_fd=above)
                try:
                    self._flush(above)
                except BaseException:
                    os.close(below)
                    raise
                os.close(above)
                above = below
        except BaseException:
            os.close(above)
            raise
        return above

    def _close_unused(self) -> None:
        excess = len(self._open) - KEPT_OPEN
        if excess > 0:
            for path in [path for path, folder in self._open.items() if not folder.users][:excess]:
                os.close(self._open.pop(path).fd)
