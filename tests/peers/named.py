"""BIND's named on loopback, primary of zones that take updates with a key (RFC 2136, TSIG).

Its zones may be signed, as updates come in; `running_validator` is an Unbound that validates one of them.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
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
_ZONE = 'zone "{zone}" {{ type primary; file "{zone}.zone"; allow-update {{ key "update"; }}; {more} }};\n'
_VALIDATOR = """\
server:
  interface: 127.0.0.1
  port: {port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: "{folder}/unbound.pid"
  use-syslog: no
  do-ip6: no
  do-not-query-localhost: no
  local-zone: "test." nodefault
  module-config: "validator iterator"
  trust-anchor: "{zone}. 300 IN DNSKEY {key}"
remote-control:
  control-enable: no
stub-zone:
  name: "{zone}"
  stub-addr: 127.0.0.1@{named}
"""
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
def running_named(
    folder: Path, zones: Sequence[str], more: str = "", *, signed: bool = False
) -> Iterator[Named]:
    """Run it with zones that are empty but for `more`; ends with the block."""
    policy = "dnssec-policy default;" if signed else ""
    needs("bind9")
    port = free_port()
    key = folder / "update.key"
    making = [program("tsig-keygen", "bind9"), "update"]
    key.write_bytes(subprocess.run(making, capture_output=True, check=True).stdout)
    configuration = _CONFIGURATION.format(folder=folder, port=port)
    for zone in zones:
        (folder / f"{zone}.zone").write_text(_EMPTY.format(zone=zone) + more)
        configuration += _ZONE.format(zone=zone, more=policy)
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


@contextlib.contextmanager
def running_validator(folder: Path, named: Named, zone: str, port: int) -> Iterator[None]:
    """An Unbound on a port that knows one signed zone and trusts its key; what it remembers ends with it."""
    needs("unbound")
    until(lambda: named.ask(zone, "DNSKEY") or None, lambda: "the zone has no keys")
    (key,) = named.ask(zone, "DNSKEY")
    text = _VALIDATOR.format(port=port, folder=folder, zone=zone, key=key, named=named.port)
    (folder / "unbound.conf").write_text(text)
    query = dns.message.make_query(zone, "SOA", use_edns=True)
    query.flags |= dns.flags.AD

    def validates() -> bool:
        with contextlib.suppress(OSError, dns.exception.DNSException):
            return bool(dns.query.udp(query, "127.0.0.1", port=port, timeout=2).flags & dns.flags.AD)
        return False

    log = folder / "unbound.out"
    with log.open("wb") as out:
        command = [program("unbound", "unbound"), "-d", "-c", str(folder / "unbound.conf")]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        until(lambda: validates() or None, log.read_text)
        yield
    finally:
        process.terminate()
        process.wait(20)
