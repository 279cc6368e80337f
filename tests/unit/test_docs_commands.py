"""The page about operation names every command, and says rightly which of them take the configuration."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from typer.testing import CliRunner

from mta import commands

PAGE = Path(__file__).resolve().parents[2] / "docs/operations.md"
WITHOUT = {"sieve", "version"}
AS_POSTFIX = {"sendmail", "mailq", "postqueue"}


def table() -> str:
    return PAGE.read_text().partition("## Commands\n")[2].partition("\n## ")[0]


def names_of(app: typer.Typer) -> list[str]:
    return [str(one.name or getattr(one.callback, "__name__", "")) for one in app.registered_commands]


def single_commands() -> dict[str, str]:
    """Commands that are no app of their own, and their help."""
    names = set(names_of(commands.app)) - AS_POSTFIX
    return {name: CliRunner().invoke(commands.app, [name, "--help"]).stdout for name in names}


def test_every_command_is_there() -> None:
    named = set(re.findall(r"`tamis ([a-z-]+)", table()))
    assert named == {*single_commands(), *AS_POSTFIX, *commands.SUB_APPS}


def test_who_takes_a_configuration_or_a_socket() -> None:
    found = single_commands()
    assert {name for name, text in found.items() if "--config" not in text} == WITHOUT - {"sieve"}
    assert {name for name, text in found.items() if "--socket" in text} == {
        "reload", "stop", "status", "log-level",
    }  # fmt: skip
    for name, make in commands.SUB_APPS.items():
        app = make()
        shown = CliRunner().invoke(app, [names_of(app)[0], "--help"])
        assert shown.exit_code == 0
        assert ("--config" in shown.stdout) == (name not in WITHOUT), name
