"""`tamis pins`: the names whose proofs are missing, and forgetting one (docs/outbound-security.md).

Works on the file in the state directory, with or without a running server; a running one sees a forgotten
pin within half a minute. Exit codes: 0, 1 when there is no such pin, 78 when the file cannot be used.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mta.cli_exit import EXIT_CONFIG
from mta.delivery.security.memory import Memory
from mta.reporting.store import StoreError

EXIT_NONE = 1


def make_app(file: Callable[[], Path]) -> typer.Typer:
    """The sub-command; `file` gives the file of pins and may raise typer.Exit."""
    app = typer.Typer(
        help="What other domains proved once.", no_args_is_help=True, pretty_exceptions_enable=False
    )

    @app.command(name="list")
    def show() -> None:
        """List the names that do not prove any more what they did, and since when."""
        try:
            memory = _memory(file())
            found = memory.broken_pins() if memory is not None else []
        except StoreError as error:
            _fail(str(error), EXIT_CONFIG)
        if not found:
            print("nothing is missing")
        for kind, name, pin in found:
            hours = (time.time() - (pin.broken or 0.0)) / 3600
            print(f"{kind:10} {name:40} last proven {_time(pin.last)}, missing for {hours:.0f} h")

    @app.command()
    def forget(
        kind: Annotated[str, typer.Argument(help="mx, host, sts or capability, as `list` shows it.")],
        name: Annotated[str, typer.Argument(help="The domain or host.")],
    ) -> None:
        """Let mail for a name go without the proof that is missing."""
        try:
            memory = _memory(file())
            pin = memory.pin(kind, name.lower()) if memory is not None else None
            if memory is None or pin is None:
                _fail(f"there is no pin {kind} {name}", EXIT_NONE)
            asyncio.run(_forget(memory, kind, name.lower()))
        except StoreError as error:
            _fail(str(error), EXIT_CONFIG)
        print(f"forgotten: {kind} {name}, last proven {_time(pin.last)}")

    return app


async def _forget(memory: Memory, kind: str, name: str) -> None:
    troubles: list[str] = []
    memory.complain = troubles.append
    memory.drop_pin(kind, name)
    await memory.settled()
    memory.close()
    if troubles:
        raise StoreError(troubles[0])


def _memory(path: Path) -> Memory | None:
    """The file, None when there is none: then nothing was ever proven."""
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        _fail(f"{path}: {error.strerror}", EXIT_CONFIG)
    return Memory(path, lambda text: _fail(text, EXIT_CONFIG))


def _fail(text: str, code: int) -> NoReturn:
    print(f"tamis pins: {text}", file=sys.stderr)
    raise typer.Exit(code)


def _time(epoch: float) -> str:
    return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%d %H:%M UTC")
