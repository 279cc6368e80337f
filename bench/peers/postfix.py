"""Postfix with a private configuration: SMTP on loopback in, LMTP to the sink out.

Debian's defaults, except

* what the job needs: one domain, delivered over LMTP, every recipient accepted (`static:all`, the cheapest
  recipient check there is);
* no DNS and no name of the client, as Tamis does here;
* limits raised so that they do not bound the result: 200 processes, 50 LMTP connections (as Tamis has), no
  limit for one client; connections to the sink are kept;
* no chroot (the folder is not prepared for it), and the log goes to a file, as for Tamis.

Postfix writes each message to its queue and syncs it before it answers, then delivers. That is its way of
working, and on a machine with slow disks it costs more than here.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.sink import Destination, Sink
from bench.system import DOMAIN, HOSTNAME, Failure, System, last_lines
from bench.workplace import free_port, program, require_root

PACKAGE = "postfix"
_SHIPPED = Path("/etc/postfix")
_SHIPPED_FILES = ("dynamicmaps.cf", "postfix-files", "postfix-script", "post-install")
_SHIPPED_FOLDERS = ("dynamicmaps.cf.d", "postfix-files.d")

_MAIN = """\
compatibility_level = 3.6
queue_directory = {place}/spool
data_directory = {place}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {place}/mail.log
maillog_file_prefixes = {place}
myhostname = {hostname}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = static:all
virtual_transport = lmtp:inet:127.0.0.1:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
disable_dns_lookups = yes
default_process_limit = 200
lmtp_destination_concurrency_limit = 50
lmtp_connection_cache_on_demand = yes
"""

# service type private unpriv chroot wakeup maxproc command
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A private instance, prepared and not yet running."""

    def __init__(
        self, place: Path, sink: Destination, more: str = "", services: str = "", within: Sequence[str] = ()
    ) -> None:
        """Write its configuration, with `more` at the end of main.cf and `services` at that of master.cf.

        `within` is put before its command, to change where it runs. Raises Missing.
        """
        require_root()
        self._postfix = program("postfix", PACKAGE)
        self._within = tuple(within)
        self._place = place
        self._log = place / "mail.log"
        self._sink = sink
        self._configuration = place / "etc"
        self.port = free_port()
        for folder in (place, self._configuration, place / "spool", place / "data"):
            folder.mkdir()
        shutil.chown(place / "data", "postfix")
        for name in _SHIPPED_FILES:
            if (_SHIPPED / name).exists():  # Debian 13 has two of them elsewhere, where Postfix looks itself
                shutil.copy(_SHIPPED / name, self._configuration / name)
        for name in _SHIPPED_FOLDERS:
            if (_SHIPPED / name).is_dir():
                shutil.copytree(_SHIPPED / name, self._configuration / name)
        (self._configuration / "main.cf").write_text(
            _MAIN.format(place=place, hostname=HOSTNAME, domain=DOMAIN, sink=sink.port) + more
        )
        (self._configuration / "master.cf").write_text(_MASTER.format(port=self.port) + services)

    def start(self) -> None:
        """Start it and return as soon as it can be connected to, which is when `postfix start` returns."""
        self._command("start")

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self._command("stop")

    def system(self) -> System:
        """The running instance, which delivers to a sink."""
        assert isinstance(self._sink, Sink)
        return System("Postfix", self.port, self.process, self._sink, self._log)

    @property
    def process(self) -> int:
        """Id of the master."""
        return int((self._place / "spool/pid/master.pid").read_text())

    def flush(self) -> None:
        """Let all that is queued be tried now."""
        subprocess.run(
            [program("postqueue", PACKAGE), "-c", self._configuration, "-f"], check=True, capture_output=True
        )

    def version(self) -> str:
        """Its version, such as 3.7.11."""
        found = subprocess.run(
            [program("postconf", PACKAGE), "-d", "-h", "mail_version"],
            check=True,
            capture_output=True,
            text=True,
        )
        return found.stdout.strip()

    def _command(self, word: str) -> None:
        done = subprocess.run(
            [*self._within, self._postfix, "-c", self._configuration, word],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = done.stdout + done.stderr + last_lines(self._log)
            raise Failure(f"postfix {word} failed with status {done.returncode}: {said}")


@contextlib.contextmanager
def postfix(
    place: Path, sink: Sink, more: str = "", services: str = "", within: Sequence[str] = ()
) -> Iterator[System]:
    """Run a private Postfix that delivers to the sink."""
    instance = Postfix(place, sink, more, services, within)
    instance.start()
    try:
        yield instance.system()
    finally:
        instance.stop()
