"""Folders whose names must outlast a crash."""

from __future__ import annotations

import os

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""How a folder is opened (open(2))."""


def flush_folder(path: str | os.PathLike[str]) -> None:
    """Put the names in a folder on the disk: a new or renamed file is safe only then (fsync(2)).

    Raises OSError.
    """
    descriptor = os.open(path, FOLDER_FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
