"""`tamis user`: the users file from the command line.

Every change is made under the file's lock and is seen by a running server within a second. Exit codes: 0,
1 when the user or the password is not as the command needs it, 2 for wrong usage, 78 when the file cannot
be used (EX_CONFIG of sysexits.h). Errors go to standard error; `list --json` is for programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.table import Table as RichTable
from rich.text import Text

from mta.accounts.user import User, address_key, format_size, parse_size, user_key
from mta.accounts.usersfile import Table, UsersFileError, edit, parse_table, read_text
from mta.address import AddressError, domain_key
from mta.cli_console import console
from mta.cli_exit import EXIT_CONFIG
from mta.folders import Owner
from mta.smtp.authserver import MAX_PASSWORD
from mta.smtp.saslprep import saslprep

EXIT_REFUSED = 1
GENERATED_LENGTH = 20
"""Characters of a generated password: 117 bits of the 58 below."""
SHORT = 10
"""Passwords with fewer characters are taken with a warning."""
SMALL_QUOTA = 64 * 1024
"""Octets; a smaller quota is taken with a warning, for a number without a unit counts them."""
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", metavar="FILE", help="The users file; default: the one of the configuration."
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="USER", help="Login name, usually the mail address.")]
StdinOption = Annotated[bool, typer.Option("--stdin", help="Read the password from standard input.")]
GenerateOption = Annotated[bool, typer.Option("--generate", help="Make a random password and print it.")]
ScramOption = Annotated[
    bool,
    typer.Option("--scram/--no-scram", help="Also store SCRAM keys: without them only PLAIN and LOGIN work."),
]


def make_app(
    users_file: Callable[[], Path],
    domains: Callable[[], Collection[str]],
    server: Callable[[], Owner | None],
) -> typer.Typer:
    """The sub-command; `users_file` names the file when no --file is given and may raise typer.Exit.

    `domains` are those of the configuration, as it names them, empty when they are not known. `server` is
    user and group of the server when it names them, and may raise ValueError.
    """
    app = typer.Typer(help="Manage the users file.", no_args_is_help=True, pretty_exceptions_enable=False)

    def locate(file: Path | None) -> Path:
        return file if file is not None else users_file()

    @app.command()
    def add(
        name: NameArgument,
        file: FileOption = None,
        address: Annotated[
            list[str] | None,
            typer.Option(
                metavar="ADDRESS", help="Further address it may send as, or @domain; may be repeated."
            ),
        ] = None,
        quota: Annotated[
            str | None, typer.Option(metavar="SIZE", help="Size of the mailbox: 500M, 2G, 0 for no limit.")
        ] = None,
        home: Annotated[str, typer.Option(metavar="FOLDER", help="Absolute path of the home folder.")] = "",
        stdin: StdinOption = False,
        generate: GenerateOption = False,
        scram: ScramOption = True,
    ) -> None:
        """Add a user; asks for the password."""
        key = _key(name)
        user = User(key, quota=_quota(quota), addresses=_addresses(address or []), home=home)
        path = locate(file)
        if os.path.exists(path) and key in _read(path).users:
            _refuse(f"{key} exists; set a new password with `tamis user passwd {key}`")
        password = _password(stdin=stdin, generate=generate)
        with _editing(path, _group(server) if file is None else None) as table:
            if key in table.users:
                _refuse(f"{key} exists")
            table.put(user.with_password(password, scram=scram))
        _tell(f"added {key}", password if generate else "")
        _warn_of_quota(user.quota)
        if file is None:
            _warn_of_domain(key, domains())

    @app.command()
    def passwd(
        name: NameArgument,
        file: FileOption = None,
        stdin: StdinOption = False,
        generate: GenerateOption = False,
        scram: ScramOption = True,
    ) -> None:
        """Set a new password."""
        path = locate(file)
        user = _known(_read(path), name)
        password = _password(stdin=stdin, generate=generate)
        with _editing(path) as table:
            table.put(_known(table, name).with_password(password, scram=scram))
        if scram and user.columns is not None:
            _warn("the line is in Dovecot's form, which has no room for SCRAM keys")
        _tell(f"changed the password of {user.name}", password if generate else "")

    @app.command("list")
    def list_users(
        file: FileOption = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Show all users."""
        users = _read(locate(file)).users.values()
        if as_json:
            typer.echo(json.dumps([_facts(user) for user in users], indent=2, ensure_ascii=False))
            return
        table = RichTable("User", "Password", "Quota", "May send as", "Home", "State")
        for user in users:
            cells = (
                user.name,
                " ".join(_schemes(user)) or "none",
                format_size(user.quota) if user.quota is not None else "",
                "\n".join(user.addresses),
                user.home,
                "disabled" if user.disabled else "",
            )
            table.add_row(*map(Text, cells))  # brackets, as of an address literal, are no markup
        console().print(table)

    @app.command("del")
    def delete(
        name: NameArgument,
        file: FileOption = None,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ) -> None:
        """Remove a user; its mail stays where it is."""
        path = locate(file)
        key = _known(_read(path), name).name
        if not yes:
            try:
                if not typer.confirm(f"Remove {key}?"):
                    raise typer.Exit(EXIT_REFUSED)
            except typer.Abort:
                _refuse(f"nobody answers, so {key} stays; without a question: --yes")
        with _editing(path) as table:
            table.remove(_known(table, name).name)
        _tell(f"removed {key}")

    @app.command()
    def addresses(
        name: NameArgument,
        file: FileOption = None,
        add: Annotated[list[str] | None, typer.Option(help="Address or @domain to add.")] = None,
        remove: Annotated[list[str] | None, typer.Option(help="Address or @domain to take away.")] = None,
    ) -> None:
        """Show or change what a user may send as besides its own name."""
        path = locate(file)
        more, less = _addresses(add or []), _addresses(remove or [])
        user = _known(_read(path), name)
        if more or less:
            with _editing(path) as table:
                user = _known(table, name)
                missing = [address for address in less if address not in user.addresses]
                if missing:
                    _refuse(f"{user.name} has no address {', '.join(missing)}")
                kept = [address for address in user.addresses if address not in less]
                user = replace(user, addresses=tuple(dict.fromkeys([*kept, *more])))
                table.put(user)
        for address in (user.name, *user.addresses):
            typer.echo(address)

    @app.command()
    def quota(
        name: NameArgument,
        size: Annotated[str, typer.Argument(metavar="SIZE", help="500M, 2G, 0 for no limit.")],
        file: FileOption = None,
    ) -> None:
        """Set the size of a user's mailbox."""
        path = locate(file)
        limit = _quota(size)
        _known(_read(path), name)
        with _editing(path) as table:
            user = replace(_known(table, name), quota=limit)
            table.put(user)
        _tell(f"{user.name} has a quota of {format_size(limit)}" if limit else f"{user.name} has no limit")
        _warn_of_quota(limit)

    return app


def _schemes(user: User) -> list[str]:
    return [stored.scheme for stored in (user.password, *user.verifiers) if stored is not None]


def _facts(user: User) -> dict[str, object]:
    return {
        "user": user.name,
        "schemes": _schemes(user),
        "quota": user.quota,
        "addresses": list(user.addresses),
        "home": user.home,
        "disabled": user.disabled,
    }


def _password(*, stdin: bool, generate: bool) -> str:
    if generate:
        return "".join(secrets.choice(_ALPHABET) for _ in range(GENERATED_LENGTH))
    try:
        if stdin or not sys.stdin.isatty():
            password = sys.stdin.readline().removesuffix("\n")
        else:
            password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
        octets = len(password.encode())
    except UnicodeError:
        _refuse("the password is not UTF-8")
    if not password:
        _refuse("the password is empty")
    if octets > MAX_PASSWORD or "\0" in password:
        _refuse(f"a password has at most {MAX_PASSWORD} octets and no NUL")
    try:
        saslprep(password)
    except ValueError as error:
        _refuse(f"password: {error}")
    if len(password) < SHORT:
        _warn(f"the password has fewer than {SHORT} characters")
    return password


def _key(name: str) -> str:
    try:
        return user_key(name)
    except ValueError as error:
        _refuse(f"{name!r}: {error}")


def _warn_of_domain(user: str, domains: Collection[str]) -> None:
    """Say so when mail for a user's address would not be taken."""
    domain = user.rpartition("@")[2]
    served = set()
    for name in domains:
        with contextlib.suppress(AddressError):
            served.add(domain_key(name))
    if "@" not in user and served:
        _warn(
            f"{user} is no mail address, as {user}@{min(served)} is: it gets no mail, and has a sender "
            "by auth.default_domain only"
        )
    elif served:
        with contextlib.suppress(AddressError):
            if domain_key(domain) not in served:
                _warn(f'mail for {user} is not taken: the configuration has no [domains."{domain}"]')


def _known(table: Table, name: str) -> User:
    key = _key(name)
    if key not in table.users:
        _refuse(f"no user {key}")
    return table.users[key]


def _quota(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        _refuse(f"quota: {error}")


def _warn_of_quota(limit: int | None) -> None:
    """Say so when a unit seems to be missing."""
    if limit and limit < SMALL_QUOTA:
        _warn(f"a mailbox of {limit} octets has no room for mail; sizes are 500M or 2G")


def _addresses(texts: list[str]) -> tuple[str, ...]:
    found = []
    for text in texts:
        try:
            found.append(address_key(text))
        except ValueError as error:
            _refuse(f"{text!r}: {error}")
    return tuple(dict.fromkeys(found))


def _read(path: Path) -> Table:
    try:
        return parse_table(read_text(str(path)), str(path))
    except UsersFileError as error:
        is_missing = isinstance(error.__cause__, FileNotFoundError)
        hint = " (`tamis user add` makes it; --file or --config names another)" if is_missing else ""
        _refuse(f"{error}{hint}", EXIT_CONFIG)


def _group(server: Callable[[], Owner | None]) -> int | None:
    """The group of a users file that root makes, None when it is that of the folder."""
    try:
        account = server() if os.geteuid() == 0 else None
    except ValueError as error:
        _refuse(str(error), EXIT_CONFIG)
    return None if account is None else account[1]


@contextlib.contextmanager
def _editing(path: Path, group: int | None = None) -> Iterator[Table]:
    try:
        with edit(path, group=group) as table:
            yield table
    except UsersFileError as error:
        _refuse(str(error), EXIT_CONFIG)
    except ValueError as error:
        _refuse(str(error))


def _tell(text: str, password: str = "") -> None:
    typer.echo(text, err=bool(password))
    if password:
        typer.echo(password)


def _warn(text: str) -> None:
    typer.echo(f"warning: {text}", err=True)


def _refuse(text: str, code: int = EXIT_REFUSED) -> NoReturn:
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(code)
