"""Files that are replaced as a whole."""

import os
from pathlib import Path

import pytest

from mta.folders import make_folder, opened_folder, replacing


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

    def fails(*_: object, **__: object) -> None:
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

    def note_rename(source: str, target: str, **places: int) -> None:
        steps.append(("rename", (tmp_path / source).read_bytes()))
        rename(source, target, **places)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    write(path, b"new")
    assert steps == [("file", b"old"), ("rename", b"new"), ("folder", b"new")]


NOBODY = 65534


def strange(path: Path) -> Path:
    """A folder that somebody else than root owns."""
    path.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


@pytest.mark.parametrize("way", ["link", "link/below", "to/link", "own"])
def test_root_follows_no_links_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way in ("to/link", "own") and os.geteuid() != 0:
        pytest.skip("only root has links of root")
    theirs = strange(tmp_path / "theirs")
    (tmp_path / "target" / "below").mkdir(parents=True)
    (theirs / "link").symlink_to(tmp_path / "target")
    (tmp_path / "to").symlink_to("theirs")
    (tmp_path / "own").symlink_to("to/link")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    path = tmp_path / way if way in ("to/link", "own") else theirs / way
    with pytest.raises(OSError, match=f"{theirs}/link is a link that others"), opened_folder(path):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has links of root")
def test_root_follows_its_own_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(tmp_path / "a")
    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.chdir(tmp_path)
    for path in ("one/b", tmp_path / "one" / ".." / "a" / "b", "a/b"):
        with opened_folder(path) as folder:
            assert os.path.samestat(os.fstat(folder), os.stat("a/b"))
    with opened_folder(".") as folder:
        assert os.listdir(folder) != []
    with pytest.raises(OSError, match="Too many levels"), opened_folder("circle/b"):
        pass
    tmp_path.chmod(0o775)
    with pytest.raises(OSError, match="one is a link that others"), opened_folder("one/b"):
        pass


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/x"):
        with pytest.raises(NotADirectoryError), opened_folder(tmp_path / name):
            pass
    with pytest.raises(FileNotFoundError), opened_folder(tmp_path / "missing"):
        pass


def test_a_new_folder_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        with opened_folder(tmp_path) as above:
            make_folder(above, "a", 0o755)
            with pytest.raises(FileExistsError):
                make_folder(above, "a", 0o700)
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o755


def test_only_what_was_made_is_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns the folder puts another thing in the place of the new one, before it gets its owner."""
    secret = tmp_path / "secret"
    secret.mkdir(0o711)
    (secret / "file").touch()
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda fd, uid, gid: given.append((uid, gid)))
    swaps = {
        "link": lambda: (tmp_path / "link").symlink_to("secret"),
        "moved": lambda: secret.rename(tmp_path / "moved"),
    }
    for name, swap in swaps.items():
        with monkeypatch.context() as swapped, opened_folder(tmp_path) as above:
            swapped.setattr(os, "mkdir", lambda *_, swap=swap, **__: swap())
            with pytest.raises(OSError, match=r"Not a directory|another folder was put in the place"):
                make_folder(above, name, 0o700, (NOBODY, NOBODY))
    assert given == []
    assert (tmp_path / "moved").stat().st_mode & 0o777 == 0o711
    with opened_folder(tmp_path) as above:
        make_folder(above, "new", 0o700, (NOBODY, NOBODY))
    assert given == [(NOBODY, NOBODY)]
