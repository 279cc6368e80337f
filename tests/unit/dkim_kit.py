"""Keys, a DNS and signatures with any tags, for tests of DKIM and ARC.

`forge` computes signatures with the canonicalisation of dkimpy, so that ours is not checked against itself.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import dkim  # type: ignore[import-untyped]

from mta.authn.dkim import DEFAULT_OPTIONS, DkimResult, Options, verify
from mta.authn.dkimkeys import SigningKey, make_key, public_octets
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import Message

NOW = 1_795_800_000
DOMAIN = "example.org"
RSA = SigningKey(DOMAIN, "rsa", make_key("rsa"))
ED25519 = SigningKey(DOMAIN, "ed", make_key("ed25519"))
HEAD = (
    b"Received: from a by b; Fri, 27 Nov 2026 10:00:00 +0000\r\n"
    b"From: Alice <alice@example.org>\r\n"
    b"To: bob@example.net,\r\n\tcarol@example.net\r\n"
    b"Subject:  The   weekly\r\n report \r\n"
    b"Date: Fri, 27 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\n"
)
BODY = b"Hello  Bob,\t \r\n\r\n  all is well. \r\n\r\n\r\n"
MESSAGE = HEAD + b"\r\n" + BODY


def record(key: SigningKey, extra: str = "") -> str:
    """The key record of a key."""
    return f"v=DKIM1; k={key.type}; {extra}p={base64.b64encode(public_octets(key.key)).decode()}"


def dns_with(*keys: SigningKey, **extra: str) -> FakeResolver:
    """A DNS with the records of `keys`; `extra` by selector."""
    dns = FakeResolver()
    for key in keys:
        dns.text(f"{key.selector}._domainkey.{key.domain}", record(key, extra.get(key.selector, "")))
    return dns


def forge(message: bytes, key: SigningKey = RSA, **tags: Any) -> bytes:
    """`message` with a signature of `key` in front that says what `tags` say; None leaves a tag out."""
    head, _, found = message.partition(b"\r\n\r\n")
    given: dict[str, Any] = {
        "v": "1", "a": key.algorithm, "c": "relaxed/relaxed", "d": key.domain, "s": key.selector,
        "h": "from:to:subject:date", **tags,
    }  # fmt: skip
    name = given["c"] or "simple"
    policy = dkim.CanonicalizationPolicy.from_c_value(b"simple" if name == "nofws" else name.encode())
    octets = policy.canonicalize_body(found)
    length = given.get("l")
    if length is not None and length.isdigit():
        octets = octets[: int(length)]
    given.setdefault("bh", base64.b64encode(hashlib.sha256(octets).digest()).decode())
    text = "; ".join(f"{tag}={value}" for tag, value in given.items() if value is not None)
    field = f" {text}; b=".encode()
    headers, _ = dkim.rfc822_parse(head + b"\r\n\r\n")
    names = [name.strip().lower().encode() for name in (given["h"] or "").split(":")]
    digest = hashlib.sha256()
    for name, value in dkim.select_headers(policy.canonicalize_headers(headers), names):
        digest.update(name + b":" + value)
    ((name, value),) = policy.canonicalize_headers([(b"DKIM-Signature", field)])
    digest.update(name + b":" + value.rstrip(b"\r\n"))
    signature = base64.b64encode(key.sign(digest.digest()))
    return b"DKIM-Signature:" + field + signature + b"\r\n" + message


def results(
    message: bytes, dns: FakeResolver, options: Options = DEFAULT_OPTIONS, now: float = NOW
) -> tuple[DkimResult, ...]:
    """The results of all signatures."""
    return asyncio.run(verify(Message(message), dns, options, now=now))
