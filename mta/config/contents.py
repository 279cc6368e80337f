"""What is in the files that a server reads at its start: a line that it could not use is a mistake here, too.

Each kind of file is read by the code that reads it in the server, imported when the configuration names one.
A file of more than `LARGEST` octets is left to the server: to read it twice would delay every start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mta.address import parse_address, split_subaddress
from mta.config.locate import KeyPath
from mta.config.problems import show
from mta.config.references import check_reference
from mta.config.schema import Config
from mta.config.tables import PolicyTable

if TYPE_CHECKING:
    from mta.accounts.usersfile import UsersFile
    from mta.config.files import FileCheck

T = TypeVar("T")

LARGEST = 4 * 1024 * 1024
"""Octets: about a tenth of a second."""


def check_users(config: Config, files: FileCheck) -> UsersFile | None:
    """Check the users file, and its lines, if anything reads it. None for what is not read or not sound."""
    path, file = ("auth", "users_file"), config.auth.users_file
    by_domain = any(domain.recipients.kind == "users" for domain in config.domains.values())
    if config.auth.backend != "users" and not by_domain and not config.store.enabled:  # its mailboxes
        return None
    help = "" if os.path.exists(file) else "`tamis user add` makes it"
    if files.read(path, file, secret=True, limit=0, help=help) is None or os.path.getsize(file) > LARGEST:
        return None
    from mta.accounts.usersfile import UsersFile, UsersFileError

    try:
        return UsersFile(file)
    except UsersFileError as error:
        _note_all(files, path, error, "users as `tamis user` writes them")
        return None


def check_recipients(config: Config, files: FileCheck) -> dict[str, frozenset[str]]:
    """Check the tables of recipients that are files; the keys of those that are sound, by domain.

    A file that many domains share is read once, and its mistakes are told of the first of them.
    """
    found: dict[str, frozenset[str]] = {}
    contents: dict[str, frozenset[str] | None] = {}
    for name, domain in config.domains.items():
        if not domain.recipients.file:
            continue
        from mta.policy.recipients import read_table

        path, file = ("domains", name, "recipients"), domain.recipients.file
        if config.tables and _may_be_a_name(files, file):
            check_reference(
                files.findings, path, f"table:{os.path.basename(file)}",
                [f"table:{table}" for table in config.tables], "tables", "and there is no file of this name",
            )  # fmt: skip
        else:
            if file not in contents:
                contents[file] = _lines(files, path, file, read_table, "recipients")
            keys = contents[file]
            if keys is not None:
                found[name] = keys
    return found


def check_postmaster(
    config: Config, files: FileCheck, users: UsersFile | None, tables: Mapping[str, frozenset[str]]
) -> None:
    """Warn when the files say that nobody gets the mail for identity.postmaster, which is always accepted.

    `users` and `tables` are what `check_users` and `check_recipients` found. Where scripts could lead it
    elsewhere, or only a back end knows, nothing is said: the check `postmaster` of the set-up looks further.
    """
    path, policy = ("identity", "postmaster"), config.policy
    address = parse_address(config.identity.postmaster)
    domain = config.domains.get(address.domain)
    scripts = (*policy.scripts, *policy.after, policy.user_scripts, policy.base)
    if domain is None or domain.script or any(scripts) or config.checks.postmaster == "off":
        return
    local, _ = split_subaddress(address.local, domain.subaddress_delimiter)
    base = address.with_local(local)
    in_store = config.store.enabled and domain.backend == "store"
    if in_store or domain.recipients.kind == "users":
        if users is None:
            return
        user = users.of_key(address.key) or users.of_key(base.key)
        found = "is not" if user is None else "is disabled" if user.disabled and in_store else ""
        where, remedy = config.auth.users_file, f"`tamis user add {address.text}`"
    elif address.domain in tables:
        keys = tables[address.domain]
        found = "" if base.key in keys or local.lower() in keys else "is not"
        where, remedy = domain.recipients.file, "a line for it there"
    else:
        return
    if found:
        reason = "mail for postmaster and abuse is accepted at RCPT and then refused after its data"
        files.findings.add(
            path, f'"{address.text}" {found} in "{where}"', f"an address that gets mail, or {remedy}",
            reason=reason if in_store else f"{reason}, unless the back end knows it", warning=True,
        )  # fmt: skip


def _may_be_a_name(files: FileCheck, file: str) -> bool:
    """True for what is no file and may have been written without a folder: a slip in the name of a table."""
    folder = os.path.dirname(file)
    beside = folder == os.path.dirname(os.path.abspath(files.findings.file))
    return beside and os.access(folder, os.X_OK) and not os.path.lexists(file)


def check_directors(config: Config, files: FileCheck) -> None:
    """Check the tables of users of directors."""
    for name, director in config.director.items():
        if not director.table:
            continue
        from mta.director.userstable import read_users
        from mta.policy.tablefile import MOST_MISTAKES

        path = ("director", name, "table")
        found = _lines(files, path, director.table, read_users, "users and back ends")
        lost = [(user, place) for user, place in (found or {}).items() if place not in config.backends]
        for user, place in lost[:MOST_MISTAKES] if files.findings.is_sound(("backends",)) else []:
            files.findings.add(
                path, f'{director.table}: found "{place}" for {user}', "the name of a [backends.NAME]"
            )


def check_table(files: FileCheck, path: KeyPath, table: PolicyTable) -> None:
    """Check the file of a [tables.NAME]; `table` has one."""
    read: Callable[[Path], object]
    match table.type:
        case "file":
            read, expected = partial(_read_text, files, (*path, "file")), "keys and values"
        case "aliases":
            read, expected = partial(_read_aliases, files, (*path, "file")), "names and addresses"
        case "cidr":
            from mta.tables.cidr import read_networks

            read, expected = read_networks, "networks and values"
        case "pattern":
            from mta.tables.patterns import read_patterns

            read, expected = read_patterns, "patterns and values"
        case _:
            if files.read((*path, "file"), table.file, limit=0) is not None and table.type == "sqlite":
                _statement(files, path, table)
            return
    _lines(files, (*path, "file"), table.file, read, expected)


def _read_aliases(files: FileCheck, path: KeyPath, file: Path) -> None:
    """As the server reads it; and one that has too many members would never get any mail."""
    from mta.policy.aliases import ADDRESSES_MOST, read_targets
    from mta.tables.aliases import read_aliases

    for name, value in read_aliases(file).items():
        members = len({one.text for one in read_targets(value)}) if len(value) > ADDRESSES_MOST else 0
        if members >= ADDRESSES_MOST:
            files.findings.add(
                path, f'"{name}" in "{file}" has {members} addresses', f"fewer than {ADDRESSES_MOST}",
                reason="mail for it is answered 451", warning=True,
            )  # fmt: skip


def _read_text(files: FileCheck, path: KeyPath, file: Path) -> None:
    """As the server reads it; and a file of aliases would have no alias: its keys would end with a colon."""
    from mta.tables.text import read_text

    keys = read_text(file)
    if 2 * sum(key.endswith(":") for key in keys) > len(keys):
        files.findings.add(
            path, f'the keys of "{file}" end with ":"', 'type = "aliases" for a file such as /etc/aliases',
            warning=True,
        )  # fmt: skip


def _lines(files: FileCheck, path: KeyPath, file: str, read: Callable[[Path], T], expected: str) -> T | None:
    """What `read` makes of a file; None, and it is noted, when it cannot be used. None if it is too large."""
    from mta.policy.watched import TableError

    if files.read(path, file, limit=0) is None or os.path.getsize(file) > LARGEST:
        return None
    try:
        return read(Path(file))
    except TableError as error:
        _note_all(files, path, error, expected)
        return None


def _note_all(files: FileCheck, path: KeyPath, error: Exception, expected: str) -> None:
    """Note each mistake of a file, which are the lines of an error."""
    for line in str(error).splitlines():
        files.findings.add(path, line, expected)


def _statement(files: FileCheck, path: KeyPath, table: PolicyTable) -> None:
    """Compile the statement of an SQLite table; one that is locked now is left to the server."""
    import sqlite3
    from urllib.parse import quote

    from mta.tables.template import parse

    if not table.query or not files.findings.is_sound((*path, "query")):
        return
    query = parse(table.query)
    try:
        connection = sqlite3.connect(f"file:{quote(table.file)}?mode=ro", uri=True, timeout=0)
        try:
            connection.execute("EXPLAIN " + query.with_marks("?"), ("",) * len(query.places))
        finally:
            connection.close()
    except (sqlite3.Error, sqlite3.Warning) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            files.findings.add((*path, "file"), f'"{table.file}" is no SQLite database', "one")
        elif code == sqlite3.SQLITE_ERROR:
            files.findings.add(
                (*path, "query"), f"found {show(table.query)}", "a statement", reason=str(error)
            )
