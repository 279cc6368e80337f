"""The state directory belongs to one server at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

FILE_NAME = "lock"
"""In the state directory. Nobody but the server's user can open it, so nobody else can lock it. It stays when
the server ends, for another one may be opening it."""


_FULL = (errno.ENOSPC, errno.EDQUOT)


class StateFolder:
    """Held until this process ends, however it ends: the kernel gives it free."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        self._descriptor = -1

    def hold(self, directory: str) -> None:
        """Keep other servers out of `directory`, "" for none; a second call changes nothing.

        To be called as the user that the server runs as, who owns the file. Raises OSError when another
        server has it, or it cannot be locked; the text is for people. Where a full disk has no room for the
        file, nobody is kept out: a server that drains its queue makes room.
        """
        if self._descriptor >= 0 or not directory:
            return
        path = os.path.join(directory, FILE_NAME)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as problem:
            if problem.errno in _FULL:
                return
            raise OSError(_why_not(path, problem)) from problem
        try:
            _lock(descriptor, path, directory)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor


def _lock(descriptor: int, path: str, directory: str) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        # Root must not write into a file that the owner of the folder has linked there.
        raise OSError(
            f"cannot lock {path}: expected a file that the server makes, under this name only; remove it"
        )
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        raise OSError(_foreign(path, status.st_uid))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, 0o600)
    except BlockingIOError:
        written = os.pread(descriptor, 20, 0).strip()  # a process id is shorter
        holder = f" (process {int(written)})" if written.isdigit() else ""
        raise OSError(
            f"another server{holder} works with {directory}: stop it, or give this one a"
            " process.state_directory of its own"
        ) from None
    except OSError as problem:
        raise OSError(f"cannot lock {path}: {problem.strerror}") from problem
    # Who holds it is for the message only; on a full disk the old block is used again, or nothing is written.
    ours = b"%d\n" % os.getpid()
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, ours, 0)
        os.ftruncate(descriptor, len(ours))


def _why_not(path: str, problem: OSError) -> str:
    """What an administrator is told of a file that cannot be opened."""
    match problem.errno:
        case errno.ELOOP:
            return (
                f"cannot lock {path}: it is a symbolic link, expected a file that the server makes; remove it"
            )
        case errno.EACCES if (owner := _owner(path)) not in (-1, os.geteuid()):
            return _foreign(path, owner)
        case _:
            return (
                f"cannot open {path}: {problem.strerror} (process.state_directory must be a folder that user"
                f" {os.geteuid()}, whom the server runs as, can write to)"
            )


def _owner(path: str) -> int:
    """The user whose file this is, -1 when there is none to be seen."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return -1


def _foreign(path: str, owner: int) -> str:
    return (
        f"cannot lock {path}: it belongs to user {owner}, and the server runs as user {os.geteuid()}; if no"
        " other server works there, remove it"
    )
