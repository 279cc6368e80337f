"""What Debian package a test needs: where it is missing the test is skipped and names it; in CI it fails.

Starters of peers call `needs` themselves, so a test that uses one need not. `.ci/peers` installs all these.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

_PROOF = {
    "bind9": "named",
    "clamav-daemon": "clamd",
    "dovecot-core": "dovecot",
    "dovecot-lmtpd": "/usr/lib/dovecot/lmtp",
    "dovecot-imapd": "/usr/lib/dovecot/imap",
    "dovecot-sieve": "/usr/lib/dovecot/modules/lib90_sieve_plugin.so",
    "haproxy": "haproxy",
    "libnet-ssleay-perl": "/usr/lib/*/perl5/*/Net/SSLeay.pm",
    "libnginx-mod-mail": "/usr/lib/nginx/modules/ngx_mail_module.so",
    "mariadb-server": "mariadbd",
    "memcached": "memcached",
    "msmtp": "msmtp",
    "opendkim": "opendkim",
    "opendmarc": "opendmarc",
    "nginx": "nginx",
    "nsd": "nsd",
    "openssl": "openssl",
    "postfix": "smtp-source",
    "postfix-policyd-spf-python": "policyd-spf",
    "postgresql": "/usr/lib/postgresql/*/bin/postgres",
    "postgrey": "postgrey",
    "python3-milter": "/usr/lib/python3/dist-packages/Milter/__init__.py",
    "redis-server": "redis-server",
    "rspamd": "rspamd",
    "sieve-connect": "sieve-connect",
    "slapd": "slapd",
    "spamd": "spamd",
    "strace": "strace",
    "swaks": "swaks",
    "unbound": "unbound",
}
"""A program, or a file, that proves that the package is installed."""
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def needs(*packages: str, root: bool = False) -> None:
    """Skip the test (fail it when CI is set) unless all `packages` are installed; `root`: and we are root."""
    missing = [package for package in packages if not _installed(_PROOF[package])]
    if root and os.geteuid() != 0:
        missing.append("root")
    if not missing:
        return
    text = f"needs {', '.join(missing)}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def has_ipv6() -> bool:
    """Whether this machine has ::1; many containers have none."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def needs_ipv6() -> None:
    """Skip the test where there is no ::1, in CI too: no package brings it."""
    if not has_ipv6():
        pytest.skip("needs IPv6 on loopback")


def program(name: str) -> str:
    """The path of an installed program, also of those that only root has in its PATH."""
    found = shutil.which(name, path=_PATH)
    assert found is not None, name
    return found


def _installed(proof: str) -> bool:
    if "*" in proof:
        return any(Path("/").glob(proof.lstrip("/")))
    return Path(proof).exists() if proof.startswith("/") else shutil.which(proof, path=_PATH) is not None
