"""The commands of `tamis`, as a typer app. See `mta.cli` for exit statuses and for why this is apart."""

from __future__ import annotations

import enum
import json
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import typer.core

import mta
from mta.cli import default_configuration
from mta.cli_exit import EXIT_CONFIG, EXIT_FAILED, fail
from mta.cli_options import Config, Json, config_before, config_for
from mta.cli_setup import add_commands
from mta.configured import (
    LARGEST_CONFIGURATION,
    configured_domains,
    configured_owner,
    configured_path,
    control_socket,
    is_without_users_file,
)

app = typer.Typer(
    name="tamis",
    help="Tamis, a mail transfer agent that answers before it accepts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
add_commands(app)

Socket = Annotated[
    str, typer.Option("--socket", metavar="PATH", help="The control socket. Default: the configuration says.")
]


def run() -> None:
    """Run the command line and exit."""
    _add_sub_apps(next((word for word in sys.argv[1:] if not word.startswith("-")), ""))
    try:
        app()
    except BrokenPipeError:
        # The reader of our output has left, as `tamis status | head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)


def _add_sub_apps(command: str) -> None:
    """Import the sub-app that is called; all of them when the command is unknown or help is asked for."""
    ours = {info.name or getattr(info.callback, "__name__", "") for info in app.registered_commands}
    if command in ours:
        return
    for name, make in SUB_APPS.items():
        if command == name or command not in SUB_APPS:
            app.add_typer(make(), name=name)


def _users_file(configuration: str) -> Path:
    if is_without_users_file(configuration):
        typer.echo(
            f"warning: {configuration} uses no users file: its users are those of auth.backend", err=True
        )
    return Path(configured_path(configuration, ("auth", "users_file", ""), default="users"))


def _user_app() -> typer.Typer:
    from mta.cli_user import make_app

    return _configured(
        lambda config: make_app(
            lambda: _users_file(config()),
            lambda: configured_domains(config()),
            lambda: configured_owner(config()),
        )
    )


def _mailbox_app() -> typer.Typer:
    from mta.cli_mailbox import make_app

    return config_before(make_app())


def _queue_app() -> typer.Typer:
    from mta.cli_queue import make_app
    from mta.queue_access import open_queue

    return config_before(make_app(open_queue))


def _sieve_app() -> typer.Typer:
    from mta.cli_sieve import make_app

    return make_app()


def _director_app() -> typer.Typer:
    from mta.cli_director import make_app

    return _configured(make_app)


def _tls_app() -> typer.Typer:
    from mta.cli_tls import make_app

    return _configured(make_app)


def _dkim_app() -> typer.Typer:
    from mta.cli_dkim import make_app

    return _configured(
        lambda config: make_app(
            lambda: Path(configured_path(config(), ("signing", "keys", ""), default="dkim")),
            lambda: configured_owner(config()),
        )
    )


def _pins_app() -> typer.Typer:
    from mta.cli_pins import make_app

    where = ("process", "state_directory", "security.sqlite3")
    state = "/var/lib/tamis/security.sqlite3"

    def file(configuration: str) -> Path:
        if why := _default_unread(configuration):  # that nothing is missing elsewhere would say nothing
            fail(why, EXIT_CONFIG)
        return Path(configured_path(configuration, where, default=state))

    return _configured(lambda config: make_app(lambda: file(config())))


def _configured(make: Callable[[Callable[[], str]], typer.Typer]) -> typer.Typer:
    """An app that asks for the name of the configuration when a command needs it."""
    chosen = [default_configuration()]
    return config_for(make(lambda: chosen[0]), lambda config: chosen.__setitem__(0, config))


SUB_APPS = {
    "user": _user_app, "mailbox": _mailbox_app, "queue": _queue_app, "sieve": _sieve_app, "dkim": _dkim_app,
    "tls": _tls_app, "director": _director_app,
    "pins": _pins_app,
}  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Tamis, a mail transfer agent that answers before it accepts."""


@app.command()
def serve(
    config: Config,
    pid_file: Annotated[str, typer.Option(metavar="FILE", help="Write the process id there.")] = "",
    daemon: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Run the mail server in the foreground until it is stopped."""
    from mta.supervisor.main import serve as run_server

    raise typer.Exit(run_server(config, pid_file, *([daemon] if daemon else [])))


@app.command("check-config")
def check_config(config: Config, as_json: Json = False) -> None:
    """Read the configuration and report all mistakes at once."""
    from mta import config as configuration

    problems = configuration.check(config)
    wrong = [problem for problem in problems if not problem.warning]
    if as_json:
        print(
            json.dumps(
                {"file": config, "ok": not wrong, "problems": [_facts(problem) for problem in problems]}
            )
        )
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        if not wrong:
            print(f"{config}: ok")
    raise typer.Exit(EXIT_CONFIG if wrong else 0)


@app.command()
def reload(config: Config, path: Socket = "", as_json: Json = False) -> None:
    """Read the configuration anew and change over to it; sessions go on."""
    from mta.admin.control import Request

    answer = _ask(config, path, Request("reload"))
    if as_json:
        print(json.dumps(answer.result if answer.ok else {"ok": False, "problems": list(answer.problems)}))
    elif answer.ok:
        result = answer.result or {}
        print(f"reloaded in {result['seconds']:g} s, generation {result['generation']} serves")
        for setting in result["warnings"]:
            print(f"needs a restart to take effect: {setting}", file=sys.stderr)
        if left := result.get("left"):
            print(f"mail that waits in {left} stays there, and nobody works on it:", file=sys.stderr)
            print("name this store again, export what waits, then import it (docs/queue.md)", file=sys.stderr)
    else:
        from mta.admin.refusal import refusal

        print(*refusal(answer, config), sep="\n", file=sys.stderr)
    if not answer.ok:
        raise typer.Exit(EXIT_CONFIG if answer.configuration_wrong else EXIT_FAILED)


@app.command()
def stop(
    config: Config,
    path: Socket = "",
    now: Annotated[bool, typer.Option("--now", help="Do not wait for sessions to finish.")] = False,
    wait: Annotated[bool, typer.Option(help="Return when the server has ended.")] = True,
) -> None:
    """Stop the server once its sessions have finished."""
    from mta.admin.control import Request

    answer = _ask(config, path, Request("stop", now=now))
    if not answer.ok or answer.result is None:
        fail(answer.error)
    if wait:
        _wait_for_end(answer.result["pid"])


@app.command()
def status(config: Config, path: Socket = "", as_json: Json = False) -> None:
    """Show how the server does."""
    from mta.admin.control import Request

    answer = _ask(config, path, Request("status"))
    if not answer.ok or answer.result is None:
        fail(answer.error)
    if as_json:
        print(json.dumps(answer.result))
        return
    from mta.admin.report import show

    show(answer.result)


class Level(enum.Enum):
    """What `tamis log-level` takes."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.command("log-level")
def log_level(
    level: Annotated[Level, typer.Argument(help="How much.")],
    config: Config,
    path: Socket = "",
) -> None:
    """Change how much is logged, until the next reload."""
    from mta.admin.control import Request

    answer = _ask(config, path, Request("log-level", level=level.value))
    if not answer.ok:
        fail(answer.error)


@app.command()
def version() -> None:
    """Show the version."""
    print(f"tamis {mta.__version__}")


class _Verbatim(typer.core.TyperCommand):
    """A command whose words are not ours to read: those of Postfix have no long options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave them alone."""
        ctx.args = list(args)
        return []


@app.command(cls=_Verbatim, add_help_option=False)
def sendmail(context: typer.Context) -> None:
    """Send a message as Sendmail's command does, for scripts: reads standard input."""
    _as_postfix("sendmail", context)


@app.command(cls=_Verbatim, add_help_option=False)
def mailq(context: typer.Context) -> None:
    """Show the queue as Postfix's mailq does."""
    _as_postfix("mailq", context)


@app.command(cls=_Verbatim, add_help_option=False)
def postqueue(context: typer.Context) -> None:
    """Show the queue (-p, -j) or try all of it now (-f), as Postfix's postqueue does."""
    _as_postfix("postqueue", context)


def _as_postfix(name: str, context: typer.Context) -> NoReturn:
    from mta.sendmail import run as run_as

    raise typer.Exit(run_as(name, context.args))


def _ask(configuration: str, path: str, request: Any) -> Any:
    from mta.admin.client import NotRunning, Unreachable, ask

    try:
        where = path or control_socket(configuration)
    except OSError as error:
        fail(f"{_unread(configuration, error)}; --socket names the control socket of a server")
    try:
        return ask(where, request)
    except NotRunning as problem:
        why = "" if path else _place_untold(configuration)
        fail(f"{problem}; {why}" if why else str(problem))
    except Unreachable as problem:
        if isinstance(problem.__cause__, PermissionError):
            fail(f"only root and the user of the server may ask it ({problem})")
        fail(str(problem))


def _place_untold(configuration: str) -> str:
    """Why the configuration may not have said where the server is; "" if it has."""
    from mta import config

    try:
        with open(configuration, "rb") as file:
            text = file.read(LARGEST_CONFIGURATION).decode("utf-8", "replace")
        config.parse(text, configuration)
    except OSError as error:
        return _unread(configuration, error)
    except config.ConfigError as error:
        return f"mistakes may have hidden where its server is, the first: {error.problems[0]}"
    return ""


def _default_unread(configuration: str) -> str:
    """Why the configuration cannot have said anything; "" if it can."""
    try:
        open(configuration, "rb").close()
    except OSError as error:
        return _unread(configuration, error)
    return ""


def _unread(configuration: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no {configuration}, --config names another"
    return f"{configuration} cannot be read: {error.strerror}"


def _wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([descriptor], [], [])
    os.close(descriptor)


def _facts(problem: Any) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in problem.__slots__}
