"""What Dovecot 2.3 (Debian 12) and 2.4 (Debian 13) write differently in their configuration."""

from __future__ import annotations

import functools
import subprocess

from tests.peers.needs import needs, program


@functools.cache
def is_2_4() -> bool:
    """Whether the Dovecot of this machine reads the configuration of 2.4."""
    needs("dovecot-core")
    done = subprocess.run([program("dovecot"), "--version"], capture_output=True, text=True, check=True)
    major, minor = done.stdout.split()[0].split(".")[:2]
    return (int(major), int(minor)) >= (2, 4)


def head() -> str:
    """What stands first in the file."""
    return "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n" if is_2_4() else ""


def listen() -> str:
    """The name of the address in an `inet_listener`."""
    return "listen" if is_2_4() else "address"


def maildir() -> str:
    """Mail in ~/Maildir."""
    return (
        "mail_driver = maildir\nmail_path = ~/Maildir\n"
        if is_2_4()
        else "mail_location = maildir:~/Maildir\n"
    )


def passdb_file(path: str, mechanisms: str = "") -> str:
    """Passwords in clear from a passwd-file, for all mechanisms or some."""
    return _section("passdb", "passwd-file", mechanisms, _file(path, "default_password_scheme = PLAIN\n"))


def userdb_file(path: str) -> str:
    """Users from a passwd-file."""
    return _section("userdb", "passwd-file", "", _file(path))


def passdb_static(mechanisms: str = "") -> str:
    """Everybody, with any password."""
    args = "fields {\n nopassword = yes\n}\n" if is_2_4() else "args = nopassword\n"
    return _section("passdb", "static", mechanisms, args)


def quota(limit: str) -> str:
    """A limit for each user, counted in the Maildir; full is full at once."""
    if is_2_4():
        size = f"quota_storage_size = {limit}\nquota_storage_grace = 0\nquota_full_tempfail = no\n"
        return size + 'quota "User quota" {\n driver = maildir\n}\n'
    return (
        "plugin {\n quota = maildir:User quota\n quota_full_tempfail = no\n"
        f" quota_rule = *:storage={limit}\n}}\n"
    )


def quota_field(octets: int) -> str:
    """The limit of one user, as a field of a passwd-file."""
    return f"userdb_quota_storage_size={octets}B" if is_2_4() else f"userdb_quota_rule=*:bytes={octets}"


def _file(path: str, scheme: str = "") -> str:
    if is_2_4():
        return f"{scheme}auth_username_format = %{{user}}\npasswd_file_path = {path}\n"
    return f"args = {'scheme=PLAIN ' if scheme else ''}username_format=%u {path}\n"


def _section(kind: str, driver: str, mechanisms: str, settings: str) -> str:
    if is_2_4():
        mechanisms = f"mechanisms_filter = {mechanisms}\n" if mechanisms else ""
        return f"{kind} {driver} {{\n{mechanisms}{settings}}}\n"
    mechanisms = f"mechanisms = {mechanisms}\n" if mechanisms else ""
    return f"{kind} {{\ndriver = {driver}\n{mechanisms}{settings}}}\n"
