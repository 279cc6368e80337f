"""`tamis check`: all start-up checks, when an administrator wants to know.

Exit statuses: 0 all is well, 1 something is wrong, 2 something is unknown, 78 the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Collection

from rich.console import Console

from mta import config
from mta.cli_exit import EXIT_CONFIG, EXIT_USAGE
from mta.queue_stores import become_server_user, read_configuration
from mta.spool.remote import QueueProblem
from mta.startup.claims import is_local, site_of
from mta.startup.look import look
from mta.startup.render import LEAST_WIDTH, as_json, show
from mta.startup.table import NAMES
from mta.startup.verdict import exit_code

LOCAL_NOTE = (
    "This is a local server (checks.mode): what the world knows of it was not checked. For all checks:"
    ' [checks] mode = "production"'
)


def check(path: str, only: Collection[str], *, as_machine: bool, patience: float, live: bool = True) -> int:
    """Run the command; returns the exit status."""
    strange = [name for name in only if name not in NAMES]
    if strange:
        print(f"tamis: no such check: {', '.join(strange)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return EXIT_USAGE
    try:
        settings = read_configuration(path)
        become_server_user(settings)
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except QueueProblem as error:
        print(f"tamis: {error}", file=sys.stderr)
        return EXIT_CONFIG
    site = site_of(settings)
    local = is_local(settings)
    began = time.monotonic()
    findings = asyncio.run(look(site, only, local=local, patience=patience, live=live))
    seconds = time.monotonic() - began
    shown_local = local and not only
    if as_machine:
        notes = {"mode": "local" if local else "production", "seconds": round(seconds, 3)}
        print(as_json(findings, notes))
    else:
        width = None if sys.stdout.isatty() else LEAST_WIDTH
        show(Console(width=width), findings, seconds, [LOCAL_NOTE] if shown_local else [])
    return exit_code(findings)
