"""Options that several commands of `tamis` have."""

from __future__ import annotations

from typing import Annotated

import typer

from mta.cli import default_configuration

Config = Annotated[
    str,
    typer.Option(
        "--config", "-c", metavar="FILE", help="The configuration.", default_factory=default_configuration
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
