"""The folder, the ports and the programs that a benchmark needs.

The folder lies in /var/tmp, not /tmp: a mail queue in memory would not be a mail queue. `--folder` puts it
elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

DEFAULT_PARENT = Path("/var/tmp")
_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")


class Missing(Exception):
    """Something that a benchmark needs is not here; the text says what to do."""


@contextlib.contextmanager
def folder(parent: Path = DEFAULT_PARENT) -> Iterator[Path]:
    """Make a folder that everybody may enter (the servers change users), and remove it at the end."""
    path = Path(tempfile.mkdtemp(prefix="tamis-bench-", dir=parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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
