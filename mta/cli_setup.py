"""The commands about what this server is and what it would do: check, explain, lookup, dns."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mta.cli_options import Config, Json


def add_commands(app: typer.Typer) -> None:
    """Add them to the app."""
    app.command()(check)
    app.command()(explain)
    app.command()(lookup)
    app.command()(dns)


def check(
    config: Config,
    as_json: Json = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CHECK", help="Make this check; may be repeated.")
    ] = None,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", help="Ask again so long for what is unknown.")
    ] = 0.0,
) -> None:
    """Check what the world sees of this server: names, DNS, certificates, back ends, policy.

    Exit statuses: 0 all is well, 1 something is wrong, 2 something could not be found out, 78 the
    configuration is wrong.
    """
    from mta.cli_check import check as run_check

    raise typer.Exit(run_check(config, only or (), as_machine=as_json, patience=patience))


def explain(
    config: Config,
    client: Annotated[str, typer.Option(metavar="IP", help="Address of the client.")] = "",
    helo: Annotated[str, typer.Option(metavar="NAME", help="What it says in EHLO.")] = "",
    user: Annotated[str, typer.Option(metavar="USER", help="Who has logged in.")] = "",
    sender: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="MAIL FROM; '' for the null sender.")
    ] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="ADDRESS", help="RCPT TO; may be repeated.")
    ] = None,
    message: Annotated[str, typer.Option(metavar="FILE", help="The message; - reads it.")] = "",
    transcript: Annotated[
        str, typer.Option(metavar="FILE", help="A session as swaks shows it; - reads it.")
    ] = "",
    listener: Annotated[str, typer.Option(metavar="NAME", help="Where it connects.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Only what came to something.")] = False,
    as_json: Json = False,
) -> None:
    """Say what the policy would do with a session, stage by stage, which line decides, and why.

    Nothing is sent, queued or counted. What options do not say is taken from the transcript, and from the
    message's own Return-Path, Delivered-To and Received. Exit statuses: 0 it would be accepted, 1 refused.
    """
    from mta.cli_explain import explain as run_explain
    from mta.explain.given import Given

    given = Given(client, helo, user, sender, tuple(to or ()))
    raise typer.Exit(
        run_explain(
            config, given, message=message, transcript=transcript, listener=listener, as_machine=as_json,
            quiet=quiet,
        )
    )  # fmt: skip


def lookup(
    config: Config,
    table: Annotated[str, typer.Argument(help="Name of a [tables.NAME].")],
    key: Annotated[str, typer.Argument(help="What is looked up.")],
) -> None:
    """Print what a table says of a key, as the server would hear it.

    Exit statuses: 0 it is there, 1 it is not, 2 there is no such table, 75 the table cannot say, 78 the
    configuration is wrong.
    """
    from mta.cli_lookup import lookup as run_lookup

    raise typer.Exit(run_lookup(config, table, key))


def dns(
    config: Config,
    as_json: Json = False,
    compare: Annotated[bool, typer.Option("--compare", help="Compare with what is published.")] = False,
    following: Annotated[
        str, typer.Option("--next", metavar="FILE", help="A certificate that will be served: its TLSA, too.")
    ] = "",
    update: Annotated[
        str, typer.Option("--update", metavar="ADDRESS[:PORT]", help="Publish what differs (RFC 2136).")
    ] = "",
    key: Annotated[str, typer.Option("--key", metavar="FILE", help="The key of the update (TSIG).")] = "",
    zone: Annotated[
        list[str] | None, typer.Option("--zone", help="A zone to update; default: our domains.")
    ] = None,
) -> None:
    """Print every DNS record that our domains need, compare them with what is published, or publish them.

    Exit statuses: 0 done, 1 something is missing or the update failed, 2 the DNS does not answer, 78 the
    configuration cannot be used.
    """
    from mta.cli_dns import show

    if update and not key:
        print("tamis: --update needs --key FILE, as tsig-keygen writes it", file=sys.stderr)
        raise typer.Exit(2)
    raise typer.Exit(
        show(
            config, following, comparing=compare, as_machine=as_json, server=update, key=key, zones=zone or ()
        )
    )
