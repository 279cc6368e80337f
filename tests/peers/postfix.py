"""A private Postfix on loopback that takes mail as a smarthost and drops it; and `smtp-sink`.

`Postfix` listens on a free port, offers all that Postfix offers (PIPELINING, SIZE, STARTTLS, CHUNKING, DSN,
SMTPUTF8), refuses recipients at `refused.test` (554 5.7.1), defers those at `later.test` (450 4.7.1) and
discards the rest after queueing. Needs root and Debian's postfix. `Sink` runs smtp-sink with options of its
own choice. All files are in a folder that is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import tree
from tests.peers.needs import needs, program
from tests.peers.ports import free_port

STOP_TIME = 20.0
"""Seconds in which it ends in order."""
_MAIN = """\
compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/mail.log
maillog_file_prefixes = {dir}
myhostname = relay.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{{
  {{refused.test = REJECT not here}}, {{later.test = 450 4.7.1 not now}} }}
smtpd_discard_ehlo_keywords =
smtpd_tls_security_level = may
smtpd_tls_chain_files = {dir}/chain.pem
smtputf8_enable = yes
message_size_limit = 2000000
default_transport = discard
relay_transport = discard
"""

_MASTER = """\
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
error unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""


def _wait_for(port: int, process: subprocess.Popen[bytes] | None, why: Path | None) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit and (process is None or process.poll() is None):
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as s:
                if s.recv(3) == b"220":
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("no answer" + (f": {why.read_text()}" if why and why.exists() else ""))


class Postfix:
    """A running Postfix; use `running`."""

    def __init__(self, folder: Path) -> None:
        """Prepared by `running`."""
        self.folder = folder
        self.port = free_port()

    def log(self) -> str:
        """Its log."""
        return (self.folder / "mail.log").read_text()


def _control(
    folder: Path, verb: str, *, check: bool, seconds: float | None = None, resolv: Path | None = None
) -> None:
    within: list[str] = []
    if resolv is not None:
        script = f'mount --bind {resolv} /etc/resolv.conf && exec "$@"'
        within = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    subprocess.run(
        [*within, program("postfix"), "-c", str(folder / "etc"), verb],
        check=check,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=seconds,
    )


def _once(text: str) -> str:
    """Settings with the last value of each name alone.

    `master` warns of each other one, into a socket that takes ten until postlogd is there, and then hangs.
    """
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if line[0].isspace():
            found[name] += line
        else:
            name = line.partition("=")[0].strip()
            found[name] = line
    return "".join(found.values())


def _stop(folder: Path) -> None:
    """Stop it. A `master` that was reloaded a moment before may not listen to that; it is killed."""
    try:
        _control(folder, "stop", check=False, seconds=STOP_TIME)
    except subprocess.TimeoutExpired:
        master = int((folder / "spool/pid/master.pid").read_text())
        for process in reversed(tree(master)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@contextmanager
def running_postfix(
    chain: bytes, settings: str = "", services: str = "", *, resolv: Path | None = None
) -> Iterator[Postfix]:
    """Start Postfix with a TLS key and chain (PEM). Raises RuntimeError when it does not answer.

    `settings` are lines for main.cf, the last of a name counts; `services` are lines for master.cf.
    `resolv` is its /etc/resolv.conf, in a mount namespace of its own.
    """
    needs("postfix", root=True)
    folder = Path(tempfile.mkdtemp(prefix="tamis-postfix-"))
    folder.chmod(0o755)
    server = Postfix(folder)
    etc = folder / "etc"
    for path in (etc, folder / "spool", folder / "data"):
        path.mkdir()
    shutil.chown(folder / "data", "postfix")
    for name in ("dynamicmaps.cf", "postfix-files", "postfix-script", "post-install"):
        source = Path("/etc/postfix") / name
        if source.exists():
            shutil.copy(source, etc / name)
    (folder / "chain.pem").write_bytes(chain)
    (etc / "main.cf").write_text(_once(_MAIN.format(dir=folder) + settings))
    (etc / "master.cf").write_text(_MASTER.format(port=server.port) + services)
    try:
        _control(folder, "start", check=True, resolv=resolv)
        _wait_for(server.port, None, folder / "mail.log")
        yield server
    finally:
        _stop(folder)
        shutil.rmtree(folder)


@contextmanager
def running_sink(*options: str) -> Iterator[int]:
    """Start smtp-sink with options (such as "-L" for LMTP); its port."""
    needs("postfix")
    port = free_port()
    words = [program("smtp-sink"), "-u", "nobody", *options, f"127.0.0.1:{port}", "100"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if "-q" not in options and "-Q" not in options:
            _wait_for(port, process, None)
        else:
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()
