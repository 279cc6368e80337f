"""Octets in a folder: what comes back is what was kept or nothing, whatever happened to the files."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from sieve_ext import DiskCache, Message, Script, ScriptCache, execute, standard_dialect
from sieve_ext import compile as load
from sieve_ext.syntax import stored

KEY = b"k" * 32
OTHER = b"o" * 32
MESSAGE = b"Subject: hello\r\n\r\nbody\r\n"


class Complaints(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def cache(tmp_path: Path, complaints: Complaints) -> DiskCache:
    return DiskCache(tmp_path / "cache", complaints)


def did(script: Script, message: bytes = MESSAGE) -> list[str]:
    result = execute(script, Message(message))
    return [one.describe() for one in result.all_actions] + [str(one) for one in result.errors]


def entry(folder: Path) -> Path:
    (found,) = folder.glob("*.entry")
    return found


def test_what_was_kept_is_read(cache: DiskCache, tmp_path: Path, complaints: Complaints) -> None:
    assert cache.read(KEY) is None
    assert not (tmp_path / "cache").exists(), "reading makes nothing"
    for octets in (b"", b"one", b"\0" * 100_000):
        cache.write(KEY, octets)
        assert cache.read(KEY) == octets
        assert cache.read(OTHER) is None
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE(entry(tmp_path / "cache").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "cache") == [KEY.hex() + ".entry"]
    assert not complaints


def test_every_damaged_octet_is_noticed(cache: DiskCache, tmp_path: Path, complaints: Complaints) -> None:
    text = b'require "fileinto"; fileinto "a";'
    plain = load(text, standard_dialect(), trees=cache)
    file = entry(tmp_path / "cache")
    whole = file.read_bytes()
    for place in range(len(whole)):
        for change in (1, 0x80, 0xFF):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            assert cache.read(stored.key_of(text)) is None
        assert did(load(text, standard_dialect(), trees=cache)) == did(plain)
        assert file.read_bytes() == whole, "it is written anew"
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        assert cache.read(stored.key_of(text)) is None
    file.write_bytes(whole + b"\0")
    assert cache.read(stored.key_of(text)) is None
    assert not complaints


def test_entries_of_others_are_none(cache: DiskCache, tmp_path: Path) -> None:
    cache.write(KEY, b"mine")
    folder = tmp_path / "cache"
    (folder / f"{OTHER.hex()}.entry").write_bytes(entry(folder).read_bytes())
    assert cache.read(OTHER) is None, "it was renamed"
    (folder / f"{OTHER.hex()}.entry").write_bytes(b"tamis cache 0\n" + b"x" * 100)
    assert cache.read(OTHER) is None


def opened(path: Path) -> None:
    path.chmod(0o755)


def foreign(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(path, 12345, -1)


def linked(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def a_file(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.write_bytes(b"")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def writable(path: Path) -> None:
    path.chmod(0o620)


@pytest.mark.parametrize("spoil", [opened, foreign, linked, a_file])
def test_a_folder_that_is_not_ours_is_not_used(
    cache: DiskCache, tmp_path: Path, complaints: Complaints, spoil: Callable[[Path], None]
) -> None:
    cache.write(KEY, b"one")
    spoil(tmp_path / "cache")
    for _ in range(2):
        assert cache.read(KEY) is None
        cache.write(OTHER, b"two")
    assert not list(tmp_path.rglob(f"{OTHER.hex()}*"))
    assert len(complaints) == 1
    assert did(load("keep;", standard_dialect(), trees=cache)) == ["keep"]


@pytest.mark.parametrize("spoil", [foreign, linked, writable, a_pipe])
def test_an_entry_that_is_not_ours_is_not_read(
    cache: DiskCache, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    cache.write(KEY, b"one")
    spoil(entry(tmp_path / "cache"))
    assert cache.read(KEY) is None
    cache.write(KEY, b"two")
    assert cache.read(KEY) == b"two"


@pytest.mark.parametrize("call", ["write", "rename", "open"])
def test_a_full_disk_is_told_once(
    cache: DiskCache,
    tmp_path: Path,
    complaints: Complaints,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    cache.write(OTHER, b"other")

    def full(*arguments: object, **more: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"sieve_ext.diskcache.os.{call}", full)
    for _ in range(3):
        cache.write(KEY, b"one")
        assert did(load("keep;", standard_dialect(), trees=cache)) == ["keep"]
    monkeypatch.undo()
    assert os.listdir(tmp_path / "cache") == [f"{OTHER.hex()}.entry"]
    assert complaints == [f"cache {tmp_path / 'cache'}: No space left on device; work goes on without it"]


def test_a_disk_that_takes_little_at_a_time(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("sieve_ext.diskcache.os.write", lambda file, octets: write(file, octets[:7]))
    cache.write(KEY, b"x" * 100)
    assert cache.read(KEY) == b"x" * 100


def test_a_folder_that_cannot_be_made(tmp_path: Path, complaints: Complaints) -> None:
    cache = DiskCache(tmp_path / "none" / "cache", complaints)
    cache.write(KEY, b"one")
    assert cache.read(KEY) is None
    assert len(complaints) == 1


def test_what_was_not_used_for_longest_goes(tmp_path: Path, complaints: Complaints) -> None:
    folder = tmp_path / "cache"
    cache = DiskCache(folder, complaints, octets=5000)
    now = time.time()
    for number in range(4):
        key = bytes([number]) * 32
        cache.write(key, b"x" * 1000)
        os.utime(folder / f"{key.hex()}.entry", times=(now - 10 * 86_400 + number,) * 2)
    assert cache.read(b"\0" * 32), "which says that it is in use"
    (folder / "notes").write_bytes(b"x" * 10_000)
    old = folder / ".new-0123"
    old.write_bytes(b"x")
    os.utime(old, times=(now - 7200, now - 7200))
    (folder / ".new-young").write_bytes(b"x")
    cache.write(KEY, b"x" * 1000)
    left = {name for name in os.listdir(folder) if name.endswith(".entry")}
    assert left == {f"{one.hex()}.entry" for one in (b"\0" * 32, b"\3" * 32, b"\2" * 32, KEY)}
    assert {".new-young", "notes"} == set(os.listdir(folder)) - left
    cache.write(OTHER, b"x" * 5001)
    assert cache.read(OTHER) is None, "larger than all that is kept"
    assert not complaints


def _write_often(folder: Path, octets: bytes, times: int) -> None:
    cache = DiskCache(folder, octets=20_000)
    for number in range(times):
        cache.write(KEY, octets)
        cache.write(number.to_bytes(32, "big"), octets)


def test_processes_share_a_folder(tmp_path: Path, complaints: Complaints) -> None:
    folder = tmp_path / "cache"
    texts = [bytes([65 + number]) * 2000 for number in range(2)]
    context = get_context("fork")
    writers = [context.Process(target=_write_often, args=(folder, octets, 300)) for octets in texts]
    cache = DiskCache(folder, complaints, octets=20_000)
    for one in writers:
        one.start()
    while any(one.is_alive() for one in writers):
        assert cache.read(KEY) in (*texts, None)
    for one in writers:
        one.join()
        assert one.exitcode == 0
    assert not [name for name in os.listdir(folder) if not name.endswith(".entry")]
    assert not complaints


def test_script_cache(cache: DiskCache) -> None:
    first = ScriptCache(standard_dialect(), trees=cache)
    second = ScriptCache(standard_dialect(), trees=cache)
    assert did(first.load("discard;")) == did(second.load("discard;"))
    assert (second.hits, second.misses) == (0, 1)
