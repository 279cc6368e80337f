"""The queue as a table for the terminal: a line for each recipient that waits."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Column, Table
from rich.text import Text

from mta.config.units import format_duration
from mta.mailq.rows import QueueRecipient, QueueRow, age, state

STYLES = {"held": "yellow", "deferred": "red", "active": "green"}
"""Colours of states."""


def listing(rows: Iterable[QueueRow], now: float, *, nodes: bool = False) -> Table:
    """The table. `now` is seconds since 1970; `nodes` shows which node has each message."""
    columns = [
        Column("id", no_wrap=True),
        Column("age", justify="right", no_wrap=True),
        Column("size", justify="right", no_wrap=True),
        Column("sender", overflow="fold"),
        Column("recipient", overflow="fold"),
        Column("state", no_wrap=True),
        Column("next try", justify="right", no_wrap=True),
        Column("reason", overflow="fold"),
    ]
    if nodes:
        columns.insert(1, Column("node", no_wrap=True))
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        head = [
            row.id,
            *([row.node] if nodes else []),
            short(age(row, now)),
            size(row.size),
            row.sender or "<>",
        ]
        for recipient in row.live:
            called = state(row, recipient)
            tail = [recipient.address, called, _next(recipient, now), recipient.reply]
            cells = (Text(_printable(cell)) for cell in [*head, *tail])
            table.add_row(*cells, style=STYLES.get(called, ""))
            head = [""] * len(head)
    return table


def short(seconds: float) -> str:
    """A duration in its largest unit and the next one: "3d4h", "12m5s"."""
    whole = int(seconds)
    for unit in (86400, 3600, 60):
        if whole >= unit:
            smaller = {86400: 3600, 3600: 60, 60: 1}[unit]
            return format_duration(whole - whole % smaller)
    return format_duration(whole)


def size(octets: int) -> str:
    """Octets as people read them: "999 B", "1.2 kB", "34 MB"."""
    amount, unit = float(octets), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit}" if unit != "B" and amount < 9.95 else f"{amount:.0f} {unit}"


def _next(recipient: QueueRecipient, now: float) -> str:
    if recipient.next_try is None:
        return ""
    return f"in {short(recipient.next_try - now)}" if recipient.next_try > now else "due"


def _printable(text: str) -> str:
    """No escape sequence of a remote server reaches the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
