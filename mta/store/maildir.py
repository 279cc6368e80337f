"""Maildir: unique names, the layout, and one message written so that a crash cannot lose it.

The order is the promise (https://cr.yp.to/proto/maildir.html): the message is written to `tmp/`, flushed
to the disk, renamed into `new/`, and `new/` itself is flushed. Only then does `write` return, and only
then may the client be told 250. A reader never sees half a message; a crash leaves at most a file in
`tmp/`, which every Maildir reader may remove after 36 hours.

All file operations are relative to open folders and follow no symbolic link below the mailbox, so a
mailbox cannot lead a delivery somewhere else. Folders have mode 0700, files 0600.

Failure: every function raises `OSError` and leaves nothing behind, neither in `tmp/` nor in `new/`. The
functions block; call them in a thread.

Lines in files end with LF, as mail readers on Unix expect of a Maildir. The size in octets is part of
the file name (",S="), so that quotas are counted without a look at each file.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import time
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mta.folders import FOLDER_FLAGS, flush_folder

FOLDERS = ("tmp", "new", "cur")
"""The three folders of a Maildir. `cur` is made last: where it exists the mailbox is complete on the disk."""
LEFT_OVER = 36 * 3600.0
"""Seconds after which a file in `tmp/` is nobody's any more (the Maildir specification's 36 hours)."""
FOLDERS_MOST = 500
"""Folders of one mailbox up to which scripts make new ones."""
LONGEST_FOLDER = 200
"""Octets of the name of a folder that a script may have made; file systems allow 255."""
_SIZE_IN_NAME = re.compile(r",S=(\d{1,15})(?=[,:]|\Z)")

_PIECES = re.compile("[\x20-\x7e]+|[^\x20-\x7e]+")


class UniqueNames:
    """Names that no other delivery on any host can choose.

    Seconds, microseconds, process id, a number that counts deliveries of the process, and 64 random bits
    for hosts and containers that share a host name and number processes alike.
    """

    def __init__(
        self, hostname: str, *, clock: Callable[[], int] = time.time_ns, token: str | None = None
    ) -> None:
        """`clock` returns nanoseconds since 1970; `token` replaces the random part."""
        # The specification's escapes: "/" cannot be in a file name, ":" starts the flags.
        host = hostname.replace("/", "\\057").replace(":", "\\072")
        token = secrets.token_hex(8) if token is None else token
        self._tail = f"P{os.getpid()}R{token}.{host}"
        self._clock = clock
        self._count = itertools.count(1)

    def next(self) -> str:
        """A new name, without size and flags. Safe to call from several threads."""
        seconds, nanoseconds = divmod(self._clock(), 1_000_000_000)
        return f"{seconds}.M{nanoseconds // 1000:06d}Q{next(self._count)}{self._tail}"


@dataclass(slots=True, frozen=True)
class Maildir:
    """An open mailbox or folder: file descriptors of its root, `tmp` and `new`."""

    root: int
    tmp: int
    new: int

    def close(self) -> None:
        """Close all three."""
        for fd in (self.root, self.tmp, self.new):
            os.close(fd)


@contextmanager
def opened(path: Path, store_root: Path) -> Iterator[Maildir]:
    """Open the mailbox at `path`, made first when it does not exist; `store_root` is above it.

    Raises OSError.
    """
    try:
        maildir = _open(path)
    except FileNotFoundError:
        create(path, store_root)
        maildir = _open(path)
    try:
        yield maildir
    finally:
        maildir.close()


def create(path: Path, store_root: Path) -> None:
    """Make a mailbox, or finish one that a crash left half made; it is on the disk afterwards.

    Every folder up to and including `store_root` is flushed even if it existed: another thread may have
    made it a moment ago and not be done. Raises OSError.
    """
    above = [folder for folder in path.parents if folder == store_root or store_root in folder.parents]
    for folder in (*reversed(above), path, path / "tmp", path / "new"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (path, *above):
        flush_folder(folder)
    (path / "cur").mkdir(mode=0o700, exist_ok=True)
    flush_folder(path)


def write(maildir: Maildir, name: str, parts: Iterable[bytes], size: int) -> str:
    """Write a message durably; returns its file name in `new/`, which is `name` with the size added.

    `size` is the sum of the lengths of `parts`. Raises OSError and what `parts` raises.
    """
    stored = f"{name},S={size}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=maildir.tmp)
    try:
        try:
            for part in parts:
                _write_all(fd, part)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(name, stored, src_dir_fd=maildir.tmp, dst_dir_fd=maildir.new)
    except BaseException:
        # The error that led here is what the caller must see, not that the cleaning failed too.
        with suppress(OSError):
            os.unlink(name, dir_fd=maildir.tmp)
        raise
    _flush_new(maildir, stored)
    return stored


def link(source: Maildir, stored: str, target: Maildir, name: str) -> str:
    """Give a message of another mailbox's `new/` a second name in `target`; returns the name there.

    Raises OSError; EXDEV and EMLINK mean that a copy has to be written instead.
    """
    size = _SIZE_IN_NAME.search(stored)
    linked = name + (size.group(0) if size else "")
    os.link(stored, linked, src_dir_fd=source.new, dst_dir_fd=target.new, follow_symlinks=False)
    _flush_new(target, linked)
    return linked


def sweep(store_root: Path, now: float) -> int:
    """Remove what crashes left in `tmp/` of all mailboxes, `LEFT_OVER` seconds old or more; returns how many.

    `now` is in seconds since 1970. What cannot be listed or removed is passed over: it does no harm there.
    """
    removed = 0
    for pattern in ("*/*/tmp", "*/*/.*/tmp"):  # of mailboxes, of their folders
        for tmp in store_root.glob(pattern):
            with suppress(OSError), os.scandir(tmp) as entries:
                for entry in entries:
                    if now - entry.stat(follow_symlinks=False).st_mtime >= LEFT_OVER:
                        os.unlink(entry.path)
                        removed += 1
    return removed


def size_in_name(name: str) -> int | None:
    """The size that a file name states, None when it states none."""
    found = _SIZE_IN_NAME.search(name)
    return int(found.group(1)) if found else None


def named_folder(path: Path, name: str) -> Path | None:
    """The folder of a mailbox name of the user at `path` (Maildir++: "a/b" is ".a.b"), whether it is there
    or not.

    `path` itself for INBOX; None for a name that no folder can have. Names are written in modified UTF-7
    (RFC 3501 section 5.1.3), as mail readers do.
    """
    parts = name.split("/")
    if parts[0].upper() == "INBOX":
        parts = parts[1:]
    if not parts:
        return path
    if any(not part or part.startswith(".") or "." in part or not part.isprintable() for part in parts):
        return None
    folder = "".join(f".{_utf7(part)}" for part in parts)
    return path / folder if len(folder) <= LONGEST_FOLDER else None


def may_make(path: Path, folder: Path) -> bool:
    """Whether a script may store into `folder` of the mailbox at `path`: it is there, or there are not too
    many.

    Names may come from messages, and senders must not fill the disk with folders.
    """
    if folder.is_dir():
        return True
    try:
        with os.scandir(path) as entries:
            return sum(entry.name.startswith(".") for entry in entries) < FOLDERS_MOST
    except FileNotFoundError:
        return True


def _utf7(text: str) -> str:
    found: list[str] = []
    for piece in _PIECES.findall(text):
        if piece.isascii():
            found.append(piece.replace("&", "&-"))
        else:
            encoded = b64encode(piece.encode("utf-16-be")).decode("ascii").rstrip("=").replace("/", ",")
            found.append(f"&{encoded}-")
    return "".join(found)


def _of_utf7(name: str) -> str:
    """The text that a name in modified UTF-7 stands for; the name itself where it is none."""
    first, *rest = name.split("&")
    found = [first]
    for part in rest:
        encoded, dash, text = part.partition("-")
        try:
            octets = b64decode(encoded.replace(",", "/") + "=" * (-len(encoded) % 4), validate=True)
            found.append(octets.decode("utf-16-be") if encoded else "&")
        except ValueError:
            return name
        if not dash:
            return name
        found.append(text)
    return "".join(found)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.lower())


def detail_folder(path: Path, detail: str) -> Path | None:
    """The folder `.detail` of the mailbox at `path`, compared without case; None when there is none.

    The name comes from the listing of the mailbox, never from `detail`, so no detail can lead elsewhere.
    Only complete folders count and symbolic links do not. Raises OSError.
    """
    wanted = "." + _folded(detail)
    if wanted == ".":
        return None
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if _folded(_of_utf7(entry.name)) == wanted and entry.is_dir(follow_symlinks=False):
                    folder = path / entry.name
                    return folder if all((folder / part).is_dir() for part in FOLDERS) else None
    except FileNotFoundError:
        return None  # a mailbox that has not had a message yet
    return None


def _open(path: Path) -> Maildir:
    fds: list[int] = []
    # A folder of a mailbox begins with a dot, a mailbox never does (`folder_name`): that may be a link.
    follow = 0 if not path.name.startswith(".") else os.O_NOFOLLOW
    try:
        fds.append(os.open(path, FOLDER_FLAGS | follow))
        for folder in ("tmp", "new"):
            fds.append(os.open(folder, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=fds[0]))
        os.stat("cur", dir_fd=fds[0], follow_symlinks=False)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return Maildir(*fds)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _flush_new(maildir: Maildir, stored: str) -> None:
    """Flush `new/`; when that fails the message is taken back, for nobody knows whether it would last."""
    try:
        os.fsync(maildir.new)
    except OSError:
        with suppress(OSError):
            os.unlink(stored, dir_fd=maildir.new)
        raise
