"""A DNS with some senders of mail, as a name server on loopback, and messages with real signatures."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
from dns.message import Message as Query

from mta.authn.dkimkeys import SigningKey, make_key, public_octets
from mta.authn.dkimsign import sign
from mta.net.resolver.server import Address
from sieve_ext.message import Message
from tests.dialog.server import Client, Server, serving
from tests.peers.nameserver import Nameserver, records

CLIENT = "192.0.2.25"
"""Address of the host that may send for good.test."""
RSA = SigningKey("good.test", "rsa", make_key("rsa", 1024))
ED25519 = SigningKey("good.test", "ed", make_key("ed25519"))
OURS = """
[policy]
trusted_networks = [{trusted}]
{policy}
[dns]
resolvers = ["{resolver}"]
timeout = "1s"
[authentication]
timeout = "1s"
{authentication}
{more}
"""


def key_record(key: SigningKey) -> str:
    return f"v=DKIM1; k={key.type}; p={base64.b64encode(public_octets(key.key)).decode()}"


class Zone:
    """What the name server knows: lists of values by name and type."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.broken: set[str] = set()
        """Names, with all below them, that get SERVFAIL."""
        self.silent = False
        self.secure = False
        self.add("good.test", "TXT", f'"v=spf1 ip4:{CLIENT} -all"')
        self.add("mx.good.test", "TXT", f'"v=spf1 ip4:{CLIENT} -all"')
        self.add("mx.good.test", "A", CLIENT)
        self.add("25.2.0.192.in-addr.arpa", "PTR", "mx.good.test.")
        self.add("_dmarc.good.test", "TXT", '"v=DMARC1; p=reject"')
        self.add("_dmarc.careful.test", "TXT", '"v=DMARC1; p=quarantine"')
        for key in (RSA, ED25519):
            self.publish(key)

    def add(self, name: str, rdtype: str, value: str) -> None:
        self.records.setdefault((name, rdtype), []).append(value)

    def publish(self, key: SigningKey) -> None:
        text = key_record(key)
        pieces = " ".join(f'"{text[start : start + 250]}"' for start in range(0, len(text), 250))
        self.add(f"{key.selector}._domainkey.{key.domain}", "TXT", pieces)

    def answer(self, query: Query) -> Query | None:
        if self.silent:
            return None
        question = query.question[0]
        name = question.name.to_text().rstrip(".").lower()
        rdtype = dns.rdatatype.to_text(question.rdtype)
        flags = dns.flags.RA | (dns.flags.AD if self.secure else 0)
        if any(name == one or name.endswith(f".{one}") for one in self.broken):
            return records(query, flags=dns.flags.RA, rcode=dns.rcode.SERVFAIL)
        values = self.records.get((name, rdtype), [])
        lines = [f"{name}. 60 IN {rdtype} {value}" for value in values]
        exists = values or any(known == name or known.endswith(f".{name}") for known, _ in self.records)
        return records(query, *lines, flags=flags, rcode=0 if exists else dns.rcode.NXDOMAIN)


@asynccontextmanager
async def authenticating(
    folder: Path,
    zone: Zone | Address,
    *,
    trusted: str = "",
    policy: str = "",
    authentication: str = "",
    more: str = "",
    queue: str = "enabled = false",
) -> AsyncIterator[Server]:
    """A daemon that asks `zone`, or a resolver, and that believes XCLIENT from loopback."""
    async with AsyncExitStack() as stack:
        if isinstance(zone, Zone):
            zone = (await stack.enter_async_context(Nameserver(zone.answer))).address
        settings = OURS.format(
            trusted=trusted, policy=policy, resolver=zone, authentication=authentication, more=more
        )
        listener = 'xclient_from = ["127.0.0.1/32"]'
        async with serving(folder, listener=listener, more=settings, queue=queue) as server:
            yield server


async def stranger(server: Server, address: str = CLIENT, helo: str = "mx.good.test") -> Client:
    """A client from outside."""
    client = await server.connect()
    await client.hello()
    assert (await client.say(f"XCLIENT ADDR={address} PROTO=ESMTP")).startswith("220 ")
    assert (await client.say(f"EHLO {helo}")).startswith("250")
    return client


async def deliver(
    client: Client, message: bytes, *, sender: str = "alice@good.test", to: str = "b@example.test"
) -> str:
    """A message as it is; the reply to it."""
    await client.envelope(to, sender=sender)
    assert (await client.say("DATA")).startswith("354 ")
    return await client.say(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")


def signed(message: bytes, *keys: SigningKey, now: float) -> bytes:
    return sign(Message(message), keys or (RSA,), now=now) + message
