"""What a process of the server must not import: each costs CPU at every start and memory for its life."""

from __future__ import annotations

import subprocess
import sys

import pytest

TERMINAL = {"rich", "pygments", "typer", "click", "attr"}
"""Libraries of the terminal commands, and what they bring."""


def imported_by(statement: str) -> set[str]:
    """The modules that are loaded after `statement` in a fresh interpreter."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["mta.supervisor.main", "mta.worker"])
def test_the_processes_of_a_server_do_without_terminal_libraries(module: str) -> None:
    assert imported_by(f"import {module}") & {*TERMINAL, "cryptography", "prometheus_client"} == set()


def test_a_worker_does_not_import_what_reads_configuration_files() -> None:
    found = imported_by("import mta.worker")
    assert (
        found & {"tomllib", "difflib", "mta.config.loading", "mta.config.read", "mta.config.rules"} == set()
    )
    assert "mta.config.schema" in found


def test_a_worker_pays_for_logins_and_proxies_only_when_they_are_configured() -> None:
    found = imported_by("import mta.worker, mta.daemon")
    optional = {
        "argon2",
        "aiosmtpd",
        "mta.accounts.usersfile",
        "mta.accounts.dovecotclient",
        "mta.smtp.scram",
        "dns",
    }
    assert found & {*TERMINAL, *optional, "cryptography"} == set()


def test_rich_is_there_for_commands_after_the_log_was_imported() -> None:
    assert "rich.table" in imported_by("import mta.log, rich.table")


def test_what_is_loaded_already_is_not_hidden() -> None:
    assert "rich" in imported_by(
        "import rich, mta.log\nimport structlog.dev\nassert structlog.dev.rich is rich"
    )


@pytest.mark.parametrize("name", ["load", "examine", "parse", "check", "Machine", "ConfigError"])
def test_names_that_are_imported_late(name: str) -> None:
    # Twice, for a module of the same name would take its place after the first time.
    imported_by(f"from mta import config\nassert callable(config.{name})\nassert callable(config.{name})")


def test_an_unknown_name_of_the_configuration() -> None:
    imported_by("from mta import config\nassert not hasattr(config, 'nonsense')")
