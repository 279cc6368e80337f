"""Which process wrote a stream, and whether it is provably gone.

A successor on the same machine need not wait for a heartbeat to stand still when the kernel says that the
writer does not exist any more. That is proved only when both speak of the same process table: the same boot
and the same PID namespace, and no process of that number, or one that started at another time. What ran
before a restart of the machine shows no sign of life, so it need not be waited for as long as for others.
Everything else counts as "may live", and is left to the heartbeat.

Safety never rests on this: a process wrongly called gone is fenced by the seal like any other.
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple


class ProcessIdentity(NamedTuple):
    """A process of a machine, for ever."""

    machine: str
    """Digest of the machine id, empty when the machine has none."""
    boot: str
    """The kernel's boot id."""
    namespace: str
    """The PID namespace in which `pid` counts."""
    pid: int
    ticks: int
    """Clock ticks from boot to its start."""

    @classmethod
    def current(cls) -> ProcessIdentity:
        """This process."""
        machine = _read("/etc/machine-id")
        pid = os.getpid()
        return cls(
            hashlib.sha256(b"mailqueue:" + machine.encode()).hexdigest()[:16] if machine else "",
            _read("/proc/sys/kernel/random/boot_id"),
            _namespace("pid"),
            pid,
            start_ticks(pid) or 0,
        )

    def is_gone(self, observer: ProcessIdentity) -> bool:
        """True when it is proved, by `observer`'s process on the machine it runs on, that this one has
        ended."""
        if self.boot and self.boot == observer.boot:
            if self.namespace != observer.namespace or not self.namespace or not self.ticks:
                return False
            return start_ticks(self.pid) != self.ticks
        return False

    def is_of_another_boot(self, observer: ProcessIdentity) -> bool:
        """True when this one ran on `observer`'s machine before a restart, or runs on another machine from
        the same image: neither the machine id tells these apart nor, as images have the configuration in
        them, the name of the node."""
        same = self.machine and self.machine == observer.machine
        return bool(same and self.boot and observer.boot and self.boot != observer.boot)


def start_ticks(pid: int) -> int | None:
    """When a process started, None when there is none (a zombie counts as none) or it cannot be told."""
    stat = _read(f"/proc/{pid}/stat")
    # The name, in parentheses, may hold blanks and parentheses.
    fields = stat[stat.rfind(")") + 1 :].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def time_namespace() -> str:
    """That in which boot times count, empty where the kernel knows of none."""
    return _namespace("time")


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
