"""What files held when they were right, for who starts when they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from mta import config
from mta.accounts.user import User, format_user
from mta.accounts.usersfile import UsersFile, UsersFileError
from mta.daemon_policy import _srs_services
from mta.lastgood import LARGEST, KeptFiles, LastGood, secrets_reader
from mta.policy.recipients import RecipientFile
from mta.policy.watched import TableError
from mta.tables.text import TextTable
from tests.dialog.server import Link


def test_a_large_table_serves_by_its_index(tmp_path: Path) -> None:
    path, index = tmp_path / "table", tmp_path / "index"
    link, told, now = Link(), list[str](), [0.0]

    def table() -> TextTable:
        return TextTable(str(path), str(index), lambda: now[0], told.append, large=1, good=KeptFiles(link))

    path.write_text("a one\n" + "# more than is kept\n" * (LARGEST // 10))
    assert table().get("a") == "one"
    assert KeptFiles(link).content(str(path)) is None
    path.write_bytes(b"\xff\n")
    later = table()
    assert later.get("a") == "one"
    assert len(told) == 1
    path.write_text("a two\n")
    now[0] += 60
    assert KeptFiles(link).was_right(str(path))
    index.unlink()
    path.write_bytes(b"\xff\n")
    with pytest.raises(TableError, match="UTF-8"):
        table()


def test_what_nobody_has_read_is_wrong_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xff\n")
    path.chmod(0o600)
    good = KeptFiles(Link())
    with pytest.raises(TableError):
        RecipientFile(path, lambda: 0.0, good=good)
    with pytest.raises(TableError):
        TextTable(str(path), "", lambda: 0.0, good=good)
    with pytest.raises(UsersFileError):
        UsersFile(path, on_error=print, good=good)


def test_what_is_kept_is_what_was_read_last(tmp_path: Path) -> None:
    path, now = tmp_path / "file", [0.0]
    link, told = Link(), list[str]()
    path.write_text("a\n")
    recipients = RecipientFile(path, lambda: now[0], complain=told.append, good=KeptFiles(link))
    assert KeptFiles(link).content(str(path)) == b"a\n"
    path.write_text("a\nb\n")
    now[0] += 60
    recipients._keys.content()
    assert KeptFiles(link).content(str(path)) == b"a\nb\n"
    path.write_text("two words\n")
    now[0] += 60
    assert recipients._keys.content() == {"a", "b"}
    later = RecipientFile(path, lambda: now[0], complain=told.append, good=KeptFiles(link))
    assert later._keys.content() == {"a", "b"}
    assert len(told) == 2
    path.write_text("c\n")
    now[0] += 60
    assert later._keys.content() == {"c"}


def test_users_are_those_of_before(tmp_path: Path) -> None:
    path, now = tmp_path / "users", [0.0]
    link, told = Link(), list[UsersFileError]()

    def users() -> UsersFile:
        return UsersFile(path, on_error=told.append, clock=lambda: now[0], good=KeptFiles(link))

    path.write_text(format_user(User("a@example.test").with_password("secret")) + "\n")
    path.chmod(0o600)
    assert set(users().users) == {"a@example.test"}
    path.write_text("no user\n")
    later = users()
    assert set(later.users) == {"a@example.test"}
    assert len(told) == 1
    path.write_text(format_user(User("b@example.test").with_password("secret")) + "\n")
    now[0] += 60
    assert set(later.users) == {"b@example.test"}
    path.unlink()
    assert set(users().users) == {"b@example.test"}
    assert len(told) == 2


class Editor(KeptFiles):
    """Somebody writes something else into each file as soon as it has been read."""

    def note(self, path: str, octets: bytes | None) -> None:
        """The moment between reading and keeping."""
        Path(path).write_bytes(b"half edit\xff")
        super().note(path, octets)


def read_recipients(path: Path, good: LastGood) -> None:
    RecipientFile(path, lambda: 0.0, good=good)


def read_text_table(path: Path, good: LastGood) -> None:
    TextTable(str(path), "", lambda: 0.0, good=good)


def read_users(path: Path, good: LastGood) -> None:
    UsersFile(path, on_error=print, good=good)


def read_password(path: Path, good: LastGood) -> None:
    secrets_reader(good)(str(path))


def read_srs(path: Path, good: LastGood) -> None:
    site = '[domains."fwd.example.org"]\n[backends.b]\naddresses = ["127.0.0.1:1"]\n'
    settings = config.parse(f'{site}[srs]\nsecrets_file = "{path}"\ndomain = "fwd.example.org"\n')
    _srs_services(settings, Mock(), good)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_recipients, "a\n"),
        (read_text_table, "a b\r\n"),
        (read_users, "a@example.test:{PLAIN}secret:\n"),
        (read_password, "secret\nmore\n"),
        (read_srs, "0123456789abcdef\n"),
    ],
)
def test_what_is_kept_is_what_was_read(
    read: Callable[[Path, LastGood], None], text: str, tmp_path: Path
) -> None:
    """Not what the file holds a moment later."""
    path, link = tmp_path / "file", Link()
    path.write_bytes(text.encode())
    path.chmod(0o600)
    read(path, Editor(link))
    assert path.read_bytes().startswith(b"half")
    assert KeptFiles(link).content(str(path)) == text.encode()
    read(path, KeptFiles(link))
