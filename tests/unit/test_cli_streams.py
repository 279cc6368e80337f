"""The command line with standard streams that are closed, or that cannot take every character."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shell(line: str, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = ["sh", "-c", f'"$@" {line}', "sh", sys.executable, "-m", "mta.cli", *words]
    known = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False, env=known)


CONFIGURATION = """
[domains."example.org"]
recipients = "all"
[backends.b]
addresses = ["127.0.0.1:24"]
[process]
state_directory = "state"
runtime_directory = "run"
"""


@pytest.fixture
def users(tmp_path: Path) -> Path:
    users = tmp_path / "users"
    users.write_text("j\u00f6rg@example.org:*:\n", encoding="utf-8")
    users.chmod(0o600)
    return users


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("serve -c tamis.toml", "tamis.toml: cannot be read: No such file or directory"),
        ("user list -c tamis.toml", "users: No such file or directory"),
        ("dkim new example.org -c tamis.toml", "dkim: No such file or directory"),
        ("reload -c tamis.toml --socket control", "no Tamis answers at control"),
        ("status -c tamis.toml", "there is no tamis.toml"),
    ],
)
def test_the_current_folder_was_removed(tmp_path: Path, words: str, said: str) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    line = f'cd {folder}; rmdir {folder}; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-m", "mta.cli", *words.split()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 78)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(users: Path, closed: str) -> None:
    done = shell(closed, "user", "list", "--file", str(users))
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"example.org" in done.stdout) == (closed in ("2>&-", "<&-"))


def test_no_file_of_a_server_takes_the_number_of_standard_error(tmp_path: Path) -> None:
    """Whoever writes what goes wrong would write it into a socket."""
    (tmp_path / "tamis.toml").write_text("[nothing]\n")
    (tmp_path / "mta_shown.py").write_text(
        "import os, mta.cli\n"
        "mta.cli._complete_streams()\n"
        "print(*(os.readlink(f'/proc/self/fd/{number}') for number in (0, 2)))\n"
    )
    command = ["sh", "-c", '"$@" <&- 2>&-', "sh", sys.executable, str(tmp_path / "mta_shown.py")]
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "queue", ROOT / "milter")))}
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=os.environ | paths)
    assert done.stdout == b"/dev/null /dev/null\n"
    done = shell("2>&-", "serve", "-c", str(tmp_path / "tamis.toml"))
    assert done.returncode == 78


def test_processes_that_are_started_have_all_streams(tmp_path: Path) -> None:
    """In a worker the memory that it shares with others had the number of standard output."""
    script, found = tmp_path / "shown.py", tmp_path / "found"
    script.write_text(
        "import subprocess, mta.cli\n"
        "mta.cli._complete_streams()\n"
        f"subprocess.run(['sh', '-c', 'exec 9>{found}; ls -l /proc/$$/fd >&9'], check=True)\n"
    )
    command = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, str(script)]
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "queue", ROOT / "milter")))}
    subprocess.run(command, timeout=60, check=True, env=os.environ | paths)
    assert found.read_text().count(" -> /dev/null\n") == 3


def test_characters_that_the_terminal_does_not_have(users: Path) -> None:
    done = shell("", "user", "list", "--file", str(users), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"j\\xf6rg@example.org" in done.stdout


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/h\xe4.toml")
    Path(path).write_text(CONFIGURATION)
    done = shell("", "check-config", "-c", path, PYTHONIOENCODING="utf-8:strict")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"/h\\udce4.toml: ok\n")


SENT = """
import sys
from mta import cli, sendmail
from mta.sendmail_server import LocalServer
from mta.sendmail_submit import Result
sendmail.find_server = lambda configuration: LocalServer("/c", "mx.test", "x.test", 999, "127.0.0.1", 25)
sendmail.submit = lambda *message: Result(0, (), "2.0.0 stored")
sys.argv = ["sendmail", "-v", "a@b.test"]
cli.main()
"""


@pytest.mark.parametrize("target", [">/dev/full", "| true"])
def test_a_message_that_is_sent_is_sent_whoever_reads_the_answer(target: str) -> None:
    """A program that reads another status sends it once more."""
    line = f'(sleep 0.2; echo hi) | ("$0" -c "$1"; echo $? >&2) {target}'
    command = ["bash", "-c", line, sys.executable, SENT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.stderr == b"0\n"


@pytest.mark.parametrize(("name", "status"), [("tamis", 130), ("sendmail", 75)])
def test_an_interrupt_while_a_command_is_imported(name: str, status: int) -> None:
    interrupted = (
        "import sys; from mta import cli\n"
        "def run(called): raise KeyboardInterrupt\n"
        f"cli._run = run; sys.argv = [{name!r}, 'status']; cli.main()"
    )
    command = [sys.executable, "-c", interrupted]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (status, b"")


@pytest.mark.parametrize("words", [("version",), ("sendmail", "--help"), ("sieve", "extensions", "--json")])
def test_a_reader_that_has_left(words: tuple[str, ...]) -> None:
    """What is short waits in a buffer until the end."""
    line = '("$@"; echo $? >&2) | true'
    usual = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", "mta.cli", *words],
        cwd=ROOT, capture_output=True, timeout=60, check=False, env=usual,
    )  # fmt: skip
    assert done.stderr == b"1\n"
