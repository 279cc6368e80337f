"""Maildir: names, layout, one durable write, and nothing left behind when it fails."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.store import maildir
from mta.store.maildir import UniqueNames


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Whatever happens, nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "example.test" / "alice"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(box: Path) -> list[str]:
    return sorted(str(path.relative_to(box)) for path in box.rglob("*") if path.is_file())


def test_a_name_has_seconds_microseconds_process_number_and_host() -> None:
    names = UniqueNames("mx.example.test", clock=lambda: 1_700_000_000_012_345_678, token="cafe")
    pid = os.getpid()
    assert names.next() == f"1700000000.M012345Q1P{pid}Rcafe.mx.example.test"
    assert names.next() == f"1700000000.M012345Q2P{pid}Rcafe.mx.example.test"


def test_a_host_name_cannot_leave_the_folder_or_begin_flags() -> None:
    name = UniqueNames("a/b:c", clock=lambda: 0, token="x").next()
    assert name.endswith(".a\\057b\\072c")
    assert "/" not in name
    assert ":" not in name


def test_two_processes_of_one_host_choose_different_names() -> None:
    one, two = (UniqueNames("mx", clock=lambda: 0) for _ in range(2))
    assert one.next() != two.next()


def test_names_are_unique_over_threads() -> None:
    names = UniqueNames("mx", clock=lambda: 0)
    found: list[str] = []

    def take() -> None:
        found.extend(names.next() for _ in range(500))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 2000


def test_a_message_is_in_new_with_its_size_in_the_name(box: Path, tmp_path: Path) -> None:
    with maildir.opened(box, tmp_path) as opened:
        stored = maildir.write(opened, "1.M2.mx", [b"Subject: x\n", b"\nbody\n"], 17)
    assert stored == "1.M2.mx,S=17"
    assert files(box) == [f"new/{stored}"]
    assert (box / "new" / stored).read_bytes() == b"Subject: x\n\nbody\n"
    assert mode(box / "new" / stored) == 0o600
    assert [mode(box / folder) for folder in (".", "tmp", "new", "cur")] == [0o700] * 4
    assert mode(box.parent) == 0o700


@pytest.mark.parametrize("parts", [["tmp"], ["tmp", "new"]])
def test_a_mailbox_that_was_made_by_halves_is_finished(box: Path, tmp_path: Path, parts: list[str]) -> None:
    for part in parts:
        (box / part).mkdir(parents=True)
    with maildir.opened(box, tmp_path):
        pass
    assert (box / "cur").is_dir()
    assert (box / "new").is_dir()


def broken(after: bytes, error: int) -> Iterator[bytes]:
    yield after
    raise OSError(error, os.strerror(error))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_nothing(box: Path, tmp_path: Path, error: int) -> None:
    with maildir.opened(box, tmp_path) as opened, pytest.raises(OSError, match=os.strerror(error)):
        maildir.write(opened, "1.M2.mx", broken(b"half", error), 10)
    assert files(box) == []


@pytest.mark.parametrize("call", ["fsync of the file", "rename", "fsync of new"])
def test_a_flush_or_rename_that_fails_leaves_nothing(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with maildir.opened(box, tmp_path) as opened:
        real_fsync, flushed = os.fsync, []

        def fsync(fd: int) -> None:
            flushed.append(fd)
            if (call == "fsync of the file") == (fd != opened.new):
                raise OSError(errno.EIO, "no")
            real_fsync(fd)

        def rename(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "no")

        if call == "rename":
            monkeypatch.setattr(os, "rename", rename)
        else:
            monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="no"):
            maildir.write(opened, "1.M2.mx", [b"text"], 4)
        assert call == "rename" or flushed
    monkeypatch.undo()
    assert files(box) == []


def test_a_folder_that_is_a_symbolic_link_is_refused(box: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with maildir.opened(box, tmp_path):
        pass
    (box / "new").rmdir()
    (box / "new").symlink_to(elsewhere)
    with pytest.raises(OSError, match="Not a directory"), maildir.opened(box, tmp_path):
        pass
    assert list(elsewhere.iterdir()) == []


def test_a_linked_copy_is_the_same_file_under_another_name(box: Path, tmp_path: Path) -> None:
    other = tmp_path / "example.test" / "bob"
    with maildir.opened(box, tmp_path) as one, maildir.opened(other, tmp_path) as two:
        stored = maildir.write(one, "1.M2.mx", [b"text"], 4)
        linked = maildir.link(one, stored, two, "1.M3.mx")
    assert linked == "1.M3.mx,S=4"
    assert (box / "new" / stored).samefile(other / "new" / linked)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("1.M2.mx,S=17", 17),
        ("1.M2.mx,S=17:2,S", 17),
        ("1.M2.mx,S=17,W=18:2,", 17),
        ("1.M2.mx", None),
        ("1.M2.mx,S=", None),
        ("1.M2.mx,S=1x", None),
        ("1.M2.mx,S=-5", None),
        ("1.M2.mx,S=" + "9" * 30, None),
    ],
)
def test_size_in_name(name: str, size: int | None) -> None:
    assert maildir.size_in_name(name) == size


def make_folder(path: Path) -> None:
    for part in maildir.FOLDERS:
        (path / part).mkdir(parents=True)


def test_a_detail_finds_its_folder_without_case(box: Path) -> None:
    make_folder(box / ".Lists.python")
    assert maildir.detail_folder(box, "lists.PYTHON") == box / ".Lists.python"


@pytest.mark.parametrize(
    ("detail", "name"), [("r&d", "R&D"), ("größe", "Größe"), ("gro\u0308ße", "größe"), ("日本", "日本")]
)
def test_a_detail_finds_a_folder_that_a_script_has_made(box: Path, detail: str, name: str) -> None:
    """Folders are named in modified UTF-7, details in UTF-8."""
    folder = maildir.named_folder(box, name)
    assert folder is not None
    make_folder(folder)
    assert maildir.detail_folder(box, detail) == folder


@pytest.mark.parametrize("name", [".&", ".&x", ".&AAA-", ".&!!-", ".a&2AA-", ".&-&"])
def test_names_that_are_no_utf7_are_what_they_are(box: Path, name: str) -> None:
    make_folder(box / name)
    assert maildir.detail_folder(box, "absent") is None
    if name == ".&x":
        assert maildir.detail_folder(box, "&x") == box / name


@pytest.mark.parametrize("detail", ["", ".", "/", "../bob", "absent", "incomplete", "link", "\0"])
def test_a_detail_without_a_folder_of_its_own_finds_none(box: Path, tmp_path: Path, detail: str) -> None:
    make_folder(box)
    make_folder(tmp_path / "example.test" / "bob")
    (box / ".incomplete" / "new").mkdir(parents=True)
    (box / ".link").symlink_to(tmp_path / "example.test" / "bob")
    assert maildir.detail_folder(box, detail) is None


def test_a_mailbox_without_mail_has_no_detail_folder(box: Path) -> None:
    assert maildir.detail_folder(box, "lists") is None


def test_sweep_removes_old_left_overs_only(box: Path, tmp_path: Path) -> None:
    make_folder(box)
    make_folder(box / ".lists")
    for path in (box / "tmp/old", box / ".lists/tmp/old", box / "tmp/young", box / "new/message"):
        path.write_bytes(b"")
    now = os.stat(box / "tmp/old").st_mtime + maildir.LEFT_OVER
    os.utime(box / "tmp/young", (now - 60, now - 60))
    assert maildir.sweep(tmp_path, now) == 2
    assert files(box) == ["new/message", "tmp/young"]
