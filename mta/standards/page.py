"""The page `docs/rfcs.md`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from mta.standards import content, scripts, transport
from mta.standards.entry import Standard, Status

PAGE = "docs/rfcs.md"

TABLE: dict[str, tuple[Standard, ...]] = {
    "SMTP, submission, LMTP": transport.SMTP,
    "Extensions of SMTP": transport.EXTENSIONS,
    "Login": transport.LOGIN,
    "TLS": transport.TLS,
    "DNS": transport.DNS,
    "Addresses and names": content.ADDRESSES,
    "Message format": content.FORMAT,
    "Who sent this": content.SENDERS,
    "Sieve": scripts.SIEVE,
    "Used in passing": content.IN_PASSING,
}
"""The documents by the headings of the page."""

INTRODUCTION = """\
# Standards

What Tamis keeps of each document that matters to a mail server. **yes**: what it asks of a server in our
place is done. **partial**: some of it, which the note says. **no**: none of it. What is to come stands in
[roadmap.md](roadmap.md) alone.

This page is written from `mta/standards` by `python -m mta.standards`; tests check both against the code.
"""


def standards() -> Iterator[Standard]:
    """All entries in the order of the page."""
    for entries in TABLE.values():
        yield from entries


def page() -> str:
    """The text of `docs/rfcs.md`."""
    counts = {status: sum(entry.status == status for entry in standards()) for status in get_args(Status)}
    lines = [INTRODUCTION, ", ".join(f"{status}: {count}" for status, count in counts.items()) + "."]
    for heading, entries in TABLE.items():
        lines += ["", f"## {heading}", "", "| document | title | status | | where |", "|---|---|---|---|---|"]
        lines += [_row(entry) for entry in entries]
    return "\n".join(lines) + "\n"


def module_path(module: str) -> str:
    """The file of a module of ours, from the root of the source tree."""
    folder = {"mailqueue": "queue", "mailmilter": "milter"}.get(module.partition(".")[0], "")
    path = Path(folder, *module.split("."))
    return str(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def _row(entry: Standard) -> str:
    name = entry.name
    if name.startswith("RFC "):
        name = f"[{name}](https://www.rfc-editor.org/rfc/rfc{name.removeprefix('RFC ')})"
    status = f"**{entry.status}**" if entry.status != "no" else "no"
    where = ", ".join(f"[{module}](../{module_path(module)})" for module in entry.modules)
    return f"| {name} | {entry.title} | {status} | {entry.note} | {where} |"
