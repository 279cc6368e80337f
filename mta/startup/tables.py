"""Databases, directories and other servers answer for the tables that ask them.

A lookup is tried with the statement of the configuration, so a wrong password, a table or column that is not
there and a server that is away are found before the first message is. What is said about the key is nothing
to the check. Tables of files are read by `tamis check-config`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from msgspec.structs import replace

from mta import config
from mta.config.tables import LOCAL, PolicyTable
from mta.folders import in_words
from mta.policy.watched import TableError
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World
from mta.tables.table import Table, TableUnavailable

CLIENT = "192.0.2.99"
"""Who is looked up in tables of addresses: of a network for documentation."""


async def tables(site: Site, world: World) -> list[Result]:
    """Each of [tables.NAME] that is not a file."""
    settings = site.settings
    asked = {name: _bare(table) for name, table in settings.tables.items() if table.type not in LOCAL}
    if not asked:
        return [ok("tables", "[tables]", "none is on a server")]
    return await asyncio.gather(*(_look(name, table, site, world) for name, table in asked.items()))


@asynccontextmanager
async def open_tables(
    settings: config.Config, asked: Mapping[str, PolicyTable], world: World
) -> AsyncIterator[Mapping[str, Table]]:
    """Tables as a worker has them, closed at the end. Raises TableError, OSError and ValueError for files."""
    from mta.tables.build import Tables

    made = Tables(asked, f"{settings.process.state_directory}/tables", world.resolver)
    try:
        yield made
    finally:
        await made.close()


def _bare(table: PolicyTable) -> PolicyTable:
    """One lookup is one question, and a failure is told."""
    return replace(table, on_error="defer", search="key", cache_positive=0.0, cache_negative=0.0)


async def _look(name: str, table: PolicyTable, site: Site, world: World) -> Result:
    domain = site.domains[0] if site.domains else site.hostname
    key = CLIENT if "{reversed}" in table.query + table.url else f"postmaster@{domain}"
    subject, asked = f"tables.{name}", f"a lookup of {key}"
    mend = f"start its server, or mend [{subject}]"
    try:
        async with open_tables(site.settings, {name: table}, world) as made, asyncio.timeout(world.seconds):
            found = made[name].get(key)
            if not isinstance(found, str) and found is not None:
                await found
    except TableUnavailable as error:
        return unknown(subject, asked, str(error).removeprefix(f"table {name}: "), mend)
    except TimeoutError:
        return unknown(subject, asked, f"no answer within {world.seconds:g} s", mend)
    except (OSError, ValueError, TableError) as error:  # a password or authorities that cannot be read
        return wrong(subject, asked, in_words(error), f"mend [{subject}]")
    return ok(subject, asked, "answers")
