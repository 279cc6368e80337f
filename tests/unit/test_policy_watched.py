"""Files that are read again when they change: large ones without letting anybody wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mta.policy.watched import AT_ONCE, INTERVAL, TableError, Watched


class Scene:
    """A watched file whose content is its number of octets."""

    def __init__(self, path: Path, size: int = 1) -> None:
        self.path = path
        self.now = 0.0
        self.threads: list[int] = []
        self.told: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()
        path.write_bytes(bytes(size))
        self.watched = Watched(path, self.read, lambda: self.now, complain=self.told.append)
        self.threads.clear()

    def read(self, path: Path, octets: bytes) -> int:
        self.threads.append(threading.get_ident())
        assert self.go_on.wait(10)
        if octets.startswith(b"bad"):
            raise TableError(f"{path}:1: is bad")
        return len(octets)

    def change(self, octets: bytes) -> None:
        self.now += INTERVAL
        other = self.path.with_suffix(".new")
        other.write_bytes(octets)
        other.rename(self.path)

    async def settled(self) -> None:
        while self.watched._reading is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def run(scene: Scene, main: Callable[[Scene], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main(scene)

    asyncio.run(bounded())


@pytest.mark.parametrize(("size", "at_once"), [(AT_ONCE, True), (AT_ONCE + 1, False), (8 * AT_ONCE, False)])
def test_a_large_file_is_read_again_in_a_thread(tmp_path: Path, size: int, at_once: bool) -> None:
    async def main(scene: Scene) -> None:
        here = threading.get_ident()
        if not at_once:
            scene.go_on.clear()
        scene.change(bytes(size))
        assert scene.watched.content() == (size if at_once else 1)
        scene.now += INTERVAL
        assert scene.watched.content() == (size if at_once else 1)
        scene.go_on.set()
        await scene.settled()
        assert scene.watched.content() == size
        assert [thread == here for thread in scene.threads] == [at_once]

    run(Scene(tmp_path / "table"), main)


def test_a_change_while_it_is_read_is_seen_afterwards(tmp_path: Path) -> None:
    async def main(scene: Scene) -> None:
        scene.go_on.clear()
        scene.change(bytes(AT_ONCE + 1))
        assert scene.watched.content() == 1
        while not scene.threads:  # noqa: ASYNC110 - it has what was there
            await asyncio.sleep(0.001)
        scene.change(bytes(AT_ONCE + 2))
        assert scene.watched.content() == 1
        scene.go_on.set()
        await scene.settled()
        assert scene.watched.content() == AT_ONCE + 1
        await scene.settled()
        assert scene.watched.content() == AT_ONCE + 2

    run(Scene(tmp_path / "table"), main)


def test_a_large_file_with_a_mistake_leaves_what_was_there_in_force(tmp_path: Path) -> None:
    async def main(scene: Scene) -> None:
        for _ in range(2):
            scene.change(b"bad" + bytes(AT_ONCE))
            assert scene.watched.content() == 1
            await scene.settled()
        assert scene.watched.content() == 1
        assert scene.told == [f"{scene.path}:1: is bad"]
        scene.change(bytes(AT_ONCE + 1))
        scene.watched.content()
        await scene.settled()
        assert scene.watched.content() == AT_ONCE + 1

    run(Scene(tmp_path / "table"), main)


def test_who_has_no_loop_waits(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "table")
    scene.change(bytes(AT_ONCE + 1))
    assert scene.watched.content() == AT_ONCE + 1
