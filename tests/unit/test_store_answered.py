"""What scripts of users have answered or seen: how long it is remembered, and how much of it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mta.store import answered
from mta.store.answered import Answered

USER = "bob@example.test"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*/*") if path.is_file()]


def looking() -> bytes:
    """A key with which one looks for what is over."""
    return next(
        key for key in (b"look%d" % n for n in range(1000)) if hashlib.sha256(key).hexdigest()[0] == "0"
    )


def test_keys_are_remembered_for_their_time(tmp_path: Path) -> None:
    keys = Answered(str(tmp_path / "a"))
    assert not keys.has(USER, b"one")
    keys.add(USER, b"one", 100)
    keys.add(USER, b"two", 0)
    assert keys.has(USER, b"one")
    assert not keys.has(USER, b"two")
    assert not keys.has("ann@example.test", b"one")
    keys.add(USER, b"two", 100)
    assert keys.has(USER, b"two")
    keys.remove(USER, b"one")
    assert not keys.has(USER, b"one")


def test_what_is_over_goes_and_there_is_an_end_to_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answered, "KEYS_MOST", 10)
    keys = Answered(str(tmp_path))
    for number in range(300):
        keys.add(USER, b"over%d" % number, -1)
    assert len(files(tmp_path)) < 200
    keys.add(USER, looking(), 10_000)
    assert len(files(tmp_path)) == 1
    for number in range(300):
        keys.add(USER, b"%d" % number, 1000 + number)
    assert len(files(tmp_path)) < 200
    keys.add(USER, looking(), 10_000)
    assert len(files(tmp_path)) == 10
    assert keys.has(USER, b"299")
    assert not keys.has(USER, b"0")


def test_threads_leave_each_others_keys(tmp_path: Path) -> None:
    """One that has just been made seemed to be over to another thread, which removed it."""
    keys = Answered(str(tmp_path))
    names = [b"%d" % number for number in range(3000)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: keys.add(USER, name, 1000), names))
    assert [name for name in names if not keys.has(USER, name)] == []


def test_not_each_key_is_paid_with_a_look_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> object:
        looks.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    keys = Answered(str(tmp_path))
    for number in range(500):
        keys.add(USER, b"%d" % number, 1000)
    assert 0 < len(looks) < 100
