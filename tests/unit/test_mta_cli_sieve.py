"""`tamis sieve` as a user types it, and the language server as an editor speaks to it."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mta.cli_sieve import make_app
from mta.sieve_lsp import LanguageServer

GOOD = 'require "fileinto";\nif header :contains "subject" "offer" {\n    fileinto "offers";\n}\n'
BAD = 'require ["fileinto", "nonsense"];\nkep;\n'
PAGES = Path(__file__).parents[2] / "docs" / "policy"
MESSAGE = "From: a@example.org\nSubject: An offer\n\nhello\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.sieve").write_text(GOOD)
    (tmp_path / "bad.sieve").write_text(BAD)
    (tmp_path / "message").write_text(MESSAGE)
    return tmp_path


def sieve(*words: object, text: str = "") -> Result:
    result = CliRunner().invoke(make_app(), [str(word) for word in words], input=text)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_check_names_every_mistake_with_its_place(folder: Path) -> None:
    result = sieve("check", folder / "bad.sieve")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{folder}/bad.sieve:1:22: error: ")
    assert "nonsense" in lines[0]
    assert lines[1].startswith(f"{folder}/bad.sieve:2:1: error: unknown command 'kep'")
    assert "did you mean 'keep'?" in lines[1]


def test_check_a_folder_as_json(folder: Path) -> None:
    result = sieve("check", "--json", folder)
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(Path(one["file"]).name, one["line"], one["severity"]) for one in found] == [
        ("bad.sieve", 1, "error"),
        ("bad.sieve", 2, "error"),
    ]


def test_check_a_good_script(folder: Path) -> None:
    result = sieve("check", folder / "good.sieve")
    assert (result.exit_code, result.stdout) == (0, f"{folder}/good.sieve: ok\n")


def test_warnings_fail_when_strict(folder: Path) -> None:
    path = folder / "warned.sieve"
    path.write_text("stop;\nkeep;\n")
    assert sieve("check", path).exit_code == 0
    strict = sieve("check", "--strict", path)
    assert strict.exit_code == 1
    assert ":2:1: warning: " in strict.stdout


POLICY = """require ["envelope", "vnd.tamis.stage", "vnd.tamis.route", "vnd.tamis.queue"];
stage "rcpt" {
    if envelope :domain "to" "example.net" { route :to "relay:somewhere"; }
}
stage "data" { hold "looked at"; }
"""

POLICIES: list[tuple[str, list[str]]] = [
    (POLICY, []),
    # It is known by its stage, too, so that a forgotten require is what is told.
    ('stage "rcpt" { stop; }', ["1:1 unknown-command", "1:16 no-stage"]),
    ('require "vnd.tamis.stage";', ["1:1 no-stage"]),
    (POLICY + 'stage "connect" { hold; }\nfoo', ["7:4 no-end-of-command"]),
    (POLICY + 'stage "connect" { hold; }', ["6:19 wrong-stage"]),
    (POLICY.replace("somewhere", "${env.helo}").replace("[", '["variables",'), ["3:56 dynamic-route"]),
    ('require ["vnd.tamis.stage", "fileinto"]; stage "data" { fileinto "a"; }',
     ["1:29 unknown-capability", "1:57 unknown-command"]),
    # Users' scripts know nothing of it.
    ('require "vnd_tamis"; keep;', ["1:9 unknown-capability"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), POLICIES)
def test_check_knows_policy_files(folder: Path, text: str, expected: list[str]) -> None:
    path = folder / "policy.sieve"
    path.write_text(text)
    result = sieve("check", "--json", path)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [f"{one['line']}:{one['column']} {one['code']}" for one in found] == expected
    assert (result.exit_code == 1) is any(one["severity"] == "error" for one in found)


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.name)
def test_check_takes_the_policies_of_the_pages(folder: Path, page: Path) -> None:
    """What is wrong only in view of a configuration is not told: see `checking.OF_CONFIGURATION`."""
    path = folder / "policy.sieve"
    for script in re.findall(r"^```sieve\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        path.write_text(script)
        assert sieve("check", path).stdout == f"{path}: ok\n"


@pytest.mark.parametrize("command", ["check", "test", "format"])
def test_files_that_are_not_there(folder: Path, command: str) -> None:
    result = sieve(command, folder / "nothing")
    assert result.exit_code == 1
    assert "no such file or folder" in result.stderr


def test_run_prints_what_would_be_done(folder: Path) -> None:
    result = sieve("run", folder / "good.sieve", folder / "message")
    assert (result.exit_code, result.stdout) == (0, "store into 'offers'\n")


def test_run_shows_nothing_of_a_sender_that_moves_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, message = folder / "s.sieve", folder / "hostile"
    script.write_text(
        'require ["variables", "fileinto"];\n'
        'if header :matches "subject" "*" { set "s" "${1}"; }\nfileinto "${s}";\n'
    )
    message.write_bytes(b"Subject: \x1b]0;owned\x07 \xe2\x80\xae x\r\n\r\nhi\r\n")
    result = sieve("run", script, message)
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "\u241b]0;owned\u2407" in result.stderr
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(SystemExit):
        make_app()(["run", str(script), str(message), "--message"])
    terminal.flush()
    shown = terminal.buffer.getvalue().decode()
    assert shown.endswith("Subject: \u241b]0;owned\u2407 \ufffd x\n\nhi\n")


def test_run_prints_the_message_behind_what_would_be_done(folder: Path) -> None:
    script = ["sieve", "run", str(folder / "good.sieve"), str(folder / "message"), "--message"]
    command = [sys.executable, "-m", "mta.cli", *script]
    usual = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, cwd=PAGES.parents[1], capture_output=True, timeout=60, check=False, env=usual
    )
    assert done.stdout.decode().startswith("store into 'offers'\nFrom: a@example.org\r\n")


def test_run_with_trace_from_standard_input(folder: Path) -> None:
    result = sieve("run", "--trace", folder / "good.sieve", "-", text=MESSAGE.replace("offer", "order"))
    assert result.exit_code == 0
    assert result.stdout.endswith("(implicit)\n")
    assert "2:4 test header ['An order'] against ['offer'] -> false" in result.stderr


def test_run_sees_the_envelope(folder: Path) -> None:
    path = folder / "envelope.sieve"
    path.write_text('require "envelope"; if envelope "from" "a@example.org" { discard; }')
    assert "discard" in sieve("run", "--from", "a@example.org", path, folder / "message").stdout


def test_run_of_a_script_that_is_wrong(folder: Path) -> None:
    result = sieve("run", folder / "bad.sieve", folder / "message")
    assert result.exit_code == 1
    assert "unknown command" in result.stderr


def test_scripts_of_recipients_may_say_less(folder: Path) -> None:
    path = folder / "ann.sieve"
    path.write_text(
        'require ["vnd.tamis.stage", "vnd.tamis.reply", "vnd.tamis.tables"];\n'
        'stage "connect" { reply "no"; }\nstage "data" { defer; }\n'
    )
    assert sieve("check", path).exit_code == 0
    result = sieve("check", "--recipient", path)
    assert result.exit_code == 1
    assert [line.partition(": error: ")[0] for line in result.stdout.splitlines()] == [
        f"{path}:1:48",
        f"{path}:2:7",
        f"{path}:3:16",
    ]
    assert "'vnd.tamis.tables' (only files of the site have it)" in result.stdout
    path.write_text('require ["vnd.tamis.stage", "vnd.tamis.reply"];\nstage "rcpt" { reply "no"; }\n')
    assert sieve("check", "--recipient", path).stdout == f"{path}: ok\n"


def test_run_of_a_policy_file_says_what_does_that(folder: Path) -> None:
    path = folder / "policy.sieve"
    path.write_text('require ["vnd.tamis.stage", "vnd.tamis.reply"];\nstage "rcpt" { defer; }\n')
    result = sieve("run", path, folder / "message")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"tamis: {path}: a policy file is tried by `tamis explain`, or by a test for `tamis sieve test`\n"
    )


def test_tests_pass_and_fail(folder: Path) -> None:
    head = 'require "vnd.dovecot.testsuite"; test "one" {{ if not {} {{ test_fail "no"; }} }}\n'
    (folder / "a.svtest").write_text(head.format("true"))
    (folder / "b.svtest").write_text(head.format("false"))
    passed = sieve("test", folder / "a.svtest")
    assert passed.exit_code == 0
    assert "1: Test 'one' SUCCEEDED" in passed.stdout
    both = sieve("test", "-q", folder)
    assert both.exit_code == 1
    assert "a.svtest" not in both.stdout
    assert "FAILED: no" in both.stdout
    assert both.stdout.endswith("1 of 2 files passed\n")


def test_format_does_not_lose_a_script_on_a_full_disk(folder: Path) -> None:
    path = folder / "odd.sieve"
    path.write_text("keep;stop;" * 1000)
    path.chmod(0o640)
    (folder / "link.sieve").symlink_to(path)

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    words = [sys.executable, "-m", "mta.cli", "sieve", "format", str(folder / "link.sieve")]
    done = subprocess.run(words, preexec_fn=small, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, f"tamis: {folder}/link.sieve: File too large\n")
    assert path.read_text() == "keep;stop;" * 1000
    assert sieve("format", folder / "link.sieve").exit_code == 0
    assert path.read_text() == "keep;\nstop;\n" * 1000
    assert path.stat().st_mode & 0o777 == 0o640
    assert (folder / "link.sieve").is_symlink()
    assert len(list(folder.iterdir())) == 5


def test_format(folder: Path) -> None:
    path = folder / "loose.sieve"
    path.write_text("keep;stop;")
    checked = sieve("format", "--check", path)
    assert (checked.exit_code, path.read_text()) == (1, "keep;stop;")
    assert sieve("format", path).exit_code == 0
    assert path.read_text() == "keep;\nstop;\n"
    assert sieve("format", "--check", path).exit_code == 0
    assert sieve("format", "-", text="keep;").stdout == "keep;\n"


def test_extensions(folder: Path) -> None:
    found = {one["name"]: one["specification"] for one in json.loads(sieve("extensions", "--json").stdout)}
    assert found["vacation"] == "RFC 5230"
    assert "vacation" in sieve("extensions").stdout


# The language server


def speak(*messages: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    source = b"".join(
        b"Content-Length: %d\r\n\r\n%s" % (len(octets), octets)
        for octets in (json.dumps({"jsonrpc": "2.0", **message}).encode() for message in messages)
    )
    target = io.BytesIO()
    status = LanguageServer(io.BytesIO(source), target).run()
    answers = []
    rest = target.getvalue()
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = int(head.partition(b":")[2])
        answers.append(json.loads(rest[:length]))
        rest = rest[length:]
    return status, answers


def test_an_editor_sees_mistakes_as_they_are_typed_and_gets_layout() -> None:
    uri = "file:///policies/a.sieve"
    opened = {"textDocument": {"uri": uri, "text": '# \U0001f4ec\nfileinto "\U0001f4ec"; keep'}}
    changed = {"textDocument": {"uri": uri}, "contentChanges": [{"text": "keep;stop;"}]}
    status, answers = speak(
        {"id": 1, "method": "initialize", "params": {}},
        {"method": "initialized", "params": {}},
        {"method": "textDocument/didOpen", "params": opened},
        {"method": "textDocument/didChange", "params": changed},
        {"id": 2, "method": "textDocument/formatting", "params": {"textDocument": {"uri": uri}}},
        {"id": 3, "method": "textDocument/hover", "params": {}},
        {"id": 4, "method": "shutdown"},
        {"method": "exit"},
    )
    assert status == 0
    first, opening, change, layout, unknown, end = answers
    assert first["result"]["capabilities"] == {"textDocumentSync": 1, "documentFormattingProvider": True}
    diagnostics = opening["params"]["diagnostics"]
    assert diagnostics
    # Columns count in UTF-16, in which the letter box takes two.
    assert diagnostics[-1]["range"]["start"]["line"] == 1
    assert diagnostics[-1]["range"]["start"]["character"] >= 15
    assert change["params"]["diagnostics"] == []
    assert layout["result"][0]["newText"] == "keep;\nstop;\n"
    assert unknown["error"]["code"] == -32601
    assert end == {"jsonrpc": "2.0", "id": 4, "result": None}


def test_wrong_parameters_are_answered_so() -> None:
    _, answers = speak({"id": 1, "method": "textDocument/formatting", "params": {"textDocument": 3}})
    assert answers[0]["error"]["code"] == -32602


@pytest.mark.parametrize("octets", [b"", b"nonsense\r\n\r\n", b"Content-Length: 5\r\n\r\n{{{{{", b"\r\n"])
def test_what_is_no_message_ends_the_server(octets: bytes) -> None:
    assert LanguageServer(io.BytesIO(octets), io.BytesIO()).run() == 1
