"""A DNS of our own on loopback: signed zones under a root of our own, served by nsd, validated by Unbound.

    with running_dnsworld({"more.test": Zone('@ 300 TXT "x"')}) as world:
        stub = Stub([world.resolver])

A zone that is not below `test.` (a reverse zone) hangs on the root itself. Zones that are always there:
`good.test` (signed), `unsigned.test` (no DS), `nods.test` (signed, no DS), `bogus.test` (its MX and the TLSA
of its host have a wrong signature, the rest is good), `expired.test`, `stripped.test` (DS, but not signed).
Each has an MX, a host `mx`, a TLSA and what its text adds. nsd and
Unbound run in the foreground, need no root, and are ended with the block.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.rdtypes.ANY.DNSKEY import DNSKEY

from bench.processes import tree
from bench.workplace import program
from mta.net.resolver.server import Address
from tests.peers.ports import free_port

START_TIMEOUT = 20.0
"""Seconds for a start that takes half of one on an idle machine."""
DAY = 86400
_APEX = "@ 300 IN SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n@ 300 IN NS ns.test.\n"
_MAIL = "@ 300 MX 10 mx\nmx 300 A 127.0.1.1\n_25._tcp.mx 300 TLSA 3 1 1 " + "ab" * 32 + "\n"
_KEY = tuple[ec.EllipticCurvePrivateKey, DNSKEY]


@dataclass(frozen=True, slots=True)
class Zone:
    """What one zone holds, and what is wrong with it."""

    text: str = ""
    """More lines of its file; names without a final dot are below its origin."""
    signed: bool = True
    delegated: bool = True
    """The parent has a DS record for it."""
    expired: bool = False
    """Its signatures are over."""
    nsec3: bool = False
    """Absence is proven by NSEC3 (RFC 5155), not by NSEC."""
    tampered: tuple[tuple[str, str], ...] = ()
    """Names (relative to the origin, "@") and types whose signatures are wrong."""


ZONES: Mapping[str, Zone] = {
    "good.test": Zone(
        '@ 300 TXT "v=spf1 ip4:192.0.2.1 mx -all exp=why.good.test"\n'
        'why 300 TXT "%{i} may not send for %{d}"\n'
        '_dmarc 300 TXT "v=DMARC1; p=reject; np=quarantine"\n'
        "alias 300 CNAME mx\nfar 300 CNAME mx.unsigned.test.\n*.wild 300 A 127.0.1.9\n"
        + "".join(f'big 300 TXT "{n} {"x" * 240}"\n' for n in range(40))
    ),
    "unsigned.test": Zone('@ 300 TXT "v=spf1 -all"\n', signed=False, delegated=False),
    "nods.test": Zone(delegated=False),
    "bogus.test": Zone(
        '@ 300 TXT "v=spf1 +all"\n_dmarc 300 TXT "v=DMARC1; p=none"\n',
        tampered=(("@", "MX"), ("@", "TXT"), ("_dmarc", "TXT"), ("_25._tcp.mx", "TLSA")),
    ),
    "expired.test": Zone(expired=True),
    "stripped.test": Zone(signed=False),
}

_NSD = """\
server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{place}"
  pidfile: "{place}/nsd.pid"
  database: ""
  zonelistfile: "{place}/zone.list"
  xfrdfile: "{place}/xfrd.state"
  xfrdir: "{place}"
  cookie-secret-file: "{place}/cookie"
  logfile: "{place}/nsd.log"
remote-control:
  control-enable: no
"""
# Priming a stub zone for the root would lead back to port 53, so the root is forwarded; test. is blocked by
# default; a bogus answer is kept for a second only.
_UNBOUND = """\
server:
  interface: {host}
  port: {port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{place}"
  pidfile: "{place}/unbound.pid"
  logfile: "{place}/unbound.log"
  use-syslog: no
  ede: yes
  num-threads: 1
  so-reuseport: no
  do-ip6: no
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  module-config: "validator iterator"
  trust-anchor-file: "{place}/anchor.key"
  local-zone: "test." nodefault
  local-zone: "127.in-addr.arpa." nodefault
  qname-minimisation: no
  msg-cache-size: 4m
  rrset-cache-size: 8m
  infra-host-ttl: 5
  val-bogus-ttl: 1
  val-max-restart: 0
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{nsd}
"""


@dataclass
class DnsWorld:
    """Both servers, running."""

    folder: Path
    resolver: Address
    """Where the validating resolver listens."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """ "nsd" and "unbound"."""

    def pause(self, name: str) -> None:
        """Stop one of them (SIGSTOP), those that it has started too: they answer for it."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        for process in tree(self.processes[name].pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


@contextlib.contextmanager
def running_dnsworld(
    zones: Mapping[str, Zone] | None = None, resolver: Address | None = None
) -> Iterator[DnsWorld]:
    """Run it with `ZONES` and `zones`; `resolver` is where Unbound listens, anywhere by default.

    Raises `bench.workplace.Missing` without the programs.
    """
    programs = {name: program(name, name) for name in ("nsd", "unbound")}
    with tempfile.TemporaryDirectory(prefix="tamis-dns-") as name:
        place = Path(name)
        nsd, at = free_port(), resolver or Address("127.0.0.1", free_port())
        entries = _write_zones(place, {**ZONES, **(zones or {})})
        (place / "nsd.conf").write_text(_NSD.format(place=place, port=nsd) + entries)
        (place / "unbound.conf").write_text(_UNBOUND.format(place=place, host=at.host, port=at.port, nsd=nsd))
        world = DnsWorld(place, at)
        try:
            for server, path in programs.items():
                with (place / f"{server}.out").open("wb") as out:
                    command = [path, "-d", "-c", str(place / f"{server}.conf")]
                    world.processes[server] = subprocess.Popen(command, stdout=out, stderr=out, cwd=place)
            _wait(world)
            yield world
        finally:
            for server, process in world.processes.items():
                world.resume(server)
                process.terminate()
            for process in world.processes.values():
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextlib.contextmanager
def system_resolver(world: DnsWorld, address: str) -> Iterator[Path]:
    """A second Unbound, at port 53 of `address`, for programs that know only /etc/resolv.conf: a file for it.

    Needs root.
    """
    text = (world.folder / "unbound.conf").read_text()
    text = text.replace("interface: 127.0.0.1", f"interface: {address}")
    text = text.replace(f"port: {world.resolver.port}\n", "port: 53\n")
    text = text.replace("unbound.pid", "second.pid").replace("unbound.log", "second.log")
    settings, resolv = world.folder / "second.conf", world.folder / "resolv.conf"
    settings.write_text(text)
    resolv.write_text(f"nameserver {address}\noptions trust-ad edns0\n")
    with subprocess.Popen([program("unbound", "unbound"), "-d", "-c", str(settings)]) as process:
        try:
            _wait(DnsWorld(world.folder, Address(address, 53), {"unbound": process}))
            yield resolv
        finally:
            process.terminate()


def _wait(world: DnsWorld) -> None:
    query = dns.message.make_query("good.test.", "MX")
    query.flags |= dns.flags.AD
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until:
        for name, process in world.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended:\n{(world.folder / f'{name}.out').read_text()}")
        with contextlib.suppress(OSError, dns.exception.DNSException):
            reply = dns.query.udp(query, world.resolver.host, port=world.resolver.port, timeout=0.5)
            if reply.flags & dns.flags.AD:
                return
        time.sleep(0.02)
    logs = "\n".join(path.read_text(errors="replace") for path in world.folder.glob("*.log"))
    raise RuntimeError(f"the resolver does not validate:\n{logs}")


def _new_key() -> _KEY:
    private = ec.generate_private_key(ec.SECP256R1())
    return private, dns.dnssec.make_dnskey(private.public_key(), "ECDSAP256SHA256", flags=257)


def _ds(origin: str, key: _KEY) -> str:
    return dns.dnssec.make_ds(dns.name.from_text(origin), key[1], "SHA256").to_text()


def _write_zones(place: Path, zones: Mapping[str, Zone]) -> str:
    """Sign and write all zone files and the trust anchor; returns nsd's entries for them."""
    delegations, others = "ns.test. 300 A 127.0.0.1\n", ""
    entries = ""
    for origin, zone in zones.items():
        key = _new_key()
        entries += _write(place, f"{origin}.", _APEX + _MAIL + zone.text, zone, key)
        lines = f"{origin}. 300 NS ns.test.\n"
        if zone.delegated:
            lines += f"{origin}. 300 DS {_ds(origin, key)}\n"
        if origin.endswith(".test"):
            delegations += lines
        else:
            others += lines
    top, root = _new_key(), _new_key()
    entries += _write(place, "test.", _APEX + delegations, Zone(), top)
    below = f"test. 300 NS ns.test.\nns.test. 300 A 127.0.0.1\ntest. 300 DS {_ds('test', top)}\n"
    entries += _write(place, ".", _APEX + below + others, Zone(), root)
    (place / "anchor.key").write_text(f". 300 IN DNSKEY {root[1].to_text()}\n")
    return entries


def _sign_with_nsec3(zone: dns.zone.Zone, key: _KEY, begin: int, end: int) -> None:
    """Sign a zone without delegations, with hashed names: no salt, no iterations (RFC 9276)."""
    origin = zone.origin
    assert origin is not None

    def sign(name: dns.name.Name, rdataset: dns.rdataset.Rdataset) -> None:
        rrset = dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset))
        made = dns.dnssec.sign(rrset, key[0], origin, key[1], inception=begin, expiration=end)
        zone.find_rdataset(name, dns.rdatatype.RRSIG, rdataset.rdtype, create=True).add(made, rdataset.ttl)

    zone.find_rdataset(origin, dns.rdatatype.DNSKEY, create=True).add(key[1], 300)
    param = dns.rdata.from_text("IN", "NSEC3PARAM", "1 0 0 -")
    zone.find_rdataset(origin, dns.rdatatype.NSEC3PARAM, create=True).add(param, 300)
    types: dict[dns.name.Name, list[str]] = {}
    for name, node in list(zone.nodes.items()):
        rdatasets = list(node.rdatasets)
        types[name] = [*(dns.rdatatype.to_text(one.rdtype) for one in rdatasets), "RRSIG"]
        for rdataset in rdatasets:
            sign(name, rdataset)
    for name in list(types):  # names between the apex and others exist, too
        while name != origin:
            types.setdefault(name, [])
            name = name.parent()
    hashed = sorted((dns.dnssec.nsec3_hash(name, None, 0, "SHA1"), name) for name in types)
    for position, (label, name) in enumerate(hashed):
        following = hashed[(position + 1) % len(hashed)][0]
        record = dns.rdata.from_text("IN", "NSEC3", f"1 0 0 - {following} {' '.join(types[name])}".strip())
        owner = dns.name.from_text(label.lower(), origin)
        rdataset = zone.find_rdataset(owner, dns.rdatatype.NSEC3, create=True)
        rdataset.add(record, 60)
        sign(owner, rdataset)


def _write(place: Path, origin: str, text: str, zone: Zone, key: _KEY) -> str:
    made = dns.zone.from_text(text, origin=origin, relativize=False)
    if zone.signed:
        now = int(time.time())
        # Unbound bears a day of skew.
        begin, end = (now - 40 * DAY, now - 3 * DAY) if zone.expired else (now - 3600, now + 30 * DAY)
        if zone.nsec3:
            _sign_with_nsec3(made, key, begin, end)
        else:
            dns.dnssec.sign_zone(made, keys=[key], inception=begin, expiration=end)
    for name, rdtype in zone.tampered:
        node = made[dns.name.from_text(name, dns.name.from_text(origin)) if name != "@" else made.origin]
        good = node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.RRSIG, dns.rdatatype.from_text(rdtype))
        assert good is not None, (origin, name, rdtype)
        bad = [one.replace(signature=bytes((one.signature[0] ^ 1,)) + one.signature[1:]) for one in good]
        node.replace_rdataset(dns.rdataset.from_rdata_list(good.ttl, bad))
    path = place / f"{origin.strip('.') or 'root'}.zone"
    made.to_file(str(path), relativize=False)
    return f'zone:\n  name: "{origin}"\n  zonefile: "{path}"\n'
