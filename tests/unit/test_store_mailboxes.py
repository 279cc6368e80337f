"""Addresses to mailboxes: subaddresses, and folder names that cannot lead anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.accounts.usersfile import UsersFileError
from mta.address import Address, parse_address
from mta.store import mailboxes
from mta.store.mailboxes import MailboxInfo, destination, folder_name, mailbox_path
from mta.store.quota import Quota
from mta.store.users import UsersFileMailboxes
from tests.peers.store import FixedMailboxes

ROOT = Path("/srv/mail")


def box(name: str) -> MailboxInfo:
    return MailboxInfo(ROOT / name, Quota())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alice", "alice"),
        ("alice.b-c_d+e=f", "alice.b-c_d+e=f"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("a/b", "a%2Fb"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("a%2Fb", "a%252%46b"),
        ("A", "%41"),
        ("a b", "a%20b"),
        ("nul\0", "nul%00"),
        ("ü", "%C3%BC"),
        ("[ipv6:2001:db8::1]", "%5Bipv6%3A2001%3Adb8%3A%3A1%5D"),
    ],
)
def test_folder_names(text: str, name: str) -> None:
    assert folder_name(text) == name


def test_a_folder_needs_a_name() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        folder_name("")


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_a_folder_name_is_one_visible_short_component_and_different_texts_differ(one: str, two: str) -> None:
    names = []
    for text in (one, two):
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return  # no address holds such a surrogate
        names.append(folder_name(text))
    for name in names:
        assert "/" not in name
        assert "\0" not in name
        assert not name.startswith(".")
        assert name.isascii()
        assert 0 < len(name) <= mailboxes.LONGEST_NAME
    assert (names[0] == names[1]) == (one == two)


def test_long_names_with_a_common_beginning_differ() -> None:
    one, two = folder_name("/" * 300), folder_name("/" * 301)
    assert one != two
    assert len(one) == len(two) == mailboxes.LONGEST_NAME


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("Alice@Example.TEST", "example.test/alice"),
        ('"../../etc/passwd"@example.test', "example.test/%2E.%2F..%2Fetc%2Fpasswd"),
        ('".."@example.test', "example.test/%2E."),
        ("a.b@[127.0.0.1]", "%5B127.0.0.1%5D/a.b"),
    ],
)
def test_mailbox_paths_are_two_levels_below_the_root(address: str, path: str) -> None:
    found = mailbox_path(ROOT, parse_address(address))
    assert found == ROOT / path
    assert found.parent.parent == ROOT


def test_a_path_names_its_address() -> None:
    for address in ("alice@example.test", "a/b@example.test", "jürgen@example.test"):
        quoted = Address(address.rpartition("@")[0], "example.test", address)
        assert mailboxes.address_of(mailbox_path(ROOT, quoted)) == address


TABLE = FixedMailboxes(
    {key: box(key) for key in ("alice@example.test", "bob+exact@example.test", "bob@example.test")}
)


@pytest.mark.parametrize(
    ("address", "delimiters", "found"),
    [
        ("alice@example.test", "+", ("alice@example.test", "")),
        ("ALICE@Example.Test", "+", ("alice@example.test", "")),
        ("alice+list@example.test", "+", ("alice@example.test", "list")),
        ("alice+List.a+b@example.test", "+", ("alice@example.test", "List.a+b")),
        ("alice+@example.test", "+", ("alice@example.test", "")),
        ("alice-list@example.test", "+-", ("alice@example.test", "list")),
        ("bob+exact@example.test", "+", ("bob+exact@example.test", "")),
        ("alice+list@example.test", "", None),
        ("alice-list@example.test", "+", None),
        ("+alice@example.test", "+", None),
        ("carol@example.test", "+", None),
        ("alice@other.test", "+", None),
    ],
)
def test_destinations(address: str, delimiters: str, found: tuple[str, str] | None) -> None:
    target = destination(TABLE, parse_address(address), delimiters)
    got = None if target is None else (str(target.mailbox.path.relative_to(ROOT)), target.detail)
    assert got == found


def users(tmp_path: Path, text: str) -> UsersFileMailboxes:
    path = tmp_path / "users"
    path.write_text(text)
    path.chmod(0o640)
    errors: list[UsersFileError] = []
    found = UsersFileMailboxes(path, ROOT, Quota(1000, 7), on_error=errors.append)
    assert not errors
    return found


def test_the_users_file_names_mailboxes_quotas_and_who_is_disabled(tmp_path: Path) -> None:
    found = users(
        tmp_path,
        "alice@example.test:*\n"
        "bob@example.test:*:quota=5K addresses=info@example.test home=/home/bob\n"
        "carol@example.test:*:quota=0 disabled\n",
    )
    expected = {
        "alice@example.test": MailboxInfo(ROOT / "example.test/alice", Quota(1000, 7)),
        "bob@example.test": MailboxInfo(ROOT / "example.test/bob", Quota(5120, 7)),
        "carol@example.test": MailboxInfo(ROOT / "example.test/carol", Quota(0, 7), disabled=True),
        "info@example.test": None,
        "dave@example.test": None,
        # Logins take these for bob; as addresses they are somebody else's, and nobody would read the mail.
        "b\u00adob@example.test": None,
        "\uff42ob@example.test": None,
        "b\u200dob@example.test": None,
    }
    assert {key: found.find(parse_address(key)) for key in expected} == expected


def test_a_bare_postmaster_has_no_mailbox(tmp_path: Path) -> None:
    found = users(tmp_path, "postmaster:*\n")
    assert found.find(Address("postmaster", "", "postmaster")) is None
