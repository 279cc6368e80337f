"""Where large pages find room, and that asking for them harms nothing."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from mta import largepages
from mta.largepages import collapse, is_worth_it, whole_pages

MIB = 1 << 20
PAGE = 2 * MIB


def area(start: int, end: int, mode: str = "rw-p", name: str = "") -> str:
    return f"{start:x}-{end:x} {mode} 00000000 00:00 0 {name}\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (area(0, 3 * PAGE), [0, PAGE, 2 * PAGE]),
        (area(1, 3 * PAGE, name="[heap]"), [PAGE, 2 * PAGE]),
        (area(PAGE, 2 * PAGE - 1), []),
        (area(PAGE + MIB, 2 * PAGE + MIB), []),
        (area(PAGE + MIB, 3 * PAGE + MIB), [2 * PAGE]),
        (area(0, PAGE, mode="r-xp"), []),
        (area(0, PAGE, mode="rw-s"), []),
        (area(0, PAGE, name="[stack]"), []),
        (area(0, PAGE, name="/usr/lib/x y.so"), []),
    ],
)
def test_room(line: str, found: list[int]) -> None:
    assert list(whole_pages([line], PAGE)) == found


def test_half_of_it_must_be_there() -> None:
    there = 1 << 63
    assert is_worth_it([there | 5, 0])
    assert not is_worth_it([there, 0, 0])
    assert not is_worth_it([(1 << 62) | 5, 0])  # swapped out
    assert not is_worth_it([])


def test_memory_keeps_what_it_holds() -> None:
    with mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        octets = bytes(range(256)) * (8 * MIB // 256)
        memory[:] = octets
        assert collapse() % PAGE == 0
        assert memory[:] == octets


def test_systems_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(largepages, "_SIZE", tmp_path / "none")
    assert collapse() == 0
    (tmp_path / "none").write_text("nonsense")
    assert collapse() == 0
