"""The second pass: files, folders, rights, certificates. Files are real, in a temporary folder."""

from __future__ import annotations

import base64
import datetime
import grp
import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509 import load_pem_x509_certificate
from typer.testing import CliRunner

from mta import commands
from mta.authn.dkimfolder import KeyFolder
from mta.config import examine, read_secret
from mta.config.files import Account, denied
from mta.policy.aliases import ADDRESSES_MOST

NOW = 1_800_000_000.0  # in 2027
DAY = 86400.0

Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Messages (errors only, or all) of a configuration in `tmp_path`, with the folder's name taken out."""

    def run(text: str, *, now: float = NOW, warnings: bool = False) -> list[str]:
        path = tmp_path / "tamis.toml"
        path.write_text(
            f'identity.hostname = "mail.example.org"\nprocess.runtime_directory = "{tmp_path}"\n'
            f'process.state_directory = "{tmp_path}"\n{text}',
            encoding="utf-8",
        )
        report = examine(str(path), now)
        assert (report.config is None) == bool(report.errors)
        shown = report.problems if warnings else report.errors
        return [str(problem).replace(str(tmp_path) + "/", "") for problem in shown]

    os.chmod(tmp_path, 0o755)
    return run


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def issue(
    folder: Path, authority: trustme.CA, *names: str, days: float = 90, key_mode: int = 0o600, name: str = "x"
) -> trustme.LeafCert:
    begin = datetime.datetime.fromtimestamp(NOW, datetime.UTC) - datetime.timedelta(days=1)
    end = begin + datetime.timedelta(days=days)
    leaf = authority.issue_cert(*names, not_before=begin, not_after=end)
    (folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    (folder / f"{name}.key").write_bytes(leaf.private_key_pem.bytes())
    (folder / f"{name}.key").chmod(key_mode)
    return leaf


CERTIFICATE = '[certificates.x]\nchain = "x.pem"\nkey = "x.key"\n'


def test_a_good_certificate(tmp_path: Path, check: Check, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "mail.example.org", "*.example.net")
    assert check(CERTIFICATE + 'names = ["mail.example.org", "a.example.net"]') == []


def test_files_that_are_missing(check: Check) -> None:
    reason = "cannot be read, expected a file (No such file or directory)"
    assert check(CERTIFICATE) == [
        f'tamis.toml:5: certificates.x.chain: "x.pem" {reason}',
        f'tamis.toml:6: certificates.x.key: "x.key" {reason}',
    ]


def test_a_key_that_everybody_can_read(tmp_path: Path, check: Check, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "mail.example.org", key_mode=0o644)
    assert check(CERTIFICATE) == [
        'tamis.toml:6: certificates.x.key: "x.key" is readable by everybody, '
        "expected a mode such as 0640 (its mode is 0644)"
    ]


def test_a_certificate_with_a_key_that_the_library_does_not_know(
    tmp_path: Path, check: Check, authority: trustme.CA
) -> None:
    issue(tmp_path, authority, "mail.example.org")
    certificate = load_pem_x509_certificate((tmp_path / "x.pem").read_bytes())
    known = bytes.fromhex("06082a8648ce3d030107")  # prime256v1
    strange = certificate.public_bytes(Encoding.DER).replace(known, known[:-1] + b"\x63")
    text = base64.encodebytes(strange).decode()
    (tmp_path / "x.pem").write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
    assert check(CERTIFICATE) == [
        'tamis.toml:5: certificates.x.chain: "x.pem" has a certificate that cannot be read (Curve '
        "1.2.840.10045.3.1.99 is not supported), expected one with a key of a kind that this machine knows"
    ]


def test_a_key_of_another_certificate(tmp_path: Path, check: Check, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "mail.example.org")
    issue(tmp_path, authority, "mail.example.org", name="y")
    text = CERTIFICATE.replace("x.key", "y.key")
    (message,) = check(text)
    assert "certificates.x.key: " in message
    assert "the key of the chain" in message


@pytest.mark.parametrize(
    ("days_later", "message"),
    [
        (100, "the certificate expired on"),
        (-2, "the certificate is not valid before"),
        (80, "warning: certificates.x.chain: the certificate expires on"),
    ],
)
def test_validity(
    tmp_path: Path, check: Check, authority: trustme.CA, days_later: float, message: str
) -> None:
    issue(tmp_path, authority, "mail.example.org")
    found = check(CERTIFICATE, now=NOW + days_later * DAY, warnings=True)
    assert [one for one in found if message in one and "tamis.toml:5: " in one]


def test_a_name_that_the_certificate_does_not_have(
    tmp_path: Path, check: Check, authority: trustme.CA
) -> None:
    issue(tmp_path, authority, "mail.example.org", "*.example.net")
    assert check(CERTIFICATE + 'names = ["mail.example.org", "example.net", "a.b.example.net"]') == [
        f'tamis.toml:7: certificates.x.names[{index}]: found "{name}", expected a name in the certificate '
        "(it has mail.example.org, *.example.net)"
        for index, name in ((1, "example.net"), (2, "a.b.example.net"))
    ]


def test_a_chain_in_the_wrong_order(tmp_path: Path, check: Check, authority: trustme.CA) -> None:
    middle = authority.create_child_ca()
    issue(tmp_path, middle, "mail.example.org")
    assert check(CERTIFICATE) == []
    blobs = (tmp_path / "x.pem").read_bytes()
    extra = trustme.CA().cert_pem.bytes()
    (tmp_path / "x.pem").write_bytes(blobs + extra)
    (message,) = check(CERTIFICATE)
    assert "did not issue the one before it" in message


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("x.pem", b"", 'x.pem" holds no certificate'),
        ("x.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"),
        ("x.key", b"nothing", "holds no private key"),
        ("x.key", "pass phrase", "has a pass phrase"),
    ],
)
def test_what_is_in_the_files(
    tmp_path: Path, check: Check, authority: trustme.CA, file: str, content: bytes | str, message: str
) -> None:
    issue(tmp_path, authority, "mail.example.org")
    if isinstance(content, str):
        content = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    (tmp_path / file).write_bytes(content)
    (found,) = check(CERTIFICATE)
    assert message in found


def test_a_key_alone_in_a_file_of_another_kind(tmp_path: Path, check: Check, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "mail.example.org")
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "x.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    (message,) = check(CERTIFICATE)
    assert "the key of the chain" in message


def test_authorities(tmp_path: Path, check: Check, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "mail.example.org")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "no.pem").write_bytes(b"no")
    listener = '[[listener]]\nclient_ca = "{}"\n' + CERTIFICATE
    assert check(listener.format("ca.pem")) == []
    assert "listener[0].client_ca" in check(listener.format("no.pem"))[0]
    backend = '[backends.a]\naddresses = ["192.0.2.1:24"]\ntls = "verify"\ntls_ca = "{}"'
    assert check(backend.format("ca.pem")) == []
    assert "backends.a.tls_ca" in check(backend.format("gone.pem"))[0]
    relay = '[relays.a]\nhost = "192.0.2.1"\ntls_ca = "{}"'
    assert "relays.a.tls_ca" in check(relay.format("no.pem"))[0]


def test_password_files(tmp_path: Path, check: Check) -> None:
    text = '[relays.a]\nhost = "smtp.example.net"\nuser = "me"\npassword_file = "pw"\n'
    assert "cannot be read" in check(text)[0]
    (tmp_path / "pw").write_text("hunter2\r\nnot this\n")
    (tmp_path / "pw").chmod(0o604)
    assert "readable by everybody" in check(text)[0]
    (tmp_path / "pw").chmod(0o640)
    assert check(text) == []
    assert read_secret(str(tmp_path / "pw")) == "hunter2"
    for wrong, reason in ((b"\nsecond line\n", "the first line is empty"), (b"\xff\n", "no UTF-8")):
        (tmp_path / "pw").write_bytes(wrong)
        assert "has no password" in check(text)[0]
        with pytest.raises(ValueError, match=f"{tmp_path}/pw: .*{reason}"):
            read_secret(str(tmp_path / "pw"))


def test_the_store_has_its_mailboxes_from_the_users_file(check: Check) -> None:
    """Whoever knows the users otherwise."""
    text = """
[auth]
backend = "dovecot"
[domains."example.org"]
recipients = "all"
[store]
enabled = true
path = "mail"
"""
    assert check(text) == [
        'tamis.toml:5: auth.users_file: "users" cannot be read, expected a file (`tamis user add` makes it)'
    ]


def test_the_users_file_says_how_it_is_made(tmp_path: Path, check: Check) -> None:
    text = '[domains."example.org"]\nrecipients = "users"\n[store]\nenabled = true\npath = "mail"\n'
    assert check(text) == [
        'tamis.toml: auth.users_file: "users" cannot be read, expected a file (`tamis user add` makes it)'
    ]
    (tmp_path / "users").touch(0o600)
    assert check(text) == []


STORE = '[domains."example.org"]\nrecipients = "users"\n[store]\nenabled = true\npath = "mail"\n'
BACKEND = '[backends.b]\naddresses = ["192.0.2.1:24"]\n[domains."example.org"]\nrecipients = '


@pytest.mark.parametrize(
    ("text", "file", "found"),
    [
        (STORE, "", "is not in users: `tamis user add postmaster@example.org`"),
        (STORE, "ann@example.org:!:\n", "is not in users: `tamis user add postmaster@example.org`"),
        (STORE, "postmaster@example.org:!:\n", ""),
        (
            STORE,
            "postmaster@example.org:!:disabled\n",
            "is disabled in users: `tamis user add postmaster@example.org`",
        ),
        (STORE + "[checks]\npostmaster = 'off'\n", "", ""),
        (STORE + '[policy]\nscripts = ["aliases.sieve"]\n', "", ""),  # they may lead elsewhere
        (BACKEND + '"users"\n', "", "is not in users: `tamis user add postmaster@example.org`"),
        (BACKEND + '"table:users"\n', "ann\n", "is not in users: a line for it there"),
        (BACKEND + '"table:users"\n', "postmaster\n", ""),
        (BACKEND + '"table:users"\n', "postmaster@example.org\n", ""),
        (BACKEND + '"ask"\n', "", ""),  # who knows?
        (
            f'identity.postmaster = "boss@else.test"\noutbound.enabled = true\n{STORE}',
            "",
            "",
        ),
        (
            f'identity.postmaster = "ann@example.org"\n{STORE}',
            "bob@example.org:!:\n",
            "is not in users: `tamis user add ann@example.org`",
        ),
    ],
)
def test_somebody_gets_what_is_written_to_the_postmaster(
    tmp_path: Path, check: Check, text: str, file: str, found: str
) -> None:
    (tmp_path / "users").write_text(file)
    (tmp_path / "users").chmod(0o600)
    (tmp_path / "aliases.sieve").write_text("")
    told = [one for one in check(text, warnings=True) if "identity.postmaster" in one]
    assert len(told) == bool(found)
    for one in told:
        assert "warning" in one
        where, _, remedy = found.partition(" in users: ")
        assert f'{where} in "users", expected an address that gets mail, or {remedy} (mail for' in one
        assert ("unless the back end knows it" in one) is (text.startswith(BACKEND))


def test_secrets_of_return_addresses(tmp_path: Path, check: Check) -> None:
    secrets = tmp_path / "secrets"
    text = """
[srs]
secrets_file = "secrets"
domain = "example.org"
[domains."example.org"]
backend = "a"
recipients = "all"
[backends.a]
addresses = ["[::1]:24"]
"""
    secrets.write_text("0123456789abcdef\n")
    secrets.chmod(0o644)
    assert "readable by everybody" in check(text)[0]
    secrets.chmod(0o640)
    assert check(text) == []
    secrets.write_text("0123456789abcdef\nshort\n")
    (found,) = check(text)
    assert "secrets:2: the secret has less than 16 characters" in found


def test_tables(check: Check) -> None:
    text = '[domains."example.org"]\nrecipients = "table:gone"\n[backends.a]\naddresses = ["[::1]:24"]\n'
    assert check(text) == [
        'tamis.toml:5: domains."example.org".recipients: "gone" cannot be read, expected a file '
        "(No such file or directory)"
    ]


def test_all_bad_lines_of_a_file_are_told(tmp_path: Path, check: Check) -> None:
    text = '[domains."example.org"]\nrecipients = "table:list"\n[backends.a]\naddresses = ["[::1]:24"]\n'
    (tmp_path / "list").write_text("ann\na b\nbob\n@\n")
    place = 'tamis.toml:5: domains."example.org".recipients: list'
    assert [one.partition(" one")[0].partition(" @")[0] for one in check(text)] == [
        f"{place}:2:",
        f"{place}:4:",
    ]
    (tmp_path / "users").write_text("ann\n\nann\n{x\n")
    (tmp_path / "users").chmod(0o640)
    text = '[domains."example.org"]\nrecipients = "users"\n[backends.a]\naddresses = ["[::1]:24"]\n'
    found = check(text)
    assert len(found) > 1
    assert all(one.startswith("tamis.toml: auth.users_file: users:") for one in found)


def test_a_file_that_domains_share_is_read_once(tmp_path: Path, check: Check) -> None:
    domains = "".join(f'[domains."{name}.example"]\nrecipients = "table:list"\n' for name in "abc")
    (tmp_path / "list").write_text("a b\n")
    (found,) = check(domains + '[backends.x]\naddresses = ["[::1]:24"]\n')
    assert found.startswith('tamis.toml:5: domains."a.example".recipients: list:1: ')


def test_an_alias_with_more_members_than_it_may_have(tmp_path: Path, check: Check) -> None:
    text = '[tables.a]\ntype = "aliases"\nfile = "aliases"\n'
    (tmp_path / "aliases").write_text("all: " + ", ".join(f"u{number}" for number in range(ADDRESSES_MOST)))
    (found,) = [one for one in check(text, warnings=True) if "tables.a" in one]
    assert found == (
        'tamis.toml:6: warning: tables.a.file: "all" in "aliases" has 1000 addresses, '
        "expected fewer than 1000 (mail for it is answered 451)"
    )
    (tmp_path / "aliases").write_text("all: " + ", ".join(f"u{number}" for number in range(999)))
    assert [one for one in check(text, warnings=True) if "tables.a" in one] == []


def test_aliases(tmp_path: Path, check: Check) -> None:
    text = '[tables.a]\ntype = "aliases"\nfile = "aliases"\n'
    (tmp_path / "aliases").write_text("root: ann\nnews: |/usr/bin/post\n")
    (found,) = check(text)
    assert "aliases:2: news: '|/usr/bin/post' is a program" in found
    (tmp_path / "aliases").write_text("root: ann\n")
    assert check(text) == []
    text = text.replace('type = "aliases"\n', "")
    (found,) = [one for one in check(text, warnings=True) if "tables." in one]
    assert found == (
        'tamis.toml:5: warning: tables.a.file: the keys of "aliases" end with ":", '
        'expected type = "aliases" for a file such as /etc/aliases'
    )
    (tmp_path / "aliases").write_text("root ann\nfd00::  a network\nx y\n")
    assert not [one for one in check(text, warnings=True) if "tables." in one]


def test_folders(tmp_path: Path, check: Check) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "users").touch(0o600)
    assert 'log.target: "' in check(f'[log]\ntarget = "{tmp_path}"')[0]
    assert '"gone" does not exist' in check('[log]\ntarget = "gone/log"')[0]
    assert '"file" is no folder' in check('[store]\nenabled = true\npath = "file"')[0]
    assert check('[store]\nenabled = true\npath = "new"') == []
    assert not (tmp_path / "new").exists()


@pytest.fixture
def stranger_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Check]]:
    """A folder that is open to all, and a check in it as somebody who is not root."""
    uid, gid = os.geteuid() + 4242, os.getegid() + 4242
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getegid", lambda: gid)
    monkeypatch.setattr(os, "getgroups", lambda: [gid])

    def run(text: str) -> list[str]:
        path = Path(folder, "tamis.toml")
        path.write_text(f'identity.hostname = "mail.example.org"\n{text}')
        return [str(problem).replace(f"{folder}/", "") for problem in examine(str(path), NOW).errors]

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's folders are closed to others
        os.chmod(folder, 0o777)
        yield Path(folder), run


def test_a_server_of_an_ordinary_user_in_a_folder_of_its_own(stranger_check: tuple[Path, Check]) -> None:
    folder, check_all = stranger_check

    def check(text: str) -> list[str]:
        return [problem for problem in check_all(text) if "users_file" not in problem]

    text = """
        listener = [{ addresses = ["127.0.0.1:2525"] }]
        domains."example.org".recipients = "all"
        store.enabled = true
        process.state_directory = "server/state"
        process.runtime_directory = "server/run"
    """
    assert check(text) == []
    (folder / "server").mkdir(0o755)
    owner = pwd.getpwuid(os.stat(folder).st_uid).pw_name
    assert check(text) == [
        f'tamis.toml:{line}: process.{key}: "server/{name}" does not exist and cannot be made, expected a '
        f"folder that the server can write to (server has mode 0755, owner {owner})"
        for line, key, name in ((6, "state_directory", "state"), (7, "runtime_directory", "run"))
    ]
    (folder / "server").chmod(0o777)
    (folder / "server" / "state").mkdir(0o755)
    assert check(text)[0].startswith(
        'tamis.toml:6: process.state_directory: "server/state" is not writable for the user of the server'
    )
    (folder / "server" / "state").chmod(0o777)
    (folder / "server" / "state" / "mail").mkdir(0o700)
    assert check(text) == [
        'tamis.toml:5: store.path: "server/state/mail" is not writable for the user of the server, expected '
        f"rights for it (server/state/mail has mode 0700, owner {owner})"
    ]


def test_a_configuration_that_only_root_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start would go well, and the first reload not: the rights of root are given up in between."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "tamis.toml")
        path.write_text('identity.hostname = "mail.example.org"\nprocess.user = "nobody"\n')
        path.chmod(0o600)

        def found() -> list[str]:
            return [str(problem) for problem in examine(str(path), NOW).errors if not problem.key]

        owner = pwd.getpwuid(path.stat().st_uid).pw_name
        assert found() == [
            f"{path}: is not readable for the user of the server, expected rights for it "
            f"({path} has mode 0600, owner {owner})"
        ]
        path.chmod(0o644)
        assert found() == []


def test_a_server_that_would_stay_root(tmp_path: Path) -> None:
    (tmp_path / "tamis.toml").write_text('[process]\nuser = "root"\n')
    warnings = map(str, examine(str(tmp_path / "tamis.toml"), NOW).warnings)
    expected = ':2: warning: process.user: found "root", expected a user without the rights of root'
    assert f"{tmp_path}/tamis.toml{expected}" in list(warnings)


def test_a_group_without_a_user(tmp_path: Path) -> None:
    (tmp_path / "tamis.toml").write_text('[process]\ngroup = "nogroup"\n')
    warnings = map(str, examine(str(tmp_path / "tamis.toml"), NOW).warnings)
    expected = ":2: warning: process.group: has no effect without process.user, expected a user, or no group"
    assert f"{tmp_path}/tamis.toml{expected}" in list(warnings)


def test_a_path_through_a_file_cannot_be_made(stranger_check: tuple[Path, Check]) -> None:
    folder, check = stranger_check
    (folder / "file").touch()
    found = check('process.state_directory = "file/state"\nprocess.runtime_directory = "file"')
    assert found == [
        'tamis.toml:2: process.state_directory: "file/state" does not exist and cannot be made, expected a '
        "folder that the server can write to (file is no folder)",
        'tamis.toml:3: process.runtime_directory: "file" is no folder, expected a folder that the server can '
        "write to",
    ]


def test_a_folder_that_only_root_could_get_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root makes it for the server, who is somebody else."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path, closed = Path(folder, "tamis.toml"), Path(folder, "closed")
        closed.mkdir(0o700)
        path.write_text(
            'identity.hostname = "mail.example.org"\n[process]\nuser = "nobody"\n'
            'state_directory = "closed/a/state"\nruntime_directory = "run"\n'
        )
        owner = pwd.getpwuid(os.stat(folder).st_uid).pw_name
        expected = (
            f'{path}:4: process.state_directory: "{closed}/a/state" does not exist, and where it would be '
            "made the server could not get to it, expected a folder that the server can write to "
            f"({closed} has mode 0700, owner {owner})"
        )
        assert [str(one) for one in examine(str(path), NOW).errors] == [expected]
        closed.chmod(0o711)
        assert examine(str(path), NOW).errors == ()


@pytest.mark.parametrize(
    ("umask", "group", "mode"),
    [(0o077, "", "0700"), (0o027, "", "0750"), (0o022, "", ""), (0o027, "own", "")],
)
def test_folders_that_root_would_close_to_the_server(
    monkeypatch: pytest.MonkeyPatch, umask: int, group: str, mode: str
) -> None:
    """Those above the one that is the server's are made as the umask has it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "tamis.toml")
        with_group = f'group = "{grp.getgrgid(os.getegid()).gr_name}"\n' if group else ""
        path.write_text(
            'identity.hostname = "mail.example.org"\n[process]\nuser = "nobody"\n'
            f'state_directory = "a/b/state"\nruntime_directory = "run"\n{with_group}'
        )
        path.chmod(0o644)
        expected = (
            f'{path}:4: process.state_directory: "{folder}/a/b/state" does not exist, and where it would be '
            "made the server could not get to it, expected a folder that the server can write to "
            f"({folder}/a/b would have mode {mode} by the umask {umask:04o}, owner root; make it beforehand)"
        )
        old = os.umask(umask)
        try:
            assert [str(one) for one in examine(str(path), NOW).errors] == ([expected] if mode else [])
            assert os.umask(umask) == umask
        finally:
            os.umask(old)
        Path(folder, "a", "b").mkdir(parents=True)
        assert examine(str(path), NOW).errors == ()


@pytest.mark.parametrize("place", ["/proc", "/sys"])
def test_a_folder_of_the_kernel(check: Check, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    text = f'[store]\nenabled = true\npath = "{place}/x/y"\n[domains."example.org"]\nrecipients = "all"\n'
    assert check(text)[-1] == (
        f'tamis.toml:6: store.path: "{place}/x/y" does not exist and cannot be made, expected a folder that '
        f"the server can write to ({place} belongs to the kernel)"
    )


def test_a_folder_that_is_read_only(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def statvfs(path: str) -> os.statvfs_result:
        fields = list(real(path))
        fields[8] |= os.ST_RDONLY
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", statvfs)
    found = check("")
    assert "is not writable for the user of the server, expected rights for it" in found[0]
    assert "is on a file system that is read-only" in found[0]


def test_what_only_a_restart_can_change(
    stranger_check: tuple[Path, Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was root is told to reload."""
    folder, check = stranger_check
    uid = pwd.getpwnam("nobody").pw_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    (folder / "closed").mkdir(0o755)
    text = '[process]\nuser = "nobody"\nstate_directory = "closed/state"\nruntime_directory = "run"\n'
    (found,) = check(text)
    assert found.startswith(
        'tamis.toml:4: process.state_directory: "closed/state" does not exist and cannot be made'
    )
    assert found.endswith("; a restart as root makes it)")
    (found,) = check(text.replace("nobody", "daemon").replace("closed/", ""))
    assert found.endswith("(only root can become another user, so a server that runs is to be restarted)")


def test_a_log_that_exists_must_be_writable(stranger_check: tuple[Path, Check]) -> None:
    folder, check = stranger_check
    text = 'process.state_directory = "s"\nprocess.runtime_directory = "r"\nlog.target = "log"'
    (folder / "log").touch(0o644)
    assert '4: log.target: "log" is not writable for the user of the server' in check(text)[0]
    (folder / "log").chmod(0o666)
    assert check(text) == []


def test_ciphers(check: Check) -> None:
    assert check('[tls]\nciphers = "ECDHE+AESGCM"') == []
    assert check('[tls]\nciphers = "NONSENSE"') == [
        'tamis.toml:5: tls.ciphers: found "NONSENSE", expected a cipher list of OpenSSL'
    ]


def test_users_and_groups_of_the_machine(check: Check) -> None:
    text = 'process.user = "no-such-user"\nprocess.group = "no-such-group"'
    assert check(text) == [
        'tamis.toml:4: process.user: found "no-such-user", expected a user of this machine',
        'tamis.toml:5: process.group: found "no-such-group", expected a group of this machine',
    ]


def test_keys_that_only_root_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tamis dkim new` as root, below a folder of root: mail would be refused once it is to be signed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "tamis.toml")
        path.write_text(
            'identity.hostname = "mail.example.org"\nprocess.user = "nobody"\n[signing]\nkeys = "dkim"\n'
        )
        path.chmod(0o644)
        keys, domain = Path(folder, "dkim"), Path(folder, "dkim/example.org")
        domain.mkdir(parents=True)
        KeyFolder(keys).write("example.org", [])
        domain.joinpath("keys.json").chmod(0o600)
        domain.chmod(0o700)
        keys.chmod(0o700)
        for place in (keys, domain, domain / "keys.json"):
            (found,) = [str(one) for one in examine(str(path), NOW).errors if one.key == "signing.keys"]
            assert f'signing.keys: "{place}" is not readable for the user of the server' in found
            assert f"{place} has mode 0" in found
            place.chmod(0o755)
        assert [one for one in examine(str(path), NOW).errors if one.key == "signing.keys"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_keys_that_root_makes_are_for_the_server() -> None:
    """Below a folder of root, as install.md makes it, with and without process.user (which systemd sets)."""
    nobody, group = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid
    for user, owner in (('user = "nobody"\ngroup = "daemon"\n', (nobody, group)), ("", (0, group))):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            os.chown(folder, 0, group)
            os.chmod(folder, 0o750)
            path = Path(folder, "tamis.toml")
            path.write_text(
                'identity.hostname = "mail.example.org"\n[signing]\nkeys = "dkim"\n[process]\n' + user
            )
            words = ["new", "example.org", "--type", "ed25519", "--selector", "a", "-c", str(path)]
            old = os.umask(0o077)
            try:
                assert CliRunner().invoke(commands.SUB_APPS["dkim"](), words).exit_code == 0
            finally:
                os.umask(old)
            server = Account(nobody, frozenset({group}))
            for name, bits in (("dkim", 5), ("dkim/a", 5), ("dkim/a/keys.json", 4), ("dkim/a/a.pem", 4)):
                place = Path(folder, name.replace("/a", "/example.org", 1))
                status = place.stat()
                assert (status.st_uid, status.st_gid) == owner
                assert denied(str(place), server, bits) == ""
                assert name.endswith(".json") or not status.st_mode & 0o027
            path.write_text(path.read_text().replace("nobody", "no-such-user"))
            refused = CliRunner().invoke(commands.SUB_APPS["dkim"](), ["list", "-c", str(path)])
            assert (refused.exit_code, "user 'no-such-user' does not exist" in refused.stderr) == (
                (78, True) if user else (0, False)
            )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_keys_of_the_server_in_a_folder_of_root() -> None:
    """Root may own the folders, also when it is root who looks at the keys."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        keys = Path(folder, "dkim/example.org")
        keys.mkdir(parents=True)
        path = Path(folder, "tamis.toml")
        path.write_text(
            'identity.hostname = "mail.example.org"\nprocess.user = "nobody"\n[signing]\nkeys = "dkim"\n'
        )
        app = commands.SUB_APPS["dkim"]
        assert CliRunner().invoke(app(), ["new", "example.org", "-c", str(path)]).exit_code == 0
        state = keys / "keys.json"
        state.write_text(state.read_text().replace('"new"', '"active"'))
        assert [one for one in examine(str(path), NOW).errors if one.key == "signing.keys"] == []


def test_rights_of_another_user() -> None:
    # Not in tmp_path: pytest's folders are closed to others.
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "secret")
        secret.touch(0o640)
        os.chmod(folder, 0o755)
        uid, gid = os.stat(secret).st_uid + 4242, os.stat(secret).st_gid
        stranger = Account(uid, frozenset({gid + 4242}))
        assert denied(str(secret), Account(0, frozenset()), 7) == ""
        assert denied(str(secret), Account(uid, frozenset({gid})), 4) == ""
        assert "secret has mode 0640, owner " in denied(str(secret), stranger, 4)
        secret.chmod(0o644)
        assert denied(str(secret), stranger, 4) == ""
        assert "secret has mode 0644" in denied(str(secret), stranger, 2)
        os.chmod(folder, 0o700)
        assert f"{os.path.realpath(folder)} has mode 0700" in denied(str(secret), stranger, 4)
