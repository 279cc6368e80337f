"""How the commands of `tamis` end: the exit statuses that all of them have, and the line that says why."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from mta.terminal import harmless

EXIT_FAILED = 1
EXIT_USAGE = 2
"""As click has it."""
EXIT_CONFIG = 78
"""The configuration, or what it names, is wrong: EX_CONFIG of sysexits.h."""


def fail(reason: str, status: int = EXIT_FAILED) -> NoReturn:
    """Say why not, and end. What others have named is in the reason, as a file or a user."""
    print(f"tamis: {harmless(reason, lines=True)}", file=sys.stderr)
    raise typer.Exit(status)
