"""The queue for the terminal: a line for each message, and under it one for each recipient that waits.

An id has 26 characters, so there is no room for a table of one line a recipient in 80 columns. The reason
stands behind the recipient where it fits, else under it; a reason that is that of the recipient before is not
said again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from mta.config.units import format_duration
from mta.mailq.rows import QueueRecipient, QueueRow, age, state

STYLES = {"held": "yellow", "deferred": "red", "active": "green"}
"""Colours of states."""
_INDENT = 24
"""Column at which recipients and reasons begin."""


class Listing:
    """The messages, as rich prints them."""

    def __init__(self, rows: Iterable[QueueRow], now: float, *, nodes: bool = False) -> None:
        """`now` is seconds since 1970; `nodes` shows which node has each message."""
        self._rows = rows
        self._now = now
        self._nodes = nodes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines."""
        node = f"  {'node'}" if self._nodes else ""
        yield Text(f"{'id':<26}  {'age':>6}  {'size':>7}  sender{node}", "bold")
        yield Text(f"  {'state':<8}  {'next try':>10}  recipient  reason", "bold")
        width = options.max_width
        broken: dict[tuple[str, str], list[RenderableType]] = {}
        """Reasons that have lines of their own: few for very many messages."""
        for row in self._rows:
            yield from _line(self._head(row), "", console, width)
            said = ""
            for recipient in row.live:
                called = state(row, recipient)
                style = STYLES.get(called, "")
                text = f"  {called:<8}  {_next(recipient, self._now):>10}  {_printable(recipient.address)}"
                reason = "" if recipient.reply == said else _printable(recipient.reply)
                said = recipient.reply
                if cell_len(text) + 2 + cell_len(reason) <= width:
                    yield from _line(f"{text}  {reason}".rstrip(), style, console, width)
                    continue
                yield from _line(text, style, console, width)
                if reason:
                    if (lines := broken.get((reason, style))) is None:
                        lines = broken[reason, style] = _broken(reason, style, console, width)
                    yield from lines

    def _head(self, row: QueueRow) -> str:
        node = f"  {_printable(row.node)}" if self._nodes else ""
        sender = _printable(row.sender) or "<>"
        return f"{row.id:<26}  {short(age(row, self._now)):>6}  {size(row.size):>7}  {sender}{node}"


def _line(text: str, style: str, console: Console, width: int) -> Iterator[RenderableType | Segment]:
    """A line, folded where it is too long: only then a Text, which takes rich five times longer."""
    if cell_len(text) <= width:
        yield Segment(f"{text}\n", console.get_style(style))
    else:
        yield Text(text, style, overflow="fold")


def _broken(reason: str, style: str, console: Console, width: int) -> list[RenderableType]:
    """The lines of a reason that has no room behind its recipient."""
    lines = Text(reason, style).wrap(console, max(20, width - _INDENT))
    return [Text.assemble(" " * _INDENT, line) for line in lines]


def short(seconds: float) -> str:
    """A duration in its largest unit and the next one: "3d4h", "12m5s"."""
    whole = int(seconds)
    for unit in (86400, 3600, 60):
        if whole >= unit:
            smaller = {86400: 3600, 3600: 60, 60: 1}[unit]
            return format_duration(whole - whole % smaller)
    return format_duration(whole)


def size(octets: int) -> str:
    """Octets as people read them, in powers of 1024 as the configuration has them: "999 B", "1.2 KiB"."""
    amount, unit = float(octets), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}" if unit != "B" and amount < 9.95 else f"{amount:.0f} {unit}"


def _next(recipient: QueueRecipient, now: float) -> str:
    if recipient.next_try is None:
        return ""
    return f"in {short(recipient.next_try - now)}" if recipient.next_try > now else "due"


def _printable(text: str) -> str:
    """No escape sequence of a remote server reaches the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
