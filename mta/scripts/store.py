"""A folder of scripts: `NAME.sieve` for each, and the link `.active` to the one in force.

What is answered is durable: a script is written to a temporary file, flushed, renamed, and the folder is
flushed; the link is made aside and renamed. So a script is always the old one or the new one, and so is the
choice between them. Whoever changes a folder has its lock meanwhile, among all processes of the machine.

Everything here waits for the disk: call it in a thread. Methods raise a `ScriptError` for what the folder
does not allow, and OSError for what the disk does not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mta.folders import flush_folder
from mta.scripts.names import ACTIVE, SUFFIX, active_script, file_stem, name_of
from sieve_ext.stores import DirectoryStore

LOCK = ".lock"
TEMPORARY = ".new-"
MODE = 0o600
FOLDER_MODE = 0o700
LOCK_WAIT = 10.0
"""Seconds to wait for the lock of a folder: longer than it takes to put a policy into force."""
LOCK_POLL = 0.05


class ScriptError(Exception):
    """Something that a folder does not allow; the text is for the user."""


class NoSuchScript(ScriptError):
    """There is no script of this name."""


class ScriptExists(ScriptError):
    """There is a script of this name already."""


class ScriptIsActive(ScriptError):
    """The script in force cannot be deleted (RFC 5804 section 2.10)."""


class QuotaExceeded(ScriptError):
    """There is no room; `kind` is "MAXSCRIPTS", "MAXSIZE", or "" for all scripts together."""

    def __init__(self, kind: str, text: str) -> None:
        """`text` says which limit it is."""
        self.kind = kind
        super().__init__(text)


class FolderBusy(ScriptError):
    """Somebody else changes the folder, and does not end."""


@dataclass(slots=True, frozen=True)
class FolderLimits:
    """What a folder may hold."""

    scripts: int = 32
    script_octets: int = 128 * 1024
    """Of one script."""
    octets: int = 1024 * 1024
    """Of all scripts together."""


class ScriptFolder:
    """The scripts of one owner. Names are those that `parse_script_name` returns."""

    def __init__(self, path: str, limits: FolderLimits) -> None:
        """The folder is made when something is put into it."""
        self.path = path
        self._limits = limits

    # --- reading -----------------------------------------------------------------------------------

    def list(self) -> list[tuple[str, bool]]:
        """The names in order, each with whether it is in force."""
        active = self.active()
        return [(name, name == active) for name in sorted(self._sizes())]

    def get(self, name: str) -> bytes:
        """The text of a script."""
        try:
            with open(self.file(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise NoSuchScript(f"there is no script {name!r}") from None

    def active(self) -> str:
        """The name of the script in force, "" if there is none."""
        path = active_script(self.path)
        return (name_of(os.path.basename(path)) or "") if path and os.path.exists(path) else ""

    def file(self, name: str) -> str:
        """The path of a script, whether it exists or not."""
        return os.path.join(self.path, file_stem(name) + SUFFIX)

    def check_space(self, name: str, octets: int) -> None:
        """Raise QuotaExceeded unless a script of this size can be put."""
        self.check_size(octets)
        limits = self._limits
        sizes = self._sizes()
        sizes.pop(name, None)
        if len(sizes) >= limits.scripts:
            raise QuotaExceeded("MAXSCRIPTS", f"there may be {limits.scripts} scripts")
        if sum(sizes.values()) + octets > limits.octets:
            raise QuotaExceeded("", f"all scripts together may have {limits.octets} octets")

    def check_size(self, octets: int) -> None:
        """Raise QuotaExceeded when no script may be of this size."""
        if octets > self._limits.script_octets:
            raise QuotaExceeded("MAXSIZE", f"a script may have {self._limits.script_octets} octets")

    # --- changing ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the folder meanwhile; it is made if it is missing. Not reentrant."""
        _make_folder(self.path)
        descriptor = os.open(os.path.join(self.path, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            until = time.monotonic() + LOCK_WAIT
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise FolderBusy("somebody else changes the scripts, try again later") from None
                    time.sleep(LOCK_POLL)
            yield
        finally:
            os.close(descriptor)

    def put(self, name: str, text: bytes) -> None:
        """Write a script, in place of the one of this name. To be called with the lock."""
        self.check_space(name, len(text))
        self._replace(self.file(name), lambda path: _write(path, text))

    def delete(self, name: str) -> None:
        """Remove a script that is not in force. To be called with the lock."""
        if name == self.active():
            raise ScriptIsActive(f"{name!r} is active: deactivate it first")
        try:
            os.unlink(self.file(name))
        except FileNotFoundError:
            raise NoSuchScript(f"there is no script {name!r}") from None
        flush_folder(self.path)

    def copy(self, old: str, new: str) -> None:
        """Give a script a second name: the first half of renaming it. To be called with the lock."""
        if not os.path.exists(self.file(old)):
            raise NoSuchScript(f"there is no script {old!r}")
        try:
            os.link(self.file(old), self.file(new))
        except FileExistsError:
            raise ScriptExists(f"there is a script {new!r} already") from None
        flush_folder(self.path)

    def rename(self, old: str, new: str) -> None:
        """Change the name of a script; one in force stays in force. To be called with the lock."""
        self.copy(old, new)
        if self.active() == old:
            self.activate(new)
        self.delete(old)

    def activate(self, name: str) -> None:
        """Put a script into force in place of the one that is, or none for "". To be called with the lock."""
        link = os.path.join(self.path, ACTIVE)
        if not name:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
            flush_folder(self.path)
            return
        target = self.file(name)
        if not os.path.exists(target):
            raise NoSuchScript(f"there is no script {name!r}")
        self._replace(link, lambda path: os.symlink(os.path.basename(target), path))

    def _replace(self, path: str, make: Callable[[str], None]) -> None:
        temporary = os.path.join(self.path, f"{TEMPORARY}{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # of a process that was killed
        try:
            make(temporary)
            os.rename(temporary, path)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        flush_folder(self.path)

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        try:
            entries = os.scandir(self.path)
        except FileNotFoundError:
            return sizes
        with entries:
            for entry in entries:
                name = name_of(entry.name)
                if name is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        sizes[name] = status.st_size
        return sizes


class FolderStore:
    """The scripts of a folder as `include` finds them: by their names, of the same owner only."""

    def __init__(self, folder: str, coming: Mapping[str, bytes] | None = None) -> None:
        """The folder need not exist. `coming` are scripts that are to be put into it, by name."""
        self._files = DirectoryStore({"personal": Path(folder)})
        self._folder = folder
        self._coming = coming or {}

    def path(self, name: str) -> str:
        """The file of the script `name`, whether it exists or not."""
        return os.path.join(self._folder, _file_stem(name) + SUFFIX)

    def load(self, location: str, name: str) -> bytes | None:
        """The text of a script, None if there is none. Raises OSError when it cannot be read."""
        coming = self._coming.get(unicodedata.normalize("NFC", name)) if location == "personal" else None
        return self._files.load(location, _file_stem(name)) if coming is None else coming


def _file_stem(name: str) -> str:
    return file_stem(unicodedata.normalize("NFC", name))


def _make_folder(path: str) -> None:
    parent = os.path.dirname(path)
    for folder in (parent, path):
        try:
            os.mkdir(folder, FOLDER_MODE)
        except FileExistsError:
            continue
        flush_folder(os.path.dirname(folder))


def _write(path: str, text: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
