"""The folder, the ports and the programs that a benchmark needs.

The folder lies in /var/tmp, not /tmp: a mail queue in memory would not be a mail queue. `--folder` puts it
elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

DEFAULT_PARENT = Path("/var/tmp")
FIRST_PORT = 10_000
EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")


class Missing(Exception):
    """Something that a benchmark needs is not here; the text says what to do."""


@contextlib.contextmanager
def folder(parent: Path = DEFAULT_PARENT) -> Iterator[Path]:
    """Make a folder that everybody may enter (the servers change users), and remove it at the end.

    Raises Missing if not everybody may enter `parent`.
    """
    parent = parent.resolve()
    for each in (parent, *parent.parents):
        if not each.stat().st_mode & stat.S_IXOTH:
            raise Missing(f"{each} is closed to the users that servers run as: choose another --folder")
    path = Path(tempfile.mkdtemp(prefix="tamis-bench-", dir=parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def server_ports() -> range:
    """Ports that the kernel gives to no client.

    The loads here use up thousands of those, and a server that starts a moment later could find its port
    taken.
    """
    return range(FIRST_PORT, int(EPHEMERAL_PORTS.read_text().split()[0]))


def free_port(among: range | None = None) -> int:
    """A TCP port on loopback that nobody uses now, one of `server_ports`, or of those that are given."""
    ports = among or server_ports()
    while True:
        port = random.choice(ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


def program(name: str, package: str) -> str:
    """Find a program. Raises Missing that names the Debian package."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SBIN]))
    if found is None:
        raise Missing(f"{name} is not installed: apt install {package}")
    return found


def require_root() -> None:
    """Raise Missing unless we are root."""
    if os.geteuid() != 0:
        raise Missing("Postfix and the load tools start as root: run the benchmark as root")
