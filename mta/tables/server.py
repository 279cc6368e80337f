"""Where a server is that a table asks: URLs of databases, and TLS to them.

    postgresql://tamis@db.example.org:5432/mail
    mysql://tamis@/mail?socket=/run/mysqld/mysqld.sock

Passwords have no place in them; they stand in files of their own.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from mta.policy.watched import TableError

GRACE = 1.0
"""Seconds that a database goes on with a statement when nobody waits for it any more."""
PORTS = {"postgresql": 5432, "mysql": 3306}
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@dataclass(slots=True, frozen=True)
class Server:
    """Where a database is, and as whom it is asked. `socket` is set in place of `host`."""

    host: str
    port: int
    socket: str
    user: str
    database: str

    @property
    def local(self) -> bool:
        """Whether what is said to it stays on this machine."""
        return bool(self.socket) or is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, as far as its name says."""
    return host in ("localhost", "::1") or host.startswith("127.")


def parse_server(text: str, scheme: str) -> Server:
    """Read a URL of a database. Raises ValueError, whose text says what is wrong."""
    url = urlsplit(text)
    if url.scheme != scheme:
        raise ValueError(f"it does not begin with {scheme}:")
    if url.password is not None:
        raise ValueError("a password stands in password_file")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    socket = options.pop("socket", "")
    if options or url.fragment:
        raise ValueError("it has options other than socket=/path")
    if bool(url.hostname) == bool(socket):
        raise ValueError("it needs a host, or socket=/path without one")
    if socket and not socket.startswith("/"):
        raise ValueError("the path of the socket begins with /")
    if not url.username:
        raise ValueError("the user is missing")
    database = unquote(url.path.removeprefix("/"))
    if not database or "/" in database:
        raise ValueError("the path is the name of one database")
    if url.port == 0:
        raise ValueError("port 0 is none")
    port = url.port or PORTS[scheme]
    return Server(url.hostname or "", port, socket, unquote(url.username), database)


def tls_context(level: str, authorities: str) -> ssl.SSLContext | None:
    """The context for `tls` ("none", "encrypt", "verify") with a file of authorities, "" for the system's.

    Raises TableError for a file that cannot be used.
    """
    if level == "none":
        return None
    try:
        context = ssl.create_default_context(cafile=authorities or None)
    except OSError as error:  # the library's own error is one, too; neither names the file
        raise TableError(f"{authorities}: {error.strerror}") from error
    if level == "encrypt":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def authorities_file(authorities: str) -> str:
    """The file of authorities for libraries with an OpenSSL of their own, which knows not the system's."""
    if authorities:
        return authorities
    usual = ssl.get_default_verify_paths().cafile
    return next((path for path in (usual, *_BUNDLES) if path and os.path.exists(path)), "system")
