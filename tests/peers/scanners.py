"""Real scanners on Unix sockets: rspamd (also as a milter), spamd, clamd. None of them needs a network.

Each finds what its makers made for tests: rspamd and spamd the GTUBE line, clamd the EICAR file, by a
signature that stands in place of its database.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import tree
from tests.peers.needs import needs, program
from tests.peers.running import until

# In two pieces: this file is neither spam nor a virus.
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"

_RSPAMD = """\
options {{
  filters = "";
  tempdir = "{folder}";
  disable_hyperscan = true;
  dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.2s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "warning"; }}
worker "normal" {{ bind_socket = "{folder}/scan mode=0666"; count = 1; }}
worker "rspamd_proxy" {{
  bind_socket = "{folder}/milter mode=0666";
  count = 1;
  milter = yes;
  timeout = 10s;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
actions {{ reject = 15; add_header = 6; }}
"""
_CLAMD = """\
LocalSocket {folder}/scan
LocalSocketMode 666
DatabaseDirectory {folder}/database
TemporaryDirectory {folder}
Foreground yes
"""


@dataclass(frozen=True, slots=True)
class Scanner:
    """A running scanner."""

    address: str
    milter: str
    """Endpoint of the same as a milter, where it is one."""
    process: subprocess.Popen[bytes]
    sockets: Sequence[Path]

    def kill(self) -> None:
        """End it at once, with its children, and wait until all of its sockets are closed."""
        for process in tree(self.process.pid):  # newer rspamds give each child a group of its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()
        until(lambda: not any(map(_listens, self.sockets)), "its sockets are closed")


@contextlib.contextmanager
def running_scanner(kind: str) -> Iterator[Scanner]:
    """Start an "rspamd", "spamassassin" or "clamav"."""
    start = {"rspamd": _rspamd, "spamassassin": _spamd, "clamav": _clamd}[kind]
    folder = Path(tempfile.mkdtemp(prefix="tamis-scanner-"))
    folder.chmod(0o755)
    try:
        user, words, sockets = start(folder)
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                shutil.chown(path, user)
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                words, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, user=user if os.geteuid() == 0 else None,
            )  # fmt: skip
        scanner = Scanner(f"unix:{folder}/scan", f"unix:{folder}/milter", process, sockets)
        try:
            log = folder / "output"
            until(
                lambda: process.poll() is not None or all(map(_listens, sockets)),
                lambda: log.read_text(errors="replace"),
            )
            assert process.poll() is None, log.read_text(errors="replace")
            yield scanner
        finally:
            scanner.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


Start = tuple[str, Sequence[str], Sequence[Path]]
"""A user, a command, and sockets that it opens."""


def _rspamd(folder: Path) -> Start:
    needs("rspamd")
    (folder / "conf").write_text(_RSPAMD.format(folder=folder))
    words = [program("rspamd"), "-f", "-c", str(folder / "conf")]
    return "_rspamd", words, (folder / "scan", folder / "milter")


def _spamd(folder: Path) -> Start:
    needs("spamd")
    words = [
        program("spamd"), "--local", "--nouser-config", "--max-children=2", "--min-children=1",
        f"--socketpath={folder}/scan", "--socketmode=0666", f"--helper-home-dir={folder}", "--syslog=stderr",
    ]  # fmt: skip
    return "nobody", words, (folder / "scan",)


def _clamd(folder: Path) -> Start:
    needs("clamav-daemon")
    (folder / "database").mkdir()
    (folder / "database" / "own.ndb").write_text(f"Tamis.Eicar:0:*:{EICAR.encode().hex()}\n")
    (folder / "conf").write_text(_CLAMD.format(folder=folder))
    return "clamav", [program("clamd"), "-c", str(folder / "conf")], (folder / "scan",)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0
