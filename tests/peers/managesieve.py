"""A ManageSieve site for tests: certificates, users, a listener, and a client that says what it is told."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from mta.accounts.user import User
from mta.accounts.usersfile import edit
from tests.peers.certificates import Authority, authority
from tests.peers.ports import free_port
from tests.peers.running import Tamis

ALICE, ADMIN = "alice@example.test", "admin@example.test"
NO_FOLDER = "a/b@example.test"
"""A user whose name cannot be that of a folder."""
PASSWORD = "correct horse"
_literal = re.compile(rb"\{([0-9]+)\}\r\n\Z").search

SECTIONS = """\
[[listener]]
protocol = "managesieve"
addresses = ["127.0.0.1:{port}"]
[[listener]]
name = "implicit"
protocol = "managesieve"
tls = "implicit"
addresses = ["127.0.0.1:{implicit}"]
[certificates.main]
chain = "{folder}/main.pem"
key = "{folder}/main.key"
[auth]
backend = "users"
users_file = "{folder}/users"
master_users = ["admin@example.test"]
default_domain = "example.test"
failure_delay = "0.05s"
"""


def make_accounts(folder: Path) -> Authority:
    """Users and certificates, for `SECTIONS`."""
    ca = authority(folder)
    ca.issue("main", "localhost", "127.0.0.1", "mx.test")
    with edit(folder / "users") as table:
        for name in (ALICE, ADMIN, NO_FOLDER, "ann"):
            table.put(User(name).with_password(PASSWORD))
    return ca


class Client:
    """Speaks ManageSieve over a blocking socket."""

    sock: socket.socket

    def __init__(self, port: int, implicit: Authority | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        if implicit is not None:
            self._handshake(implicit)
        self.file = self.sock.makefile("rb")
        self.greeting = self.read()

    def read(self) -> str:
        """One response with all that stands before it; "" at the end of the connection."""
        text = b""
        while True:
            line = self.file.readline()
            if not line:
                return ""
            final = line.startswith((b"OK", b"NO", b"BYE"))
            text += line
            while found := _literal(line):
                text += self.file.read(int(found[1]))
                line = self.file.readline()
                text += line
            if final:
                return text.decode()

    def say(self, command: str | bytes) -> str:
        """Send (a str gets CRLF) and read the response."""
        self.sock.sendall(command.encode() + b"\r\n" if isinstance(command, str) else command)
        return self.read()

    def line(self, command: str) -> str:
        """Send a command and read one line."""
        self.sock.sendall(command.encode() + b"\r\n")
        return self.file.readline().decode()

    def starttls(self, ca: Authority) -> str:
        """STARTTLS; returns the capabilities after it."""
        assert self.say("STARTTLS").startswith("OK")
        self._handshake(ca)
        self.file = self.sock.makefile("rb")
        return self.read()

    def _handshake(self, ca: Authority) -> None:
        context = ssl.create_default_context(cafile=ca.file)
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    def login(self, user: str, password: str = PASSWORD) -> str:
        """AUTHENTICATE PLAIN."""
        token = b64encode(f"\0{user}\0{password}".encode()).decode()
        return self.say(f'AUTHENTICATE "PLAIN" "{token}"')

    def put(self, name: str, text: str, command: str = "PUTSCRIPT") -> str:
        """PUTSCRIPT with a literal."""
        octets = text.encode()
        return self.say(f'{command} "{name}" {{{len(octets)}+}}\r\n'.encode() + octets + b"\r\n")

    def check(self, text: str) -> str:
        """CHECKSCRIPT with a literal."""
        octets = text.encode()
        return self.say(b"CHECKSCRIPT {%d+}\r\n" % len(octets) + octets + b"\r\n")

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Site(Tamis):
    """A server with a ManageSieve listener and its users."""

    authority: Authority
    sieve: int
    implicit: int

    def editor(self, user: str = "") -> Client:
        """A client inside TLS, logged in if `user` says as whom."""
        client = Client(self.sieve)
        client.starttls(self.authority)
        if user:
            assert client.login(user).startswith("OK")
        return client

    def hello(self) -> str:
        """What a new SMTP client hears of its EHLO."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock,
            sock.makefile("rwb") as file,
        ):
            assert file.readline().startswith(b"220 ")
            file.write(b"EHLO client.test\r\n")
            file.flush()
            return file.readline().decode().strip()


@contextlib.contextmanager
def managesieve_site(folder: Path) -> Iterator[Site]:
    """A running server of two workers, with small quotas."""
    site = Site(folder)
    site.authority = make_accounts(folder)
    site.sieve, site.implicit = free_port(), free_port()
    site.options = {}
    site.configure(
        rest="[queue]\nenabled = false\n"
        + SECTIONS.format(port=site.sieve, implicit=site.implicit, folder=folder)
        + '[managesieve]\nmax_scripts = 3\nmax_script_size = "2KiB"\nmax_size = "4KiB"\n'
        + 'login_timeout = "6s"\n'
        + '[timeouts]\ncommand = "2s"\nstressed_command = "2s"\ndata = "2s"\nstressed_data = "2s"\n',
        drain="30s",
    )
    try:
        site.start()
        yield site
    finally:
        site.end()
