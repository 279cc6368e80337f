"""A resolver that is silent, fails, lies about nothing but changes its mind, by chance, until it is calm.

It knows two domains with several hosts each, whose order changes from time to time, one domain that does not
exist (`GONE`), and one host with a TLSA record that is *secure*.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import dns.flags
import dns.rcode
import dns.rdatatype
from dns.message import Message

from tests.peers.nameserver import Nameserver, records

NEAR, FAR, GONE = "near.test", "far.test", "gone.test"
HOSTS = {"mx1.world.test": "127.0.3.1", "mx2.world.test": "127.0.3.2", "mx3.world.test": "127.0.3.3"}
PINNED = "mx3.world.test"
"""The host with the TLSA record."""
SIGNED = "signed.test"
"""For the proof that the resolver validates."""
_ORDERS: dict[str, Sequence[Sequence[str]]] = {
    NEAR: (("10 mx1", "10 mx2"), ("10 mx2", "20 mx1"), ("5 mx1",)),
    FAR: (("10 mx3",), ("10 mx3", "20 mx3")),
}


class FickleDns(Nameserver):
    """Serves while its `async with` block runs."""

    def __init__(self, chance: random.Random, *, mail_port: int, key: str) -> None:
        """`key` is the SHA-256 of the public key of the host with the TLSA record."""
        super().__init__(self._answer, tcp=self._plainly)
        self.rate = 0.3
        self.faults: Counter[str] = Counter()
        self._chance = chance
        self._port = mail_port
        self.publish(key)

    def publish(self, key: str) -> None:
        """Another key of the host with the TLSA record."""
        self._tlsa = f"_{self._port}._tcp.{PINNED}. 1 IN TLSA 3 1 1 {key}"

    def calm(self) -> None:
        """No more faults."""
        self.rate = 0.0

    def _answer(self, query: Message) -> Message | bytes | None:
        if self._chance.random() >= self.rate:
            return self._plainly(query)
        kind = self._chance.choice(("silent", "silent", "servfail", "refused", "truncated", "nonsense"))
        self.faults[f"dns {kind}"] += 1
        match kind:
            case "silent":
                return None
            case "servfail":
                return records(query, rcode=dns.rcode.SERVFAIL)
            case "refused":
                return records(query, rcode=dns.rcode.REFUSED)
            case "truncated":
                return records(query, flags=dns.flags.TC)
        return query.id.to_bytes(2, "big") + self._chance.randbytes(20)

    def _plainly(self, query: Message) -> Message:
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype
        lines: list[str] = []
        if name in _ORDERS and kind == dns.rdatatype.MX:
            order = self._chance.choice(_ORDERS[name])
            lines = [f"{name}. 1 IN MX {host}.world.test." for host in order]
        elif name in HOSTS and kind == dns.rdatatype.A:
            lines = [f"{name}. 1 IN A {HOSTS[name]}"]
        elif f"{name}. " in self._tlsa and kind == dns.rdatatype.TLSA:
            lines = [self._tlsa]
        elif name == GONE or name.endswith(f".{GONE}"):
            return records(query, rcode=dns.rcode.NXDOMAIN)
        return records(query, *lines, flags=dns.flags.AD)
