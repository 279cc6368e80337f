"""The name of a process as ps and top show it (proc_pid_comm(5)); without it all would be `python3`."""

from __future__ import annotations

import contextlib


def name_process(name: str) -> None:
    """Call this process so, as far as the system has it; 15 characters are kept."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)
