"""The overload levels: thresholds, hysteresis, and the measures they come from."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mta.net import overload as module
from mta.net.overload import Level, Overload, OverloadSettings, control_groups, memory_in_use

NORMAL, STRESSED, OVERLOADED = Level.NORMAL, Level.STRESSED, Level.OVERLOADED


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def gauge(clock: Clock, **settings: float) -> Overload:
    return Overload(OverloadSettings(**{"sessions": 1000, **settings}), lambda: 0, clock)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sessions", "lag", "memory", "expected"),
    [
        (0, 0.0, 0.0, NORMAL),
        (799, 0.0, 0.0, NORMAL),
        (800, 0.0, 0.0, STRESSED),
        (999, 0.0, 0.0, STRESSED),
        (1000, 0.0, 0.0, OVERLOADED),
        (0, 3.1, 0.0, NORMAL),  # lag is smoothed: one sample counts half
        (0, 3.3, 0.0, STRESSED),
        (0, 60.0, 0.0, STRESSED),  # a pause of the machine
        (0, 0.0, 0.91, NORMAL),
        (0, 0.0, 0.93, STRESSED),
        (0, 0.0, 0.98, OVERLOADED),
        (850, 5.0, 0.5, STRESSED),
    ],
)
def test_the_worst_measure_decides(sessions: int, lag: float, memory: float, expected: Level) -> None:
    assert gauge(Clock()).sample(sessions, lag, memory) is expected


def test_a_level_is_left_only_after_lasting_relief() -> None:
    clock = Clock()
    overload = gauge(clock, hold=5.0)
    assert overload.sample(1000, 0, 0) is OVERLOADED
    assert overload.sample(950, 0, 0) is OVERLOADED  # less, but not a tenth less
    clock.now = 10
    assert overload.sample(950, 0, 0) is OVERLOADED
    assert overload.sample(890, 0, 0) is OVERLOADED  # relief begins
    clock.now = 14
    assert overload.sample(890, 0, 0) is OVERLOADED
    assert overload.sample(950, 0, 0) is OVERLOADED  # and is interrupted
    clock.now = 16
    assert overload.sample(890, 0, 0) is OVERLOADED
    clock.now = 21
    assert overload.sample(890, 0, 0) is STRESSED
    assert overload.sample(100, 0, 0) is STRESSED
    clock.now = 26
    assert overload.sample(100, 0, 0) is NORMAL


def test_relief_may_skip_a_level() -> None:
    clock = Clock()
    overload = gauge(clock, hold=1.0)
    assert overload.sample(2000, 0, 0) is OVERLOADED
    overload.sample(10, 0, 0)
    clock.now = 1
    assert overload.sample(10, 0, 0) is NORMAL


def test_one_late_turn_is_no_emergency_and_a_late_loop_is() -> None:
    overload = gauge(Clock())
    assert overload.sample(0, 1.9, 0) is NORMAL
    assert overload.sample(0, 0, 0) is NORMAL
    for _ in range(5):
        overload.sample(0, 2.2, 0)
    assert overload.level is OVERLOADED
    hung = gauge(Clock())
    assert [hung.sample(0, 60.0, 0) for _ in range(2)] == [STRESSED, OVERLOADED]


def test_memory_can_be_left_out() -> None:
    assert gauge(Clock(), memory_overloaded=1.0).sample(0, 0, 0.999) is NORMAL


def test_the_running_loop_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)

    async def run() -> None:
        busy = Overload(OverloadSettings(sessions=10, lag=60.0), lambda: 9, time.monotonic)
        late = Overload(OverloadSettings(sessions=10, lag=0.1), lambda: 0, time.monotonic)
        busy.start()
        late.start()
        await asyncio.sleep(0.05)
        assert busy.level is STRESSED
        for _ in range(4):
            time.sleep(0.3)  # noqa: ASYNC251 - a loop that is late is what this is about
            await asyncio.sleep(0)
        assert late.level is OVERLOADED
        assert busy.level is STRESSED
        busy.stop()
        late.stop()

    asyncio.run(run())


def test_the_memory_of_machine_and_control_group(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\n")
    nothing = tmp_path / "nothing"
    assert memory_in_use(meminfo, [nothing]) == pytest.approx(0.4)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 150\n")
    assert memory_in_use(meminfo, [nothing, tmp_path]) == pytest.approx(0.4)
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory_in_use(meminfo, [nothing, tmp_path]) == pytest.approx(0.75)
    (tmp_path / "memory.stat").write_text("inactive_file 150\nactive_file 200\nslab_reclaimable 50\n")
    assert memory_in_use(meminfo, [nothing, tmp_path]) == pytest.approx(0.5)
    assert memory_in_use(nothing, []) == 0.0
    assert 0.0 < memory_in_use() < 1.0


def test_the_limit_of_a_service_is_that_of_its_own_control_group(tmp_path: Path) -> None:
    service = tmp_path / "system.slice" / "tamis.service"
    service.mkdir(parents=True)
    (service / "memory.max").write_text("1000\n")
    (service / "memory.current").write_text("990\n")
    (service / "memory.stat").write_text("inactive_file 10\n")
    (tmp_path / "system.slice" / "memory.max").write_text("max\n")
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory:/old\n0::/system.slice/tamis.service\n")
    groups = control_groups(membership, tmp_path)
    assert groups == [tmp_path, service.parent, service]
    assert memory_in_use(tmp_path / "nothing", groups) == pytest.approx(0.98)


@pytest.mark.parametrize("text", ["0::/\n", "4:memory:/old\n", "0::/../..\n", ""])
def test_in_a_container_the_root_is_our_control_group(tmp_path: Path, text: str) -> None:
    (tmp_path / "cgroup").write_text(text)
    assert control_groups(tmp_path / "cgroup", tmp_path) == [tmp_path]
    assert control_groups(tmp_path / "nothing", tmp_path) == [tmp_path]
