"""`tamis director`: users and the mail stores that have their mailboxes, on all nodes.

Changes are kept in the queue's store (or in director.NAME.changes), from where every worker takes them within
director.NAME.refresh. They need no running server. Exit statuses: 0 done, 1 refused or the store does not
answer, 78 the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from mailqueue.store.base import StoreError
from mta import config
from mta.address import AddressError, domain_key, parse_address
from mta.cli_exit import EXIT_CONFIG, fail
from mta.daemon_director import backend_names, configured_weights, open_states
from mta.daemon_dns import build_resolver
from mta.daemon_policy import build_tables
from mta.director import shared, state
from mta.director.director import Director
from mta.director.places import Places
from mta.director.shared import States
from mta.director.state import DirectorState, Refused
from mta.director.userstable import read_users
from mta.policy.ground import without_detail
from mta.policy.watched import TableError
from mta.queue_stores import become_server_user, opened_stores, read_configuration
from mta.spool.remote import QueueProblem

T = TypeVar("T")
Act = Callable[[DirectorState, Mapping[str, int], config.Config], DirectorState]
"""A change of the state of a director with these weights in this configuration."""

NameOption = Annotated[
    str, typer.Option("--director", metavar="NAME", help="Which [director.NAME]; default: the only one.")
]
Backend = Annotated[str, typer.Argument(metavar="BACKEND", help="Name of a [backends.NAME].")]
Weight = Annotated[int, typer.Argument(min=0, max=1000, help="Its share of the users; 0 drains it.")]
User = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address of a user.")]


def make_app(configuration: Callable[[], str]) -> typer.Typer:
    """The sub-command."""
    app = typer.Typer(
        help="Spread users over mail stores.", no_args_is_help=True, pretty_exceptions_enable=False
    )

    def chosen(name: str) -> tuple[config.Config, str]:
        try:
            settings = read_configuration(configuration())
            become_server_user(settings)
        except (config.ConfigError, QueueProblem) as error:
            fail(str(error), EXIT_CONFIG)
        names = list(settings.director)
        found = name or (names[0] if len(names) == 1 else "")
        if found not in settings.director:
            fail(f"--director: one of {', '.join(names) or 'none, for there is no [director.NAME]'}")
        return settings, found

    def change(
        name: str, act: Callable[[DirectorState, Mapping[str, int], config.Config], DirectorState]
    ) -> None:
        settings, found = chosen(name)
        weights = configured_weights(settings.director[found])

        async def work(store: States) -> DirectorState:
            return await shared.change(store, found, lambda old: act(old, weights, settings))

        _show(found, weights, _on_store(settings, found, work))

    @app.command()
    def status(
        name: NameOption = "", as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    ) -> None:
        """Show weights and moved users."""
        settings, found = chosen(name)
        weights = configured_weights(settings.director[found])
        _, now = _on_store(settings, found, lambda store: shared.read(store, found))
        if as_json:
            facts = {"director": found, "weights": now.effective(weights), "moved": now.moved}
            typer.echo(json.dumps(facts, indent=2))
        else:
            _show(found, weights, now)

    @app.command()
    def where(user: User, name: NameOption = "") -> None:
        """Show which back end has the mailbox of a user."""
        settings, found = chosen(name)
        section = settings.director[found]
        director = Director(found, configured_weights(section))
        if section.table:
            try:
                users = read_users(Path(section.table))
            except TableError as error:
                fail(str(error))
            director.table = lambda: users
        key = _user(user, settings, found)

        async def look(store: States) -> str:
            _, now = await shared.read(store, found)
            director.apply(now)
            if section.users:
                told = await told_by_table(settings, section.users, key)
                if key not in director.table() and told:
                    return told
            return director.place(key)

        typer.echo(_on_store(settings, found, look) or "nobody")

    @app.command()
    def add(backend: Backend, weight: Weight = 100, name: NameOption = "") -> None:
        """Let a back end take users."""
        change(
            name, lambda old, weights, settings: state.add(old, weights, settings.backends, backend, weight)
        )

    @app.command("set")
    def set_weight(backend: Backend, weight: Weight, name: NameOption = "") -> None:
        """Change the share of a back end; 0 drains it."""
        change(name, lambda old, weights, _: state.set_weight(old, weights, backend, weight))

    @app.command()
    def remove(backend: Backend, name: NameOption = "") -> None:
        """Take a back end out."""
        change(name, lambda old, weights, _: state.remove(old, weights, backend))

    @app.command()
    def move(
        user: User,
        backend: Annotated[str, typer.Argument(metavar="BACKEND", help="Default: as the hash says.")] = "",
        name: NameOption = "",
    ) -> None:
        """Give a user a back end, whatever the hash says."""
        settings, found = chosen(name)
        key = _user(user, settings, found)
        change(name, lambda old, weights, _: state.move(old, weights, key, backend))

    return app


async def told_by_table(settings: config.Config, name: str, user: str) -> str:
    """What a table says of a user, "" for nothing. Raises Refused when it does not answer."""
    said: list[str] = []
    resolver = build_resolver(settings)
    tables = build_tables(settings, resolver, lambda text: None)
    assert tables is not None
    try:
        places = Places(tables[name], backend_names(settings), lambda: 0.0, said.append)
        await places.learn(user)
    finally:
        await tables.close()
        if resolver is not None:
            resolver.close()
    told = places.get(user)
    if told is None:
        raise Refused(f"tables.{name}: {said[0]}")
    return told


def _show(name: str, configured: Mapping[str, int], now: DirectorState) -> None:
    weights = now.effective(configured)
    total = sum(weights.values())
    table = Table("Back end", "Weight", "Share", "Moved here", box=None)
    for backend, weight in weights.items():
        moved = sum(place == backend for place in now.moved.values())
        share = f"{100 * weight / total:.0f} %" if total else "-"
        table.add_row(backend, f"{weight}" if weight else "0 (drained)", share, str(moved))
    Console().print(table)


def _on_store(settings: config.Config, name: str, work: Callable[[States], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        if settings.director[name].changes:
            states = open_states(settings.director[name])
            try:
                return await work(states)
            finally:
                await states.close()
        async with opened_stores(settings, new=True) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except (Refused, QueueProblem, StoreError, ValueError, OSError) as error:
        fail(str(error))


def _user(text: str, settings: config.Config, director: str) -> str:
    """The user whose address it is, as the server knows it: without the detail."""
    try:
        address = parse_address(text)
    except AddressError as error:
        fail(f"{text!r} is no address: {error}")
    for name, domain in settings.domains.items():
        if domain_key(name) == address.domain:
            if domain.backend != director:
                break
            return without_detail(address, domain.subaddress_delimiter).key
    typer.echo(f'warning: no [domains."{address.domain}"] has the backend "{director}"', err=True)
    return address.key
