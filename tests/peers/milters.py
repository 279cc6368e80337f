"""Real milters and policy servers in other processes: libmilter's, opendkim, opendmarc, postgrey."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.peers.needs import needs, program
from tests.peers.running import until

_RECORDER = Path(__file__).with_name("recording_milter.py")


class Opendmarc:
    """A running opendmarc."""

    def __init__(self, endpoint: str, process: subprocess.Popen[bytes]) -> None:
        self.endpoint = endpoint
        self._process = process

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


class Recorder:
    """The recording milter; `endpoint` is for Postfix and for us, `lines` what it was told."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = f"unix:{folder}/socket"
        self._log = folder / "log"
        self._read = 0
        self._open = 0

    def lines(self) -> list[tuple[str, list[str], dict[str, str]]]:
        """Callback, arguments, macros; and forget them."""
        octets = self._new()
        self._read += len(octets)
        lines = [tuple(json.loads(line)) for line in octets.splitlines()]
        for name, *_ in lines:
            self._open = max(self._open + {"connect": 1, "close": -1}.get(name, 0), 0)
        return lines

    def quiet(self) -> None:
        """Forget the sessions that were, when libmilter has told of the ends of all."""

        def ended() -> bool:
            self.lines()
            return self._open == 0

        until(ended, "no session is open")

    def until(self, callback: str, times: int = 1) -> list[tuple[str, list[str], dict[str, str]]]:
        """Wait until it was called so often; then `lines`."""
        word = f'["{callback}",'.encode()
        until(lambda: self._new().count(word) >= times, callback)
        return self.lines()

    def _new(self) -> bytes:
        """Whole lines that nobody has read."""
        octets = self._log.read_bytes()[self._read :] if self._log.exists() else b""
        return octets[: octets.rfind(b"\n") + 1]


@contextmanager
def running_recorder() -> Iterator[Recorder]:
    """Start the recording milter."""
    needs("python3-milter")
    with _folder() as folder:
        recorder = Recorder(folder)
        words = ["/usr/bin/python3", str(_RECORDER), recorder.endpoint, str(folder / "log")]
        with _running(words, folder / "socket"):
            yield recorder


@contextmanager
def running_opendkim(domain: str, key: Path) -> Iterator[str]:
    """Start opendkim, signing for one domain with a key (PEM, readable by its owner only); its endpoint."""
    needs("opendkim")
    with _folder() as folder:
        endpoint = f"local:{folder}/socket"
        (folder / "conf").write_text(
            f"Socket {endpoint}\nDomain {domain}\nSelector s1\nKeyFile {key}\nMode s\n"
            "Canonicalization relaxed/simple\nInternalHosts 127.0.0.1\nUMask 0\n"
            "RequireSafeKeys no\n"
        )
        words = [program("opendkim"), "-f", "-x", str(folder / "conf")]
        with _running(words, folder / "socket"):
            yield endpoint


@contextmanager
def running_postgrey(delay: int) -> Iterator[str]:
    """Start postgrey with a delay in seconds; its endpoint."""
    needs("postgrey")
    with _folder() as folder:
        shutil.chown(folder, "postgrey", "postgrey")
        words = [program("postgrey"), f"--unix={folder}/socket", f"--delay={delay}", f"--dbdir={folder}"]
        with _running([*words, f"--pidfile={folder}/pid", "--user=postgrey"], folder / "socket"):
            yield f"unix:{folder}/socket"


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tamis-milter-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(words: list[str], path: Path) -> Iterator[subprocess.Popen[bytes]]:
    output = path.with_name("output")
    with output.open("wb") as file:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        until(lambda: process.poll() is not None or _listens(path), f"{words[0]} listens", 20)
        assert process.poll() is None, output.read_text()
        yield process
    finally:
        process.kill()  # libmilter takes five seconds to heed SIGTERM
        process.wait()


def _listens(path: Path) -> Any:
    with socket.socket(socket.AF_UNIX) as one:
        return path.exists() and one.connect_ex(str(path)) == 0


@contextmanager
def running_opendmarc(nameserver: str) -> Iterator[Opendmarc]:
    """Start opendmarc, which evaluates SPF itself and rejects; `nameserver` is an address whose port is 53.

    It reads /etc/resolv.conf, so it has one of its own, in a mount namespace.
    """
    needs("opendmarc", root=True)
    with _folder() as folder:
        (folder / "conf").write_text(
            f"Socket local:{folder}/socket\nAuthservID mx.example.test\nRejectFailures true\nUMask 0\n"
            "SPFIgnoreResults true\nSPFSelfValidate true\nSyslog false\nBackground false\nDNSTimeout 2\n"
            f"PidFile {folder}/pid\nIgnoreAuthenticatedClients true\n"
        )
        (folder / "resolv.conf").write_text(f"nameserver {nameserver}\noptions timeout:1 attempts:1\n")
        script = 'mount --bind "$1/resolv.conf" /etc/resolv.conf && exec "$2" -f -c "$1/conf"'
        words = ["unshare", "-m", "sh", "-c", script, "sh", str(folder), program("opendmarc")]
        with _running(words, folder / "socket") as process:
            yield Opendmarc(f"unix:{folder}/socket", process)
