"""Options that several commands of `tamis` have, and `--config` wherever somebody writes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from mta.cli import DEFAULT_CONFIGURATION, default_configuration

_DEFAULT = f"$TAMIS_CONFIG, else {DEFAULT_CONFIGURATION}"
_NAMES: dict[str, Any] = {"metavar": "FILE", "help": "The configuration."}

Config = Annotated[
    str,
    typer.Option("--config", "-c", default_factory=default_configuration, show_default=_DEFAULT, **_NAMES),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_Again = Annotated[str, typer.Option("--config", "-c", show_default=_DEFAULT, **_NAMES)]


def config_for(app: typer.Typer, choose: Callable[[str], None]) -> typer.Typer:
    """Give an app whose commands have no `--config` one before and behind its commands; `choose` gets it."""
    for command in app.registered_commands:
        assert command.callback is not None
        command.callback = _taking(command.callback, choose)

    @app.callback(help=app.info.help)
    def options(config: Config) -> None:
        choose(config)

    return app


def config_before(app: typer.Typer) -> typer.Typer:
    """Let `--config` stand before the commands of an app, too: they have one of the name `config`."""

    @app.callback(help=app.info.help)
    def options(context: typer.Context, config: Config) -> None:
        commands: dict[str, Any] = getattr(context.command, "commands", {})
        context.default_map = {name: {"config": config} for name in commands}

    return app


def _taking(command: Callable[..., Any], choose: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(command)
    def with_config(*positional: Any, config_again: str = "", **named: Any) -> Any:
        if config_again:
            choose(config_again)
        return command(*positional, **named)

    # Names in annotations mean what they mean where the command stands.
    known = get_type_hints(command, include_extras=True)
    shape = inspect.signature(command)
    own = [one.replace(annotation=known[one.name]) for one in shape.parameters.values()]
    more = inspect.Parameter("config_again", inspect.Parameter.KEYWORD_ONLY, default="", annotation=_Again)
    with_config.__dict__["__signature__"] = shape.replace(parameters=[*own, more])
    with_config.__annotations__ = {**known, "config_again": _Again}
    del with_config.__wrapped__  # typer would read its annotations
    return with_config
