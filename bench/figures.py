"""What a benchmark found: figures for machines, tables for people.

The form of the machine lines is fixed, other tools read them: `figure NAME VALUE UNIT`, then `peer VALUE
ratio R` if the peer was measured in the same run. The ratio is ours over the peer's for rates and the peer's
over ours for costs, so bigger is always better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.rounds import Round, middle

DIGITS = 4
"""Significant digits of a value: noise starts after the second or third."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its unit (without blanks), and what the peer reached."""

    name: str
    value: float
    unit: str
    peer: float | None = None
    rate: bool = False
    """Bigger values are better (messages a second); otherwise it is a cost."""
    ratios: tuple[float, float] | None = None
    """The worst and the best ratio of the rounds: how far the figure can be trusted."""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; None if there is none."""
        if self.peer is None:
            return None
        ours, theirs = (self.value, self.peer) if self.rate else (self.peer, self.value)
        return ours / theirs

    @classmethod
    def of_rounds(cls, name: str, rounds: list[Round], unit: str, *, rate: bool = False) -> Figure:
        """The figure of rounds as `in_turns` returns them."""
        one = middle(rounds)
        quotients = [each.quotient if rate else 1 / each.quotient for each in rounds]
        return cls(name, one.ours, unit, one.theirs, rate, (min(quotients), max(quotients)))

    def line(self) -> str:
        """The line for machines."""
        text = f"figure {self.name} {number(self.value)} {self.unit}"
        if self.peer is not None:
            text += f" peer {number(self.peer)} ratio {self.ratio:.2f}"
        return text


def number(value: float) -> str:
    """Write a number with as many digits as mean something, never in exponential form.

    >>> number(2834.56), number(0.0123456), number(20480)
    ('2835', '0.01235', '20480')
    """
    if value == 0:
        return "0"
    digits_before = len(str(int(abs(value))))
    if abs(value) >= 1:
        return f"{value:.{max(0, DIGITS - digits_before)}f}"
    return f"{value:.{DIGITS}g}" if abs(value) >= 1e-4 else f"{value:.9f}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under their titles: the first column to the left, numbers to the right."""
    cells = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def comparison(figures: Sequence[Figure], peer_name: str) -> str:
    """The table of all figures with the peer beside."""
    return table(
        ["", "unit", "Tamis", peer_name, "ratio", "of rounds"],
        [
            [
                figure.name,
                figure.unit,
                number(figure.value),
                "-" if figure.peer is None else number(figure.peer),
                "-" if figure.ratio is None else f"{figure.ratio:.1f}",
                "" if figure.ratios is None else f"{figure.ratios[0]:.1f} to {figure.ratios[1]:.1f}",
            ]
            for figure in figures
        ],
    )
