"""The second pass: what the configuration names must exist on this machine and be usable.

Users and groups, folders, password files, users file, tables, authorities, certificates with their keys,
the cipher list. Files are judged for the user that the server will run as (process.user), also when the
check runs as root: a key that only root can read would fail at the first reload, not at the start.
Nothing is created or changed. Mistakes are noted in `Findings`; no exception leaves this module for
what a file is or holds.

What reads certificates is imported when the configuration names some: `cryptography` takes 70 ms of CPU,
which a server without them should not pay at its start.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import ssl
import stat
from dataclasses import dataclass

from mta.config.contents import (
    check_directors,
    check_postmaster,
    check_recipients,
    check_table,
    check_users,
)
from mta.config.locate import KeyPath
from mta.config.problems import Findings
from mta.config.rules_forwarding import check_secrets
from mta.config.schema import Config
from mta.config.secret import read_secret
from mta.config.sockets import check_sockets
from mta.config.tables import PolicyTable

LARGEST = 4 * 1024 * 1024
"""Octets of the largest file with certificates or keys: all authorities of a system are 250 kB."""


@dataclass(slots=True, frozen=True)
class Account:
    """Who will read the files: user id and all group ids."""

    uid: int
    gids: frozenset[int]


class FileCheck:
    """Reads files for the configuration and notes what is wrong with them."""

    def __init__(self, findings: Findings, account: Account) -> None:
        """`account` is the one that the server will run as."""
        self.findings = findings
        self.account = account

    def read(
        self, path: KeyPath, file: str, *, secret: bool = False, limit: int = -1, help: str = ""
    ) -> bytes | None:
        """The file's octets, None when it cannot be used (and that is noted at `path`).

        A `secret` file must not be readable or writable by everybody. `help` says how the file comes to be.
        """
        try:
            with open(file, "rb", opener=_open_at_once) as stream:
                mode = os.fstat(stream.fileno()).st_mode
                if not stat.S_ISREG(mode):
                    raise OSError(errno.EINVAL, "it is a device or a pipe")
                octets = stream.read(LARGEST + 1 if limit < 0 else limit)
            if len(octets) > LARGEST:
                raise OSError(errno.EFBIG, "it is larger than 4 MiB")
        except OSError as error:
            self.findings.add(
                path, f'"{file}" cannot be read', "a file", reason=help or (error.strerror or str(error))
            )  # fmt: skip
            return None
        if secret and mode & (stat.S_IROTH | stat.S_IWOTH):
            self.findings.add(
                path, f'"{file}" is readable by everybody', "a mode such as 0640",
                reason=f"its mode is {stat.S_IMODE(mode):04o}",
            )  # fmt: skip
            return None
        return octets if self.readable(path, file, 4) else None

    def readable(self, path: KeyPath, file: str, bits: int) -> bool:
        """False, and noted, when the server has not these rights (see `denied`) for what exists."""
        obstacle = denied(file, self.account, bits)
        if obstacle:
            self.findings.add(
                path, f'"{file}" is not readable for the user of the server', "rights for it", reason=obstacle
            )
        return not obstacle

    def folder(
        self,
        path: KeyPath,
        folder: str,
        *,
        made_by: Account | None = None,
        user: Account | None = None,
        hint: str = "",
    ) -> None:
        """Note when `folder` is none that the server (or `user`) can write to.

        It may be missing when `made_by` can make it, in the nearest folder above it that exists, and the
        server can get there; `hint` says who else could.
        """
        obstacle, needed = "", "a folder that the server can write to"
        if os.path.isdir(folder):
            wrong = "is not writable for the user of the server"
            obstacle, needed = _closed(folder) or denied(folder, user or self.account, 3), "rights for it"
        elif os.path.lexists(folder):
            wrong = obstacle = "is no folder"
        elif made_by is None:
            wrong = obstacle = "does not exist"
        else:
            wrong = "does not exist and cannot be made"
            above = _nearest(folder)
            if not os.path.isdir(above):
                obstacle = f"{above} is no folder"
            else:
                obstacle = _closed(above) or denied(above, made_by, 3)
                if obstacle and hint:
                    obstacle += f"; {hint}"
            if not obstacle:
                wrong = "does not exist, and where it would be made the server could not get to it"
                obstacle = denied(above, user or self.account, 1)
                if not obstacle and os.path.dirname(folder) != above:
                    obstacle = _shut(os.path.dirname(folder), above, made_by, user or self.account)
        if obstacle:
            reason = "" if wrong == obstacle else obstacle
            self.findings.add(path, f'"{folder}" {wrong}', needed, reason=reason)

    def writable(self, path: KeyPath, file: str) -> None:
        """Note when the server cannot write to a file that exists."""
        obstacle = denied(file, self.account, 2)
        if obstacle:
            self.findings.add(
                path,
                f'"{file}" is not writable for the user of the server',
                "rights for it",
                reason=obstacle,
            )


def check_files(config: Config, findings: Findings, now: float) -> None:
    """Check everything that `config` names; `now` in seconds of the epoch is for certificates."""
    account = _account(config, findings)
    files = FileCheck(findings, account)
    obstacle = denied(findings.file, account, 4) if account.uid != os.geteuid() else ""
    if obstacle:
        findings.add((), "is not readable for the user of the server", "rights for it", reason=obstacle)
    starter = Account(os.geteuid(), account.gids)
    _folders(config, files, starter)
    check_sockets(config, files, starter)
    users = check_users(config, files)
    recipients = check_recipients(config, files)
    if findings.is_sound(("identity", "postmaster"), ("domains",)):
        check_postmaster(config, files, users, recipients)
    check_directors(config, files)
    _next_hops(config, files)
    for index, listener in enumerate(config.listener):
        if listener.client_ca:
            _authorities(files, ("listener", index, "client_ca"), listener.client_ca)
    for name, table in config.tables.items():
        _table(files, ("tables", name), table)
    if config.policy.counters_password_file:
        _password(files, ("policy", "counters_password_file"), config.policy.counters_password_file)
    for name, director in config.director.items():
        if director.changes_password_file:
            where = ("director", name, "changes_password_file")
            _password(files, where, director.changes_password_file)
    if config.checks.tls_ca:
        _authorities(files, ("checks", "tls_ca"), config.checks.tls_ca)
    if config.srs.secrets_file:
        check_secrets(config, files)
    own = (*config.policy.scripts, *config.policy.after, config.policy.base)
    if any(own) or any(domain.script for domain in config.domains.values()):
        from mta.config.policies import check_policies

        check_policies(config, files)
    if config.signing.keys or config.signing.key_table:
        from mta.config.signingkeys import check_keys

        check_keys(config, files)
    if config.certificates:
        from mta.config.certificates import check_certificates

        check_certificates(config, files, now)
    if config.tls.ciphers and findings.is_sound(("tls", "ciphers")):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(config.tls.ciphers)
        except ssl.SSLError:
            findings.add(("tls", "ciphers"), f'found "{config.tls.ciphers}"', "a cipher list of OpenSSL")


def denied(file: str, account: Account, bits: int) -> str:
    """Why `account` may not read (4), write (2) or search (1) `file`, "" when it may.

    Only file modes are looked at, not access control lists; each folder on the way must be searchable.
    """
    if account.uid == 0:
        return ""
    folder = os.path.dirname(os.path.realpath(file))
    folders = [folder]
    while folder != "/":
        folder = os.path.dirname(folder)
        folders.append(folder)
    for step, needed in [*((parent, 1) for parent in reversed(folders)), (file, bits)]:
        status = os.stat(step)
        if status.st_uid == account.uid:
            granted = status.st_mode >> 6
        elif status.st_gid in account.gids:
            granted = status.st_mode >> 3
        else:
            granted = status.st_mode
        if granted & needed != needed:
            return f"{step} has mode {stat.S_IMODE(status.st_mode):04o}, owner {_owner(status.st_uid)}"
    return ""


def _closed(folder: str) -> str:
    """Why not even root can make anything in a folder, "" when its file system is not in the way."""
    system = os.statvfs(folder)
    if system.f_flag & os.ST_RDONLY:
        return f"{folder} is on a file system that is read-only"
    # /proc and /sys: they have no room, and nobody may write there. Other file systems tell no sizes either.
    if system.f_blocks == 0 and not os.stat(folder).st_mode & 0o222:
        return f"{folder} belongs to the kernel"
    return ""


def _shut(folder: str, above: str, made_by: Account, account: Account) -> str:
    """Why `account` could not get through a folder that `made_by` is to make below `above`, "" when it could.

    What stands between a folder of the server and one that exists is made as the umask has it.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    mode = 0o777 & ~umask
    status = os.stat(above)
    group = status.st_gid if status.st_mode & stat.S_ISGID else os.getegid()
    granted = mode >> 3 if group in account.gids else mode
    if account.uid in (0, made_by.uid) or granted & 1:
        return ""
    return (
        f"{folder} would have mode {mode:04o} by the umask {umask:04o}, owner {_owner(made_by.uid)};"
        " make it beforehand"
    )


def _open_at_once(file: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to does not hold us for ever."""
    return os.open(file, flags | os.O_NONBLOCK)


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _account(config: Config, findings: Findings) -> Account:
    here = Account(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))
    gid = None
    if config.process.group and findings.is_sound(("process", "group")):
        try:
            gid = grp.getgrnam(config.process.group).gr_gid
        except KeyError:
            findings.add(("process", "group"), f'found "{config.process.group}"', "a group of this machine")
    if not findings.is_sound(("process", "user")):
        return here
    if not config.process.user:
        if config.process.group:
            findings.add(
                ("process", "group"), "has no effect without process.user", "a user, or no group",
                warning=True,
            )  # fmt: skip
        if here.uid == 0:
            findings.add(
                ("process", "user"), "not set, and started as root", "a user for the server to run as",
                warning=True,
            )  # fmt: skip
        return here
    try:
        entry = pwd.getpwnam(config.process.user)
    except KeyError:
        findings.add(("process", "user"), f'found "{config.process.user}"', "a user of this machine")
        return here
    if entry.pw_uid == 0:
        findings.add(
            ("process", "user"), f'found "{config.process.user}"', "a user without the rights of root",
            warning=True,
        )  # fmt: skip
    if here.uid not in (0, entry.pw_uid):
        findings.add(
            ("process", "user"), f'found "{config.process.user}"', "to be started as root or as this user",
            reason="only root can become another user, so a server that runs is to be restarted",
        )  # fmt: skip
        return here
    main = entry.pw_gid if gid is None else gid
    return Account(entry.pw_uid, frozenset(os.getgrouplist(entry.pw_name, main)))


def _nearest(path: str) -> str:
    """The nearest folder (or whatever is in its place) above `path` that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _folders(config: Config, files: FileCheck, starter: Account) -> None:
    """`starter` makes what is missing, before it becomes the user of the server."""
    process = config.process
    # A server that was started as root has left it behind, and is told to reload.
    hint = "a restart as root makes it" if process.user and starter.uid != 0 else ""
    files.folder(("process", "state_directory"), process.state_directory, made_by=starter, hint=hint)
    files.folder(("process", "runtime_directory"), process.runtime_directory, made_by=starter, hint=hint)
    files.folder(("process", "spill_directory"), process.spill_directory)
    store = config.store.path
    # What is to be made in state_directory can be made, or the mistake has just been noted.
    if config.store.enabled and (
        os.path.lexists(store) or not store.startswith(process.state_directory + os.sep)
    ):
        files.folder(("store", "path"), store, made_by=files.account)
    if config.queue.enabled:
        _queue_stores(config, files)
    if config.log.target != "stderr" and files.findings.is_sound(("log", "target")):
        if os.path.isdir(config.log.target):
            files.findings.add(("log", "target"), f'"{config.log.target}" is a folder', "the path of a file")
        elif os.path.exists(config.log.target) and stat.S_ISFIFO(os.stat(config.log.target).st_mode):
            files.findings.add(("log", "target"), f'"{config.log.target}" is a pipe', "the path of a file")
        elif os.path.exists(config.log.target):
            files.writable(("log", "target"), config.log.target)
        else:
            files.folder(("log", "target"), os.path.dirname(config.log.target))


def _queue_stores(config: Config, files: FileCheck) -> None:
    for name in config.queue.stores:
        store = config.queue_stores.get(name)
        if store is None:
            continue  # noted already
        folder = store.url.removeprefix("file:")
        if folder != store.url and (
            os.path.lexists(folder) or not folder.startswith(config.process.state_directory + os.sep)
        ):
            files.folder(("queue_stores", name, "url"), folder, made_by=files.account)
        for key in ("credentials_file", "secret_file"):
            if file := getattr(store, key):
                files.read(("queue_stores", name, key), file, secret=True, limit=0)
        if store.ca_file:
            _authorities(files, ("queue_stores", name, "ca_file"), store.ca_file)


def _table(files: FileCheck, path: KeyPath, table: PolicyTable) -> None:
    if table.file:
        check_table(files, path, table)
    if table.password_file:
        _password(files, (*path, "password_file"), table.password_file)
    if table.tls_ca:
        _authorities(files, (*path, "tls_ca"), table.tls_ca)


def _authorities(files: FileCheck, path: KeyPath, file: str) -> None:
    from mta.config.certificates import read_authorities

    read_authorities(files, path, file)


def _next_hops(config: Config, files: FileCheck) -> None:
    if config.security.ca_file:
        _authorities(files, ("security", "ca_file"), config.security.ca_file)
    for name, backend in config.backends.items():
        if backend.tls_ca:
            _authorities(files, ("backends", name, "tls_ca"), backend.tls_ca)
    for name, relay in config.relays.items():
        if relay.tls_ca:
            _authorities(files, ("relays", name, "tls_ca"), relay.tls_ca)
        if relay.password_file:
            _password(files, ("relays", name, "password_file"), relay.password_file)
        if relay.token_file:
            _password(files, ("relays", name, "token_file"), relay.token_file)
    for name, scanner in config.scanners.items():
        if scanner.password_file:
            _password(files, ("scanners", name, "password_file"), scanner.password_file)
    for name, source in config.sources.items():
        if source.socks5_password_file:
            _password(files, ("sources", name, "socks5_password_file"), source.socks5_password_file)


def _password(files: FileCheck, path: KeyPath, file: str) -> None:
    if files.read(path, file, secret=True, limit=0) is None:
        return
    try:
        read_secret(file)
    except (OSError, ValueError):
        files.findings.add(path, f'"{file}" has no password', "one in its first line")
