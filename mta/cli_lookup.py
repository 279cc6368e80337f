"""`tamis lookup`: what a table says of a key, as Postfix's `postmap -q` does.

Exit statuses: 0 the key is there, and its value printed; 1 it is not; 2 there is no such table; 75 the table
cannot say; 78 the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import sys

from msgspec.structs import replace

from mta import config
from mta.cli_exit import EXIT_CONFIG, EXIT_USAGE
from mta.config.problems import closest
from mta.daemon_dns import build_resolver
from mta.folders import in_words
from mta.policy.watched import TableError
from mta.queue_stores import become_server_user, read_configuration
from mta.spool.remote import QueueProblem
from mta.startup.tables import open_tables
from mta.startup.world import World
from mta.tables.table import Found, TableUnavailable

EXIT_ABSENT, EXIT_TEMPFAIL = 1, 75


def lookup(path: str, name: str, key: str) -> int:
    """Run the command; returns the exit status."""
    name = name.removeprefix("table:")
    try:
        settings = read_configuration(path)
        if name not in settings.tables:
            near = closest(name, settings.tables)
            guess = f"; did you mean {near}?" if near else ""
            print(f"tamis: there is no [tables.{name}]{guess}", file=sys.stderr)
            return EXIT_USAGE
        become_server_user(settings)
        found = asyncio.run(_ask(settings, name, key))
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except TableUnavailable as error:
        print(f"tamis: {error}", file=sys.stderr)
        return EXIT_TEMPFAIL
    except (QueueProblem, TableError, OSError, ValueError) as error:  # the last two: of a password file
        print(f"tamis: {in_words(error)}", file=sys.stderr)
        return EXIT_CONFIG
    if found is None:
        return EXIT_ABSENT
    print(found)
    return 0


async def _ask(settings: config.Config, name: str, key: str) -> Found:
    """The value. What the server would pass over (on_error) is told here."""
    tables = {one: replace(table, on_error="defer") for one, table in settings.tables.items()}
    resolver = build_resolver(settings)
    try:
        async with open_tables(settings, tables, World(resolver)) as made:
            found = made[name].get(key)
            return found if isinstance(found, str) or found is None else await found
    finally:
        if resolver is not None:
            resolver.close()
