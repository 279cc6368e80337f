"""The sections `[tables.NAME]`, and which keys belong to which type of table.

The text under a field is what the reference pages print. Durations are seconds in the program. Nothing here
opens a file or a socket.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.inbound import Count
from mta.config.notation import Connect, Duration, Name, Path

TableType = Literal[
    "file", "aliases", "cidr", "pattern", "sqlite", "postgresql", "mysql", "ldap", "socketmap", "tcp",
    "memcache", "redis", "dovecot_userdb", "dovecot_dict", "http", "dns", "chain", "failover",
]  # fmt: skip


class PolicyTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Keys with values, wherever they are kept: what policy files look up by `:list` and `lookup`, as
    "table:NAME", and domains by recipients = "table:NAME" (docs/tables.md)."""

    type: TableType = "file"
    """Where it is kept. `file`: a text file with a key and its value a line; `aliases` one such as
    /etc/aliases; `cidr` networks; `pattern` regular expressions; `sqlite`, `postgresql`, `mysql` (MariaDB
    too), `ldap`, `redis`, `memcache`, `dns`, `http`; `dovecot_userdb` and `dovecot_dict` what Dovecot knows;
    `socketmap` and `tcp` server programs made for Postfix; `chain` several tables in order; `failover`
    several that know the same, such as servers with copies of one database."""
    file: Path = ""
    """For `file`, `aliases`, `cidr`, `pattern`, `sqlite`. It is read again when it has changed."""
    address: Connect | None = None
    """Server, for `socketmap`, `tcp`, `memcache`, `dovecot_userdb` (its socket auth-userdb),
    `dovecot_dict` (its socket dict)."""
    url: str = ""
    """For `redis` "redis://host:6379/0" ("rediss:" with TLS); for `http` the URL, "{key}" stands for the
    key; for `postgresql` "postgresql://user@host/database", or "postgresql://user@/database?socket=/folder";
    for `mysql` "mysql://user@host/database", or "mysql://user@/database?socket=/path"; for `ldap`
    "ldap://host/ou=people,dc=example,dc=org?attribute?sub", also "ldaps:" and "ldapi://%2Fpath/"."""
    query: str = ""
    """What is asked for, with "{key}" for the key, "{local}" and "{domain}" for its parts, "{reversed}" for
    an address turned round: for `sqlite`, `postgresql` and `mysql` a statement, for `ldap` a filter, for
    `dns` a name, for `redis`, `memcache`, `socketmap` and `tcp` the key of the server, for `dovecot_userdb`
    the user, for `dovecot_dict` the path, such as "shared/boxes/{key}". Default: the key itself."""
    record: Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"] = "TXT"
    """Type of the records, for `dns`."""
    map: str = ""
    """Name of the map that the server knows, for `socketmap`; of the dictionary, for `dovecot_dict`; of a
    hash, for `redis` (default: plain keys); of the field that is the value, for `dovecot_userdb` (default:
    the value is empty)."""
    tables: tuple[Name, ...] = ()
    """Names of the tables that a `chain` or a `failover` asks, in this order. Of a `chain` the first that has
    the key counts, of a `failover` the first that can say whether it has."""
    password_file: Path = ""
    """File whose first line is the password, for `redis`, `postgresql`, `mysql`, `ldap`. It must not be
    readable by everybody."""
    bind_dn: str = ""
    """Who asks, for `ldap`: a distinguished name, with its password in password_file. Default: nobody."""
    tls: Literal["none", "encrypt", "verify"] = "none"
    """TLS to the server, for `postgresql`, `mysql` and `ldap` (StartTLS with "ldap:"): `none`; `encrypt`:
    required, unverified; `verify`: required, and the certificate must be valid for the host."""
    tls_ca: Path = ""
    """File with certificates of authorities (PEM) to verify with. Default: the system's."""
    timeout: Annotated[Duration, Meta(ge=0.01, le=60)] = 3.0
    """Time for an answer of a server. Without one the table cannot say, see `on_error`."""
    on_error: Literal["defer", "ignore"] = "defer"
    """When the table cannot say: the client is told to try again later (`defer`), or it is as if the key
    were not there (`ignore`)."""
    search: Literal["key", "address", "access"] = "key"
    """What a key is looked up as: as it is; as an `address` in Postfix's order: user+detail@domain,
    user@domain, @domain; or as in its `access` maps: the address, its domain and those above it, user@, and
    for a client its name and the domains above it, or its address and the networks 192.0.2, 192.0, 192."""
    subaddress_delimiter: str = "+"
    """Characters that separate the user from a detail, for search = "address" and "access"."""
    connections: Annotated[int, Meta(ge=1, le=100)] = 4
    """Connections to the server at once, for each worker."""
    cache_positive: Annotated[Duration, Meta(ge=0)] = 0.0
    """How long a value is remembered. 0s: not at all."""
    cache_negative: Annotated[Duration, Meta(ge=0)] = 0.0
    """How long it is remembered that a key is not there. 0s: not at all."""
    cache_entries: Count = 10000
    """Keys that a worker remembers; the oldest make room."""


NEEDED: dict[str, tuple[str, ...]] = {
    "file": ("file",),
    "aliases": ("file",),
    "cidr": ("file",),
    "pattern": ("file",),
    "sqlite": ("file", "query"),
    "postgresql": ("url", "query"),
    "mysql": ("url", "query"),
    "ldap": ("url", "query"),
    "socketmap": ("address", "map"),
    "tcp": ("address",),
    "dovecot_userdb": ("address",),
    "dovecot_dict": ("address", "map", "query"),
    "memcache": ("address",),
    "redis": ("url",),
    "http": ("url",),
    "dns": ("query",),
    "chain": ("tables",),
    "failover": ("tables",),
}
"""Keys that a table of a type must have."""

POSSIBLE: dict[str, tuple[str, ...]] = {
    "postgresql": ("connections", "password_file", "tls", "tls_ca"),
    "mysql": ("connections", "password_file", "tls", "tls_ca"),
    "ldap": ("connections", "password_file", "tls", "tls_ca", "bind_dn"),
    "socketmap": ("query", "connections"),
    "tcp": ("query", "connections"),
    "memcache": ("query", "connections"),
    "dovecot_userdb": ("query", "map", "connections"),
    "dovecot_dict": ("connections",),
    "redis": ("query", "map", "connections", "password_file"),
    "http": ("connections",),
    "dns": ("record",),
}
"""Keys that it may have besides; those in no entry are for all types."""

FILES = ("file", "aliases", "cidr", "pattern")
"""Types that are read from files."""
OF_OTHERS = ("chain", "failover")
"""Types that ask other tables."""
LOCAL = (*FILES, *OF_OTHERS)
"""Types that ask no server themselves."""
EXTRAS = {
    "redis": ("redis", "redis"),
    "postgresql": ("psycopg", "postgresql"),
    "mysql": ("asyncmy", "mysql"),
}
"""Types that need a library: the module, and the extra of the package that brings it."""
SPECIAL = frozenset(one for many in (*NEEDED.values(), *POSSIBLE.values()) for one in many)
REMOTE = frozenset(("timeout", "cache_positive", "cache_negative", "cache_entries"))
"""Keys that do nothing for a local type."""
