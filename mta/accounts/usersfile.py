"""The users file: reading, re-reading when it changes, and rewriting it safely.

One user a line (`mta.accounts.user`), blank lines, comments from "#". The file must not be readable by
others nor writable by the group (0640). `UsersFile` looks once a second, and when a name is not known,
whether another file lies there, and takes it over only if every line is right: a bad one is logged and the
users stay as they were.
Unchanged lines are not parsed again: 10,000 users take a second at the start and 0.1 s after a change.

`edit` rewrites under a lock: a temporary file beside it, fsync, rename, fsync of the folder. Comments and
the order of lines stay. The comment "#% decoy-key ..." holds the key by which unknown users are given
stable salts (`mta.accounts.authenticator`); it is made with the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mta.accounts.user import User, format_user, parse_user, user_key
from mta.folders import heir, opened_folder, replacing
from mta.lastgood import NOBODY, LastGood

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the file, beside those for unknown names."""
MODE = 0o640
"""Permissions of a new file: the owner of its folder writes, the daemon's group reads."""
MAX_FILE = 64 * 1024 * 1024
"""Largest file in octets, some 100,000 users; more belong into a database behind Dovecot."""
MAX_PROBLEMS = 20
"""Problems reported at once."""
_DECOY_PREFIX = "#% decoy-key "
_HEADER = "# Users of this mail server: see docs/authentication.md; change it with `tamis user`."


class UsersFileError(Exception):
    """The file cannot be used; the text has one "path:line: what is wrong" a line (environment)."""


class Line(NamedTuple):
    """A line as it stands in the file, and its user if it has one."""

    text: str
    user: User | None


@dataclass(slots=True)
class Table:
    """The content of a users file."""

    lines: list[Line] = field(default_factory=list)
    users: dict[str, User] = field(default_factory=dict)
    decoy_key: bytes = b""

    def put(self, user: User) -> None:
        """Add a user, or replace the one of that name in its place. Raises ValueError (`format_user`)."""
        line = Line(format_user(user), user)
        if user.name in self.users:
            places = (at for at, old in enumerate(self.lines) if old.user and old.user.name == user.name)
            self.lines[next(places)] = line
        else:
            self.lines.append(line)
        self.users[user.name] = user

    def remove(self, name: str) -> None:
        """Take a user out. Raises KeyError."""
        del self.users[name]
        self.lines = [line for line in self.lines if line.user is None or line.user.name != name]

    def format(self) -> str:
        """The text of the file."""
        return "".join(f"{line.text}\n" for line in self.lines)


def parse_table(text: str, path: str, known: Table | None = None) -> Table:
    """Read a whole file. Lines that `known` has too are not parsed again. Raises UsersFileError."""
    table = Table()
    problems: list[str] = []
    parsed = {line.text: line.user for line in known.lines} if known else {}
    for number, raw in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        line = raw.removesuffix("\r")
        user = None
        if line.startswith(_DECOY_PREFIX):
            table.decoy_key = _decoy_key(line)
        elif line.strip() and not line.startswith("#"):
            try:
                user = parsed.get(line) or parse_user(line)
                if user.name in table.users:
                    raise ValueError(f"user {user.name} is there twice")
            except ValueError as error:
                problems.append(f"{path}:{number}: {error}")
                if len(problems) == MAX_PROBLEMS:
                    break
                continue
            table.users[user.name] = user
        table.lines.append(Line(line, user))
    if problems:
        raise UsersFileError("\n".join(problems))
    return table


def _decoy_key(line: str) -> bytes:
    # Any text serves; a key shorter than it should be only makes unknown users easier to tell.
    return hashlib.sha256(line.removeprefix(_DECOY_PREFIX).strip().encode()).digest()


def _read(fd: int, path: str) -> bytes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise UsersFileError(f"{path}:1: not a regular file")
    if status.st_mode & 0o027:
        raise UsersFileError(
            f"{path}:1: others can read it or its group can write it; run chmod {MODE:o} {path}"
        )
    if status.st_size > MAX_FILE:
        raise UsersFileError(f"{path}:1: larger than {MAX_FILE} octets")
    chunks = []
    while chunk := os.read(fd, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def _text(octets: bytes, path: str) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsersFileError(f"{path}:{line}: not UTF-8") from None


def read_text(path: str) -> str:
    """The text of the file after the check of its permissions. Raises UsersFileError."""
    with _opened(path) as fd:
        return _text(_read(fd, path), path)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsersFileError(f"{path}: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)


class UsersFile:
    """The users as they are now."""

    def __init__(
        self,
        path: Path | str,
        *,
        on_error: Callable[[UsersFileError], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
        good: LastGood = NOBODY,
    ) -> None:
        """Read the file. `on_error` hears of a later version that cannot be used; who looks once needs none.

        Raises UsersFileError, unless `good` has what others read there before.
        """
        self._good = good
        self.path = str(path)
        self._on_error = on_error
        self._clock = clock
        self._next_check = clock() + CHECK_INTERVAL
        self._identity: tuple[int, ...] = ()
        self._complained: tuple[int | str, ...] = ()
        self._table = Table()
        self.generation = 0
        """Counts the versions read."""
        try:
            self._load()
        except UsersFileError:
            octets = good.content(self.path)
            if octets is None:
                raise
            self._table = parse_table(octets.decode(), self.path)
            self._check()  # to tell of it

    def get(self, name: str) -> User | None:
        """The user of a login name, in whatever form it is written; None if there is none."""
        user = self.users.get(name)
        if user is not None:
            return user
        try:
            return self.of_key(user_key(name))
        except ValueError:
            return None

    def of_key(self, key: str) -> User | None:
        """The user of exactly this canonical name, such as the key of an address; a new one is known at once.

        What looks like a user's name to a login is nobody's address.
        """
        user = self.users.get(key)
        if user is None:
            # One stat: who guesses names learns nothing from it, and delays nobody.
            self._check(again=False)
            user = self._table.users.get(key)
        return user

    @property
    def users(self) -> Mapping[str, User]:
        """All users by canonical name; a new mapping after each change of the file."""
        now = self._clock()
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            self._check()
        return self._table.users

    @property
    def decoy_key(self) -> bytes:
        """32 octets that only this file knows, b"" when it holds none."""
        return self._table.decoy_key

    def _check(self, *, again: bool = True) -> None:
        """Take another file over; one that could not be used is read `again` or not."""
        try:
            status = os.stat(self.path)
            identity = _identity(status)
            if identity != self._identity and (again or identity != self._complained):
                self._load()
        except OSError as error:
            self._complain(("gone",), UsersFileError(f"{self.path}: {error.strerror}"))
        except UsersFileError as error:
            self._complain(identity, error)

    def _complain(self, identity: tuple[int | str, ...], error: UsersFileError) -> None:
        # Once for each bad version, not once a second.
        if identity != self._complained:
            self._complained = identity
            self._on_error(error)

    def _load(self) -> None:
        with _opened(self.path) as fd:
            identity = _identity(os.fstat(fd))
            octets = _read(fd, self.path)
        table = parse_table(_text(octets, self.path), self.path, self._table)
        self._table, self._identity, self._complained = table, identity, ()
        self.generation += 1
        self._good.note(self.path, octets)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)


@contextlib.contextmanager
def edit(path: Path | str, *, group: int | None = None) -> Iterator[Table]:
    """Change the file: yields its table and writes it back if the block ends without an exception.

    A missing file is made; as root for who owns its folder, and for the group with the number `group`, else
    that of the folder. Waits for another editor. Raises UsersFileError when the file cannot be used or
    written, ValueError for a user that no line can hold; the old file is then untouched.
    """
    path = str(path)
    name = os.path.basename(path)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(opened_folder(os.path.dirname(path) or "."))
            fd = _locked(folder, name, group)
        except OSError as error:
            raise UsersFileError(f"{path}: {error.strerror}") from error
        stack.callback(os.close, fd)
        table = parse_table(_text(_read(fd, path), path), path)
        before = table.format()
        if not table.decoy_key:
            line = _DECOY_PREFIX + b64encode(secrets.token_bytes(32)).decode()
            table.lines[0:0] = [Line(_HEADER, None), Line(line, None)] if not before else [Line(line, None)]
            table.decoy_key = _decoy_key(line)
        yield table
        after = table.format()
        if after != before:
            try:
                with replacing(name, folder=folder, like=os.fstat(fd)) as file:
                    file.write(after.encode())
            except OSError as error:
                raise UsersFileError(f"{path}: {error.strerror}") from error


def _locked(folder: int, name: str, group: int | None) -> int:
    """A descriptor of the file that is there now, locked."""
    while True:
        fd = _open_or_create(folder, name, group)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.stat(name, dir_fd=folder).st_ino == os.fstat(fd).st_ino:
                return fd
        except FileNotFoundError:
            os.close(fd)
            continue
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # another editor has put a new file there


def _open_or_create(folder: int, name: str, group: int | None) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        return os.open(name, flags, dir_fd=folder)
    try:
        fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, MODE, dir_fd=folder)
    except FileExistsError:
        return os.open(name, flags, dir_fd=folder)
    owner = heir(folder)
    if owner is not None:
        # The daemon, which runs as somebody else, must be able to read what root makes, whatever the umask.
        os.fchown(fd, owner[0], owner[1] if group is None else group)
        os.fchmod(fd, MODE)
    return fd
