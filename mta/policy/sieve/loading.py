"""From the configuration to a program: which files there are, and what they may refer to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mta.config.schema import Config
from mta.policy.sieve.program import SCRIPT_OCTETS, Found, Program, load, settings_for
from mta.policy.sieve.tables import Tables


def source_of(path: str) -> tuple[str, bytes]:
    """A file as `load` takes it; one that is too large is read a little further only. Raises OSError."""
    with open(path, "rb") as file:
        return path, file.read(SCRIPT_OCTETS + 1)


def load_for(config: Config, sources: Sequence[tuple[str, bytes]]) -> tuple[Program | None, list[Found]]:
    """The program that `sources` are for this configuration, None if there is an error; and all mistakes."""
    routes = [*(f"backend:{name}" for name in config.backends), *(f"relay:{name}" for name in config.relays)]
    return load(sources, settings_for(routes, config.tables, has_queue=config.queue.enabled))


def load_policy(config: Config, complain: Callable[[str], None]) -> Program:
    """The program of policy.scripts. Raises ValueError, with a line a mistake, OSError and TableError.

    `complain` is told when a table cannot be read later on.
    """
    program, found = load_for(config, [source_of(path) for path in config.policy.scripts])
    if program is None:
        raise ValueError("\n".join(str(one) for one in found if not one.is_warning))
    files = {name: Path(table.file) for name, table in config.tables.items()}
    program.host = Tables(files, time.monotonic, complain)
    return program
