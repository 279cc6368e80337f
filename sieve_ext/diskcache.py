"""Octets by key in a folder, for what costs more to make than to read; made for trees of scripts.

    cache = DiskCache(Path("/var/cache/mine"), complain)
    script = compile(text, dialect, trees=cache)

**What it protects from.** An entry carries its key and a checksum, so one that is cut off, damaged, renamed
or of another program is no entry, and is written anew; a crash in the middle of writing leaves at most a
temporary file, which goes with a later clean-up. The folder must be the process's own and closed to everybody
else (mode 0700), an entry the process's own and writable by nobody else, neither of them a symbolic link.
That is looked at each time, on open descriptors; where it does not hold nothing is read or written.

**What it does not protect from.** Whoever may write there as this user, or is root, can write entries with a
right checksum; no secret would help, for they could read it. So what is kept has to be such that its reader
checks it: octets of a tree can be made to mean another valid script of the same dialect, no more
(`sieve_ext.syntax.stored`).

A cache never fails: what cannot be read is not there, what cannot be written is not kept, and the first
reason is told to `complain`, once. Many processes and threads may use one folder. What was not used for
longest is deleted when the folder holds more than `octets`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex

OCTETS = 64 * 1024 * 1024
"""What a folder holds: trees of ten thousand scripts of some kilobytes."""
ENTRY_OCTETS = 32 * 1024 * 1024
"""Largest entry; a tree of the largest script has less."""
USED_EVERY = 86_400
"""Seconds after which the use of an entry is noted in its time: once a day is enough to tell old from new."""
TEMPORARY_SECONDS = 3600
"""A temporary file that is older was left behind."""
LOOK_EVERY = 256
"""Entries written between two looks at the whole folder, for other processes write there, too."""

_MAGIC = b"tamis cache 1\n"
_KEY = 32
_SUM = 32
_SUFFIX = ".entry"
_TEMPORARY = ".new-"


class DiskCache:
    """A cache in a folder; it is made, not those above it, when something is first kept."""

    def __init__(
        self, folder: Path, complain: Callable[[str], None] | None = None, *, octets: int = OCTETS
    ) -> None:
        """`complain` is told, once, why nothing is kept or read; `octets` bounds what the folder holds."""
        self._folder = folder
        self._complain = complain
        self._octets = octets
        self._held = 0
        """What is there, as far as this process knows; looked up with the first entry written."""
        self._until_look = 0

    def read(self, key: bytes) -> bytes | None:
        """What was kept under a key of 32 octets; None if nothing was, or it is damaged. Raises nothing."""
        try:
            with self._opened() as folder:
                return self._read(folder, key)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell(error)
            return None

    def write(self, key: bytes, octets: bytes) -> None:
        """Keep octets under a key of 32 octets, in place of what was there. Raises nothing."""
        if len(octets) > min(ENTRY_OCTETS, self._octets):
            return
        try:
            with suppress(FileExistsError):
                self._folder.mkdir(0o700)
            with self._opened() as folder:
                self._write(folder, key, octets)
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        complain, self._complain = self._complain, None
        if complain is not None:
            complain(f"cache {self._folder}: {error.strerror or error}; work goes on without it")

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The folder, looked at. Raises OSError."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _check(os.fstat(folder), 0o077, "the folder")
            yield folder
        finally:
            os.close(folder)

    def _read(self, folder: int, key: bytes) -> bytes | None:
        # Non-blocking, should somebody have put a pipe there.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with os.fdopen(os.open(_name(key), flags, dir_fd=folder), "rb", buffering=0) as file:
            facts = os.fstat(file.fileno())
            _check(facts, 0o022, "an entry")
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > ENTRY_OCTETS + _HEAD:
                return None
            found = file.read(facts.st_size + 1) or b""
            now = time.time()
            if not 0 <= now - facts.st_mtime < USED_EVERY:
                os.utime(file.fileno())
        octets = found[_HEAD:]
        return octets if found[:_HEAD] == _head(key, octets) else None

    def _write(self, folder: int, key: bytes, octets: bytes) -> None:
        temporary = _TEMPORARY + token_hex(8)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            try:
                left = memoryview(_head(key, octets) + octets)
                while left:
                    left = left[os.write(file, left) :]
            finally:
                os.close(file)
            # No fsync: a file that a crash has emptied is no entry by its checksum.
            os.rename(temporary, _name(key), src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        self._held += _HEAD + len(octets)
        self._until_look -= 1
        if self._until_look < 0 or self._held > self._octets:
            self._clean_up(folder)

    def _clean_up(self, folder: int) -> None:
        """Delete what was left behind, and what was not used for longest until there is room for more."""
        entries: list[tuple[float, int, str]] = []
        now = time.time()
        with os.scandir(folder) as found:
            for one in found:
                if not one.name.startswith(_TEMPORARY) and not one.name.endswith(_SUFFIX):
                    continue  # not ours
                with suppress(OSError):
                    facts = one.stat(follow_symlinks=False)
                    if one.name.endswith(_SUFFIX):
                        entries.append((facts.st_mtime, facts.st_size, one.name))
                    elif not 0 <= now - facts.st_mtime < TEMPORARY_SECONDS:
                        os.unlink(one.name, dir_fd=folder)
        self._until_look = LOOK_EVERY
        self._held = sum(size for _, size, _ in entries)
        if self._held <= self._octets:
            return
        # Some more than needed, so that this is not done for each entry.
        for _, size, name in sorted(entries):
            if self._held <= self._octets * 9 // 10:
                break
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
                self._held -= size


_HEAD = len(_MAGIC) + _KEY + _SUM


def _head(key: bytes, octets: bytes) -> bytes:
    return _MAGIC + key + blake2b(octets, digest_size=_SUM, key=key).digest()


def _name(key: bytes) -> str:
    return key.hex() + _SUFFIX


def _check(facts: os.stat_result, closed: int, what: str) -> None:
    """Raise OSError unless it is ours, and `closed` to others."""
    if facts.st_uid != os.geteuid():
        raise PermissionError(f"{what} belongs to another user")
    if facts.st_mode & closed:
        raise PermissionError(f"{what} has mode {stat.S_IMODE(facts.st_mode):04o} and is open to others")
