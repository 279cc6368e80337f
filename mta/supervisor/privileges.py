"""Leave root behind: become an ordinary user for good, keeping at most one capability.

Order matters: groups first (only root may), then the group, then the user, then `no_new_privs`, so
that no set-uid program can bring anything back. The supervisor may keep `CAP_NET_BIND_SERVICE` in
its permitted and effective sets, for a reload that adds a listener on a port below 1024; the
capability is not inheritable, so the workers, which are started by exec, do not have it.

Every step is checked afterwards; a step that fails is an `OSError` and the caller must not go on.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass

PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38
CAP_NET_BIND_SERVICE = 10
_CAPABILITY_VERSION_3 = 0x20080522


class UnknownAccount(ValueError):
    """The configured user or group does not exist on this machine."""


@dataclass(frozen=True, slots=True)
class Account:
    """The identity that the server runs as."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups, as /etc/group has them for the user."""


def find_account(user: str, group: str = "") -> Account:
    """Look a user up, and a group when it is not the user's own. Raises `UnknownAccount`."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UnknownAccount(f"user {user!r} does not exist") from None
    gid = find_group(group) if group else entry.pw_gid
    return Account(user, entry.pw_uid, gid, tuple(sorted({*os.getgrouplist(user, gid)})))


def find_owner(path: str) -> Account | None:
    """Look up whose a file or folder is, with its group; None for one of root, and where there is none.

    The owner may have no name, as the dynamic users of systemd while their service does not run.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    if found.st_uid == 0:
        return None
    try:
        user = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        return Account(f"{found.st_uid}", found.st_uid, found.st_gid, (found.st_gid,))
    groups = os.getgrouplist(user, found.st_gid)
    return Account(user, found.st_uid, found.st_gid, tuple(sorted({*groups})))


def find_group(group: str) -> int:
    """Return the number of a group. Raises `UnknownAccount`."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UnknownAccount(f"group {group!r} does not exist") from None


def drop_privileges(account: Account) -> None:
    """Become `account`, irrevocably. Needs root; raises `OSError` when a step is refused."""
    keep_bind = _has_capability(CAP_NET_BIND_SERVICE)
    if keep_bind:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups(account.groups)
    os.setgid(account.gid)
    os.setuid(account.uid)
    if keep_bind:
        _set_capabilities(1 << CAP_NET_BIND_SERVICE)
    forbid_new_privileges()
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
        raise PermissionError(f"could not become user {account.user!r}")


def become(account: Account | None) -> None:
    """Be `account` from here on, or who we are; never more than that. Raises `OSError`."""
    if account is not None and os.geteuid() == 0:
        drop_privileges(account)
    else:
        forbid_new_privileges()


def make_directories(directories: Iterable[tuple[str, int]], account: Account | None) -> None:
    """Make what is missing, path and mode, for the account that the server will run as.

    The mode is that, whatever the umask; folders above are ours and as the umask has it. What is there stays
    as it is. Raises `OSError`.
    """
    for path, mode in directories:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # By the umask, for a chmod by root in a folder of somebody else may hit what a link there leads to.
        # The process has one thread and does nothing else here.
        before = os.umask(0o777 & ~mode)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            continue
        finally:
            os.umask(before)
        if account is not None and os.geteuid() == 0:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def forbid_new_privileges() -> None:
    """Set `no_new_privs`: nothing that is executed from here on can gain a right (prctl(2))."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        _raise_errno("prctl")


def _has_capability(number: int) -> bool:
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    if _libc().capget(ctypes.byref(header), data) != 0:
        _raise_errno("capget")
    return bool(data[0].permitted & 1 << number)


def _set_capabilities(mask: int) -> None:
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    data[0].effective = data[0].permitted = mask
    if _libc().capset(ctypes.byref(header), data) != 0:
        _raise_errno("capset")


def _raise_errno(call: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{call}: {os.strerror(number)}")
