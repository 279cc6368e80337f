"""Rules about `[tables.NAME]`: keys that a type needs or has nothing to do with, chains, URLs.

Pure, but for one look whether a library is installed.
"""

from __future__ import annotations

import importlib.util
import sys
from urllib.parse import urlsplit

import msgspec

from mta.config.locate import KeyPath
from mta.config.problems import Findings, show
from mta.config.references import check_reference
from mta.config.schema import Config
from mta.config.tables import EXTRAS, LOCAL, NEEDED, OF_OTHERS, POSSIBLE, REMOTE, SPECIAL, PolicyTable
from mta.tables.template import parse

_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(PolicyTable)}
_SCHEMES = {"redis": ("redis", "rediss")}
_DATABASES = {
    "postgresql": ("postgresql://user@host/database", "postgresql://user@/database?socket=/folder"),
    "mysql": ("mysql://user@host/database", "mysql://user@/database?socket=/path"),
}
_PLACES = {"'%s'": "{key}", "%s": "{key}", "%u": "{local}", "%d": "{domain}"}
"""What Postfix writes in queries."""


def check_tables(config: Config, findings: Findings) -> None:
    """Note what is wrong with tables, and with where counters and changes of directors are."""
    if config.policy.counters and findings.is_sound(("policy", "counters")):
        here = PolicyTable(type="redis", url=config.policy.counters)
        _extra(("policy",), here, findings, "counters")
        _url(("policy",), here, findings, "counters")
    elif config.policy.counters_password_file and findings.is_sound(("policy", "counters")):
        findings.add(("policy", "counters"), "missing", "it, for counters_password_file is set")
    for name, director in config.director.items():
        if director.changes and findings.is_sound(("director", name, "changes")):
            here = PolicyTable(type="redis", url=director.changes)
            _extra(("director", name), here, findings, "changes")
            _url(("director", name), here, findings, "changes")
        elif director.changes_password_file and findings.is_sound(("director", name, "changes")):
            findings.add(("director", name, "changes"), "missing", "it, for changes_password_file is set")
    for name, table in config.tables.items():
        path: KeyPath = ("tables", name)
        if not findings.is_sound((*path, "type")):
            continue
        _keys(path, table, findings)
        _place(path, table, findings)
        _extra(path, table, findings)
        _url(path, table, findings)
        if table.type in _DATABASES:
            _database(path, table, findings)
        if table.type == "ldap":
            _directory(path, table, findings)
        if table.type == "dns" and not config.dns.resolvers:
            findings.add(
                (*path, "type"), 'found "dns"', "dns.resolvers, the servers that are asked",
                reason="none is configured",
            )  # fmt: skip
        if table.type in OF_OTHERS:
            _others(path, name, config, findings)


def _keys(path: KeyPath, table: PolicyTable, findings: Findings) -> None:
    needed = NEEDED[table.type]
    for key in needed:
        if getattr(table, key) == _DEFAULTS[key] and findings.is_sound((*path, key)):
            findings.add((*path, key), "missing", f'a value, for type = "{table.type}" needs it')
    possible = {*needed, *POSSIBLE.get(table.type, ())}
    for key in SPECIAL - possible if table.type not in LOCAL else (SPECIAL | REMOTE) - possible:
        if getattr(table, key) != _DEFAULTS[key] and findings.is_sound((*path, key)):
            types = [one for one in NEEDED if key in NEEDED[one] or key in POSSIBLE.get(one, ())]
            findings.add(
                (*path, key), f'it does nothing for type = "{table.type}"',
                "another type: " + ", ".join(types) if types else "it with tables on servers only",
            )  # fmt: skip


def _place(path: KeyPath, table: PolicyTable, findings: Findings) -> None:
    """A query that has no place for the key asks the same about everybody, as one of Postfix's would."""
    if not table.query or table.type == "dovecot_dict" or not findings.is_sound((*path, "query")):
        return  # below priv/ of a dictionary the key is the user
    if parse(table.query).places or (table.type == "ldap" and parse(table.url).places):
        return
    guess = table.query
    for theirs, ours in _PLACES.items():
        guess = guess.replace(theirs, ours)
    findings.add(
        (*path, "query"), f"found {show(table.query)}", 'a place for the key: "{key}"',
        suggestion=show(guess) if guess != table.query else "",
    )  # fmt: skip


def _extra(path: KeyPath, table: PolicyTable, findings: Findings, key: str = "type") -> None:
    if table.type in EXTRAS:
        module, extra = EXTRAS[table.type]
        if importlib.util.find_spec(module) is None:
            findings.add(
                (*path, key), f'"{table.type}" needs the Python package {module}, which is not installed',
                f"{sys.executable} -m pip install 'tamis[{extra}]'",
            )  # fmt: skip


def _url(path: KeyPath, table: PolicyTable, findings: Findings, key: str = "url") -> None:
    if not table.url or not findings.is_sound((*path, key)):
        return
    if table.type == "http":
        from mta.tables.web import parse_url

        try:
            place = parse_url(table.url)
        except ValueError as error:
            findings.add(
                (*path, key),
                f'found "{table.url}"',
                'a URL such as "https://host/users/{key}"',
                reason=str(error),
            )
        else:
            if not place.target.places:
                findings.add((*path, key), f'found "{table.url}"', 'a place for the key: "{key}"')
    elif table.type in _SCHEMES:
        schemes = _SCHEMES[table.type]
        try:
            url = urlsplit(table.url)
            sound = (
                table.url.isprintable()
                and url.scheme in schemes
                and bool(url.hostname)
                and (url.port or 1) > 0
            )
            number = url.path.removeprefix("/")
            sound = sound and (not number or (number.isascii() and number.isdigit()))
        except ValueError:
            sound = False
        if not sound:
            findings.add((*path, key), f'found "{table.url}"', f'a URL such as "{schemes[0]}://host/"')
        elif url.password:
            findings.add(
                (*path, key), "found a password in the URL", "password_file",
                reason="this file may be readable by everybody",
            )  # fmt: skip


def _database(path: KeyPath, table: PolicyTable, findings: Findings) -> None:
    from mta.tables.server import parse_server

    if not table.url or not findings.is_sound((*path, "url")):
        return
    try:
        server = parse_server(table.url, table.type)
    except ValueError as error:
        # The URL is not shown: it may have a password.
        findings.add(
            (*path, "url"), "it is no URL of a database",
            " or ".join(f'"{one}"' for one in _DATABASES[table.type]), reason=str(error),
        )  # fmt: skip
        return
    _tls(path, table, server.local, findings)


def _directory(path: KeyPath, table: PolicyTable, findings: Findings) -> None:
    from mta.tables.ldap import parse_directory
    from mta.tables.ldapfilter import parse_filter

    if table.query and findings.is_sound((*path, "query")):
        try:
            parse_filter(table.query)
        except ValueError as error:
            findings.add(
                (*path, "query"),
                f'found "{table.query}"',
                'a filter such as "(mail={key})"',
                reason=str(error),
            )
    if bool(table.bind_dn) != bool(table.password_file):
        missing = "password_file" if table.bind_dn else "bind_dn"
        if findings.is_sound((*path, missing)):
            findings.add((*path, missing), "missing", "bind_dn and password_file, or none of them")
    if not table.url or not findings.is_sound((*path, "url")):
        return
    try:
        directory = parse_directory(table.url)
    except ValueError as error:
        findings.add(
            (*path, "url"), f'found "{table.url}"', '"ldap://host/ou=people,dc=example,dc=org?attribute?sub"',
            reason=str(error),
        )  # fmt: skip
        return
    if directory.secure and table.tls == "none" and findings.is_sound((*path, "tls")):
        findings.add((*path, "tls"), 'found "none"', '"verify" or "encrypt" for ldaps:')
        return
    _tls(path, table, directory.local, findings)


def _tls(path: KeyPath, table: PolicyTable, local: bool, findings: Findings) -> None:
    if not findings.is_sound((*path, "tls")):
        return
    if table.tls_ca and table.tls != "verify" and findings.is_sound((*path, "tls_ca")):
        findings.add(
            (*path, "tls_ca"), f'found "{table.tls_ca}"', 'tls = "verify"',
            reason=f'"{table.tls}" verifies nothing',
        )  # fmt: skip
    if table.tls == "none" and not local and table.password_file:
        findings.add(
            (*path, "tls"), 'found "none"', '"verify"',
            reason="what is said to the server can be read on the way", warning=True,
        )  # fmt: skip


def _others(path: KeyPath, name: str, config: Config, findings: Findings) -> None:
    asking = config.tables[name]
    for index, one in enumerate(asking.tables):
        where = (*path, "tables", index)
        check_reference(findings, where, one, config.tables, "tables")
        if one in config.tables and _leads_to(one, name, config, frozenset()):
            findings.add(where, f'found "{one}"', "a table that does not ask this one again")
        elif asking.type == "failover" and one in config.tables and config.tables[one].on_error == "ignore":
            findings.add(
                where, f'found "{one}" with on_error = "ignore"', 'on_error of the failover to be "ignore"',
                reason="a table that hides its failures never makes way for the next",
            )  # fmt: skip


def _leads_to(start: str, goal: str, config: Config, seen: frozenset[str]) -> bool:
    if start == goal:
        return True
    table = config.tables.get(start)
    if table is None or start in seen:
        return False
    return any(_leads_to(one, goal, config, seen | {start}) for one in table.tables)
