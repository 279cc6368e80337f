"""How long the checks of the set-up take, and a start with all of them.

`check_time` is `tamis check` on a set-up that is as it should be, in a signed DNS on loopback, from the call
of the program to its end; `check_cpu` the processor time of it. `start_checked` is the time from the call of
`tamis serve` until all workers serve, after the same checks. Nobody runs beside it.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from statistics import median

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.system import Failure
from tests.peers.checkedsite import CheckedSite, running_site

PATIENCE = 30.0
POLL = 0.005


def measure(options: Options) -> list[Figure]:
    """Both, the one in the middle of some."""
    with workplace.folder(options.folder) as place, running_site(Path(place)) as site:
        _check(site)  # the DNS is warm then
        checks = [_check(site) for _ in range(options.rounds)]
        starts = [_start(site) for _ in range(options.rounds)]
    return [
        Figure("check_time", median(seconds for seconds, _ in checks), "s"),
        Figure("check_cpu", median(cpu for _, cpu in checks), "s"),
        Figure("start_checked", median(starts), "s"),
    ]


def _check(site: CheckedSite) -> tuple[float, float]:
    began, spent = time.perf_counter(), _cpu()
    done = site.tamis("check")
    if done.returncode:
        raise Failure(f"not all is well:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began, _cpu() - spent


def _start(site: CheckedSite) -> float:
    began = time.perf_counter()
    with site.serving() as process:
        while "supervisor: ready" not in site.log:
            if process.poll() is not None or time.perf_counter() > began + PATIENCE:
                raise Failure(f"it does not start:\n{site.log}")
            time.sleep(POLL)
        return time.perf_counter() - began


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    run("checks", measure)
