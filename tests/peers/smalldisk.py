"""A file system of its own with little room, which can be filled and made read-only."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.peers.needs import needs


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """`size` octets at `folder`/disk. Needs root."""
    needs(root=True)
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def remount(disk: Path, how: str) -> None:
    """Make it "ro" or "rw"."""
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def fill(disk: Path) -> Path:
    """Take all the room there is; the file that does it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler
