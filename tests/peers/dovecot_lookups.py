"""A private Dovecot that serves its userdb and a dictionary in a file, for tables."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.peers import dovecot_version as version
from tests.peers.needs import needs, program
from tests.peers.running import until

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
service auth {{
  unix_listener {folder}/auth-userdb {{
    mode = 0666
  }}
}}
service dict {{
  unix_listener {folder}/dict {{
    mode = 0666
  }}
}}
"""

_DICT = "dict {{\n boxes = file:{folder}/entries\n}}\n"
_DICT_2_4 = """\
dict_server {{
  dict boxes {{
    driver = file
    dict_file_path = {folder}/entries
  }}
}}
"""


class DovecotLookups:
    """A running Dovecot; `userdb` and `dict` are its sockets."""

    def __init__(self, folder: Path) -> None:
        self.userdb, self.dict = f"{folder}/auth-userdb", f"{folder}/dict"
        self.folder = folder

    def start(self) -> None:
        """Start it and wait until both sockets take connections."""
        subprocess.run([program("dovecot"), "-c", self.folder / "dovecot.conf"], check=True)
        until(lambda: all(map(_listens, (self.userdb, self.dict))), self.log)

    def stop(self) -> None:
        """Kill it with all its processes: when only asked, some serve on for seconds."""
        path = self.folder / "run" / "master.pid"
        master = int(path.read_text())
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        for process in (master, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        until(lambda: not any(map(_listens, (self.userdb, self.dict))), self.log)
        path.unlink()

    def log(self) -> str:
        """What Dovecot has logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(path) == 0


@contextlib.contextmanager
def running_dovecot_lookups(users: str, entries: str) -> Iterator[DovecotLookups]:
    """Start it with lines of a passwd-file and of a file of a dictionary (a path, then its value)."""
    needs("dovecot-core", root=True)
    folder = Path(tempfile.mkdtemp(prefix="tamis-dovecot-"))
    folder.chmod(0o755)
    try:
        (folder / "users").write_text(users)
        (folder / "entries").write_text(entries)
        for name in ("users", "entries"):
            shutil.chown(folder / name, "dovecot", "dovecot")
        (folder / "dovecot.conf").write_text(
            version.head()
            + _CONFIGURATION.format(folder=folder)
            + version.passdb_static()
            + version.userdb_file(f"{folder}/users")
            + (_DICT_2_4 if version.is_2_4() else _DICT).format(folder=folder)
        )
        dovecot = DovecotLookups(folder)
        dovecot.start()
        try:
            yield dovecot
        finally:
            dovecot.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
