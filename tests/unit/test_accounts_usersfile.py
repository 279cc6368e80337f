"""The users file: its grammar, reading again, and rewriting."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.accounts import passwords, usersfile
from mta.accounts.passwords import DECOY
from mta.accounts.user import User, format_size, format_user, parse_size, parse_user, user_key
from mta.accounts.usersfile import UsersFile, UsersFileError, edit, parse_table

SCRAM1 = passwords.parse(
    "{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE="
)
SCRAM256 = passwords.parse(
    "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
PLAIN = passwords.parse("{PLAIN}secret")
SSHA = passwords.parse("{SSHA}MeK9FmCZljxSm1/uNz6yLmvGGhStqy+D")


@pytest.mark.parametrize(
    ("line", "user"),
    [
        ("alice@example.org:{PLAIN}secret", User("alice@example.org", PLAIN)),
        ("Alice@EXAMPLE.org:{PLAIN}secret:", User("alice@example.org", PLAIN)),
        ("alice:{PLAIN}secret", User("alice", PLAIN)),
        ("a@bücher.example:{PLAIN}secret", User("a@xn--bcher-kva.example", PLAIN)),
        ("a@b.example:", User("a@b.example")),
        ("a@b.example:*:quota=1G", User("a@b.example", quota=1024**3)),
        ("a@b.example:!:disabled", User("a@b.example", disabled=True)),
        (
            "a@b.example:{PLAIN}secret:"
            "quota=0 addresses=Sales@B.example,@c.example,,@c.example home=/srv/a disabled",
            User(
                "a@b.example",
                PLAIN,
                quota=0,
                addresses=("sales@b.example", "@c.example"),
                home="/srv/a",
                disabled=True,
            ),
        ),
        ("a@b.example:{PLAIN}secret:home=/srv/a:b", User("a@b.example", PLAIN, home="/srv/a:b")),
        (f"a@b.example:{DECOY}+{SCRAM256}+{SCRAM1}:", User("a@b.example", DECOY, (SCRAM256, SCRAM1))),
        (f"a@b.example:{SCRAM256}+{SCRAM1}", User("a@b.example", SCRAM256, (SCRAM1,))),
        (f"a@b.example:{SSHA}", User("a@b.example", SSHA)),  # a "+" of base64 separates nothing
        # Dovecot's passwd-file
        ("a@b.example:{PLAIN}secret::", User("a@b.example", PLAIN, columns=("", "", "", ""))),
        (
            "a@b.example:{PLAIN}secret:1000:1001:A. B.:/home/a:/bin/sh:"
            "quota=1M userdb_quota_rule=*:bytes=20000 nologin",
            User(
                "a@b.example",
                PLAIN,
                quota=1024**2,
                home="/home/a",
                disabled=True,
                columns=("1000", "1001", "A. B.", "/bin/sh"),
                ignored=("userdb_quota_rule=*:bytes=20000",),
            ),
        ),
        (
            "a@b.example:{PLAIN}secret::::::addresses=x@b.example",
            User("a@b.example", PLAIN, addresses=("x@b.example",), columns=("", "", "", "")),
        ),
    ],
)
def test_lines(line: str, user: User) -> None:
    assert parse_user(line) == user
    assert parse_user(format_user(user)) == user


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("alice@example.org", "expected address:"),
        (":{PLAIN}x", "not a user name"),
        ("a b:{PLAIN}x", "not a user name"),
        ("@b.example:{PLAIN}x", "'@b.example':"),
        ("a@b@c:{PLAIN}x", "'a@b@c':"),
        ("a@b:secret", "without {SCHEME}"),
        ("a@b:{PLAN}secret", "unknown password scheme"),
        (f"a@b:{SCRAM1}+{SCRAM1}", "the same SCRAM scheme twice"),
        (f"a@b:{DECOY}+{{SCRAM-SHA-1}}x", "SCRAM keys are"),
        ("a@b:{PLAIN}x:qouta=1G", "unknown field 'qouta'; did you mean quota?"),
        ("a@b:{PLAIN}x:colour=red", "unknown field 'colour'; known are addresses, disabled, home, quota"),
        ("a@b:{PLAIN}x:quota=1G quota=2G", "field quota twice"),
        ("a@b:{PLAIN}x:quota=much", "'much' is not a size"),
        ("a@b:{PLAIN}x:quota=-1", "not a size"),
        ("a@b:{PLAIN}x:disabled=no", "disabled has no value"),
        ("a@b:{PLAIN}x:home=srv", "home is an absolute path"),
        ("a@b:{PLAIN}x:addresses=nobody", "addresses:"),
        ("a@b:{PLAIN}x::::::allow_nets=192.0.2.0/24", "field allow_nets restricts"),
        ("a@b:{PLAIN}x::::::proxy", "field proxy restricts"),
        ("a@b:{PLAIN}x\ty", "control characters"),
        ("a@b:{PLAIN}" + "x" * 20000, "longer than"),
    ],
)
def test_bad_lines_say_what_is_wrong(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_user(line)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("0", 0),
        ("17", 17),
        ("1K", 1024),
        ("2m", 2 * 1024**2),
        ("3GiB", 3 * 1024**3),
        ("1TB", 1000**4),
        ("5kB", 5000),
        ("7b", 7),
    ],
)
def test_sizes(text: str, octets: int) -> None:
    assert parse_size(text) == octets
    assert parse_size(format_size(octets)) == octets


labels = st.text("abcxyz0189", min_size=1, max_size=8)
addresses = st.builds(
    lambda local, domain: f"{local}@{domain}.example",
    st.text("abc.xyz+-_", min_size=1, max_size=9).filter(lambda s: not s.startswith(".")),
    labels,
)
values = st.text(
    st.characters(codec="utf-8", exclude_characters=": \u00a0", exclude_categories=("C", "Z")), max_size=12
)
users = st.builds(
    User,
    name=addresses,
    password=st.sampled_from([DECOY, SSHA, PLAIN, SCRAM256]),
    verifiers=st.sampled_from([(), (SCRAM1,)]),
    quota=st.none() | st.integers(0, 1 << 50),
    addresses=st.lists(
        addresses | labels.map(lambda domain: f"@{domain}.example"), unique=True, max_size=3
    ).map(tuple),
    home=st.just("") | values.map(lambda value: "/" + value),
    disabled=st.booleans(),
    columns=st.none() | st.just(("", "", "", "")) | st.just(("5", "7", "A. B.", "/bin/false")),
)


@settings(max_examples=200)
@given(st.lists(users, unique_by=lambda user: user.name, max_size=4))
def test_users_survive_the_file(written: list[User]) -> None:
    text = "".join(f"{format_user(user)}\n# comment\n\n" for user in written)
    table = parse_table(text, "users")
    assert list(table.users.values()) == written
    assert table.format() == text


@given(st.text(max_size=60))
def test_no_text_makes_the_reader_raise_anything_else(text: str) -> None:
    complaint = "users:"
    try:
        parse_table(text, "users")
    except UsersFileError as error:
        complaint = str(error)
    assert complaint.startswith("users:")


@pytest.mark.parametrize(
    "user",
    [
        User("a@b.example", home="/with blank"),
        User("a@b.example", home="relative"),
        User("A@b.example"),
        User("a@b.example", verifiers=(SCRAM1,)),
        User("#a@b.example"),
    ],
)
def test_what_no_line_can_hold_is_not_written(user: User) -> None:
    with pytest.raises(ValueError, match=r"."):
        format_user(user)


def test_login_names() -> None:
    assert user_key("ALICE@Example.ORG") == "alice@example.org"
    assert user_key("A\u00adlice") == "alice"
    for bad in ("", "a:b", "a b", "a@", "a@b c", "\x07", "#x"):
        with pytest.raises(ValueError, match=r"."):
            user_key(bad)


def test_all_problems_are_told_at_once_with_their_lines() -> None:
    text = "# users\na@b.example:secret\nb@b.example:{PLAIN}x\nb@b.example:{PLAIN}y\nc\n"
    with pytest.raises(UsersFileError) as raised:
        parse_table(text, "/etc/tamis/users")
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("/etc/tamis/users:2: password without {SCHEME}")
    assert lines[1] == "/etc/tamis/users:4: user b@b.example is there twice"
    assert lines[2].startswith("/etc/tamis/users:5: expected")
    assert len(lines) == 3


def test_problems_have_a_limit() -> None:
    with pytest.raises(UsersFileError) as raised:
        parse_table("x\n" * 1000, "users")
    assert len(str(raised.value).splitlines()) == usersfile.MAX_PROBLEMS


# ------------------------------------------------------------------------------------------------ files


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, text: str, mode: int = 0o640) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.chmod(mode)
    new.rename(path)


def test_a_changed_file_is_noticed_within_a_second(tmp_path: Path) -> None:
    path, clock, problems = tmp_path / "users", Clock(), list[UsersFileError]()
    write(path, "a@b.example:{PLAIN}x\n")
    users = UsersFile(path, on_error=problems.append, clock=clock)
    first = users.get("a@b.example")
    assert first is not None
    write(path, "a@b.example:{PLAIN}x\nc@b.example:{PLAIN}y\n")
    assert "c@b.example" not in users.users
    clock.now = 1.0
    assert users.get("C@B.example") == User("c@b.example", passwords.parse("{PLAIN}y"))
    assert users.get("a@b.example") is first  # an unchanged line is not parsed again
    assert users.generation == 2
    assert problems == []


@pytest.mark.parametrize("name", ["c@b.example", "C@B.example"])
def test_a_new_user_is_known_at_once(tmp_path: Path, name: str) -> None:
    path, problems = tmp_path / "users", list[UsersFileError]()
    write(path, "a@b.example:{PLAIN}x\n")
    users = UsersFile(path, on_error=problems.append, clock=Clock())
    assert users.get(name) is None
    assert users.generation == 1
    write(path, "a@b.example:{PLAIN}x\nc@b.example:{PLAIN}y\n")
    assert users.get(name) is not None
    assert users.generation == 2
    assert problems == []


def test_a_login_is_prepared_and_a_key_is_not(tmp_path: Path) -> None:
    write(tmp_path / "users", "bob@b.example:{PLAIN}x\n")
    users = UsersFile(tmp_path / "users", on_error=lambda error: None)
    assert users.of_key("bob@b.example") is users.get("bob@b.example") is not None
    for name in ("Bob@b.example", "b\u00adob@b.example", "\uff42ob@b.example", "b\u200dob@b.example"):
        assert users.get(name) is not None
        assert users.of_key(name) is None


def test_a_key_that_is_new_is_known_at_once(tmp_path: Path) -> None:
    write(tmp_path / "users", "a@b.example:{PLAIN}x\n")
    users = UsersFile(tmp_path / "users", on_error=lambda error: None, clock=Clock())
    assert users.of_key("c@b.example") is None
    write(tmp_path / "users", "a@b.example:{PLAIN}x\nc@b.example:{PLAIN}y\n")
    assert users.of_key("c@b.example") is not None


def test_unknown_names_read_no_bad_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock, problems = tmp_path / "users", Clock(), list[UsersFileError]()
    write(path, "a@b.example:{PLAIN}x\n")
    users = UsersFile(path, on_error=problems.append, clock=clock)
    read = Mock(wraps=parse_table)
    monkeypatch.setattr(usersfile, "parse_table", read)
    write(path, "broken\n")
    for _ in range(3):
        assert users.get("c@b.example") is None
    assert read.call_count == len(problems) == 1
    clock.now = 1.0
    assert users.get("c@b.example") is None
    assert read.call_count == 2, "once a second it is tried again: what stood in the way may be gone"
    assert len(problems) == 1


def test_a_bad_file_keeps_the_users_and_complains_once(tmp_path: Path) -> None:
    path, clock, problems = tmp_path / "users", Clock(), list[UsersFileError]()
    write(path, "a@b.example:{PLAIN}x\n")
    users = UsersFile(path, on_error=problems.append, clock=clock)
    changes: list[tuple[Callable[[], object], str]] = [
        (lambda: write(path, "broken\n"), "users:1: expected address"),
        (lambda: write(path, "c@b.example:{PLAIN}y\n", 0o644), "chmod 640"),
        (lambda: path.unlink(), "No such file"),
        (lambda: path.mkdir(), "regular file"),
    ]
    for change, complaint in changes:
        change()
        for _ in range(3):
            clock.now += 1
            assert users.get("a@b.example") is not None
        assert complaint in str(problems.pop())
        assert problems == []
    path.rmdir()
    write(path, "c@b.example:{PLAIN}y\n")
    clock.now += 1
    assert users.get("a@b.example") is None
    assert users.get("c@b.example") is not None


def test_strange_names_are_nobody(tmp_path: Path) -> None:
    path = tmp_path / "users"
    write(path, "a@b.example:{PLAIN}x\n")
    users = UsersFile(path, on_error=lambda error: None)
    for name in ("", "@", "x\x07@b.example", "\ud800@b.example", "a@b.example ", "@B"):
        assert users.get(name) is None


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        (b"a@b.example:{PLAIN}x\n", 0o644, "chmod 640"),
        (b"a@b.example:{PLAIN}x\n", 0o660, "chmod 640"),
        (b"# ok\na@b.example:{PLAIN}\xff\n", 0o600, "users:2: not UTF-8"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes, mode: int, complaint: str) -> None:
    path = tmp_path / "users"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(UsersFileError, match=complaint):
        UsersFile(path, on_error=lambda error: None)


def test_a_file_that_is_missing_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsersFileError, match="No such file"):
        UsersFile(tmp_path / "users", on_error=lambda error: None)
    write(tmp_path / "users", "#" * 100)
    monkeypatch.setattr(usersfile, "MAX_FILE", 99)
    with pytest.raises(UsersFileError, match="larger than 99"):
        UsersFile(tmp_path / "users", on_error=lambda error: None)


def test_edit_makes_the_file_and_keeps_what_it_does_not_touch(tmp_path: Path) -> None:
    path = tmp_path / "users"
    with edit(path) as table:
        table.put(User("a@b.example", PLAIN))
    assert path.stat().st_mode & 0o777 == 0o640
    text = path.read_text()
    assert text.splitlines()[1].startswith("#% decoy-key ")
    odd = "# my comment\r\n\nOdd@B.example:{plain.B64}c2VjcmV0:  quota=1024K\n"
    path.write_text(text + odd)
    with edit(path) as table:
        table.put(User("c@b.example", PLAIN))
        table.put(User("a@b.example", SSHA))
    changed = (
        text.replace("{PLAIN}secret", str(SSHA)) + odd.replace("\r", "") + "c@b.example:{PLAIN}secret:\n"
    )
    assert path.read_text() == changed
    with edit(path) as table:
        table.remove("odd@b.example")
    assert "Odd" not in path.read_text()
    assert os.listdir(tmp_path) == ["users"]


def test_a_failed_edit_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "users"
    write(path, "a@b.example:{PLAIN}x\n")
    with pytest.raises(KeyError), edit(path) as table:
        table.remove("nobody@b.example")
    with pytest.raises(ValueError, match="cannot be written"), edit(path) as table:
        table.put(User("c@b.example", home="/a b"))
    assert path.read_text() == "a@b.example:{PLAIN}x\n"


def test_root_edits_nothing_behind_a_link_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, target = tmp_path / "theirs", tmp_path / "target"
    theirs.mkdir()
    target.mkdir()
    (theirs / "folder").symlink_to(target)
    if os.geteuid() == 0:
        os.chown(theirs, 65534, 65534)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with (
        pytest.raises(UsersFileError, match="theirs/folder is a link that others"),
        edit(theirs / "folder/users"),
    ):
        pass
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "users"
    write(path, "a@b.example:{PLAIN}x\n")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(UsersFileError, match="No space left"), edit(path) as table:
        table.put(User("c@b.example", PLAIN))
    monkeypatch.undo()
    assert path.read_text() == "a@b.example:{PLAIN}x\n"
    assert os.listdir(tmp_path) == ["users"]


def test_edits_of_several_processes_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "users"
    program = (
        "import sys; from mta.accounts.usersfile import edit; from mta.accounts.user import User\n"
        "for n in range(10):\n"
        "    with edit(sys.argv[1]) as table: table.put(User(f'u{n}@{sys.argv[2]}.example'))"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(path), name]) for name in ("a", "b", "c")]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    users = UsersFile(path, on_error=lambda error: None)
    assert len(users.users) == 30
    assert len(users.decoy_key) == 32


def test_the_decoy_key_stays(tmp_path: Path) -> None:
    path = tmp_path / "users"
    keys = []
    for number in range(2):
        with edit(path) as table:
            table.put(User(f"u{number}@b.example"))
        keys.append(UsersFile(path, on_error=lambda error: None).decoy_key)
    assert keys[0] == keys[1] != b""
