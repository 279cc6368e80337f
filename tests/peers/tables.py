"""What tests of tables do with one, whether it answers at once or later."""

from __future__ import annotations

from mta.tables.table import Found, Table


async def ask(table: Table, key: str) -> Found:
    """The value of a key. Raises what the table raises."""
    found = table.get(key)
    return found if isinstance(found, str) or found is None else await found
