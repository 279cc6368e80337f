"""How hard pressed this worker is: normal, stressed or overloaded.

Three things are measured twice a second: open sessions of the node against their limit, how late the event
loop runs (smoothed, so that one long garbage collection, or a pause of the machine, is no emergency), and how
much of the memory that we may use is in use (the control group's, if it has a limit, and the machine's). The
worst of them decides.

`STRESSED`: shorter timeouts, idle clients make room. `OVERLOADED`: new sessions are answered 421 4.3.2 and
nothing else changes, so the sessions that are open get their work done. A level is entered at once and left
only after the pressure has stayed a tenth below its threshold for `hold` seconds; otherwise a server at its
limit would change its mind at every connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

TICK = 0.5
"""Seconds between measurements of the loop; ten costs of 20 microseconds a second are nothing."""
MEMORY_TICKS = 4
"""Ticks between looks at the memory, which changes more slowly and costs more to read."""
ONE_TURN = 1.9
"""Times `OverloadSettings.lag` that a single late turn counts at most: not quite enough by itself, for after
it the loop may be as fast as ever. When the machine was frozen for a minute the clock has gone on."""
RECOVERY = 0.9
"""Share of a threshold below which the pressure must stay before the level is left."""

_CGROUP = Path("/sys/fs/cgroup")
_GIVEN_BACK = (b"inactive_file", b"active_file", b"slab_reclaimable")
"""Kinds of memory that the kernel takes back before it kills anybody: files that are read and written fill a
group with them."""


class Level(IntEnum):
    """How hard pressed we are."""

    NORMAL = 0
    STRESSED = 1
    OVERLOADED = 2


@dataclass(slots=True, frozen=True)
class OverloadSettings:
    """Where the levels begin."""

    sessions: int = 10000
    """Open sessions of the node at which it is overloaded."""
    stress_percent: int = 80
    """Percentage of `sessions` and of `lag` from which we are stressed."""
    lag: float = 2.0
    """Seconds the loop may run late (on average over about two ticks) before this worker is overloaded."""
    memory_stressed: float = 0.92
    """Share of the memory in use from which we are stressed. Others use the machine too, so it is high."""
    memory_overloaded: float = 0.97
    """Share of the memory in use from which we are overloaded; 1.0 or more: memory is not looked at."""
    hold: float = 5.0
    """Seconds of lower pressure before a level is left."""


class Overload:
    """The level, with hysteresis; `sample` is pure, `start` feeds it from the running loop."""

    __slots__ = (
        "_calm_since",
        "_clock",
        "_sessions",
        "_settings",
        "_tick",
        "_timer",
        "lag",
        "level",
        "memory",
    )

    def __init__(
        self, settings: OverloadSettings, sessions: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        """`sessions` counts the open sessions of the node; `clock` is monotonic, in seconds."""
        self._settings = settings
        self._sessions = sessions
        self._clock = clock
        self._calm_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tick = 0
        self.level = Level.NORMAL
        self.lag = 0.0
        """Seconds that the loop runs late, smoothed; of one turn not more than matters."""
        self.memory = 0.0
        """Share of the memory in use."""

    def sample(self, sessions: int, lag: float, memory: float) -> Level:
        """Take one measurement and return the level from now on."""
        settings = self._settings
        self.lag = lag = (self.lag + min(lag, settings.lag * ONE_TURN)) / 2
        self.memory = memory
        now = self._clock()
        raw = self._level(sessions, lag, memory, 1.0)
        if raw >= self.level:
            self.level = raw
            self._calm_since = None
            return self.level
        calm = self._level(sessions, lag, memory, RECOVERY)
        if calm >= self.level:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= settings.hold:
            self.level = calm
            self._calm_since = None
        return self.level

    def start(self) -> None:
        """Measure for as long as the running loop runs, or until `stop`."""
        loop = asyncio.get_running_loop()
        self.memory = memory_in_use()
        self._timer = loop.call_later(TICK, self._measure, loop, loop.time() + TICK)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._tick += 1
        memory = memory_in_use() if self._tick % MEMORY_TICKS == 0 else self.memory
        self.sample(self._sessions(), max(now - due, 0.0), memory)
        self._timer = loop.call_later(TICK, self._measure, loop, now + TICK)

    def _level(self, sessions: int, lag: float, memory: float, scale: float) -> Level:
        settings = self._settings
        pressure = max(sessions / settings.sessions, lag / settings.lag) / scale
        watched = settings.memory_overloaded < 1.0
        if pressure >= 1.0 or (watched and memory >= settings.memory_overloaded * scale):
            return Level.OVERLOADED
        if pressure * 100 >= settings.stress_percent or (
            watched and memory >= settings.memory_stressed * scale
        ):
            return Level.STRESSED
        return Level.NORMAL


def memory_in_use(meminfo: Path = Path("/proc/meminfo"), groups: Iterable[Path] | None = None) -> float:
    """The share of the memory that is in use and cannot be had back cheaply, 0 to 1.

    The largest of the machine's (by MemAvailable) and those of the control groups `groups`, None for all that
    we are in (by memory.max, without the file cache that the kernel would drop); 0 where none can be read.
    """
    shares = map(_cgroup_memory, control_groups() if groups is None else groups)
    return max(_machine_memory(meminfo), *shares, 0.0)


def control_groups(membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUP) -> list[Path]:
    """The folders of our control group (version 2) and of those around it, as a service manager nests them.

    In a container `root` is often the group itself, whatever its name is outside.
    """
    try:
        lines = membership.read_text("utf-8", "replace").splitlines()
    except OSError:
        return [root]
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    names = [name for name in path.split("/") if name not in ("", ".", "..")]
    return [root.joinpath(*names[:count]) for count in range(len(names) + 1)]


def _machine_memory(path: Path) -> float:
    try:
        fields = dict(line.split(b":", 1) for line in path.read_bytes().splitlines()[:8])
        total, available = (int(fields[name].split()[0]) for name in (b"MemTotal", b"MemAvailable"))
    except (OSError, KeyError, ValueError, IndexError):
        return 0.0
    return 1.0 - available / total if total else 0.0


def _cgroup_memory(folder: Path) -> float:
    try:
        limit = int((folder / "memory.max").read_bytes())
        current = int((folder / "memory.current").read_bytes())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_bytes().splitlines())
        cache = sum(int(statistics.get(kind, 0)) for kind in _GIVEN_BACK)
    except (OSError, ValueError):  # no limit reads "max"
        return 0.0
    return (current - cache) / limit if limit else 0.0
