"""The server of this machine as `sendmail` sees it: who it is, and where it takes mail without a login.

It is in the configuration, which may be closed to others than root. For them the server writes it into a
file of its runtime directory that everybody may read; it says no more than an SMTP session tells.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping

import msgspec

from mta import config
from mta.folders import replacing, whole_path

FILE_NAME = "sendmail.json"
"""In process.runtime_directory."""
PUBLISHED = f"/run/tamis/{FILE_NAME}"
"""Where it is looked for by those who cannot read where the runtime directory is: in the default one."""


class NoListener(ValueError):
    """The configuration has no listener that takes mail of this machine without a login."""


class NotPublished(Exception):
    """The configuration is closed to us or does not say it, and no server tells where it takes mail."""


class NotRunning(NotPublished):
    """No server runs that could tell it; one may come back."""


class LocalServer(msgspec.Struct, frozen=True):
    """What a program of this machine must know."""

    configuration: str
    """Absolute path of the file that the server runs with."""
    hostname: str
    origin: str
    """The domain of addresses that have none."""
    max_size: int
    """Octets of the largest message."""
    host: str = ""
    port: int = 0
    socket: str = ""
    """In place of host and port: the path of a Unix socket."""
    needs_tls: bool = False
    """Whether STARTTLS must come first."""
    listener: str = ""
    """Name of the listener that this is, "" for none."""

    @property
    def is_known(self) -> bool:
        """Whether the configuration says all; else the running server knows what the system opened."""
        return bool(self.socket or self.port) or not self.listener

    @property
    def where(self) -> config.Inet | config.Unix:
        """Where to connect to. Raises NoListener."""
        if self.socket:
            return config.Unix(self.socket)
        if self.port:
            return config.Inet(self.host, self.port)
        if self.listener:
            raise NoListener(f"only a server that runs knows where the listener {self.listener} is")
        raise NoListener(
            "no listener of the configuration takes mail of this machine without a login: add one with"
            ' protocol = "smtp" on 127.0.0.1'
        )


def local_server(settings: config.Config, configuration: str) -> LocalServer:
    """What the configuration in the file of that name says; without a place where there is no listener.

    Without a place, but with a listener, where the system opens the socket.
    """
    path = os.path.abspath(configuration)
    known = LocalServer(path, settings.identity.hostname, _origin(settings), settings.message.max_size)
    found: list[tuple[int, LocalServer]] = []
    for listener in settings.listener:
        if (
            listener.protocol in ("lmtp", "managesieve")
            or listener.tls == "implicit"
            or listener.auth == "required"
            or listener.proxy_protocol_from  # nobody else is let in
        ):
            continue
        of = msgspec.structs.replace(known, needs_tls=listener.tls == "required", listener=listener.name)
        for address in listener.addresses:
            if isinstance(address, config.Unix):
                found.append((3, msgspec.structs.replace(of, socket=address.path)))
            elif isinstance(address, config.Inet):
                host = config.near(address.host)
                rank = 0 if host == "127.0.0.1" else 1 if host == "::1" else 2
                found.append((rank, msgspec.structs.replace(of, host=host, port=address.port)))
            else:
                found.append((4, of))
    return min(found, key=lambda each: each[0])[1] if found else known


def _origin(settings: config.Config) -> str:
    """The domain of addresses that have none: never somebody else's, whose root would get our cron's mail."""
    domain = settings.identity.postmaster.rpartition("@")[2]
    return domain if domain in settings.domains else next(iter(settings.domains), domain)


def bound(server: LocalServer, sockets: Mapping[str, Iterable[socket.socket]]) -> LocalServer:
    """The same with what the system chose, a port for 0 or a socket, given the open ones of each listener."""
    if not server.is_known:
        for sock in sockets.get(server.listener, ()):
            where = sock.getsockname()
            if sock.family != socket.AF_UNIX:
                if server.host in ("", near := config.near(where[0])):
                    return msgspec.structs.replace(server, host=near, port=where[1])
            elif not server.host and isinstance(where, str):
                return msgspec.structs.replace(server, socket=where)
    return server


def is_published(folder: str) -> bool:
    """Whether some server has published itself in its runtime directory, as far as we may look."""
    try:
        os.lstat(os.path.join(folder, FILE_NAME))
    except OSError as problem:
        return not isinstance(problem, FileNotFoundError | NotADirectoryError)
    return True


def publish(server: LocalServer, folder: str) -> None:
    """Write it into the runtime directory, unless it is there. Raises OSError."""
    path, octets = os.path.join(folder, FILE_NAME), msgspec.json.encode(server)
    try:
        with open(path, "rb") as known:
            if known.read() == octets:
                return
    except FileNotFoundError:
        pass
    with replacing(path) as file:
        file.write(octets)
        os.fchmod(file.fileno(), 0o644)  # whatever the umask


def find_server(configuration: str) -> LocalServer:
    """The server of a configuration; where that is wrong, the one that has published itself with it.

    Raises ConfigError, and NotPublished where the configuration is closed to us or does not say all, and no
    server does: NotRunning when that is because none runs.
    """
    # Here, for the server itself has no use for them.
    from mta.configured import configured_path
    from mta.queue_stores import read_configuration

    try:
        settings = read_configuration(configuration)
    except config.ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            return _published(PUBLISHED, configuration, f"{configuration} is closed to you")
        # Somebody is editing it, and the server goes on as before; cron does not send a second time.
        told = configured_path(configuration, ("process", "runtime_directory", FILE_NAME), default=PUBLISHED)
        try:
            return _published(told, configuration, "the configuration is wrong")
        except NotPublished:
            raise error from error.__cause__
    server = local_server(settings, configuration)
    if server.is_known:
        return server
    path = os.path.join(settings.process.runtime_directory, FILE_NAME)
    return _published(path, configuration, f"the system opens the socket of the listener {server.listener}")


def _published(path: str, configuration: str, why: str) -> LocalServer:
    """What the running server has written; `why` it is needed. Raises NotPublished."""
    try:
        with open(path, "rb") as file:
            server = msgspec.json.decode(file.read(), type=LocalServer)
    except FileNotFoundError:
        raise NotRunning(f"{why}, and no server runs: {path} is not there") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise NotPublished(f"{why}, and {path} cannot be read: {error}") from None
    if server.configuration != whole_path(configuration):
        raise NotPublished(f"{why}, and the server that runs has another one: {server.configuration}")
    return server
