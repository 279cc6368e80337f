"""Where the queue is stuck: recipients by destination and age, as Postfix's `qshape` counts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Column, Table
from rich.text import Text

from mta.mailq.rows import QueueRow, age, domain_of

BOUNDS = tuple(300.0 * 2**n for n in range(9))
"""Ages in seconds at which the columns end: 5 minutes, doubled to 21 hours; one more column for the rest."""
NO_DOMAIN = "(none)"
"""Stands for the domain of addresses without one."""


@dataclass(slots=True, frozen=True)
class Shape:
    """Recipients by domain (most first) and age."""

    bounds: tuple[float, ...]
    """Ages in seconds at which the columns end, rising."""
    domains: dict[str, tuple[int, ...]]
    """For each domain a number for each column; the last column is what is older than all bounds."""

    @property
    def total(self) -> tuple[int, ...]:
        """The sum of all domains."""
        return tuple(map(sum, zip(*self.domains.values(), strict=True))) or (0,) * (len(self.bounds) + 1)


def shape(
    rows: Iterable[QueueRow], now: float, bounds: Sequence[float] = BOUNDS, *, senders: bool = False
) -> Shape:
    """Count the live recipients of `rows` by their domain, or with `senders` messages by the sender's."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        old = age(row, now)
        column = next((n for n, bound in enumerate(bounds) if old < bound), len(bounds))
        for address in (row.sender,) if senders else (recipient.address for recipient in row.live):
            counts.setdefault(domain_of(address) or NO_DOMAIN, [0] * (len(bounds) + 1))[column] += 1
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    return Shape(tuple(bounds), {domain: tuple(columns) for domain, columns in ordered})


def shape_table(counted: Shape, most: int) -> Table:
    """The table for the terminal: `most` domains (0 for all), the others added up in one line."""
    # In minutes, as qshape has them: all columns fit a terminal of 80.
    columns = [f"{bound / 60:.0f}m" for bound in counted.bounds]
    table = Table(
        Column("destination", overflow="fold"),
        Column("all", justify="right", no_wrap=True),
        *(Column(title, justify="right", no_wrap=True) for title in [*columns, "older"]),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        collapse_padding=True,
    )
    table.add_row("TOTAL", *_cells(counted.total), style="bold")
    domains = list(counted.domains.items())
    shown = domains[:most] if most else domains
    for domain, numbers in shown:
        table.add_row(Text(domain), *_cells(numbers))
    if rest := [numbers for _, numbers in domains[len(shown) :]]:
        table.add_row(f"{len(rest)} more", *_cells(tuple(map(sum, zip(*rest, strict=True)))), style="dim")
    return table


def _cells(numbers: Sequence[int]) -> list[str]:
    return [str(sum(numbers)), *(str(number) if number else "·" for number in numbers)]
