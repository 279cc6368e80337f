"""type = "ldap": a directory (RFC 4511), such as OpenLDAP or Active Directory.

    url = "ldap://ldap.example.org/ou=people,dc=example,dc=org?mailbox?sub"
    query = "(mail={key})"
    bind_dn = "cn=tamis,dc=example,dc=org"
    password_file = "ldap.password"

The URL is that of RFC 4516 up to the scope: where the search begins, the attributes, "base", "one" or "sub".
The value is what the attributes of all entries have, with ", " between; without attributes it is empty.
Entries without one of the attributes are not there. References to other servers are not followed.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from mta.tables import ldapwire as wire
from mta.tables.ldapfilter import Filter, in_name
from mta.tables.pool import Broken, Pool, Refused
from mta.tables.rows import ROWS_MOST
from mta.tables.server import GRACE, is_loopback
from mta.tables.table import VALUE_MOST, Found, TableUnavailable
from mta.tables.template import Template, parse

PORTS = {"ldap": 389, "ldaps": 636}


@dataclass(slots=True, frozen=True)
class Directory:
    """Where to ask, and what for. `socket` is set in place of `host`."""

    host: str
    port: int
    socket: str
    secure: bool
    """TLS from the first octet."""
    base: Template
    attributes: tuple[str, ...]
    scope: str

    @property
    def local(self) -> bool:
        """Whether what is said to it stays on this machine."""
        return bool(self.socket) or is_loopback(self.host)


def parse_directory(text: str) -> Directory:
    """Read a URL. Raises ValueError, whose text says what is wrong."""
    url = urlsplit(text)
    if url.scheme not in ("ldap", "ldaps", "ldapi"):
        raise ValueError("it begins with ldap:, ldaps: or ldapi:")
    if url.username is not None or url.fragment:
        raise ValueError("who asks stands in bind_dn and password_file")
    base = unquote(url.path.removeprefix("/"))
    attributes, scope, *rest = (*url.query.split("?"), "", "")[: max(2, url.query.count("?") + 1)]
    if any(rest):
        raise ValueError("the filter stands in query")
    scope = scope or "sub"
    if scope not in wire.SCOPES:
        raise ValueError(f'the scope is "base", "one" or "sub", not "{scope}"')
    names = tuple(unquote(one) for one in attributes.split(",") if one)
    if url.scheme == "ldapi":
        socket = unquote(url.netloc)
        if not socket.startswith("/"):
            raise ValueError("the path of the socket begins with %2F")
        return Directory("", 0, socket, False, parse(base), names, scope)
    if not url.hostname or url.port == 0:
        raise ValueError("the host or its port is missing")
    secure = url.scheme == "ldaps"
    return Directory(url.hostname, url.port or PORTS[url.scheme], "", secure, parse(base), names, scope)


class _Connection:
    """A connection on which one operation is under way at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.numbers = itertools.count(1)

    async def next(self, number: int) -> wire.Entry | wire.Result | wire.Other:
        """The next message of an operation. Raises Broken."""
        try:
            head = await self.reader.readexactly(2)
            if head[0] != wire.Tag.SEQUENCE:
                raise wire.WireError("it is no message")
            while (sizes := wire.length(head)) is None:
                head += await self.reader.readexactly(1)
            if sizes[1] > wire.MESSAGE_MOST:
                raise Broken(f"a message of {sizes[1]} octets")
            message = wire.read(head + await self.reader.readexactly(sizes[1]))
        except (OSError, EOFError) as error:
            raise Broken(str(error) or type(error).__name__) from error
        except wire.WireError as error:
            raise TableUnavailable(f"the answer makes no sense: {error}") from error
        if message.number != number:
            # Number 0 is the server's notice that it goes away (RFC 4511 section 4.4.1).
            if message.number == 0 and isinstance(message, wire.Result):
                raise Broken(f"the server ends it: {message.text[:200]}")
            raise Broken("an answer to another question")
        return message

    async def result(self, number: int) -> wire.Result:
        """The answer to what has one."""
        message = await self.next(number)
        if not isinstance(message, wire.Result):
            raise TableUnavailable("the answer makes no sense: it is no result")
        return message


class LdapTable:
    """A directory (`mta.tables.table.Table`)."""

    def __init__(
        self, directory: Directory, query: Filter, name: str, password: str, timeout: float, most: int,
        context: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        """Connect when first asked, bind as `name`; with a `context` over TLS."""
        self._directory = directory
        self._query = query
        self._name = name
        self._password = password
        self._seconds = math.ceil(timeout + GRACE)
        self._context = None if directory.socket else context
        self._pool = Pool(self._open, _shut, most)

    async def get(self, key: str) -> Found:
        """The value."""
        query = self._query.fill(key)
        base = self._directory.base.expand(key, in_name)
        if query is None or base is None or "" in (self._directory.base.values(key) or ()):
            return None
        place = base.encode("utf-8", "surrogateescape")
        return await self._pool.use(lambda connection: self._ask(connection, place, query))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def _ask(self, connection: _Connection, base: bytes, query: bytes) -> Found:
        where = self._directory
        number = next(connection.numbers)
        connection.writer.write(
            wire.search(number, base, where.scope, query, where.attributes, ROWS_MOST, self._seconds)
        )
        found: list[str] = []
        size = entries = 0
        while True:
            message = await connection.next(number)
            if isinstance(message, wire.Entry):
                entries += 1
                for text in _texts(message, where.attributes):
                    found.append(text)
                    size += len(text) + 2
                if size > VALUE_MOST:
                    raise TableUnavailable(f"a value of more than {VALUE_MOST} characters")
            elif isinstance(message, wire.Result):
                break
        if message.code == wire.Code.NO_SUCH_OBJECT and where.base.places:
            return None
        if message.code != 0:
            raise Refused(f"LDAP: {_text(message)}")
        if not where.attributes:
            return "" if entries else None
        return ", ".join(found) if found else None

    async def _open(self) -> _Connection:
        where = self._directory
        try:
            if where.socket:
                streams = await asyncio.open_unix_connection(where.socket)
            else:
                early = self._context if where.secure else None
                streams = await asyncio.open_connection(
                    where.host, where.port, ssl=early, server_hostname=where.host if early else None
                )
        except OSError as error:
            raise Broken(str(error)) from error
        connection = _Connection(*streams)
        try:
            if self._context is not None and not where.secure:
                await self._encrypt(connection, self._context)
            if self._name:
                number = next(connection.numbers)
                connection.writer.write(wire.bind(number, self._name, self._password))
                _succeed("bind", await connection.result(number))
        except BaseException:
            _shut(connection)
            raise
        return connection

    async def _encrypt(self, connection: _Connection, context: ssl.SSLContext) -> None:
        number = next(connection.numbers)
        connection.writer.write(wire.start_tls(number))
        _succeed("StartTLS", await connection.result(number))
        try:
            await connection.writer.start_tls(context, server_hostname=self._directory.host)
        except OSError as error:
            raise Broken(f"TLS: {error}") from error


def _texts(entry: wire.Entry, wanted: tuple[str, ...]) -> Iterator[str]:
    """Values in the order of the attributes that are wanted."""
    for name in wanted:
        for one, values in entry.attributes:
            if one.lower().split(";")[0] != name.lower().split(";")[0]:
                continue
            for value in values:
                try:
                    yield value.decode()
                except UnicodeDecodeError as error:
                    raise TableUnavailable(f"{name} is no text: {error}") from error


def _succeed(what: str, result: wire.Result) -> None:
    if result.code != 0:
        raise Broken(f"{what}: {_text(result)}")


_RESULTS = {
    1: "operationsError",
    2: "protocolError",
    3: "timeLimitExceeded",
    4: "sizeLimitExceeded",
    8: "strongerAuthRequired: tls",
    11: "adminLimitExceeded",
    13: "confidentialityRequired: tls",
    32: "noSuchObject: the beginning in the URL",
    34: "invalidDNSyntax",
    48: "inappropriateAuthentication",
    49: "invalidCredentials: bind_dn or password",
    50: "insufficientAccessRights",
    51: "busy",
    52: "unavailable",
    53: "unwillingToPerform",
    80: "other",
}
"""Names of RFC 4511 section 4.1.9, and what to look at."""


def _text(result: wire.Result) -> str:
    known = f" ({_RESULTS[result.code]})" if result.code in _RESULTS else ""
    return f"result {result.code}{known}{' ' if result.text else ''}{result.text[:200]}"


def _shut(connection: _Connection) -> None:
    connection.writer.transport.abort()
