"""PostgreSQL, MariaDB and slapd on loopback, for tables: in a folder of their own, by their package's user.

Each has a database `mail` with a user `tamis` (password "secret") and a table `aliases` of addresses and
targets, and offers TLS with a certificate for localhost. All is ended with the block.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from tests.peers.certificates import authority
from tests.peers.needs import needs, program
from tests.peers.ports import free_port
from tests.peers.running import until

CONTENT = (("ann@x", "box 1"), ("ann@x", "box 2"), ("müller@x", "büx"), ("o'hara@x", "it's"), ("50%@x", "%s"))
"""Rows of `aliases`, in this order."""
ROWS = ", ".join("({}, '{}', '{}')".format(n, *(one.replace("'", "''") for one in row))
                 for n, row in enumerate(CONTENT))  # fmt: skip
TABLE = (
    "CREATE TABLE aliases (n INT PRIMARY KEY, address VARCHAR(200), target VARCHAR(200));"
    f"INSERT INTO aliases VALUES {ROWS};INSERT INTO aliases VALUES (99, 'null@x', NULL);"
)


class Server:
    """A server in another process that can be killed, stopped and started again."""

    def __init__(self, folder: Path, user: str, words: Sequence[str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.secure = 0
        self.authorities = ""
        self.ready: Sequence[str] = ()
        """A command that succeeds when it takes questions, not only connections."""
        self._user = user if os.geteuid() == 0 else None
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *words: str, input: str = "") -> None:
        """Run a program as the user of the server. Raises AssertionError with what it said."""
        done = subprocess.run(
            words, input=input.encode(), capture_output=True, user=self._user, timeout=60, cwd=self.folder
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self.folder / "output").open("ab") as output:
            process = self._process = subprocess.Popen(
                [word.format(port=self.port, folder=self.folder) for word in self._words], cwd=self.folder,
                user=self._user, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        until(lambda: process.poll() is not None or self._listens(), lambda: self.log())
        assert process.poll() is None, self.log()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP makes it silent, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # all its threads

    def stop(self) -> None:
        """End it at once, with all connections, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT if "postgres" in self._words[0] else signal.SIGKILL)
            self._process.wait(60)
            self._process = None

    def log(self) -> str:
        """The end of what it said."""
        return (self.folder / "output").read_text(errors="replace")[-3000:]

    def _listens(self) -> bool:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        words = [word.format(port=self.port) for word in self.ready]
        return not words or subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def place(user: str) -> Iterator[Path]:
    """A folder that belongs to `user`, where we are root."""
    folder = Path(tempfile.mkdtemp(prefix="tamis-database-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, user, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def certify(server: Server, user: str) -> None:
    """Write cert.pem and key.pem for localhost, and say who vouches for them."""
    here = authority(server.folder)
    files = here.issue("server", "localhost")
    server.authorities = here.file
    for path in (files.chain, files.key):
        if os.geteuid() == 0:
            shutil.chown(path, user, user)
        os.chmod(path, 0o600)


@contextlib.contextmanager
def running_postgresql() -> Iterator[Server]:
    """A PostgreSQL; its socket's folder is its folder."""
    needs("postgresql")
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    with place("postgres") as folder:
        settings = {
            "fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder),
            "shared_buffers": "1MB", "max_connections": "20", "ssl": "on",
            "ssl_cert_file": f"{folder}/server.pem", "ssl_key_file": f"{folder}/server.key",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        words = [f"{programs}/postgres", "-D", "{folder}/data", "-p", "{port}", *options]
        server = Server(folder, "postgres", words)
        server.ready = (f"{programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", "{port}")
        certify(server, "postgres")
        server.run(f"{programs}/initdb", "-D", f"{folder}/data", "-U", "postgres", "-N", "-E", "UTF8",
                   "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256")  # fmt: skip
        server.start()
        try:
            text = (
                "CREATE USER tamis PASSWORD 'secret'; CREATE DATABASE mail OWNER tamis;\\c mail tamis\n"
                + TABLE
            )
            server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(folder), "-p", str(server.port),
                       "-U", "postgres", input=text.replace(";", ";\n"))  # fmt: skip
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running_mariadb() -> Iterator[Server]:
    """A MariaDB; its socket is `socket` in its folder."""
    needs("mariadb-server")
    with place("mysql") as folder:
        words = [
            program("mariadbd"), "--no-defaults", "--datadir={folder}/data", "--port={port}",
            "--bind-address=127.0.0.1", "--socket={folder}/socket", "--pid-file={folder}/pid",
            "--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin",
            "--ssl-cert={folder}/server.pem", "--ssl-key={folder}/server.key", "--skip-name-resolve",
            "--init-file={folder}/first.sql",
        ]  # fmt: skip
        server = Server(folder, "mysql", words)
        certify(server, "mysql")
        server.run(program("mariadb-install-db"), "--no-defaults", f"--datadir={folder}/data",
                   "--auth-root-authentication-method=normal", "--skip-test-db",
                   "--innodb-buffer-pool-size=8M")  # fmt: skip
        (folder / "first.sql").write_text(
            "SET NAMES utf8mb4;\nCREATE OR REPLACE DATABASE mail CHARACTER SET utf8mb4;\nUSE mail;\n"
            + TABLE.replace(";", ";\n")
            + "CREATE OR REPLACE USER tamis@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON mail.* TO tamis@'%';\n"
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()


_SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/pid
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
database mdb
maxsize 16777216
suffix "dc=test"
rootdn "cn=tamis,dc=test"
rootpw secret
directory {folder}/data
access to attrs=pager by users read by * none
access to * by * read
"""
_PERSON = "objectClass: inetOrgPerson\nsn: x\n"
ENTRIES = f"""\
dn: dc=test
objectClass: dcObject
objectClass: organization
dc: test
o: test

dn: ou=x.test,dc=test
objectClass: organizationalUnit
ou: x.test

dn: cn=ann,ou=x.test,dc=test
{_PERSON}mail: ann@x.test
mail: anna@x.test
pager: 555
roomNumber: 1
roomNumber: 2
jpegPhoto:: /9j/

dn: cn=müller,ou=x.test,dc=test
{_PERSON}mail;lang-de: m@x.test
roomNumber: büx

dn: cn=o'hara (*) \\5c,ou=x.test,dc=test
{_PERSON}mail: star*@x.test
roomNumber: 3

dn: ou=a\\,b,dc=test
objectClass: organizationalUnit
ou: a,b

dn: cn=comma,ou=a\\,b,dc=test
{_PERSON}roomNumber: 4
"""


@contextlib.contextmanager
def running_slapd() -> Iterator[Server]:
    """A slapd with `ENTRIES` below dc=test; its socket is `ldapi` in its folder, `secure` its port of TLS."""
    needs("slapd")
    with place("openldap") as folder:
        secure = free_port()
        socket = quote(f"{folder}/ldapi", safe="")
        urls = f"ldap://127.0.0.1:{{port}}/ ldaps://127.0.0.1:{secure}/ ldapi://{socket}/"
        words = [program("slapd"), "-f", "{folder}/slapd.conf", "-h", urls, "-d", "0"]
        server = Server(folder, "openldap", words)
        server.secure = secure
        certify(server, "openldap")
        (folder / "slapd.conf").write_text(_SLAPD.format(folder=folder))
        server.run("mkdir", f"{folder}/data")
        server.run(program("slapadd"), "-q", "-f", f"{folder}/slapd.conf", input=ENTRIES)
        server.start()
        try:
            yield server
        finally:
            server.stop()
