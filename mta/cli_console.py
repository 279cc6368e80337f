"""Where commands print tables: as wide as the terminal, and unbroken into a pipe or a file."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console

WIDE = 1000
"""Columns where nobody looks: lines are for grep and awk, which want them whole."""


def console(**more: Any) -> Console:
    """A console on standard output; `COLUMNS` in the environment is obeyed everywhere."""
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if narrow else WIDE, **more)
