"""The lock of the state directory: for the server's user only, and clear about what is in its way."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mta.supervisor.statefolder import StateFolder
from tests.peers.needs import needs

AS_USER = """
import os, sys
from mta.supervisor.statefolder import StateFolder
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
try:
    StateFolder().hold(sys.argv[2])
except OSError as problem:
    print(problem)
else:
    print("held")
"""


def hold_as(uid: int, folder: Path) -> str:
    """What a server of a user says."""
    done = subprocess.run(
        [sys.executable, "-c", AS_USER, str(uid), str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_file_is_ours_alone_and_says_who_holds_it(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        held = StateFolder()
        held.hold(str(tmp_path))
        held.hold(str(tmp_path))
    finally:
        os.umask(umask)
    lock = tmp_path / "lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert lock.read_text() == f"{os.getpid()}\n"
    with pytest.raises(
        OSError, match=rf"another server \(process {os.getpid()}\) works with {tmp_path}: stop"
    ):
        StateFolder().hold(str(tmp_path))
    lock.write_text("")
    with pytest.raises(OSError, match=rf"another server works with {tmp_path}: stop it"):
        StateFolder().hold(str(tmp_path))


def test_who_can_read_the_folder_cannot_keep_the_server_out(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        StateFolder().hold(str(tmp_path))
    finally:
        os.close(descriptor)


def test_a_file_that_others_could_open_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "lock").touch(0o666)
    (tmp_path / "lock").chmod(0o666)
    StateFolder().hold(str(tmp_path))
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def link(lock: Path) -> None:
    (lock.parent / "notes").write_text("precious")
    lock.symlink_to("notes")


def hard_link(lock: Path) -> None:
    (lock.parent / "notes").write_text("precious")
    os.link(lock.parent / "notes", lock)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (link, "cannot lock {}: it is a symbolic link, expected a file that the server makes; remove it"),
        (hard_link, "cannot lock {}: expected a file that the server makes, under this name only; remove it"),
        (os.mkfifo, "cannot lock {}: expected a file that the server makes, under this name only; remove it"),
        (os.mkdir, "cannot open {}: Is a directory (process.state_directory must be a folder that user "),
    ],
)
def test_what_is_no_file_of_ours_is_left_alone(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "lock")
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its text is compared
        StateFolder().hold(str(tmp_path))
    assert str(raised.value).startswith(reason.format(tmp_path / "lock"))
    if (tmp_path / "notes").exists():
        assert (tmp_path / "notes").read_text() == "precious"


def test_folder_that_is_not_ours(tmp_path: Path) -> None:
    needs(root=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith("pytest-"):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    lock = tmp_path / "lock"
    assert hold_as(65534, tmp_path) == (
        f"cannot open {lock}: Permission denied (process.state_directory must be a folder that user 65534,"
        " whom the server runs as, can write to)"
    )
    lock.touch(0o600)  # as a server leaves it that ran as root
    foreign = (
        f"cannot lock {lock}: it belongs to user 0, and the server runs as user 65534; if no other server"
    )
    assert hold_as(65534, tmp_path) == f"{foreign} works there, remove it"
    lock.chmod(0o666)
    assert hold_as(65534, tmp_path) == f"{foreign} works there, remove it"
    os.chown(tmp_path, 65534, 65534)
    lock.unlink()
    assert hold_as(65534, tmp_path) == "held"


@pytest.mark.parametrize("call", ["pwrite", "open"])
def test_a_server_starts_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It drains its queue, and so makes room; who holds the folder is for a message only."""

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    held = StateFolder()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        held.hold(str(tmp_path))
    if call == "pwrite":
        with pytest.raises(OSError, match=rf"another server works with {tmp_path}: stop it"):
            StateFolder().hold(str(tmp_path))
