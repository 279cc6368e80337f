"""What a configuration names is looked at as the server will look at it: lines, sockets."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimrotate import KeyState
from mta.config import examine, parse
from mta.config.files import Account, FileCheck
from mta.config.problems import Findings
from mta.config.sockets import check_sockets

Check = Callable[..., list[str]]

BACKEND = '[backends.b]\naddresses = ["127.0.0.1:24"]\n'
DOMAIN = '[domains."example.org"]\nbackend = "b"\n'


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Messages about a configuration in `tmp_path`, the folder's name taken out."""

    def run(text: str, *, warnings: bool = False, runtime: str = "run") -> list[str]:
        path = tmp_path / "tamis.toml"
        path.write_text(
            'identity.hostname = "mail.example.org"\n'
            f'process = {{ runtime_directory = "{runtime}", state_directory = "state" }}\n'
            f"{text}"
        )
        report = examine(str(path))
        shown = report.problems if warnings else report.errors
        return [str(problem).replace(f"{tmp_path}/", "") for problem in shown]

    os.chmod(tmp_path, 0o755)
    return run


@pytest.mark.parametrize(
    ("section", "content", "expected"),
    [
        (
            '[tables.t]\ntype = "cidr"\nfile = "f"',
            "192.0.2.0/24 ok\n10.0.0.300 x\n",
            "tamis.toml:5: tables.t.file: f:2: '10.0.0.300' does not appear to be an IPv4 or IPv6 network, "
            "expected networks and values",
        ),
        (
            '[tables.t]\ntype = "pattern"\nfile = "f"',
            "noslash x\n",
            "tamis.toml:5: tables.t.file: f:1: a line begins with /PATTERN/ or !/PATTERN/, "
            "expected patterns and values",
        ),
        (
            '[tables.t]\ntype = "file"\nfile = "f"',
            "a b\n\xff",
            "tamis.toml:5: tables.t.file: f:2: is no UTF-8, expected keys and values",
        ),
        (
            DOMAIN + 'recipients = "table:f"\n' + BACKEND,
            "# comment\na b c\n",
            'tamis.toml:5: domains."example.org".recipients: f:2: one address or local part a line is '
            "expected, found 'a b c', expected recipients",
        ),
        (
            DOMAIN + 'recipients = "table:f"\n' + BACKEND,
            '"a b"@example.org\nann@example.org  example.org/ann/\n',
            'tamis.toml:5: domains."example.org".recipients: f:2: ann@example.org: a value stands behind it: '
            "a file of keys and values is a [tables.NAME], expected recipients",
        ),
        (
            DOMAIN.replace('"b"', '"d"') + '[director.d]\nbackends = ["b"]\ntable = "f"\n' + BACKEND,
            "x@example.org b\nnonsense\n",
            "tamis.toml:7: director.d.table: f:2: expected an address and the name of a back end, "
            "expected users and back ends",
        ),
        (
            '[auth]\nbackend = "users"\nusers_file = "f"',
            "rubbish\n",
            "tamis.toml:5: auth.users_file: f:1: expected address:{SCHEME}hash:fields, "
            "expected users as `tamis user` writes them",
        ),
    ],
)
def test_a_line_that_the_server_cannot_use(
    tmp_path: Path, check: Check, section: str, content: str, expected: str
) -> None:
    (tmp_path / "f").write_bytes(content.encode("latin-1"))
    (tmp_path / "f").chmod(0o600)
    assert check(section) == [expected]


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ('[checks]\ntls_ca = "no"', "checks.tls_ca"),
        ('[director.d]\nbackends = ["b"]\ntable = "no"\n' + BACKEND, "director.d.table"),
        (
            '[director.d]\nbackends = ["b"]\nchanges = "redis://h/"\nchanges_password_file = "no"\n'
            + BACKEND,
            "director.d.changes_password_file",
        ),
    ],
)
def test_a_file_that_is_missing(check: Check, section: str, key: str) -> None:
    (problem,) = check(section)
    assert f'{key}: "no" cannot be read, expected a file (No such file or directory)' in problem


def test_an_empty_password_of_counters(tmp_path: Path, check: Check) -> None:
    (tmp_path / "f").touch(mode=0o600)
    (problem,) = check('[policy]\ncounters = "redis://h/"\ncounters_password_file = "f"')
    assert '"f" has no password, expected one in its first line' in problem


@pytest.mark.parametrize(
    "section",
    [
        '[auth]\nbackend = "users"\nusers_file = "{}"',
        '[certificates.c]\nchain = "{}"\nkey = "{}"',
        '[tables.t]\ntype = "aliases"\nfile = "{}"',
        '[policy]\nscripts = ["{}"]',
        '[checks]\ntls_ca = "{}"',
    ],
)
def test_pipes_and_devices_are_no_files_and_hold_nobody_up(
    tmp_path: Path, check: Check, section: str
) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("pipe", "/dev/zero"):
        problems = check(section.replace("{}", name))
        assert problems
        assert all("cannot be read, expected a file (it is a device or a pipe)" in one for one in problems)


def test_a_file_too_large_for_a_certificate(tmp_path: Path, check: Check) -> None:
    with open(tmp_path / "f", "wb") as file:
        file.truncate(1 << 40)
    (problem,) = check('[checks]\ntls_ca = "f"')
    assert "(it is larger than 4 MiB)" in problem


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name, for sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="tamis") as folder:
        yield Path(folder)


def test_what_is_in_the_way_of_a_socket(check: Check, short: Path) -> None:
    (short / "file").touch()
    (short / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(short / "left"))
        problems = check(
            f'control.socket = "{short}/left"\n'
            f'metrics.listen = "unix:{short}/folder"\n'
            f'[[listener]]\nprotocol = "lmtp"\naddresses = ["unix:{short}/file", "unix:{short}/no/socket"]\n'
        )
    assert [problem.replace(str(short), "S") for problem in problems] == [
        'tamis.toml:4: metrics.listen: "S/folder" is there and is no socket, expected a path that is free',
        'tamis.toml:7: listener[0].addresses[0]: "S/file" is there and is no socket, '
        "expected a path that is free",
        'tamis.toml:7: listener[0].addresses[1]: "S/no" does not exist, '
        "expected a folder that the server can write to",
    ]


def test_a_path_too_long_for_a_socket(check: Check) -> None:
    (problem,) = check("", runtime="x" * 120)
    assert "control.socket: " in problem
    assert "is too long, expected a path of at most 107 octets" in problem


def test_an_address_of_another_machine_is_a_warning_for_it_may_come_later(check: Check) -> None:
    text = '[[listener]]\naddresses = ["127.0.0.1:1", "192.0.2.1:25"]\n'
    assert check(text) == []
    assert (
        'tamis.toml:4: warning: listener[0].addresses[1]: found "192.0.2.1:25", '
        "expected an address of this machine (no interface has it now)"
    ) in check(text, warnings=True)


def test_a_bad_user_is_one_mistake(tmp_path: Path) -> None:
    path = tmp_path / "tamis.toml"
    path.write_text('identity.hostname = "mail.example.org"\nprocess.user = "a\\u0000b"\n')
    found = [str(problem) for problem in examine(str(path)).problems if problem.key == "process.user"]
    assert found == [f'{path}:2: process.user: found "a?b", expected a text without NUL']


def test_a_socket_of_ours_in_a_folder_that_is_closed_to_us_now(short: Path) -> None:
    (short / "closed").mkdir(mode=0o755)
    nobody = Account(12345, frozenset({12345}))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(short / "closed/ours"))
        config = parse(
            f'control.socket = "{short}/closed/ours"\nmetrics.listen = "unix:{short}/closed/new"\n'
        )
        short.chmod(0o755)
        findings = Findings("tamis.toml")
        check_sockets(config, FileCheck(findings, nobody), nobody)
    (problem,) = findings.problems
    assert problem.key == "metrics.listen"
    assert problem.found.endswith("is not writable for the user of the server")


def test_a_log_that_is_a_pipe(tmp_path: Path, check: Check) -> None:
    os.mkfifo(tmp_path / "pipe", 0o666)
    assert check('[log]\ntarget = "pipe"') == [
        'tamis.toml:4: log.target: "pipe" is a pipe, expected the path of a file'
    ]


def test_a_table_of_a_director_names_a_back_end_that_is_not_there(tmp_path: Path, check: Check) -> None:
    (tmp_path / "f").write_text("x@example.org b\ny@example.org c\n")
    assert check('[director.d]\nbackends = ["b"]\ntable = "f"\n' + BACKEND) == [
        'tamis.toml:5: director.d.table: f: found "c" for y@example.org, '
        "expected the name of a [backends.NAME]"
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select v from t where k = {key}", []),
        ("select v from t where k = '{local}' and d = {reversed}", ["no such column: d"]),
        ("selec {key}", ['near "selec": syntax error']),
        ("select v from u where k = {key}", ["no such table: u"]),
        ("select {key}; select 2", ["You can only execute one statement at a time."]),
    ],
)
def test_statements_of_sqlite_are_compiled(
    tmp_path: Path, check: Check, query: str, expected: list[str]
) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute("create table t (k, v)")
    connection.close()
    (tmp_path / "db").chmod(0o644)
    found = check(f'[tables.t]\ntype = "sqlite"\nfile = "db"\nquery = "{query}"')
    assert found == [
        f'tamis.toml:6: tables.t.query: found "{query}", expected a statement ({one})' for one in expected
    ]


def test_a_file_that_is_no_database_and_a_database_that_is_locked(tmp_path: Path, check: Check) -> None:
    text = '[tables.t]\ntype = "sqlite"\nfile = "db"\nquery = "select v from t where k = {key}"'
    (tmp_path / "db").write_text("nonsense" * 100)
    (tmp_path / "db").chmod(0o644)
    assert check(text) == ['tamis.toml:5: tables.t.file: "db" is no SQLite database, expected one']
    (tmp_path / "db").unlink()
    with sqlite3.connect(tmp_path / "db", isolation_level=None) as connection:
        connection.execute("create table t (k, v)")
        (tmp_path / "db").chmod(0o644)
        connection.execute("begin exclusive")
        assert check(text) == []
    connection.close()


def test_who_signs_without_a_key_is_warned(tmp_path: Path, check: Check) -> None:
    (tmp_path / "keys").mkdir()
    found = check('[signing]\nkeys = "keys"\ndomain = "example.org"\n', warnings=True)
    assert 'tamis.toml:5: warning: signing.domain: found "example.org", expected a domain with a key' in found


def test_users_whose_mail_could_not_be_signed_are_told_of_beforehand(tmp_path: Path, check: Check) -> None:
    """`tamis dkim new` alone makes keys that do not sign yet, and mail that must be signed then waits."""
    folder = KeyFolder(tmp_path / "keys")
    (entry,) = folder.create("example.org", ("ed25519",), "one", 2048, 1.0)
    text = f'{DOMAIN}recipients = "all"\n{BACKEND}[signing]\nkeys = "keys"\n'

    def warned(more: str = "") -> list[str]:
        return [one for one in check(text + more, warnings=True) if "signing.keys" in one]

    (found,) = warned()
    assert "warning: signing.keys: no active key for example.org, expected `tamis dkim new DOMAIN`" in found
    assert found.endswith("(until then mail from there to other servers is answered 451 4.7.5)")
    (found,) = warned('[domains."example.net"]\nbackend = "b"\n')
    assert "no active key for example.org and 1 more domains, expected" in found
    assert warned("required = false\n") == []
    folder.write("example.org", [structs.replace(entry, state=KeyState.ACTIVE)])
    assert warned() == []
    (found,) = warned('[domains."example.net"]\n')
    assert "no active key for example.net, expected" in found
    assert warned('domain = "example.org"\n[domains."example.net"]\n') == []


def test_a_slip_in_the_name_of_a_table_of_recipients(check: Check) -> None:
    text = DOMAIN + 'recipients = "table:userz"\n' + BACKEND + '[tables.users]\ntype = "tcp"\n'
    assert check(text + 'address = "127.0.0.1:1"') == [
        'tamis.toml:5: domains."example.org".recipients: found "table:userz", expected the name of a '
        '[tables.NAME]: table:users (and there is no file of this name); did you mean "table:users"?'
    ]
