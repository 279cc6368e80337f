"""BIND's named on loopback, primary of zones that take updates with a key (RFC 2136, TSIG)."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from bench.workplace import program
from tests.peers.needs import needs
from tests.peers.ports import free_port
from tests.peers.running import until

_CONFIGURATION = """\
include "{folder}/update.key";
options {{
  directory "{folder}";
  pid-file "{folder}/named.pid";
  session-keyfile "{folder}/session.key";
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  recursion no;
  dnssec-validation no;
  notify no;
}};
controls {{ }};
"""
_ZONE = 'zone "{zone}" {{ type primary; file "{zone}.zone"; allow-update {{ key "update"; }}; }};\n'
_EMPTY = """\
$ORIGIN {zone}.
@ 300 IN SOA ns hostmaster 1 3600 600 86400 60
@ 300 IN NS ns
ns 300 IN A 127.0.0.1
"""


@dataclass(frozen=True, slots=True)
class Named:
    """The server."""

    port: int
    key: Path
    """The file of the key, as tsig-keygen writes it."""

    def ask(self, name: str, rdtype: str) -> list[str]:
        """The records of a name, sorted."""
        reply = dns.query.udp(dns.message.make_query(name, rdtype), "127.0.0.1", port=self.port, timeout=5)
        return sorted(record.to_text() for rrset in reply.answer for record in rrset)


@contextlib.contextmanager
def running_named(folder: Path, zones: Sequence[str], more: str = "") -> Iterator[Named]:
    """Run it with zones that are empty but for `more`; ends with the block."""
    needs("bind9")
    port = free_port()
    key = folder / "update.key"
    making = [program("tsig-keygen", "bind9"), "update"]
    key.write_bytes(subprocess.run(making, capture_output=True, check=True).stdout)
    configuration = _CONFIGURATION.format(folder=folder, port=port)
    for zone in zones:
        (folder / f"{zone}.zone").write_text(_EMPTY.format(zone=zone) + more)
        configuration += _ZONE.format(zone=zone)
    (folder / "named.conf").write_text(configuration)
    command = [program("named", "bind9"), "-g", "-n", "1", "-c", str(folder / "named.conf")]
    with (folder / "named.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        server = Named(port, key)

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError((folder / "named.log").read_text())
            with contextlib.suppress(OSError, dns.exception.DNSException):
                return bool(server.ask(zones[0], "SOA"))
            return False

        until(answers, lambda: (folder / "named.log").read_text())
        yield server
    finally:
        process.terminate()
        process.wait(20)
