"""opendkim and opendmarc as milters of the daemon: they and we think the same of each message."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers.checking import checking_milters
from mta.authn.dkimkeys import SigningKey, make_key
from mta.authn.dkimrecord import zone_line
from mta.net.resolver.server import Address
from tests.dialog.senders import authenticating, deliver, signed, stranger
from tests.dialog.server import run
from tests.peers.dnsworld import Zone, running_dnsworld
from tests.peers.needs import needs

pytestmark = pytest.mark.scenario

HOST, ELSEWHERE = "192.0.2.1", "198.51.100.7"
RESOLVER = Address("127.53.0.2", 53)
PEER = "peer.example"
KEY = SigningKey("strict.example", "key", make_key("rsa", 1024))
OTHER = SigningKey("other.example", "key", make_key("rsa", 1024))
SPF = '@ 300 TXT "v=spf1 ip4:192.0.2.1 -all"\n'
ZONES = {
    "strict.example": Zone(
        f'{SPF}_dmarc 300 TXT "v=DMARC1; p=reject; sp=quarantine"\n{zone_line(KEY)}\n'
        'sub 300 TXT "v=spf1 ip4:192.0.2.1 -all"\n'
    ),
    "exact.example": Zone(
        f'{SPF}_dmarc 300 TXT "v=DMARC1; p=quarantine; aspf=s; adkim=s"\n'
        'sub 300 TXT "v=spf1 ip4:192.0.2.1 -all"\n'
    ),
    "lax.example": Zone(f'{SPF}_dmarc 300 TXT "v=DMARC1; p=none"\n'),
    "other.example": Zone(f"{SPF}{zone_line(OTHER)}\n"),
}
TABLE = [
    # address, sender, author, key, what DMARC comes to; opendmarc 1.4 makes nothing of aspf=s
    (HOST, "strict.example", "strict.example", None, "pass"),
    (ELSEWHERE, "strict.example", "strict.example", None, "fail"),
    (ELSEWHERE, "other.example", "strict.example", KEY, "pass"),
    (HOST, "other.example", "strict.example", None, "fail"),
    (HOST, "other.example", "strict.example", OTHER, "fail"),
    (HOST, "sub.strict.example", "strict.example", None, "pass"),
    (HOST, "strict.example", "sub.strict.example", None, "pass"),
    (ELSEWHERE, "other.example", "sub.strict.example", KEY, "pass"),
    (ELSEWHERE, "other.example", "sub.strict.example", None, "fail"),
    (HOST, "exact.example", "exact.example", None, "pass"),
    (ELSEWHERE, "exact.example", "exact.example", None, "fail"),
    (ELSEWHERE, "lax.example", "lax.example", None, "fail"),
    (HOST, "other.example", "other.example", OTHER, "none"),
    (ELSEWHERE, "other.example", "nowhere.example", None, "none"),
]
MILTERS = """
[milters.opendkim]
address = "127.0.0.1:{opendkim}"
listeners = ["smtp"]
[milters.opendmarc]
address = "127.0.0.1:{opendmarc}"
listeners = ["smtp"]
"""
ACCEPT = """require ["vnd.tamis.stage", "vnd.tamis.site"];
stage "rcpt" { if local_domain { check_recipient; } }
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """One that the peers may enter; pytest's are for us alone."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def results(octets: bytes, by: str) -> list[str]:
    """Results that `by` has written, as "dmarc=pass"."""
    return re.findall(r"\b(?:dmarc|dkim|spf)=\w+", fields_of(octets, by))


def fields_of(octets: bytes, by: str) -> str:
    """What is in the fields Authentication-Results of `by`."""
    header = re.sub(rb"\r\n[ \t]+", b" ", octets.partition(b"\r\n\r\n")[0]).decode()
    return " ".join(re.findall(rf"^Authentication-Results: {re.escape(by)};(.*)$", header, re.MULTILINE))


def test_they_and_we_think_the_same(place: Path, tmp_path: Path) -> None:
    needs("nsd", "unbound", "opendkim", "opendmarc", root=True)
    (tmp_path / "base.sieve").write_text(ACCEPT)  # all of it is to be seen, so nothing is refused

    async def main() -> None:
        with (
            running_dnsworld(ZONES, RESOLVER) as world,
            checking_milters(place, RESOLVER, PEER, refuses=False, checks_spf=True) as ports,
        ):
            async with authenticating(
                tmp_path, world.resolver, policy='base = "base.sieve"', more=MILTERS.format(**ports)
            ) as server:
                for address, sender, author, key, expected in TABLE:
                    case = f"{address} {sender} {author} {key and key.domain}"
                    octets = f"From: Ann <ann@{author}>\r\nSubject: hi\r\n\r\nhello\r\n".encode()
                    if key is not None:
                        octets = signed(octets, key, now=time.time())
                    client = await stranger(server, address, f"mx.{sender}")
                    reply = await deliver(client, octets, sender=f"ann@{sender}")
                    assert reply.startswith("250"), (case, reply)
                    got = server.store.delivered[-1].octets
                    assert f"dmarc={expected}" in results(got, "mx.test"), (case, got)
                    assert f"dmarc={expected}" in results(got, PEER), (case, got)
                    if expected == "fail":  # which policy holds: that for subdomains is another one
                        ours = re.findall(r" policy\.dmarc=(\w+)", fields_of(got, "mx.test"))
                        assert len(ours) == 1, (case, got)
                        assert ours == re.findall(r"\(p=(\w+) ", fields_of(got, PEER)), (case, got)
                    if key is not None:
                        assert "dkim=pass" in results(got, "mx.test"), (case, got)
                        assert "dkim=pass" in results(got, PEER), (case, got)

    run(main)


@pytest.mark.parametrize("shown", [True, False])
def test_opendmarc_believes_the_results_that_it_is_shown(place: Path, tmp_path: Path, shown: bool) -> None:
    """It checks neither SPF nor DKIM itself, and nobody stands before it who does."""
    needs("nsd", "unbound", "opendkim", "opendmarc", root=True)
    (tmp_path / "base.sieve").write_text(ACCEPT)
    rows = [(HOST, None, "pass"), (ELSEWHERE, KEY, "pass"), (ELSEWHERE, None, "fail")]

    async def main() -> None:
        with (
            running_dnsworld(ZONES, RESOLVER) as world,
            checking_milters(place, RESOLVER, "mx.test", refuses=False) as ports,
        ):
            more = f'[milters.opendmarc]\naddress = "127.0.0.1:{ports["opendmarc"]}"\nlisteners = ["smtp"]\n'
            more += f"authentication_results = {str(shown).lower()}\n"
            async with authenticating(
                tmp_path, world.resolver, policy='base = "base.sieve"', more=more
            ) as server:
                for address, key, expected in rows:
                    octets = b"From: Ann <ann@strict.example>\r\nSubject: hi\r\n\r\nhello\r\n"
                    if key is not None:
                        octets = signed(octets, key, now=time.time())
                    client = await stranger(server, address, "mx.strict.example")
                    assert (await deliver(client, octets, sender="ann@strict.example")).startswith("250")
                    got = server.store.delivered[-1].octets
                    said = [one for one in results(got, "mx.test") if one.startswith("dmarc")]
                    theirs = expected if shown else "fail"
                    assert said[:2] == [f"dmarc={theirs}", f"dmarc={expected}"], (address, key, got)

    run(main)
