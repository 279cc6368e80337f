"""The tables of a worker, made from `[tables.NAME]`: one object, which everybody who looks up is given.

What a type needs is imported where it is made: a server pays for the types that it has.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from mta.config.tables import LOCAL, OF_OTHERS, PolicyTable
from mta.lastgood import NOBODY, LastGood, secrets_reader
from mta.policy.watched import Watched
from mta.tables.table import Found, Table, folded
from mta.tables.wrap import SEARCHES, Cached, Chain, Failover, Folded, Guarded, Ignoring, Searched

if TYPE_CHECKING:
    from mta.net.resolver.base import Resolver

T = TypeVar("T")


class Tables(Mapping[str, Table]):
    """All tables, by name."""

    def __init__(
        self,
        settings: Mapping[str, PolicyTable],
        folder: str,
        resolver: Resolver | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        complain: Callable[[str], None] = lambda text: None,
        good: LastGood = NOBODY,
    ) -> None:
        """Open files, connect to nothing yet. Raises TableError for a file that cannot be used.

        `folder` is where indexes of large files are kept. `complain` hears later of files that cannot be read
        and of servers that do not answer. `good` has what others have read of the files.
        """
        self._good = good
        self._folder = folder
        self._resolver = resolver
        self._clock = clock
        self._complain = complain
        self._made: dict[str, Table] = {}
        for name, table in settings.items():
            if table.type not in OF_OTHERS:
                self._made[name] = self._wrapped(name, table, self._source(name, table))
        left = {name: table for name, table in settings.items() if table.type in OF_OTHERS}
        while left:  # the configuration has no circles
            for name, table in list(left.items()):
                if all(one in self._made for one in table.tables):
                    others = [self._made[one] for one in table.tables]
                    source = Chain(others) if table.type == "chain" else Failover(others)
                    self._made[name] = self._wrapped(name, table, source)
                    del left[name]

    def __getitem__(self, name: str) -> Table:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    async def close(self) -> None:
        """Close all."""
        await asyncio.gather(*(table.close() for table in self._made.values()))

    def _wrapped(self, name: str, table: PolicyTable, source: Table) -> Table:
        if table.type not in LOCAL:
            source = Guarded(name, source, table.timeout, self._clock, self._changed)
            if table.cache_positive or table.cache_negative:
                source = Cached(
                    source, table.cache_positive, table.cache_negative, table.cache_entries, self._clock
                )
            source = Folded(source)
        if table.search != "key":
            source = Searched(source, table.subaddress_delimiter, SEARCHES[table.search])
        return Ignoring(source) if table.on_error == "ignore" else source

    def _changed(self, name: str, there: bool, reason: str) -> None:
        self._complain(f"table {name} answers again" if there else f"table {name} does not answer: {reason}")

    def _watched(self, table: PolicyTable, read: Callable[[Path, bytes], T]) -> Watched[T]:
        return Watched(Path(table.file), read, self._clock, complain=self._complain, good=self._good)

    def _source(self, name: str, table: PolicyTable) -> Table:
        match table.type:
            case "file":
                from mta.tables.text import TextTable

                index = f"{self._folder}/{name}.index"
                return TextTable(table.file, index, self._clock, self._complain, good=self._good)
            case "aliases":
                from mta.tables.aliases import read_aliases

                return _Read(self._watched(table, read_aliases), folds=True)
            case "cidr":
                from mta.tables.cidr import read_networks

                return _Read(self._watched(table, read_networks))
            case "pattern":
                from mta.tables.patterns import read_patterns

                return _Read(self._watched(table, read_patterns))
            case "dns":
                from mta.tables.dns import DnsTable
                from mta.tables.template import parse

                assert self._resolver is not None
                return DnsTable(self._resolver, parse(table.query), table.record, table.timeout)
            case _:
                return _server(table, secrets_reader(self._good))


class _Content(Protocol):
    def get(self, key: str, /) -> Found: ...


class _Read:
    """A file that is read whole."""

    def __init__(self, content: Watched[_Content], *, folds: bool = False) -> None:
        self._content = content
        self._folds = folds

    def get(self, key: str) -> Found:
        return self._content.content().get(folded(key) if self._folds else key)

    async def close(self) -> None:
        return


def _server(table: PolicyTable, read_secret: Callable[[str], str]) -> Table:
    from mta.tables.peer import Peer, connector
    from mta.tables.template import parse

    query = parse(table.query or "{key}")
    password = read_secret(table.password_file) if table.password_file else ""
    match table.type:
        case "sqlite":
            from mta.tables.sqlite import SqliteTable

            return SqliteTable(table.file, query, table.timeout)
        case "postgresql":
            from mta.tables.postgresql import PostgresqlTable
            from mta.tables.server import parse_server

            return PostgresqlTable(
                parse_server(table.url, table.type), password, query, table.timeout, table.connections,
                table.tls, table.tls_ca,
            )  # fmt: skip
        case "mysql":
            from mta.tables.mysql import MysqlTable
            from mta.tables.server import parse_server, tls_context

            return MysqlTable(
                parse_server(table.url, table.type), password, query, table.timeout, table.connections,
                tls_context(table.tls, table.tls_ca),
            )  # fmt: skip
        case "ldap":
            from mta.tables.ldap import LdapTable, parse_directory
            from mta.tables.ldapfilter import parse_filter
            from mta.tables.server import tls_context

            return LdapTable(
                parse_directory(table.url), parse_filter(table.query), table.bind_dn, password, table.timeout,
                table.connections, tls_context(table.tls, table.tls_ca),
            )  # fmt: skip
        case "redis":
            from mta.tables.redis import RedisTable, connect

            return RedisTable(
                connect(table.url, password, table.connections, table.timeout), query, table.map
            )
        case "http":
            from mta.config.notation import Inet
            from mta.tables.web import HttpTable, parse_url

            place = parse_url(table.url)
            context = ssl.create_default_context() if place.secure else None
            where = Inet(place.host, place.port)
            return HttpTable(Peer(connector(where, context), table.connections), place)
    assert table.address is not None
    if table.type in ("dovecot_userdb", "dovecot_dict"):
        from mta.tables.dovecot import DictTable, UserdbTable

        kind = UserdbTable if table.type == "dovecot_userdb" else DictTable
        return kind(connector(table.address), table.connections, query, table.map)
    peer = Peer(connector(table.address), table.connections)
    match table.type:
        case "memcache":
            from mta.tables.memcache import MemcacheTable

            return MemcacheTable(peer, query)
        case "socketmap":
            from mta.tables.socketmap import SocketmapTable

            return SocketmapTable(peer, table.map, query)
        case "tcp":
            from mta.tables.tcp import TcpTable

            return TcpTable(peer, query)
    raise AssertionError(table.type)
