"""Where included scripts come from, besides `MappingStore`: directories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from errno import EFBIG
from pathlib import Path

SCRIPT_OCTETS = 1024 * 1024
"""Largest file that is read as a script."""


@dataclass(slots=True)
class DirectoryStore:
    """Scripts as files `NAME.sieve`, in a directory for each location ("personal", "global").

    A location without a directory has no scripts. Names never lead out of a directory: `include` allows no
    "/" in them, and what is no plain file name is not found.
    """

    directories: Mapping[str, Path]
    octets: int = SCRIPT_OCTETS

    def load(self, location: str, name: str) -> bytes | None:
        """The text of a script, None if there is none. Raises OSError when it is too large."""
        directory = self.directories.get(location)
        if directory is None or not name or "/" in name or "\0" in name:
            return None
        try:
            with (directory / f"{name}.sieve").open("rb") as file:
                text = file.read(self.octets + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(text) > self.octets:
            raise OSError(EFBIG, f"larger than {self.octets} octets")
        return text
