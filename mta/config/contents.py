"""What is in the files that a server reads at its start: a line that it could not use is a mistake here, too.

Each kind of file is read by the code that reads it in the server, imported when the configuration names one.
A file of more than `LARGEST` octets is left to the server: to read it twice would delay every start.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mta.config.locate import KeyPath
from mta.config.schema import Config
from mta.config.tables import PolicyTable

if TYPE_CHECKING:
    from mta.config.files import FileCheck

LARGEST = 4 * 1024 * 1024
"""Octets: about a tenth of a second."""


def check_users(config: Config, files: FileCheck) -> None:
    """Check the users file, and its lines, if anything reads it."""
    path, file = ("auth", "users_file"), config.auth.users_file
    by_domain = any(domain.recipients.kind == "users" for domain in config.domains.values())
    if config.auth.backend != "users" and not by_domain and not config.store.enabled:  # its mailboxes
        return
    help = "" if os.path.exists(file) else "`tamis user add` makes it"
    if files.read(path, file, secret=True, limit=0, help=help) is None or os.path.getsize(file) > LARGEST:
        return
    from mta.accounts.usersfile import UsersFile, UsersFileError

    try:
        UsersFile(file, on_error=lambda error: None)
    except UsersFileError as error:
        files.findings.add(path, str(error), "users as `tamis user` writes them")


def check_recipients(config: Config, files: FileCheck) -> None:
    """Check the tables of recipients that are files."""
    for name, domain in config.domains.items():
        if not domain.recipients.file:
            continue
        from mta.policy.recipients import read_table

        _lines(files, ("domains", name, "recipients"), domain.recipients.file, read_table, "recipients")


def check_directors(config: Config, files: FileCheck) -> None:
    """Check the tables of users of directors."""
    for name, director in config.director.items():
        if not director.table:
            continue
        from mta.director.userstable import read_users

        _lines(files, ("director", name, "table"), director.table, read_users, "users and back ends")


def check_table(files: FileCheck, path: KeyPath, table: PolicyTable) -> None:
    """Check the file of a [tables.NAME]; `table` has one."""
    read: Callable[[Path], object]
    match table.type:
        case "file":
            read, expected = partial(_read_text, files, (*path, "file")), "keys and values"
        case "aliases":
            from mta.tables.aliases import read_aliases

            read, expected = read_aliases, "names and addresses"
        case "cidr":
            from mta.tables.cidr import read_networks

            read, expected = read_networks, "networks and values"
        case "pattern":
            from mta.tables.patterns import read_patterns

            read, expected = read_patterns, "patterns and values"
        case _:
            files.read((*path, "file"), table.file, limit=0)
            return
    _lines(files, (*path, "file"), table.file, read, expected)


def _read_text(files: FileCheck, path: KeyPath, file: Path) -> None:
    """As the server reads it; and a file of aliases would have no alias: its keys would end with a colon."""
    from mta.tables.text import read_text

    keys = read_text(file)
    if 2 * sum(key.endswith(":") for key in keys) > len(keys):
        files.findings.add(
            path, f'the keys of "{file}" end with ":"', 'type = "aliases" for a file such as /etc/aliases',
            warning=True,
        )  # fmt: skip


def _lines(files: FileCheck, path: KeyPath, file: str, read: Callable[[Path], object], expected: str) -> None:
    from mta.policy.watched import TableError

    if files.read(path, file, limit=0) is None or os.path.getsize(file) > LARGEST:
        return
    try:
        read(Path(file))
    except TableError as error:
        files.findings.add(path, str(error), expected)
