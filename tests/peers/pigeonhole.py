"""Pigeonhole's command line tools: what Dovecot's Sieve engine makes of a script and a message."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers import dovecot_version as version
from tests.peers.needs import needs, program

NOBODY = 65_534
"""It reads no mail as root."""
EXTENSIONS = "+editheader +vacation-seconds +vnd.dovecot.debug"
"""Those that are there, but not by default."""

_note = re.compile(r"DEBUG: (.*)\.$", re.MULTILINE)
_error = re.compile(r"^script: line (\d+): error: ", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What came of a script."""

    notes: tuple[str, ...]
    """What it said by debug_log."""
    wrong_line: int | None
    """The line of the first mistake, None where it was taken."""


class Pigeonhole:
    """The tools, with their files in a folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` and those above it can be entered by everybody."""
        needs("dovecot-core", "dovecot-sieve")
        self._folder = folder
        self._config = folder / "dovecot.conf"
        self._config.write_text(f"{version.head()}log_path = /dev/stderr\n{version.maildir()}")
        (folder / "mail").mkdir()
        for path in (folder, folder / "mail"):
            path.chmod(0o777)

    def run(self, script: bytes, message: bytes, sender: str, recipient: str) -> Verdict:
        """Let it run a script."""
        paths = self._folder / "script.sieve", self._folder / "message"
        for path, octets in zip(paths, (script, message), strict=True):
            path.write_bytes(octets)
            path.chmod(0o644)
        arguments = ["-f", sender, "-r", recipient, "-a", recipient]
        return self._verdict("sieve-test", "-C", *arguments, *map(str, paths))

    def check(self, script: bytes) -> Verdict:
        """Let it compile a script."""
        path = self._folder / "script.sieve"
        path.write_bytes(script)
        path.chmod(0o644)
        return self._verdict("sievec", str(path), str(self._folder / "compiled"))

    def _verdict(self, name: str, *arguments: str) -> Verdict:
        is_root = os.geteuid() == 0
        done = subprocess.run(
            [program(name), "-c", str(self._config), "-x", EXTENSIONS, *arguments],
            capture_output=True,
            env={"HOME": str(self._folder / "mail"), "PATH": os.environ["PATH"], "TZ": "UTC"},
            user=NOBODY if is_root else None,
            group=NOBODY if is_root else None,
            extra_groups=() if is_root else None,
            timeout=60,
        )
        text = done.stderr.decode("utf-8", "replace")
        assert "Panic" not in text, text
        wrong = _error.search(text)
        assert (wrong is None) == (done.returncode == 0), text
        return Verdict(tuple(_note.findall(text)), int(wrong[1]) if wrong else None)
