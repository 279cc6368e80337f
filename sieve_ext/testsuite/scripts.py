"""Where the scripts of a test are: files beside the test file, or entries of a dictionary file.

A dictionary file has two lines an entry, its key and its value. Settings name it:

    sieve_script/included/sieve_script_driver = dict
    sieve_script/included/sieve_script_dict/dict/file/path = /path/to/file
"""

from __future__ import annotations

from pathlib import Path

from sieve_ext.runtime.settings import Settings

FOLDERS = {"personal": "included", "global": "included-global"}
"""Where `include` looks, by location."""


def read_dictionary(path: Path) -> dict[str, str]:
    """The entries of a dictionary file. Raises OSError when it cannot be read."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=False))


def script_name(path: Path) -> str:
    """What a script is called in messages."""
    return path.stem if path.suffix in (".sieve", ".svtest") else path.name


class TestScripts:
    """The scripts that the test file and those that it compiles may include."""

    __test__ = False  # not one of pytest's

    def __init__(self, directory: Path, settings: Settings) -> None:
        """`directory` is that of the test file; `settings` may change."""
        self._directory = directory
        self._settings = settings

    def load(self, location: str, name: str) -> bytes | None:
        """The text of a script, None if there is none. Raises OSError when that cannot be found out."""
        folder = FOLDERS.get(location, location)
        prefix = f"sieve_script/{folder}/"
        if self._settings.text(f"{prefix}sieve_script_driver") == "dict":
            return self._from_dictionary(prefix, name)
        path = self._directory / folder / f"{name}.sieve"
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _from_dictionary(self, prefix: str, name: str) -> bytes | None:
        path = self._settings.text(f"{prefix}sieve_script_dict/dict/file/path")
        entries = read_dictionary(self._directory / path)
        identity = entries.get(f"priv/sieve/name/{name}")
        text = entries.get(f"priv/sieve/data/{identity}") if identity is not None else None
        return None if text is None else text.encode("utf-8")
