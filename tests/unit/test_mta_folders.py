"""Files that are replaced as a whole."""

import os
from pathlib import Path

import pytest

from mta.folders import replacing


def write(path: Path, octets: bytes) -> None:
    with replacing(path) as file:
        file.write(octets)


def test_a_new_file_is_private(tmp_path: Path) -> None:
    write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    with replacing(tmp_path / "b", mode=0o640):
        pass
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o640


def test_a_file_without_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with replacing("a") as file:
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_mode_and_owner_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o644)
    with replacing(path, like=path.stat()) as file:
        file.write(b"new")
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600, "nobody else reads it before it is whole"
    assert path.stat().st_mode & 0o777 == 0o644

    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda fd, uid, gid: owners.append((uid, gid)))
    other = os.stat_result((0o640, 0, 0, 1, os.geteuid() + 1, os.getegid(), 0, 0, 0, 0))
    with replacing(path, like=other):
        pass
    assert owners == [(os.geteuid() + 1, os.getegid())]
    assert path.stat().st_mode & 0o777 == 0o640


def test_nothing_is_changed_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def half() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace", "fchown"])
def test_nothing_is_changed_when_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    other = os.stat_result((0o640, 0, 0, 1, os.geteuid() + 1, os.getegid(), 0, 0, 0, 0))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fchown", lambda *_: None)
        broken.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space left"), replacing(path, like=other) as file:
            file.write(b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    steps: list[tuple[str, bytes]] = []
    sync, rename = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"
        steps.append((kind, path.read_bytes()))
        sync(descriptor)

    def note_rename(source: str, target: str) -> None:
        steps.append(("rename", Path(source).read_bytes()))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    write(path, b"new")
    assert steps == [("file", b"old"), ("rename", b"new"), ("folder", b"new")]
