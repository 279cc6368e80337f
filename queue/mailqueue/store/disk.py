"""The blocking half of the FileStore: what it does to the disk, in the order that is the promise.

`create`: the octets go to a file that has no name in the store yet (`.tmp/`, see mailqueue.store.scratch),
the file is flushed, link(2) gives it its name - of all who try one succeeds, and a reader sees all of it or
nothing - the temporary name goes, and the folder is flushed; the folders above were flushed when this
process first used it (mailqueue.store.folders). Only then is the object there.

A flush that failed is not tried again as if it had not: the kernel reports a lost write once and takes the
pages for clean afterwards. When it was the file's, the file is thrown away, and a later attempt writes
another. When it was a folder's, this process writes nothing more (`Disk.broken`), until an administrator
has looked and restarted it.

Of the room on the disk a share is left to what makes room (`RESERVE`): a queue that has filled its disk with
mail has to write before it can delete. `room` says what new mail may take; nothing here refuses it.

Before the first write nothing is written at all: who only reads needs no right to write, and no room.

Files have mode 0600, folders 0700. All functions block and raise OSError; several threads may call them.
"""

from __future__ import annotations

import errno
import heapq
import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mailqueue.store.base import CHUNK, SEGMENT, UNBOUNDED, Blob, Comparison, pieces
from mailqueue.store.folders import ATTEMPTS, FLAGS, Folders
from mailqueue.store.scratch import Scratch

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that say that there is no room."""
RESERVE, SHARE = 64 * 1024 * 1024, 8
"""Octets that new mail leaves free, at most one in `SHARE` of the file system: for the notes of what is
delivered, and for two snapshots (a million messages: 45 MB each) that let their log go."""
_MEASURED = 0.05
"""Seconds for which it is known how much room there is."""
FILES_RESERVE = 10_000
"""The same for the number of files that a file system can have."""
_NAME = re.compile(SEGMENT)
_KEEP_LEVELS = 1
"""Folders at this depth stay when they are empty ("log", "body", ...)."""


class BrokenDiskError(OSError):
    """A folder could not be flushed earlier: what this process wrote since may be lost."""


class Disk:
    """The objects below one folder."""

    __slots__ = (
        "_above",
        "_folders",
        "_made",
        "_measured",
        "_preparing",
        "_root",
        "_scratch",
        "broken",
        "room",
    )

    def __init__(self, root: Path) -> None:
        """Open `root`, made when only it is missing."""
        self.broken = ""
        """Why nothing is written any more, "" while all is well."""
        self._measured = 0.0
        self.room = 0
        """Octets that new mail may take, as of the last write; less than 0 when what is left is reserved."""
        self._made = False
        if not root.exists():
            root.mkdir(mode=0o700)
            self._made = True
        self._above = root.resolve().parent
        self._root = os.open(root, FLAGS)
        self._folders = Folders(self._root, self._flush)
        self._preparing = threading.Lock()
        self._scratch: Scratch | None = None
        """Made by the first write."""
        self._measure()

    def create(self, key: str, data: bytes | Blob, stop: threading.Event) -> bool:
        """Create an object durably; True when the key has exactly these octets now, False when it has others.

        With `stop` set it ends early, with InterruptedError. Raises also what `data` raises.
        """
        self._check()
        scratch = self._prepared()
        path, _, name = key.rpartition("/")
        if not isinstance(data, bytes):
            # A large body that is there already, from an earlier message, is only read.
            found = self._compare(path, name, data, stop)
            if found is not None:
                return found
        temporary = scratch.next()
        try:
            self._write(scratch.fd, temporary, data, stop, flush=True)
            return self._link(scratch.fd, temporary, path, name, data, stop)
        except BaseException:
            _discard(scratch.fd, temporary)
            self._measured = 0.0
            raise
        finally:
            self._measure()

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite an object, all at once; not flushed.

        On a full disk an object that exists is overwritten in place, which needs no room: a reader may see
        part of the old octets then. For these are signs of life, and an owner that cannot give one may not
        deliver, so that the disk would stay full.
        """
        self._check()
        scratch = self._prepared()
        path, _, name = key.rpartition("/")
        temporary = scratch.next()
        try:
            self._write(scratch.fd, temporary, data, threading.Event(), flush=False)
            for attempt in range(ATTEMPTS):
                try:
                    with self._folders.use(path) as folder:
                        os.rename(temporary, name, src_dir_fd=scratch.fd, dst_dir_fd=folder)
                        return
                except FileNotFoundError:
                    self._folders.forget(path)
                    if attempt == ATTEMPTS - 1:
                        raise
        except OSError as error:
            if error.errno not in FULL or not self._overwrite(key, data):
                raise
        finally:
            _discard(scratch.fd, temporary)
            self._measure()

    def _overwrite(self, key: str, data: bytes) -> bool:
        # False when that does not work either.
        try:
            fd = os.open(key, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._root)
        except OSError:
            return False
        try:
            os.ftruncate(fd, len(data))
            return os.pwrite(fd, data, 0) == len(data)
        except OSError:
            return False
        finally:
            os.close(fd)

    def read(self, key: str, start: int, end: int | None) -> bytes:
        """Octets of an object. Raises FileNotFoundError."""
        fd = os.open(key, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)
        try:
            size = os.fstat(fd).st_size
            wanted = max(0, min(size, size if end is None else end) - start)
            parts = []
            while wanted > 0:
                part = os.pread(fd, wanted, start)
                if not part:
                    break
                parts.append(part)
                start += len(part)
                wanted -= len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            os.close(fd)

    def names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        """Keys under `prefix` that are greater than `after`, sorted."""
        found: list[str] = []
        self._walk(prefix, after, limit, found)
        return found

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects, and the folders below the top level that are empty then; not flushed."""
        self._check()
        touched = set()
        for key in keys:
            with suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(key, dir_fd=self._root)
                touched.add(key.rpartition("/")[0])
        for path in touched:
            while path.count("/") >= _KEEP_LEVELS:
                try:
                    os.rmdir(path, dir_fd=self._root)
                except OSError:  # not empty, or gone
                    break
                self._folders.forget(path)
                path = path.rpartition("/")[0]

    def close(self) -> None:
        """Close all descriptors; no other call may be running."""
        self._folders.close()
        if self._scratch is not None:
            self._scratch.close()
        os.close(self._root)

    def _prepared(self) -> Scratch:
        """Where new files are written. The first call removes what dead processes left there."""
        scratch = self._scratch
        if scratch is None:
            with self._preparing:
                scratch = self._scratch
                if scratch is None:
                    self._flush_above()
                    scratch = self._scratch = Scratch(self._root)
                    scratch.sweep()
        return scratch

    def _measure(self) -> None:
        """Look how much room there is, unless that was just done. A quota of the user is not seen here."""
        now = time.monotonic()
        if now < self._measured + _MEASURED:
            return
        self._measured = now
        with suppress(OSError):  # a file system that does not tell has room until a write fails
            has = os.fstatvfs(self._root)
            free, total = has.f_bavail * has.f_frsize, has.f_blocks * has.f_frsize
            # Some file systems in user space do not tell.
            room = free - min(RESERVE, total // SHARE) if total else UNBOUNDED
            if has.f_files:  # some make files as they need them
                room = min(room, (has.f_favail - min(FILES_RESERVE, has.f_files // SHARE)) * has.f_frsize)
            self.room = room

    def _check(self) -> None:
        if self.broken:
            raise BrokenDiskError(f"nothing is written since a flush failed ({self.broken})")

    def _write(
        self, folder: int, temporary: str, data: bytes | Blob, stop: threading.Event, *, flush: bool
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            for piece in pieces(data):
                if stop.is_set():
                    raise InterruptedError
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            if flush:
                os.fsync(fd)
        finally:
            os.close(fd)

    def _link(
        self, source: int, temporary: str, path: str, name: str, data: bytes | Blob, stop: threading.Event
    ) -> bool:
        for _ in range(ATTEMPTS):
            try:
                with self._folders.use(path) as folder:
                    os.link(temporary, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
                    os.unlink(temporary, dir_fd=source)
                    self._flush(folder)
                    return True
            except FileExistsError:
                found = self._compare(path, name, data, stop)
                if found is not None:
                    _discard(source, temporary)
                    return found
            except FileNotFoundError:  # the folder was removed while it was empty
                self._folders.forget(path)
        raise FileNotFoundError(f"{path} vanishes whenever it is made")

    def _compare(self, path: str, name: str, data: bytes | Blob, stop: threading.Event) -> bool | None:
        """Whether an object has exactly these octets; None when there is none. It is durable then.

        Who created it may not have flushed the folder yet, so this does.
        """
        comparison = Comparison(data)
        try:
            fd = os.open(f"{path}/{name}" if path else name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)
        except FileNotFoundError:
            return None
        try:
            while (piece := os.read(fd, CHUNK)) and comparison.feed(piece):
                if stop.is_set():
                    raise InterruptedError
        finally:
            os.close(fd)
        with self._folders.use(path) as folder:
            self._flush(folder)
        return comparison.end()

    def _walk(self, prefix: str, after: str, limit: int | None, found: list[str]) -> None:
        try:
            fd = os.open(prefix or ".", FLAGS, dir_fd=self._root)
        except (FileNotFoundError, NotADirectoryError):
            return
        names = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    full = f"{prefix}{entry.name}/" if is_folder else prefix + entry.name
                    if full > after or (is_folder and after.startswith(full)):
                        names.append(full)
        finally:
            os.close(fd)
        # "lost+found", ".tmp", and what is not ours
        valid = [full for full in names if _NAME.fullmatch(full[len(prefix) :].rstrip("/"))]
        # Without folders among them, the first ones are all that is needed of 100,000 in no order.
        few = limit is not None and not any(full.endswith("/") for full in valid)
        for full in heapq.nsmallest((limit or 0) - len(found), valid) if few else sorted(valid):
            if full.endswith("/"):
                self._walk(full, after, limit, found)
            else:
                found.append(full)
            if limit is not None and len(found) >= limit:
                return

    def _flush(self, folder: int) -> None:
        self._check()
        try:
            os.fsync(folder)
        except OSError as error:
            self.broken = error.strerror or str(error)
            raise

    def _flush_above(self) -> None:
        try:
            above = os.open(self._above, FLAGS)
        except PermissionError:
            # We may enter the folder above but not open it: it was made by somebody else, long ago.
            if self._made:
                raise
            return
        try:
            self._flush(above)
        finally:
            os.close(above)


def _discard(folder: int, temporary: str) -> None:
    with suppress(OSError):  # it is gone, or what led here is what the caller must see
        os.unlink(temporary, dir_fd=folder)
