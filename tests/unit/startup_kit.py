"""A site that the world knows as it should, to be spoiled by tests of the start-up checks."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mta import config
from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimrecord import record_name, record_text
from mta.authn.dkimrotate import KeyState
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from mta.startup.claims import Site, site_of
from mta.startup.result import Result
from mta.startup.runner import run
from mta.startup.table import CHECKS
from mta.startup.world import World
from tests.peers.certificates import Authority

HOST, DOMAIN = "mx.good.test", "good.test"
CAPABILITIES = '1 . key65280="1.2" key65283="8BITMIME,CHUNKING"'
CONFIGURATION = """
[identity]
hostname = "mx.good.test"
[[listener]]
addresses = ["127.0.0.1:25"]
[[listener]]
protocol = "submission"
tls = "implicit"
addresses = ["127.0.0.1:465"]
[certificates.main]
chain = "main.pem"
key = "main.key"
[auth]
backend = "users"
[dns]
resolvers = ["127.0.0.1"]
[signing]
keys = "dkim"
[security]
signed_names = ["iana.org", "ietf.org"]
[domains."good.test"]
recipients = "all"
backend = "store"
[backends.store]
addresses = ["127.0.0.1:24"]
[process]
state_directory = "state"
runtime_directory = "run"
"""


def site(folder: Path, more: str = "", text: str = CONFIGURATION) -> Site:
    """The site in `folder`, with more lines of configuration."""
    settings = config.parse(text + more, str(folder / "tamis.toml"))
    return site_of(settings)


def good_dns() -> FakeResolver:
    """A resolver that knows the site; all of it is signed."""
    dns = FakeResolver()
    dns.status("test", Status.SECURE)
    dns.status("iana.org", Status.SECURE)
    dns.add("iana.org", "SOA", "ns.iana.org. h.iana.org. 1 1 1 1 1")
    dns.fail("dnssec-failed.org", status=Status.BOGUS)
    dns.add(HOST, "A", "192.0.2.1")
    dns.add("1.2.0.192.in-addr.arpa", "PTR", f"{HOST}.")
    dns.add(DOMAIN, "MX", f"10 {HOST}.")
    dns.text(DOMAIN, "v=spf1 mx -all")
    dns.text(f"_dmarc.{DOMAIN}", "v=DMARC1; p=reject; rua=mailto:postmaster@good.test")
    dns.text(f"_smtp._tls.{DOMAIN}", "v=TLSRPTv1; rua=mailto:postmaster@good.test")
    dns.text(f"_mta-sts.{DOMAIN}", "v=STSv1; id=20261128")
    dns.add(f"_submission._tcp.{DOMAIN}", "SRV", "0 0 0 .")
    dns.add(f"_submissions._tcp.{DOMAIN}", "SRV", f"0 1 465 {HOST}.")
    dns.add(f"_imap._tcp.{DOMAIN}", "SRV", "0 0 0 .")
    dns.add(f"_imaps._tcp.{DOMAIN}", "SRV", "0 0 0 .")
    dns.add(f"_25._smtp.{HOST}", "SVCB", CAPABILITIES)
    return dns


def publish_keys(folder: Path, dns: FakeResolver) -> None:
    """Make DKIM keys that sign and publish them."""
    keys = KeyFolder(folder / "dkim")
    keys.create(DOMAIN, ("ed25519",), "one", 2048, 1.0)
    entries = [msgspec.structs.replace(entry, state=KeyState.ACTIVE) for entry in keys.entries(DOMAIN)]
    with keys.locked(DOMAIN):
        keys.write(DOMAIN, entries)
    for key in keys.signing_keys(DOMAIN):
        dns.text(record_name(key.domain, key.selector), record_text(key))


def look(
    name: str,
    where: Site,
    dns: FakeResolver | None,
    *,
    ours: Callable[[str], bool] = lambda address: True,
    seconds: float = 5.0,
    **options: object,
) -> list[Result]:
    """Make one check."""
    check = next(check for check in CHECKS if check.name == name)

    async def main() -> list[Result]:
        world = World(dns, seconds=seconds, is_ours=ours, **options)  # type: ignore[arg-type]
        return (await run(where, world, [check]))[name]

    return asyncio.run(main())


def certify(folder: Path, authority: Authority, *names: str) -> None:
    """Write the certificate of the site."""
    authority.issue("main", *(names or (HOST,)))


@contextmanager
def answering(*lines: bytes) -> Iterator[int]:
    """A server of one session: its greeting, then an answer for each line."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        listener.settimeout(20)
        client, _ = listener.accept()
        client.settimeout(20)
        with client, client.makefile("rwb", buffering=0) as stream:
            for line in lines:
                stream.write(line + b"\r\n")
                if not stream.readline():
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()
