"""What a tree of processes has used, from /proc.

CPU time covers what is alive and what has ended: a process's own clock has nanoseconds, and each parent
keeps the sum of the children that it has waited for. Processes that leave the tree (a daemon that forks
twice) would be lost; none of the servers here does that.

Memory is PSS, the proportional set size: pages shared by n processes count 1/n for each, so that the sum
over a tree is what it really takes. Memory of the kernel (socket buffers) is in none of these numbers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
ATTEMPTS = 10
"""Readings of a tree until two successive ones see the same processes."""

# Fields of /proc/PID/stat after the command's name (proc(5)).
_PARENT = 1
_CHILDREN_USER = 13
_CHILDREN_SYSTEM = 14
_CPUCLOCK_SCHED = 2


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(PROC):
        if entry.isdigit() and (fields := _stat(int(entry))) is not None:
            children.setdefault(int(fields[_PARENT]), []).append(int(entry))
    found = [root]
    for process in found:
        found.extend(children.get(process, ()))
    return found


def cpu_seconds(root: int) -> float:
    """CPU time, user and system, that the tree has used since it was started, ended processes included."""
    before = tree(root)
    for _ in range(ATTEMPTS):
        total = sum(_cpu_of(process) for process in before)
        after = tree(root)
        if after == before:
            return total
        before = after
    raise RuntimeError(f"the processes under {root} come and go too fast to be measured")


def pss_bytes(root: int) -> int:
    """Memory of the tree: the sum of PSS."""
    return sum(_rollup(process, "Pss:") for process in tree(root))


def resident_bytes(process: int) -> int:
    """Resident memory of one process now."""
    return _status(process, "VmRSS:")


def peak_resident_bytes(process: int) -> int:
    """The most resident memory that one process had since its start or `reset_peak`."""
    return _status(process, "VmHWM:")


def reset_peak(process: int) -> None:
    """Let `peak_resident_bytes` begin anew (proc(5), clear_refs)."""
    (PROC / str(process) / "clear_refs").write_text("5")


def _cpu_of(process: int) -> float:
    fields = _stat(process)
    if fields is None:
        return 0.0
    ended = (int(fields[_CHILDREN_USER]) + int(fields[_CHILDREN_SYSTEM])) / CLOCK_TICKS
    try:
        # The clock of another process: what clock_getcpuclockid(3) returns.
        own = time.clock_gettime((~process << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return ended
    return own + ended


def _stat(process: int) -> list[str] | None:
    try:
        text = (PROC / str(process) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat_fields(text)


def stat_fields(text: str) -> list[str]:
    """Split /proc/PID/stat from the state on; the name before it may hold blanks and parentheses."""
    return text[text.rindex(")") + 2 :].split()


def _rollup(process: int, field: str) -> int:
    try:
        text = (PROC / str(process) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return kilobytes(text, field)


def _status(process: int, field: str) -> int:
    return kilobytes((PROC / str(process) / "status").read_text(), field)


def kilobytes(text: str, field: str) -> int:
    """Find `Field:  123 kB` and return bytes; 0 if it is not there, as in a process that is ending."""
    for words in _lines(text):
        if words and words[0] == field:
            return int(words[1]) * 1024
    return 0


def _lines(text: str) -> Iterator[list[str]]:
    return (line.split() for line in text.splitlines())
