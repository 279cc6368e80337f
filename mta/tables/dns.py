"""type = "dns": records of a name with the key in it, such as "{domain}.list.example".

The value is the text of all records, in order, with ", " between: the strings of TXT, addresses, "10
mx.example". No records is not there; an answer that DNSSEC proves wrong, and none in time, mean that the
table cannot say.
"""

from __future__ import annotations

import asyncio

from dns.rdata import Rdata
from dns.rdtypes.txtbase import TXTBase

from mta.net.resolver.base import Resolver
from mta.tables.table import Found, TableUnavailable
from mta.tables.template import Template


def record_text(record: Rdata) -> str:
    """What a record says: the strings of TXT joined, names without the final dot."""
    if isinstance(record, TXTBase):
        return b"".join(record.strings).decode("utf-8", "replace")
    return record.to_text().removesuffix(".")


class DnsTable:
    """The DNS (`mta.tables.table.Table`)."""

    def __init__(self, resolver: Resolver, query: Template, rdtype: str, timeout: float) -> None:
        """Ask for records of `rdtype`, up to `timeout` seconds."""
        self._resolver = resolver
        self._query = query
        self._rdtype = rdtype
        self._timeout = timeout

    async def get(self, key: str) -> Found:
        """The records."""
        name = self._query.expand(key)
        if name is None:
            return None
        deadline = asyncio.get_running_loop().time() + self._timeout
        answer = await self._resolver.query(name, self._rdtype, deadline)
        if not answer.usable:
            raise TableUnavailable(f"{name} {self._rdtype}: {answer.reason or answer.status.value}")
        return ", ".join(sorted(record_text(one) for one in answer.records)) if answer.records else None

    async def close(self) -> None:
        """Nothing: the resolver is the worker's."""
