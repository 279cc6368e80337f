"""type = "file": a text file with a key and its value a line (`mta.tables.lines`).

A small one is held in memory and read again when it has changed. One of `LARGE` octets or more is mapped as
an index (`mta.tables.index`); the new index of a changed file is made by a process of its own, and the old
content stays in force until it is there. A file that cannot be read any more leaves the old content in
force, too.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mta.lastgood import NOBODY, LastGood
from mta.policy.tablefile import Mistakes, read_lines
from mta.policy.watched import Looks, TableError, read_octets
from mta.tables.index import EX_MISTAKES, Index, build, is_current
from mta.tables.lines import entries
from mta.tables.table import Found, folded

LARGE = 512 * 1024
"""Octets from which a table is not read but mapped: reading so much stops the sessions for some
milliseconds."""
PAUSE = 30.0
"""Seconds until an index that could not be made is tried again."""


def read_text(path: Path, octets: bytes | None = None) -> dict[str, str]:
    """All entries of a text table. Raises TableError with file and line."""
    found: dict[str, str] = {}
    mistakes = Mistakes(path)
    for _, key, value in entries(read_lines(path, octets), mistakes.add):
        found.setdefault(key, value)
    mistakes.check()
    return found


class TextTable:
    """A text file that may change (`mta.tables.table.Table`)."""

    def __init__(
        self,
        path: str,
        index: str,
        clock: Callable[[], float],
        complain: Callable[[str], None] = lambda text: None,
        *,
        large: int = LARGE,
        good: LastGood = NOBODY,
    ) -> None:
        """Read `path`, or map its index at the path `index`, made first if it must be.

        Raises TableError, unless `good` knows what others read there before.
        """
        self._path = path
        self._index = index
        self._looks = Looks(path, clock, complain)
        self._large = large
        self._work: asyncio.Task[None] | None = None
        self._good = good
        self._content: Mapping[str, str] | Index
        try:
            self._content = self._first()
        except TableError as error:
            self._content = self._last(error)
            self._looks.failed(error)

    def get(self, key: str) -> Found:
        """Look up, at once."""
        if self._work is None and self._looks.is_due():
            self._read()
        return self._content.get(folded(key))

    async def close(self) -> None:
        """Stop what is being made."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    def _first(self) -> Mapping[str, str] | Index:
        if not self._is_large():
            return self._small()
        try:
            build(self._path, self._index)
            index = Index(self._index)
        except OSError as error:
            raise TableError(f"{self._path}: {error}") from error
        self._good.note(self._path, None)
        return index

    def _small(self) -> Mapping[str, str]:
        path = Path(self._path)
        octets = read_octets(path)
        content = read_text(path, octets)
        self._good.note(self._path, octets)
        return content

    def _last(self, error: TableError) -> Mapping[str, str] | Index:
        """What others read before the file was as it is now. Raises `error` when there is nothing."""
        octets = self._good.content(self._path)
        if octets is not None:
            return read_text(Path(self._path), octets)
        if not self._good.was_right(self._path):
            raise error
        try:
            return Index(self._index)
        except (OSError, TableError):
            raise error from None

    def _is_large(self) -> bool:
        return self._looks.stamp is not None and self._looks.stamp[1] >= self._large

    def _read(self) -> None:
        if self._is_large():
            self._work = asyncio.get_running_loop().create_task(self._remake())
            self._work.add_done_callback(self._made)
            return
        try:
            self._content = self._small()
        except TableError as error:
            self._looks.failed(error)
        else:
            self._looks.succeeded()

    def _made(self, work: asyncio.Task[None]) -> None:
        self._work = None
        if work.cancelled():
            return
        if (error := work.exception()) is not None:
            self._looks.failed(error, PAUSE)
        else:
            self._looks.succeeded()
            self._good.note(self._path, None)

    async def _remake(self) -> None:
        """A new index, made elsewhere. Raises TableError and OSError."""
        if not is_current(self._path, self._index):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mta.tables.index", self._path, self._index,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
            try:
                _, said = await process.communicate()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise
            if process.returncode:
                mistakes = TableError(said.decode(errors="replace").strip())
                if process.returncode == EX_MISTAKES:
                    raise mistakes
                reason = f"no index was made (status {process.returncode}): {mistakes}"
                raise OSError(errno.EIO, reason, self._path)
        self._content = Index(self._index)
