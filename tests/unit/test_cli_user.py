"""`tamis user`."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
import typer
from typer.testing import CliRunner, Result

from mta import cli_user, commands
from mta.accounts import passwords, usersfile
from mta.accounts.user import User
from mta.accounts.usersfile import parse_table, read_text
from mta.cli_exit import EXIT_CONFIG
from mta.cli_user import GENERATED_LENGTH, make_app


class Terminal:
    """Runs commands on the file of a configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._app = make_app(lambda: path, lambda: ["b.example", "example.org"], lambda: None)

    def run(self, *words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(self._app, list(words), input=stdin)

    @property
    def users(self) -> dict[str, User]:
        return parse_table(read_text(str(self.path)), "users").users


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path / "users")


def test_add_makes_the_file_with_all_hashes(terminal: Terminal) -> None:
    result = terminal.run(
        "add", "Alice@Example.org", "--quota", "2G", "--address", "@b.example", stdin="correct horse\n"
    )
    assert (result.exit_code, result.stdout) == (0, "added alice@example.org\n")
    assert result.stderr == ""
    user = terminal.users["alice@example.org"]
    assert user.quota == 2 * 1024**3
    assert user.addresses == ("@b.example",)
    assert user.password is not None
    assert [user.password.scheme, *(each.scheme for each in user.verifiers)] == [
        "ARGON2ID",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
    ]
    for stored in (user.password, *user.verifiers):
        assert passwords.verify(stored, "correct horse")
    assert terminal.path.stat().st_mode & 0o777 == 0o640


def test_generate_prints_only_the_password_on_standard_output(terminal: Terminal) -> None:
    result = terminal.run("add", "a@b.example", "--generate", "--no-scram")
    assert result.exit_code == 0
    password = result.stdout.removesuffix("\n")
    assert len(password) == GENERATED_LENGTH
    user = terminal.users["a@b.example"]
    assert user.verifiers == ()
    assert user.password is not None
    assert passwords.verify(user.password, password)
    assert terminal.run("passwd", "a@b.example", "--generate").stdout.removesuffix("\n") != password


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_password_that_is_no_utf8(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], errors: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"p\xe4ssword\n"), "utf-8", errors))
    with pytest.raises(typer.Exit):
        cli_user._password(stdin=True, generate=False)
    assert capsys.readouterr().err == "error: the password is not UTF-8\n"


def test_prompt(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def prompt(text: str, **options: object) -> str:
        asked.append(options)
        return "correct horse"

    class Tty:
        @staticmethod
        def isatty() -> bool:
            return True

    class Sys:
        stdin = Tty

    monkeypatch.setattr(cli_user, "sys", Sys)
    monkeypatch.setattr(typer, "prompt", prompt)
    assert terminal.run("add", "a@b.example").exit_code == 0
    assert asked == [{"hide_input": True, "confirmation_prompt": True}]
    password = terminal.users["a@b.example"].password
    assert password is not None
    assert passwords.verify(password, "correct horse")


def test_passwd(terminal: Terminal) -> None:
    terminal.run("add", "a@b.example", "--quota", "1G", stdin="correct horse\n")
    result = terminal.run("passwd", "A@b.example", "--stdin", stdin="battery staple\n")
    assert (result.exit_code, result.stdout) == (0, "changed the password of a@b.example\n")
    user = terminal.users["a@b.example"]
    assert user.quota == 1024**3
    assert user.password is not None
    assert passwords.verify(user.password, "battery staple")


def test_passwd_in_a_file_of_dovecot(terminal: Terminal) -> None:
    terminal.path.write_text("a@b.example:{PLAIN}secret:1000:1000::/home/a::\n")
    terminal.path.chmod(0o640)
    result = terminal.run("passwd", "a@b.example", stdin="correct horse\n")
    assert result.exit_code == 0
    assert "no room for SCRAM" in result.stderr
    assert terminal.users["a@b.example"].verifiers == ()
    assert terminal.path.read_text().splitlines()[-1].endswith(":1000:1000::/home/a::")


def test_list(terminal: Terminal) -> None:
    terminal.run(
        "add", "a@b.example", "--address", "x@b.example", "--home", "/srv/a", stdin="correct horse\n"
    )
    with usersfile.edit(terminal.path) as table:
        table.put(User("z@b.example", disabled=True))
    result = terminal.run("list")
    assert result.exit_code == 0
    for word in ("a@b.example", "x@b.example", "/srv/a", "ARGON2ID", "disabled", "none"):
        assert word in result.stdout
    facts = json.loads(terminal.run("list", "--json").stdout)
    assert facts[0] == {
        "user": "a@b.example",
        "schemes": ["ARGON2ID", "SCRAM-SHA-256", "SCRAM-SHA-1"],
        "quota": None,
        "addresses": ["x@b.example"],
        "home": "/srv/a",
        "disabled": False,
    }
    assert facts[1]["disabled"] is True


def test_a_domain_that_is_not_served(tmp_path: Path) -> None:
    domains = ["b.example", "BÜCHER.example"]
    app = make_app(lambda: tmp_path / "users", lambda: domains, lambda: None)

    def add(*words: str) -> str:
        done = CliRunner().invoke(app, ["add", *words], input="correct horse\n")
        assert done.exit_code == 0
        return done.stderr

    assert add("a@b.example") == add("a@xn--bcher-kva.example") == ""
    assert add("a").startswith("warning: a is no mail address, as a@b.example is: it gets no mail")
    expected = 'warning: mail for a@c.example is not taken: the configuration has no [domains."c.example"]\n'
    assert add("a@c.example") == expected
    assert add("b@c.example", "--file", str(tmp_path / "others")) == ""
    domains.clear()
    assert add("b@c.example") == ""


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ('auth.backend = "dovecot"\n[domains."b.example"]\n', True),
        ('auth.backend = "dovecot"\n[domains."b.example"]\nrecipients = "users"\n', False),
        ('[auth]\nbackend = "dovecot"\n[store]\nenabled = true\n', False),
        ('[auth]\nbackend = "users"\n', False),
        ("[store]\nenabled = true\n", False),
        ("", False),
        ('auth.backend = "dovecot"\nwrong\n', False),
    ],
)
def test_users_that_the_server_does_not_look_for(tmp_path: Path, text: str, is_told: bool) -> None:
    path = tmp_path / "tamis.toml"
    path.write_text(text)
    words = ["add", "a@b.example", "--config", str(path)]
    done = CliRunner().invoke(commands.SUB_APPS["user"](), words, input="correct horse\n")
    assert done.exit_code == 0
    told = f"warning: {path} uses no users file: its users are those of auth.backend\n"
    assert (told in done.stderr) == is_told


def test_del(terminal: Terminal) -> None:
    terminal.run("add", "a@b.example", stdin="correct horse\n")
    assert terminal.run("del", "a@b.example", stdin="n\n").exit_code == 1
    silent = terminal.run("del", "a@b.example", stdin="")
    assert (silent.exit_code, "nobody answers, so a@b.example stays; without" in silent.stderr) == (1, True)
    assert "a@b.example" in terminal.users
    assert terminal.run("del", "a@b.example", stdin="y\n").exit_code == 0
    assert terminal.users == {}
    terminal.run("add", "a@b.example", stdin="correct horse\n")
    assert terminal.run("del", "-y", "A@B.example").stdout == "removed a@b.example\n"


def test_addresses(terminal: Terminal) -> None:
    terminal.run("add", "a@b.example", stdin="correct horse\n")
    assert terminal.run("addresses", "a@b.example").stdout == "a@b.example\n"
    more = terminal.run("addresses", "a@b.example", "--add", "X@b.example", "--add", "@c.example")
    assert more.stdout == "a@b.example\nx@b.example\n@c.example\n"
    less = terminal.run("addresses", "a@b.example", "--remove", "x@b.example", "--add", "@c.example")
    assert less.stdout == "a@b.example\n@c.example\n"
    assert terminal.users["a@b.example"].addresses == ("@c.example",)


def test_file_option_needs_no_configuration(tmp_path: Path) -> None:
    def broken() -> Path:
        raise AssertionError("the configuration was read")

    path = tmp_path / "other"
    app = make_app(broken, frozenset, Mock(side_effect=ValueError))
    result = CliRunner().invoke(app, ["add", "a@b.example", "-f", str(path)], input="correct horse\n")
    assert result.exit_code == 0
    assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("configured", ["owner", "folder"])
def test_a_file_that_root_makes_is_the_servers_to_read(tmp_path: Path, configured: str) -> None:
    """Also where its folder has another group, as /etc/mail or a home may have, and whatever the umask."""
    os.chown(tmp_path, 4241, 4242)
    server = (4243, 4244) if configured == "owner" else None
    app = make_app(lambda: tmp_path / "users", frozenset, lambda: server)
    old = os.umask(0o077)
    try:
        words = ["add", "a@b.example"]
        assert CliRunner().invoke(app, words, input="correct horse\n").exit_code == 0
    finally:
        os.umask(old)
    status = (tmp_path / "users").stat()
    assert (status.st_uid, status.st_gid) == (4241, 4242 if server is None else server[1])
    assert status.st_mode & 0o777 == 0o640


def test_a_server_whose_user_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    app = make_app(lambda: tmp_path / "users", frozenset, Mock(side_effect=ValueError("no user x")))
    result = CliRunner().invoke(app, ["add", "a@b.example"], input="correct horse\n")
    assert (result.exit_code, result.stderr) == (EXIT_CONFIG, "error: no user x\n")
    assert not (tmp_path / "users").exists()


@pytest.mark.parametrize(
    ("words", "stdin", "code", "message"),
    [
        (("add", "known@b.example"), "correct horse\n", 1, "known@b.example exists; set a new password"),
        (("add", "not an address@"), "", 1, "'not an address@':"),
        (("add", "a b"), "", 1, "'a b': not a user name"),
        (("add", "a@b.example", "--quota", "much"), "", 1, "quota: 'much' is not a size"),
        (("add", "a@b.example", "--address", "nobody"), "", 1, "'nobody':"),
        (("add", "a@b.example", "--home", "relative"), "correct horse\n", 1, "cannot be written"),
        (("add", "a@b.example"), "\n", 1, "the password is empty"),
        (("add", "a@b.example"), "x" * 2000 + "\n", 1, "at most 1024 octets"),
        (("add", "a@b.example"), "bell\x07bell\x07\n", 1, "U+0007 is not allowed"),
        (("passwd", "nobody@b.example"), "", 1, "no user nobody@b.example"),
        (("del", "nobody@b.example"), "", 1, "no user nobody@b.example"),
        (("addresses", "nobody@b.example"), "", 1, "no user nobody@b.example"),
        (("addresses", "known@b.example", "--remove", "x@b.example"), "", 1, "has no address x@b.example"),
        (("quota", "nobody@b.example", "1G"), "", 1, "no user nobody@b.example"),
        (("quota", "known@b.example", "much"), "", 1, "quota: 'much' is not a size"),
        (("add",), "", 2, "Missing argument"),
        (("nonsense",), "", 2, "No such command"),
    ],
)
def test_mistakes_are_told_and_change_nothing(
    terminal: Terminal, words: tuple[str, ...], stdin: str, code: int, message: str
) -> None:
    terminal.path.write_text("known@b.example:*:\n")
    terminal.path.chmod(0o640)
    result = terminal.run(*words, stdin=stdin)
    assert result.exit_code == code
    assert message in result.stderr
    assert terminal.path.read_text() == "known@b.example:*:\n"


@pytest.mark.parametrize(
    ("size", "told"),
    [("500", "a mailbox of 500 octets has no room for mail"), ("1K", "1024 octets"), ("64K", ""), ("0", "")],
)
def test_a_quota_without_its_unit_is_told(terminal: Terminal, size: str, told: str) -> None:
    for words in (("add", "a@b.example", "--quota", size), ("quota", "a@b.example", size)):
        done = terminal.run(*words, stdin="correct horse\n")
        assert done.exit_code == 0
        assert ("warning: " in done.stderr, told in done.stderr) == (bool(told), True)


def test_the_quota_of_a_user_can_be_changed(terminal: Terminal) -> None:
    terminal.run("add", "a@b.example", "--quota", "1G", stdin="correct horse\n")
    result = terminal.run("quota", "a@b.example", "2G")
    assert (result.exit_code, result.stdout) == (0, "a@b.example has a quota of 2G\n")
    user = terminal.users["a@b.example"]
    assert (user.quota, user.password is not None) == (2 * 1024**3, True)
    assert terminal.run("quota", "a@b.example", "0").stdout == "a@b.example has no limit\n"
    assert terminal.users["a@b.example"].quota == 0


def test_a_short_password_is_taken_with_a_warning(terminal: Terminal) -> None:
    result = terminal.run("add", "a@b.example", "--no-scram", stdin="secret\n")
    assert result.exit_code == 0
    assert "fewer than 10 characters" in result.stderr


@pytest.mark.parametrize(
    "command", [["list"], ["passwd", "a@b.example"], ["del", "a@b.example"], ["add", "a@b.example"]]
)
@pytest.mark.parametrize("kind", ["broken", "readable"])
def test_a_file_that_cannot_be_used(terminal: Terminal, command: list[str], kind: str) -> None:
    terminal.path.write_text("a@b.example\n" if kind == "broken" else "")
    terminal.path.chmod(0o640 if kind == "broken" else 0o644)
    result = terminal.run(*command, stdin="correct horse\n")
    assert result.exit_code == EXIT_CONFIG
    assert (f"{terminal.path}:1: expected address" if kind == "broken" else "run chmod 640") in result.stderr


def test_a_missing_file(terminal: Terminal) -> None:
    for command in (["list"], ["passwd", "a@b.example"]):
        result = terminal.run(*command)
        assert result.exit_code == EXIT_CONFIG
        assert "No such file" in result.stderr


def test_brackets_are_shown_as_they_are(terminal: Terminal) -> None:
    more = ("--address", "ann@[IPv6:2001:db8::1]", "--home", "/srv/[ann]", "--no-scram", "--generate")
    assert terminal.run("add", "ann@b.example", *more).exit_code == 0
    shown = terminal.run("list").stdout
    assert "/srv/[ann]" in shown
    assert "ann@[ipv6:2001:db8::1]" in shown.lower()
