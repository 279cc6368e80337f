"""`tamis pins`: list and forget."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typer.testing import CliRunner

from mta.cli_pins import make_app
from mta.delivery.security.memory import Memory, Pin


def _keep(path: Path) -> None:
    async def run() -> None:
        memory = Memory(path)
        memory.set_pin("mx", "good.test", Pin(1.0, 1_800_000_000.0, 1_800_003_600.0))
        memory.set_pin("mx", "well.test", Pin(1.0, 2.0))
        await memory.settled()
        memory.close()

    asyncio.run(run())


def test_list_and_forget(tmp_path: Path) -> None:
    path = tmp_path / "s"
    app, runner = make_app(lambda: path), CliRunner()
    assert runner.invoke(app, ["list"]).stdout == "nothing is missing\n"
    assert runner.invoke(app, ["forget", "mx", "good.test"]).exit_code == 1
    _keep(path)
    listed = runner.invoke(app, ["list"]).stdout
    assert "good.test" in listed
    assert "2027-01-15 08:00 UTC" in listed
    assert "well.test" not in listed
    assert runner.invoke(app, ["forget", "sts", "good.test"]).exit_code == 1
    forgotten = runner.invoke(app, ["forget", "mx", "Good.test"])
    assert forgotten.exit_code == 0
    assert runner.invoke(app, ["list"]).stdout == "nothing is missing\n"


def test_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"no database at all" * 50)
    app, runner = make_app(lambda: path), CliRunner()
    for command in (["list"], ["forget", "mx", "good.test"]):
        result = runner.invoke(app, command)
        assert result.exit_code == 78
        assert "not a database" in result.stderr
