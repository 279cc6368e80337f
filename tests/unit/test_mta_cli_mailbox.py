"""`tamis mailbox`, run as a command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mta import cli_mailbox
from mta.store import maildir
from mta.store.maildir import UniqueNames

NAMES = UniqueNames("mx")
HOSTILE = b"""From: "\x1b[31mred" <a@example.org>
Subject: [bold]not markup[/bold] \x1b]0;title\x07
Date: Sat, 22 Nov 2025 10:00:00 +0000

Text with \x1b[2J and \x9b and [/] brackets.
"""


def put(root: Path, user: str, text: bytes) -> None:
    with maildir.opened(root / "example.test" / user, root) as opened:
        maildir.write(opened, NAMES.next(), [text], len(text))


def plain(subject: str) -> bytes:
    return f"From: s@example.org\nSubject: {subject}\n\nBody of {subject}\n".encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for subject in ("first", "second", "third"):
        put(tmp_path, "alice", plain(subject))
    put(tmp_path, "bob", HOSTILE)
    return tmp_path


def run(root: Path, *arguments: str) -> Result:
    app = cli_mailbox.make_app(lambda: root)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"}, catch_exceptions=False)


def test_list_of_mailboxes(root: Path) -> None:
    result = run(root, "list")
    assert result.exit_code == 0
    assert [word in result.stdout for word in ("alice@example.test", "bob@example.test", "none")] == [
        True
    ] * 3
    facts = json.loads(run(root, "list", "--json").stdout)
    assert facts[0] == {
        "user": "alice@example.test",
        "messages": 3,
        "new": 3,
        "octets": sum(len(plain(s)) for s in ("first", "second", "third")),
        "quota_octets": None,
        "quota_messages": None,
    }


def test_json_is_json_whatever_a_folder_is_called(root: Path) -> None:
    folder = os.fsencode(next(root.glob("*/alice"))) + b"/.caf\xe9"
    for part in (b"/cur", b"/new"):
        os.makedirs(folder + part)
    Path(os.fsdecode(folder + b"/new/1.x")).write_bytes(plain("fourth"))
    command = [sys.executable, "-m", "mta.cli", "mailbox", "list", "alice@example.test", "--json"]
    for locale in ("C", "C.UTF-8"):
        done = subprocess.run(
            [*command, "--store", str(root)], capture_output=True, timeout=60, check=False,
            env={**os.environ, "LC_ALL": locale},
        )  # fmt: skip
        facts = json.loads(done.stdout.decode())
        (found,) = [one for one in facts if one["subject"] == "fourth"]
        assert os.fsencode(found["file"]) == folder + b"/new/1.x"


def test_list_of_messages(root: Path) -> None:
    facts = json.loads(run(root, "list", "alice@example.test", "--json").stdout)
    assert [(f["number"], f["subject"], f["state"]) for f in facts] == [
        (1, "first", "new"),
        (2, "second", "new"),
        (3, "third", "new"),
    ]
    table = run(root, "list", "alice@example.test").stdout
    assert table.index("first") < table.index("second") < table.index("third")


@pytest.mark.parametrize(("number", "subject"), [((), "third"), (("last",), "third"), (("1",), "first")])
def test_show(root: Path, number: tuple[str, ...], subject: str) -> None:
    result = run(root, "show", "alice@example.test", *number)
    assert f"Subject: {subject}\n" in result.stdout
    assert result.stdout.endswith(f"\n\nBody of {subject}\n")


def test_raw_gives_the_octets_to_a_pipe_and_harmless_text_to_a_terminal(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(root, "show", "bob@example.test", "--raw").stdout_bytes == HOSTILE
    monkeypatch.setattr(cli_mailbox, "_is_terminal", lambda: True)
    shown = run(root, "show", "bob@example.test", "--raw").stdout
    assert "\x1b" not in shown
    assert "␛[2J" in shown


@pytest.mark.parametrize("arguments", [("list", "bob@example.test"), ("show", "bob@example.test")])
def test_a_sender_cannot_write_to_the_terminal_or_use_markup(root: Path, arguments: tuple[str, ...]) -> None:
    shown = run(root, *arguments).stdout
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "[bold]not markup" in shown


def test_show_as_json(root: Path) -> None:
    facts = json.loads(run(root, "show", "alice@example.test", "2", "--json").stdout)
    assert facts["text"] == "Body of second\n"
    assert facts["headers"] == [["From", "s@example.org"], ["Subject", "second"]]
    assert facts["attachments"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "carol@example.test"), "carol@example.test has no mailbox here"),
        (("list", "carol@example.test"), "carol@example.test has no mailbox here"),
        (("show", "alice@example.test", "4"), "has messages 1 to 3, no 4"),
        (("show", "alice@example.test", "0"), "has messages 1 to 3, no 0"),
        (("show", "alice@example.test", "first"), "has messages 1 to 3, no first"),
        (("show", "../../etc"), "no @ in the address"),
    ],
)
def test_what_is_not_there(root: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(root, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_quotas_are_those_of_the_users_file(tmp_path: Path) -> None:
    """Not those of the last delivery, as soon as `tamis user quota` has set another one."""
    (tmp_path / "tamis.toml").write_text(
        '[store]\nenabled = true\npath = "mail"\ndefault_quota = "7KiB"\n[auth]\nusers_file = "users"\n'
        '[[listener]]\naddresses = ["127.0.0.1:2525"]\n[domains."example.test"]\nrecipients = "users"\n'
    )
    users = tmp_path / "users"
    users.write_text("alice@example.test:!:quota=3K\nbob@example.test:!:\n")
    users.chmod(0o600)
    for name in ("alice", "bob", "gone", "%20 odd"):
        put(tmp_path / "mail", name, plain("one"))

    def listed() -> dict[str, int | None]:
        app = cli_mailbox.make_app()
        done = CliRunner().invoke(app, ["list", "--json", "--config", str(tmp_path / "tamis.toml")])
        assert done.exit_code == 0, done.output
        return {box["user"].partition("@")[0]: box["quota_octets"] for box in json.loads(done.stdout)}

    assert listed() == {"alice": 3072, "bob": 7168, "gone": None, "  odd": None}
    users.write_text("alice@example.test:!:quota=5K\nbob@example.test:!:\n")
    assert listed()["alice"] == 5120


def test_an_empty_store_and_an_empty_mailbox(tmp_path: Path) -> None:
    assert run(tmp_path, "list").stdout == "No mail yet.\n"
    put(tmp_path, "alice", b"")
    next((tmp_path / "example.test/alice/new").iterdir()).unlink()
    assert run(tmp_path, "list", "alice@example.test").stdout == "No messages.\n"
    assert "has no messages" in run(tmp_path, "show", "alice@example.test").stderr


@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("show", "a@x.test"), ("watch",)])
def test_a_store_that_is_named_is_there(tmp_path: Path, words: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    (tmp_path / "file").touch()
    for named in (gone, tmp_path / "file"):
        result = run(tmp_path, *words, "--store", str(named))
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"tamis: {named}: there is no such folder\n"


def test_a_store_of_the_configuration_comes_with_the_first_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path / "gone", "list").stdout == "No mail yet.\n"
    assert run(tmp_path, "list", "--store", str(tmp_path)).stdout == "No mail yet.\n"

    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", closed)  # root may read every folder
    result = run(tmp_path, "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"tamis: {tmp_path}: Permission denied\n"


def test_watch_prints_what_arrives_and_ends_on_ctrl_c(root: Path) -> None:
    # A shell starts what it has in the background with SIGINT ignored, and this test may be such a thing.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from mta.cli_mailbox import make_app; make_app()()"
    )
    command = [sys.executable, "-c", code, "watch", "--store", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        try:
            assert process.stderr.readline().startswith(b"Waiting for mail")
            put(root, "bob", plain("fresh"))
            line = process.stdout.readline().decode()
            assert "bob@example.test  from s@example.org: fresh" in line
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
        assert process.stdout.read() == b""


def test_mail_is_read_while_a_file_of_the_configuration_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "tamis.toml"
    path.write_text(
        '[domains."example.test"]\nrecipients = "users"\n[store]\nenabled = true\npath = "mail"\n'
        '[certificates.main]\nchain = "gone.pem"\nkey = "gone.key"\n'
        '[process]\nstate_directory = "state"\nruntime_directory = "run"\n'
    )
    put(tmp_path / "mail", "alice", plain("first"))
    result = CliRunner().invoke(cli_mailbox.make_app(), ["list", "alice@example.test", "-c", str(path)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "first" in result.stdout
