"""`tamis` itself: options wherever they are written, and what is said when there is no configuration."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import mta
import mta.admin.client  # before a test is somebody who may not read it
from mta import cli_exit, commands
from mta.admin.control import Answer
from mta.cli import default_configuration
from mta.cli_console import WIDE, console
from mta.cli_explain import explain
from mta.explain.given import Given
from mta.sendmail import run as run_as


def run(app: str, *words: str) -> Result:
    return CliRunner().invoke(commands.SUB_APPS[app](), list(words))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "users").write_text("ann@example.org:*:\n")
    (tmp_path / "users").chmod(0o600)
    configuration = tmp_path / "tamis.toml"
    configuration.write_text(
        '[domains."example.org"]\nrecipients = "users"\n[auth]\nusers_file = "users"\n'
        '[store]\nenabled = true\npath = "store"\n[identity]\nhostname = "mx.example.org"\n'
        '[process]\nstate_directory = "state"\nruntime_directory = "run"\n'
    )
    return configuration


@pytest.mark.parametrize("app", ["user", "dkim", "mailbox"])
@pytest.mark.parametrize("option", ["-c", "--config"])
def test_the_configuration_is_named_before_or_behind_the_command(path: Path, app: str, option: str) -> None:
    before = run(app, option, str(path), "list", "--json")
    behind = run(app, "list", "--json", option, str(path))
    assert (before.exit_code, behind.exit_code) == (0, 0)
    assert before.stdout == behind.stdout
    assert ("ann@example.org" in behind.stdout) == (app == "user")


@pytest.mark.parametrize("app", ["director", "tls", "pins", "dkim", "user"])
def test_options_of_commands_are_still_theirs(app: str) -> None:
    command = {"director": "status", "tls": "rollover"}.get(app, "list")
    help_text = run(app, command, "--help").stdout
    assert "--config" in help_text
    assert "$TAMIS_CONFIG, else" in help_text
    assert "dynamic" not in help_text


def test_keys_are_where_the_configuration_says(path: Path) -> None:
    path.write_text(path.read_text() + '[signing]\nkeys = "elsewhere"\n')
    assert run("dkim", "new", "example.org", "-c", str(path)).exit_code == 0
    assert (path.parent / "elsewhere/example.org").is_dir()
    assert not (path.parent / "dkim").exists()


def test_an_empty_name_of_the_configuration_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_CONFIG", "")
    assert default_configuration() == "/etc/tamis/tamis.toml"


def test_a_user_of_a_domain_that_is_not_served(path: Path) -> None:
    made = run("user", "add", "bob@example.net", "--generate", "-c", str(path))
    assert 'no [domains."example.net"]' in made.stderr
    assert "no [domains" not in run("user", "add", "bob@example.org", "--generate", "-c", str(path)).stderr


def test_version_is_an_option_too() -> None:
    result = CliRunner().invoke(commands.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"tamis {mta.__version__}\n")


def test_no_configuration(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.toml")
    result = CliRunner().invoke(commands.app, ["check-config", "-c", gone])
    assert result.exit_code == cli_exit.EXIT_CONFIG
    assert "--config FILE or TAMIS_CONFIG in the environment names another" in result.stderr
    result = CliRunner().invoke(commands.app, ["status", "-c", gone])
    assert result.exit_code == cli_exit.EXIT_FAILED
    assert result.stderr == (
        f"tamis: there is no {gone}, --config names another; --socket names the control socket of a server\n"
    )
    result = run("queue", "list", "-c", gone)
    assert f"{gone}: cannot be read" in result.stderr
    result = run("user", "list", "-c", gone)
    assert f"{tmp_path}/users: No such file or directory (`tamis user add` makes it;" in result.stderr


def test_without_a_default_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = str(tmp_path / "tamis.toml")
    monkeypatch.setattr("mta.configured.DEFAULT_CONFIGURATION", gone)
    monkeypatch.setattr("mta.configured.DEFAULT_SOCKET", "/nonexistent/control")
    result = CliRunner().invoke(commands.app, ["status", "-c", gone])
    assert result.exit_code == cli_exit.EXIT_FAILED
    assert "/nonexistent/control" in result.stderr
    assert f"; there is no {gone}, --config names another" in result.stderr


@pytest.mark.parametrize("command", ["reload", "status", "stop"])
def test_a_mistake_may_hide_where_the_server_is(tmp_path: Path, command: str) -> None:
    place = tmp_path / "tamis.toml"
    place.write_text(f'[identity]\nhostname = "mx.example.org"\n[proces]\nruntime_directory = "{tmp_path}"\n')
    result = CliRunner().invoke(commands.app, [command, "-c", str(place)])
    assert result.exit_code == cli_exit.EXIT_FAILED
    assert "no Tamis answers at /run/tamis/control" in result.stderr
    assert (
        f"mistakes may have hidden where its server is, the first: {place}:3: proces: unknown section"
    ) in result.stderr
    assert "did you mean [process]?" in result.stderr
    place.write_text(place.read_text().replace("[proces]", "[process]"))
    result = CliRunner().invoke(commands.app, [command, "-c", str(place)])
    assert result.stderr == (
        f"tamis: no Tamis answers at {tmp_path}/control: it does not run, or with another configuration\n"
    )


def test_a_configuration_that_may_not_be_read(tmp_path: Path) -> None:
    folder, closed = tmp_path / "closed", tmp_path / "closed.toml"
    folder.mkdir()
    (folder / "tamis.toml").touch()
    closed.touch()
    folder.chmod(0)
    closed.chmod(0)
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)  # root may enter every folder
    try:
        said = [
            CliRunner().invoke(commands.app, ["status", "-c", str(path)]).stderr
            for path in (folder / "tamis.toml", closed)
        ]
    finally:
        os.seteuid(own)
        folder.chmod(0o700)
    assert [line.partition("; ")[0] for line in said] == [
        f"tamis: {folder}/tamis.toml cannot be read: Permission denied",
        f"tamis: {closed} cannot be read: Permission denied",
    ]


def test_mistakes_at_a_reload_name_the_file_as_the_command_did(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    problems = (f"{path}:3: a.b: unknown key", f"{path.parent}/p.sieve:1:1: no")
    answer = Answer(ok=False, error="wrong", problems=problems, configuration_wrong=True)
    monkeypatch.setattr(commands, "_ask", lambda *asked: answer)
    result = CliRunner().invoke(commands.app, ["reload", "-c", path.name])
    assert result.exit_code == cli_exit.EXIT_CONFIG
    assert result.stderr.splitlines()[1:3] == ["tamis.toml:3: a.b: unknown key", problems[1]]


@pytest.mark.parametrize(
    ("text", "problem", "is_told"),
    [
        ("", "{}:3: a.b: unknown key", True),
        ("[a]\nb = 1\n", "{}:3: a.b: unknown key", False),
        ("", "mx: example.org: found no MX record", False),
        ("", "internal error: ImportError('half of it is new')", True),
    ],
    ids=["known here", "wrong here too", "no file", "read by halves"],
)
def test_a_reload_by_another_version_than_is_installed(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str, is_told: bool
) -> None:
    """The server knows the options of its own version only; `check-config` says that all is well."""
    path.write_text(path.read_text() + text)
    answer = Answer(ok=False, error="wrong", problems=(problem.format(path),), configuration_wrong=True)
    monkeypatch.setattr(commands, "_ask", lambda *asked: answer)
    result = CliRunner().invoke(commands.app, ["reload", "-c", str(path)])
    assert ("it needs a restart" in result.stderr) == is_told, result.stderr


def test_the_mailboxes_of_a_server_without_a_store(path: Path) -> None:
    path.write_text(path.read_text().replace("enabled = true", "enabled = false") + "[queue]\n")
    path.write_text(path.read_text() + '[backends.x]\naddresses = ["127.0.0.1:24"]\n')
    result = run("mailbox", "list", "-c", str(path))
    assert result.exit_code == cli_exit.EXIT_CONFIG
    assert "has no embedded store" in result.stderr


@pytest.mark.parametrize("name", ["sendmail", "mailq", "postqueue"])
def test_names_of_postfix_say_what_they_take(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_as(name, ["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"{name} takes what Postfix's {name} takes: docs/queue.md")


def test_recipients_are_not_explained_without_a_sender(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(str(path), Given(client="192.0.2.1", recipients=("ann@example.org",))) == 2
    assert "--from is missing" in capsys.readouterr().err


def test_tables_are_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console().width == WIDE
    monkeypatch.setenv("COLUMNS", "40")
    assert console().width == 40
