"""Files and folders that must outlast a crash."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""How a folder is opened (open(2))."""

Owner = tuple[int, int]
"""A user and a group, by number."""


def in_words(error: Exception) -> str:
    """What went wrong, for a line to the administrator: of an OSError the file and the reason."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def whole_path(path: str) -> str:
    """A path from the root; as it is where the current folder was removed: nothing lies there then."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return path


def heir(folder: str | os.PathLike[str] | int) -> Owner | None:
    """Who gets what root makes in `folder` (or its descriptor): who owns it, for the server is not root.

    None for everybody else, whose files are their own. Raises OSError.
    """
    if os.geteuid() != 0:
        return None
    status = os.stat(folder)
    return status.st_uid, status.st_gid


@contextlib.contextmanager
def opened_folder(path: str | os.PathLike[str]) -> Iterator[int]:
    """The descriptor of a folder, for root to make there what is another user's.

    Root follows no link that others may have put into the path: it could lead into a folder that is not
    theirs. Raises OSError.
    """
    folder = _open_as_root(path) if os.geteuid() == 0 else os.open(path, FOLDER_FLAGS)
    try:
        yield folder
    finally:
        os.close(folder)


def _open_as_root(path: str | os.PathLike[str]) -> int:
    os.stat(path)  # it ends: links of our own do not go round in a circle
    parts = Path(os.path.abspath(path)).parts
    folder = os.open(parts[0], FOLDER_FLAGS)
    for number, name in enumerate(parts[1:], 1):
        above, rest = folder, parts[number + 1 :]
        flags = FOLDER_FLAGS | os.O_NOFOLLOW | (os.O_PATH if rest else 0)
        try:
            folder = os.open(name, flags, dir_fd=above)
        except NotADirectoryError:
            if not stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                raise
            status = os.fstat(above)
            if status.st_uid != 0 or status.st_mode & 0o022:
                reason = (
                    f"{os.path.join(*parts[:number], name)} is a link that others than root may have made"
                )
                raise OSError(errno.ELOOP, reason, os.fspath(path)) from None
            return _open_as_root(os.path.join(*parts[:number], os.readlink(name, dir_fd=above), *rest))
        finally:
            os.close(above)
    return folder


def make_folder(above: int, name: str, mode: int, owner: Owner | None = None) -> None:
    """Make a folder in the one with the descriptor `above`, with exactly this mode, and for `owner`.

    Raises OSError: FileExistsError when something is there.
    """
    os.mkdir(name, 0o700, dir_fd=above)
    folder = os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=above)
    try:
        if owner is not None:
            if os.listdir(folder):  # no new one: somebody has moved it there, to be given what is in it
                raise OSError(errno.ENOTEMPTY, "another folder was put in the place of the new one", name)
            os.fchown(folder, *owner)
        os.fchmod(folder, mode)
    finally:
        os.close(folder)
    os.fsync(above)


def flush_folder(path: str | os.PathLike[str]) -> None:
    """Put the names in a folder on the disk: a new or renamed file is safe only then (fsync(2)).

    Raises OSError.
    """
    descriptor = os.open(path, FOLDER_FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str],
    *,
    folder: int | None = None,
    mode: int = 0o600,
    like: os.stat_result | None = None,
    owner: Owner | None = None,
) -> Iterator[BinaryIO]:
    """The file that takes the place of `path` when the block ends, whole and on the disk.

    Who reads sees the old octets or the new ones. It is made with `mode`, less the umask, and given to
    `owner`, or with mode and owner of the file that `like` is of. `folder` is the descriptor of its folder
    (see `opened_folder`), which is looked up otherwise. When the block or the disk fails, nothing is changed.
    Raises OSError.
    """
    above, name = os.path.split(path)
    place = os.open(above or ".", FOLDER_FLAGS) if folder is None else folder
    try:
        with _replacing(place, name, mode, like, owner) as file:
            yield file
    finally:
        if folder is None:
            os.close(place)


@contextlib.contextmanager
def _replacing(
    folder: int, name: str, mode: int, like: os.stat_result | None, owner: Owner | None
) -> Iterator[BinaryIO]:
    draft = f".{name}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(draft, flags, mode if like is None else 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            if like is not None:
                _liken(descriptor, like)
            elif owner is not None:
                os.fchown(descriptor, *owner)
            os.fsync(descriptor)
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to be told
            os.unlink(draft, dir_fd=folder)
        raise
    os.fsync(folder)


def _liken(descriptor: int, like: os.stat_result) -> None:
    if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, like.st_mode & 0o777)
