"""Where mail of the benches of outbound delivery goes: domains in a signed DNS, and the sink behind them."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.outbound_sink import DESTINATIONS, running_sink

if TYPE_CHECKING:
    from tests.peers.dnsworld import DnsWorld


class DaneWorld(NamedTuple):
    """Both, running."""

    dns: DnsWorld
    chain: bytes
    """The key and the certificate of the sink, which the TLSA records of all domains name."""


@contextlib.contextmanager
def dane_world(port: int) -> Iterator[DaneWorld]:
    """d1.bench.test and so on, whose servers are at `port` of the addresses of the sink."""
    import trustme

    from mta.delivery.security.der import public_key_info
    from tests.peers.dnsworld import Zone, running_dnsworld

    leaf = trustme.CA().issue_cert("sink.test")
    pem = leaf.private_key_and_cert_chain_pem.bytes()
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    key = hashlib.sha256(public_key_info(der)).hexdigest()
    text = "".join(
        f"d{n} 300 MX 10 mx{n}\nmx{n} 300 A 127.2.0.{n}\n_{port}._tcp.mx{n} 300 TLSA 3 1 1 {key}\n"
        for n in range(1, DESTINATIONS + 1)
    )
    with tempfile.TemporaryDirectory() as folder, running_dnsworld({"bench.test": Zone(text)}) as world:
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(pem)
        with running_sink(str(port), str(chain)):
            yield DaneWorld(world, pem)
