"""The listening sockets of the node: opened by the supervisor, shared by all workers, old and new.

`ListeningSockets` is a book of what is open, by endpoint. `prepare` opens what a plan names and is not
open yet and returns a `SocketSet`; nothing that is open is touched. `commit` then closes what the plan
does not name any more, `rollback` closes what `prepare` opened. Between the two, old and new workers
accept from the same sockets, so a reload refuses no connection: an endpoint that stays in the
configuration is the same kernel object all the time.

IPv6 sockets are V6ONLY, so that "[::]:25" and "0.0.0.0:25" are two endpoints. Unix sockets are created
with no rights, then given owner and mode, then opened for connections. A socket file that nobody
listens on is left from a crash and replaced; one that answers belongs to somebody else and is an error.
Sockets of systemd are taken by the name of their unit's `FileDescriptorName=`.

Failures: `prepare` raises `ListenError` with one line for every endpoint that could not be opened.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeAlias

from mta.supervisor.plan import Endpoint, Inet, Inherited, Listen, UnixPath

FIRST_INHERITED = 3
"""SD_LISTEN_FDS_START: the first file descriptor that systemd passes."""

MAX_INHERITED = 1024
"""Sockets that the service manager may pass; a unit has a handful."""

STALE_PROBE_TIMEOUT = 1.0
"""Seconds to wait for an answer of a Unix socket that is in the way; local connects are immediate."""

Key: TypeAlias = tuple[str, ...]


class ListenError(OSError):
    """Some endpoints could not be opened; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        """Keep the lines."""
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(slots=True)
class _Open:
    sockets: list[socket.socket]
    endpoint: Endpoint
    inode: tuple[int, int] | None = None
    """Device and inode of a Unix socket's file: we only remove what we made."""

    def change(self, endpoint: UnixPath) -> None:
        """Give a Unix socket another owner and mode. Raises OSError."""
        _set_owner(endpoint)
        os.chmod(endpoint.path, endpoint.mode)  # we are not root any more
        self.endpoint = endpoint

    def is_lost(self) -> bool:
        """True when nobody can connect any more, since the socket's file is not there or not ours."""
        if not isinstance(self.endpoint, UnixPath):
            return False
        try:
            found = os.lstat(self.endpoint.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # a folder that we may not look into: clients may
        return (found.st_dev, found.st_ino) != self.inode


@dataclass(frozen=True, slots=True)
class SocketSet:
    """The sockets of one plan."""

    by_role: dict[str, dict[str, list[socket.socket]]]
    keys: frozenset[Key]
    added: frozenset[Key]
    replaced: dict[Key, _Open]
    """What was open under some keys of `added`, and cannot be reached any more: its file is gone."""
    changed: dict[Key, UnixPath] = field(default_factory=dict)
    """How Unix sockets were that now have another owner or mode."""

    def of(self, role: str) -> dict[str, list[socket.socket]]:
        """Give the sockets that a role serves, by the name of the listener."""
        return self.by_role.get(role, {})

    def addresses(self, role: str) -> list[str]:
        """Name and address of each open socket of a role, with the port that the system chose for 0."""
        return [
            f"{name} {_address(sock)}"
            for name, sockets in self.of(role).items()
            for sock in sockets
            if sock.fileno() >= 0
        ]


class ListeningSockets:
    """All listening sockets of the node."""

    def __init__(self, inherited: dict[str, list[socket.socket]] | None = None) -> None:
        """Begin with what the service manager passed (see `inherited_sockets`)."""
        self._inherited = inherited or {}
        self._open: dict[Key, _Open] = {}

    def prepare(self, listens: Iterable[Listen]) -> SocketSet:
        """Open what is missing for `listens`. Raises `ListenError`; then nothing new stays open."""
        by_role: dict[str, dict[str, list[socket.socket]]] = {}
        keys: set[Key] = set()
        added: set[Key] = set()
        replaced: dict[Key, _Open] = {}
        changed: dict[Key, UnixPath] = {}
        problems: list[str] = []
        for listen in listens:
            found = by_role.setdefault(listen.role, {}).setdefault(listen.name, [])
            for endpoint in listen.endpoints:
                key = _key(endpoint)
                try:
                    before = self._open.get(key)
                    if before is None or before.is_lost():
                        self._open[key] = self._open_endpoint(endpoint, listen.backlog)
                        added.add(key)
                        if before is not None:
                            replaced[key] = before
                    elif before.endpoint != endpoint and isinstance(endpoint, UnixPath):
                        assert isinstance(before.endpoint, UnixPath)  # of the same key
                        changed.setdefault(key, before.endpoint)
                        before.change(endpoint)
                except OSError as problem:
                    problems.append(
                        f"listener {listen.name!r}: cannot listen on {endpoint}: {_reason(problem)}"
                    )
                    continue
                keys.add(key)
                for sock in self._open[key].sockets:
                    sock.listen(listen.backlog)
                    found.append(sock)
        result = SocketSet(by_role, frozenset(keys), frozenset(added), replaced, changed)
        if problems:
            self.rollback(result)
            raise ListenError(problems)
        return result

    def commit(self, wanted: SocketSet) -> list[str]:
        """Close everything that is not in `wanted`; return what went wrong with socket files."""
        self.release(wanted)
        return self._close(self._open.keys() - wanted.keys)

    def release(self, wanted: SocketSet) -> None:
        """Close only what `prepare` replaced for `wanted`."""
        for entry in wanted.replaced.values():
            for sock in entry.sockets:
                sock.close()

    def rollback(self, refused: SocketSet) -> list[str]:
        """Close what `prepare` opened for `refused`; owners and modes are what they were."""
        problems = self._close(refused.added)
        self._open |= refused.replaced
        for key, endpoint in refused.changed.items():
            try:
                self._open[key].change(endpoint)
            except OSError as problem:
                problems.append(f"cannot change {endpoint} back: {problem.strerror}")
        return problems

    def keep(self, listens: Iterable[Listen]) -> list[str]:
        """Close everything but `listens`, and open nothing; return what went wrong with socket files."""
        return self._close(
            self._open.keys() - {_key(endpoint) for listen in listens for endpoint in listen.endpoints}
        )

    def close(self) -> list[str]:
        """Close everything and remove our socket files; those of systemd stay with systemd."""
        return self._close(set(self._open))

    def lost(self, listens: Iterable[Listen]) -> dict[str, Listen]:
        """Paths of Unix sockets whose files are gone, or another's, and whose they are: `prepare` opens them
        again."""
        return {
            str(endpoint): listen
            for listen in listens
            for endpoint in listen.endpoints
            if (entry := self._open.get(_key(endpoint))) is not None and entry.is_lost()
        }

    def unwanted(self) -> list[str]:
        """Name the sockets of the service manager that nothing serves: their clients wait for ever."""
        served = {key[1] for key in self._open if key[0] == "inherited"}
        return [
            f"the service manager passed sockets named {name!r} that no listener names (fd:{name});"
            " clients that connect there get no answer"
            for name in sorted(self._inherited.keys() - served)
        ]

    def _open_endpoint(self, endpoint: Endpoint, backlog: int) -> _Open:
        match endpoint:
            case Inet():
                return _Open([_open_inet(endpoint)], endpoint)
            case UnixPath():
                sock, inode = _open_unix(endpoint, backlog)
                return _Open([sock], endpoint, inode)
            case Inherited():
                sockets = self._inherited.get(endpoint.name)
                if not sockets:
                    passed = ", ".join(sorted(self._inherited)) or "none"
                    raise OSError(f"the service manager passed no socket of this name (passed: {passed})")
                return _Open(sockets, endpoint)

    def _close(self, keys: Iterable[Key]) -> list[str]:
        problems = []
        for key in list(keys):
            entry = self._open.pop(key)
            if isinstance(entry.endpoint, Inherited):
                continue  # they live as long as we do: a later plan may name them again
            for sock in entry.sockets:
                sock.close()
            if isinstance(entry.endpoint, UnixPath) and entry.inode is not None:
                try:
                    _remove(entry.endpoint.path, entry.inode)
                except OSError as problem:
                    problems.append(f"cannot remove {entry.endpoint}: {problem.strerror}")
        return problems


def inherited_sockets(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """Take the sockets that systemd passed, by name, and remove its variables from `environment`.

    Follows sd_listen_fds(3): `LISTEN_PID` must be this process. Raises `ListenError` for variables that
    contradict each other and for a descriptor that is no listening stream socket; then none is closed, for
    with a wrong count they may be somebody else's.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()):
        return {}
    found = []
    problems: list[str] = []
    for descriptor, name in enumerate(_passed_names(count, names), FIRST_INHERITED):
        reason = _unfit(descriptor)
        if reason:
            problems.append(f"passed descriptor {descriptor} ({name}){reason}")
        found.append((descriptor, name))
    if problems:
        raise ListenError(problems)
    sockets: dict[str, list[socket.socket]] = {}
    for descriptor, name in found:
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        sock.set_inheritable(False)
        sockets.setdefault(name, []).append(sock)
    return sockets


def _passed_names(count: str, names: str | None) -> list[str]:
    """A name for each passed descriptor. Raises `ListenError`."""
    if not (count.isascii() and count.isdigit() and len(count) <= 9 and int(count) <= MAX_INHERITED):
        raise ListenError([f"LISTEN_FDS is {count!r}, expected a number of sockets, at most {MAX_INHERITED}"])
    if names is None:
        return ["unknown"] * int(count)
    parts = names.split(":") if names or count != "0" else []
    if len(parts) != int(count):
        raise ListenError(
            [f"LISTEN_FDNAMES has {len(parts)} names, expected as many as LISTEN_FDS says: {count}"]
        )
    return [part or "unknown" for part in parts]


def _unfit(descriptor: int) -> str:
    """What keeps a passed descriptor from being served, "" for nothing; it stays as it is."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return "" if sock.type == socket.SOCK_STREAM and listens else " is not a listening stream socket"
    except OSError as problem:
        return f": {problem.strerror}"


def _key(endpoint: Endpoint) -> Key:
    match endpoint:
        case Inet():
            return ("inet", endpoint.host, str(endpoint.port))
        case UnixPath():
            return ("unix", os.path.abspath(endpoint.path))
        case Inherited():
            return ("inherited", endpoint.name)


def _address(sock: socket.socket) -> str:
    where = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{where}"
    return str(Inet(where[0], where[1]))


def _open_inet(endpoint: Inet) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            endpoint.host,
            endpoint.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE,
        )[0]
    except socket.gaierror:
        raise OSError(f"{endpoint.host!r} is not an IP address") from None
    with ExitStack() as on_failure:
        sock = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        on_failure.pop_all()
    return sock


def _open_unix(endpoint: UnixPath, backlog: int) -> tuple[socket.socket, tuple[int, int]]:
    _remove_stale(endpoint.path)
    with ExitStack() as on_failure:
        sock = on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.setblocking(False)
        # The umask of the whole process: the supervisor has one thread and does nothing else here. It makes
        # the mode, for a chmod by root in a folder of somebody else may hit what a link there leads to.
        before = os.umask(0o777 & ~endpoint.mode)
        try:
            sock.bind(endpoint.path)
        finally:
            os.umask(before)
        made = os.lstat(endpoint.path)
        inode = (made.st_dev, made.st_ino)
        on_failure.callback(_remove, endpoint.path, inode)
        _set_owner(endpoint)
        sock.listen(backlog)
        on_failure.pop_all()
    return sock, inode


def _set_owner(endpoint: UnixPath) -> None:
    found = os.lstat(endpoint.path)
    # systemd's unit lets nobody call chown, and process.user may name whom we are already.
    if endpoint.uid not in (-1, found.st_uid) or endpoint.gid not in (-1, found.st_gid):
        os.chown(endpoint.path, endpoint.uid, endpoint.gid, follow_symlinks=False)


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody serves. Raises `OSError` for anything else that is in the way."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(STALE_PROBE_TIMEOUT)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            _remove(path, (found.st_dev, found.st_ino))
        except TimeoutError:
            raise OSError(errno.EADDRINUSE, "another process listens there and is busy") from None
        else:
            raise OSError(errno.EADDRINUSE, "another process listens there")


def _remove(path: str, inode: tuple[int, int]) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if (found.st_dev, found.st_ino) == inode:
        os.unlink(path)


def _reason(problem: OSError) -> str:
    text = problem.strerror or str(problem)
    match problem.errno:
        case errno.EADDRINUSE if text == os.strerror(errno.EADDRINUSE):
            return f"{text} (does another mail server run?)"
        case errno.EACCES | errno.EPERM:
            return (
                f"{text} (ports below 1024 need root or CAP_NET_BIND_SERVICE; a path, its directory's rights)"
            )
        case errno.EAFNOSUPPORT:
            return f"{text} (this machine has none of its kind, such as IPv6)"
        case errno.EADDRNOTAVAIL:
            return f"{text} (no interface of this machine has it)"
        case _:
            return text
