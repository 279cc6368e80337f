"""What `tamis status` shows to people: tables of the server, its processes, and what it has counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_STATES = {
    "ready": "green",
    "running": "green",
    "starting": "yellow",
    "draining": "yellow",
    "reloading": "yellow",
}


def show(status: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the facts of `mta.admin.desk.describe`."""
    out = console or Console(highlight=False)
    out.print(
        f"Tamis {status['version']}, {_coloured(status['state'])}"
        f"{'' if status['serving'] else ', [red]takes no mail[/red]'}, up {duration(status['uptime'])}, "
        f"process {status['pid']}, generation {status['generation']}"
    )
    last = status["last_reload"]
    if last is not None and not last["ok"]:
        out.print(f"[red]last reload refused:[/red] {len(last['problems'])} problem(s)")
        for problem in last["problems"]:
            out.print(f"  {problem}", markup=False)
    out.print(_workers(status["workers"]))
    out.print(_counters(status["metrics"]))


def duration(seconds: float) -> str:
    """Write seconds as people do: "3 d 4 h", "12 min", "40 s"."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"


def _workers(workers: list[Mapping[str, Any]]) -> Table:
    table = Table("process", "pid", "state", "up", "restarts", box=None, pad_edge=False)
    for worker in workers:
        table.add_row(
            worker["name"],
            str(worker["pid"]),
            _coloured(worker["state"]),
            duration(worker["uptime"]),
            str(worker["restarts"]),
        )
    return table


def _coloured(state: str) -> str:
    colour = _STATES.get(state, "red")
    return f"[{colour}]{state}[/{colour}]"


def _counters(metrics: Mapping[str, Any]) -> Table:
    table = Table(box=None)
    return table
