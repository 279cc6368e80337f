"""Files and folders that must outlast a crash."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import BinaryIO

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""How a folder is opened (open(2))."""

Owner = tuple[int, int]
"""A user and a group, by number."""


def heir(folder: str | os.PathLike[str]) -> Owner | None:
    """Who gets what root makes in `folder`: who owns the folder, for the server is not root.

    None for everybody else, whose files are their own. Raises OSError.
    """
    if os.geteuid() != 0:
        return None
    status = os.stat(folder)
    return status.st_uid, status.st_gid


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
    mode: int = 0o600,
    like: os.stat_result | None = None,
    owner: Owner | None = None,
) -> Iterator[BinaryIO]:
    """The file that takes the place of `path` when the block ends, whole and on the disk.

    Who reads sees the old octets or the new ones. It is made with `mode`, less the umask, and given to
    `owner`, or with mode and owner of the file that `like` is of. When the block or the disk fails, nothing
    is changed. Raises OSError.
    """
    folder, name = os.path.split(path)
    draft = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
    descriptor = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode if like is None else 0o600
    )
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            if like is not None:
                _liken(descriptor, like)
            elif owner is not None:
                os.fchown(descriptor, *owner)
            os.fsync(descriptor)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to be told
            os.unlink(draft)
        raise
    flush_folder(folder or ".")


def _liken(descriptor: int, like: os.stat_result) -> None:
    if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, like.st_mode & 0o777)
