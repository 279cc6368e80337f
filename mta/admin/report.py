"""What `tamis status` shows to people: tables of the server, its processes, and what it has counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mta import metrics
from mta.mailq.listing import size
from mta.terminal import harmless

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
        f"{'' if _takes_mail(status) else ', [red]takes no mail[/red]'}, up {duration(status['uptime'])}, "
        f"process {status['pid']}, generation {status['generation']}"
    )
    if status.get("listening"):  # a supervisor that was started with older code does not say
        # As long as it is: a script looks for one line.
        out.print(f"listening: {', '.join(status['listening'])}", markup=False, soft_wrap=True)
    last = status["last_reload"]
    if last is not None and not last["ok"]:
        out.print(f"[red]last reload refused:[/red] {len(last['problems'])} problem(s)")
        for problem in last["problems"]:
            out.print(f"  {harmless(problem)}", markup=False, soft_wrap=True)
    out.print()
    out.print(_workers(status["workers"]))
    for seat in status.get("restarting", ()):
        when = f"is started again in {duration(seat['seconds'])}, for the {_ordinal(seat['restarts'])} time"
        out.print(Text(f"{seat['name']} has ended and {when}: {harmless(seat['reason'])}", "red"))
    out.print()
    out.print(_counters(status["metrics"]))
    for why, workers in _troubles(status).items():
        # It may be what another server has said.
        out.print(Text(f"queue not open in {', '.join(workers)}: {harmless(why)}", "red"))
    pools = _pools(status["metrics"])
    if pools is not None:
        out.print()
        out.print(pools)


def _takes_mail(status: Mapping[str, Any]) -> bool:
    """Also while the fellows of the first worker still start: it accepts already."""
    if status["state"] != "starting":
        return bool(status["serving"])
    return any(worker["state"] == "ready" and worker["role"] == "worker" for worker in status["workers"])


def duration(seconds: float) -> str:
    """Write seconds as people do: "3 d 4 h", "12 min", "40 s"."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


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


def _counters(snapshot: metrics.Snapshot) -> Table:
    table = Table("counted", "all", "of these", box=None, pad_edge=False)
    opened = metrics.value(snapshot, "sessions_open")
    table.add_row("sessions", _number(metrics.value(snapshot, "sessions")), f"{_number(opened)} open")
    for name, label in (("messages", "messages"), ("recipients", "recipients"), ("refusals", "refused")):
        table.add_row(label, _number(metrics.value(snapshot, name)), _by_first_label(snapshot, name))
    if snapshot.get("queue_open"):
        waiting = metrics.value(snapshot, "queue_messages")
        table.add_row("queue", _number(waiting), _queue(snapshot))
    if snapshot.get("store_recipients"):
        stored = metrics.value(snapshot, "store_recipients")
        table.add_row("mail store", _number(stored), _by_first_label(snapshot, "store_recipients"))
    return table


def _troubles(status: Mapping[str, Any]) -> dict[str, list[str]]:
    """Why the queue is not open, and where."""
    troubles: dict[str, list[str]] = {}
    for worker, why in sorted(status.get("queue", {}).get("troubles", {}).items()):
        troubles.setdefault(why, []).append(worker)
    return troubles


def _pools(snapshot: metrics.Snapshot) -> Table | None:
    peers = sorted(snapshot.get("pool_open", {}))
    if not peers:
        return None
    table = Table("next hop", "open", "idle", "waiting", "failed", box=None, pad_edge=False)
    for peer in peers:
        counts = [metrics.value(snapshot, f"pool_{name}", peer) for name in ("open", "idle", "waiting")]
        failed = snapshot.get("pool_connects", {}).get(f"failed\t{peer}", 0)
        table.add_row(Text(peer), *map(_number, (*counts, failed)))
    return table


def _queue(snapshot: metrics.Snapshot) -> str:
    if not metrics.value(snapshot, "queue_open"):
        return "not open: what cannot be delivered at once is answered 4xx"
    if metrics.value(snapshot, "queue_room_bytes") <= 0:
        return "its disk is full: what cannot be delivered at once is answered 4xx"
    recipients = metrics.value(snapshot, "queue_recipients")
    return f"{_number(recipients)} recipients, {size(round(metrics.value(snapshot, 'queue_bytes')))}"


def _by_first_label(snapshot: metrics.Snapshot, name: str) -> str:
    words = sorted({key.partition("\t")[0] for key in snapshot.get(name, {})})
    return ", ".join(f"{_number(metrics.value(snapshot, name, word))} {word}" for word in words)


def _number(value: float) -> str:
    return f"{round(value):,}"


def _coloured(state: str) -> str:
    colour = _STATES.get(state, "red")
    return f"[{colour}]{state}[/{colour}]"
