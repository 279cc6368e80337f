"""Users and tables of a real server whose workers come and go while the files have mistakes."""

from __future__ import annotations

import os
import smtplib
from pathlib import Path

from mta.accounts.user import User
from mta.accounts.usersfile import edit
from mta.authn.dkimkeys import make_key, write_key
from tests.dialog.test_mta_kept_certificates import replace_worker
from tests.peers.certificates import authority
from tests.peers.running import tamis, until

SITE = """
[domains."users.test"]
recipients = "users"
[domains."table.test"]
recipients = "table:valid"
[domains."file.test"]
recipients = "table:addresses"
[tables.valid]
type = "file"
file = "valid"
[auth]
backend = "users"
[backends.b]
addresses = ["127.0.0.1:1"]
[queue]
enabled = false
"""


def test_a_worker_that_replaces_another_has_the_last_content_that_was_right(tmp_path: Path) -> None:
    """Files with mistakes leave the old content in force, and so they do for who comes later."""
    files = {name: tmp_path / name for name in ("users", "valid", "addresses")}
    with edit(files["users"]) as table:
        table.put(User("a@users.test").with_password("secret"))
    files["valid"].write_text("a@table.test yes\n")
    files["addresses"].write_text("a@file.test\n")
    with tamis(tmp_path) as server:
        del server.options["daemon"]
        server.configure(workers=1, rest=SITE)
        server.start()
        known = ["a@users.test", "a@table.test", "a@file.test"]
        assert taken(server.port) == known
        files["valid"].write_text("a@table.test yes\nb@table.test yes\n")
        files["addresses"].write_text("a@file.test\nb@file.test\n")
        with edit(files["users"]) as table:
            table.put(User("b@users.test").with_password("secret"))
        now = [*known, "b@users.test", "b@table.test", "b@file.test"]
        until(lambda: taken(server.port) == now, "all are known")
        right = {name: path.read_bytes() for name, path in files.items()}
        for path in files.values():
            path.write_bytes(b"\xff\n")
        assert server.run("reload").returncode == 78
        replace_worker(server)
        assert taken(server.port) == now
        files["valid"].write_bytes(right["valid"].replace(b"b@", b"c@"))
        files["addresses"].write_bytes(right["addresses"].replace(b"b@", b"c@"))
        files["users"].write_bytes(right["users"].replace(b"b@", b"c@"))
        after = [*known, "c@users.test", "c@table.test", "c@file.test"]
        until(lambda: taken(server.port) == after, "what was mended is known")
        assert "worker fault" not in server.log()


SECRETS = """
[domains."users.test"]
recipients = "all"
[relays.out]
host = "127.0.0.1"
port = 9
tls = "encrypt"
user = "me"
password_file = "password"
[srs]
domain = "users.test"
secrets_file = "secrets"
[backends.b]
addresses = ["127.0.0.1:1"]
[queue]
enabled = false
"""


def test_a_worker_that_replaces_another_has_the_secrets_that_are_in_force(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("password", "secrets")]
    for path in files:
        path.write_text("a secret that nobody knows\n")
        path.chmod(0o600)
    with tamis(tmp_path) as server:
        del server.options["daemon"]
        server.configure(workers=1, rest=SECRETS)
        server.start()
        for path in files:
            path.write_bytes(b"\xff\n")
        replace_worker(server)
        for path in files:
            path.unlink()
        assert server.run("reload").returncode == 78
        replace_worker(server)
        assert taken(server.port)
        assert "worker fault" not in server.log()


VERIFIED = """
[domains."users.test"]
backend = "b"
[backends.b]
addresses = ["127.0.0.1:1"]
tls = "verify"
tls_name = "b.test"
tls_ca = "ca.pem"
[relays.r]
host = "127.0.0.1"
tls = "verify"
tls_name = "r.test"
tls_ca = "ca.pem"
[tables.people]
type = "ldap"
url = "ldap://127.0.0.1:1/dc=test?mail"
query = "(mail={key})"
tls = "verify"
tls_ca = "ca.pem"
[outbound]
enabled = true
[dns]
resolvers = ["127.0.0.1:1"]
[security]
ca_file = "ca.pem"
[signing]
key_table = "keys"
[queue]
enabled = false
"""


def test_a_worker_that_replaces_another_trusts_whom_the_others_trust(tmp_path: Path) -> None:
    """And signs with their keys, though the files are half edited."""
    certificates, keys = Path(authority(tmp_path).file), tmp_path / "keys"
    right = certificates.read_bytes()
    keys.write_text("users.test mail key.pem\n")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    write_key(descriptor, tmp_path / "key.pem", make_key("ed25519"))
    os.close(descriptor)
    with tamis(tmp_path) as server:
        del server.options["daemon"]
        server.configure(workers=1, rest=VERIFIED)
        server.start()
        certificates.write_bytes(right[: len(right) // 2])
        keys.write_text("users.test\n")
        replace_worker(server)
        certificates.unlink()
        keys.unlink()
        replace_worker(server)
        assert "worker fault" not in server.log()
        assert server.run("reload").returncode == 78
        with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
            assert client.ehlo()[0] == 250


def taken(port: int) -> list[str]:
    """Which recipients there are."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo()
        client.mail("<>")
        asked = [f"{name}@{domain}.test" for name in "abc" for domain in ("users", "table", "file")]
        return [one for one in asked if client.rcpt(one)[0] == 250]
