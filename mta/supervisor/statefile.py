"""Small files of the state directory: replaced as a whole, private, on the disk when the call returns."""

from __future__ import annotations

import contextlib
import os

from mta.folders import flush_folder


def replace_file(path: str, content: bytes) -> None:
    """Write, flush, rename; who reads sees the old or the new octets. Raises `OSError`."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb", opener=_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    flush_folder(os.path.dirname(path))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
