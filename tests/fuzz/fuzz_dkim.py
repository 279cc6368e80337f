"""Invariant: any signature, key and chain has a result, nothing is raised; what we sign and seal passes.

Run ``python -m tests.fuzz.fuzz_dkim [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with generated
octets by the unit tests. The octets are read as a field, as a key record, as a whole message and as a body.
"""

from __future__ import annotations

import asyncio
import base64
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mta.authn.arc import validate
from mta.authn.arcseal import seal
from mta.authn.dkim import verify
from mta.authn.dkimcanon import RelaxedBody, SimpleBody
from mta.authn.dkimkeys import SigningKey, public_octets
from mta.authn.dkimsign import SigningError, sign
from mta.authn.results import Result
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import Message

NOW = 1_795_800_000
KEY = SigningKey("example.org", "s", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
RECORD = f"v=DKIM1; k=ed25519; p={base64.b64encode(public_octets(KEY.key)).decode()}"
FROM = b"From: alice@example.org\r\n"
FIELD = b"v=1; a=ed25519-sha256; c=relaxed; d=example.org; s=s; h=from; bh=AAAA; b=AAAA; "


def check(data: bytes) -> None:
    """Read the octets as each of these things."""
    asyncio.run(_check(data))


async def _check(data: bytes) -> None:
    ours, theirs = FakeResolver(), FakeResolver()
    ours.text("s._domainkey.example.org", RECORD)
    theirs.text("s._domainkey.example.org", data)
    for head in (data, b"DKIM-Signature: " + data, b"DKIM-Signature: " + FIELD + data, b"ARC-Seal: " + data):
        for dns in (ours, theirs):
            message = Message(head + b"\r\n" + FROM + b"\r\nbody\r\n")
            for one in await verify(message, dns, now=NOW):
                assert one.result is not Result.NONE
                assert one.method_result.reason == one.reason
            chain = await validate(message, dns, now=NOW)
            assert chain.result in (Result.NONE, Result.PASS, Result.FAIL)
    await _signs(Message(data), ours)
    await _signs(Message(FROM + b"Subject:" + data + b"\r\n\r\nbody\r\n"), ours)
    await _signs(Message(FROM + b"\r\n" + data), ours)
    for kind in (SimpleBody, RelaxedBody):
        whole: list[bytes] = []
        parts: list[bytes] = []
        at_once, bit_by_bit = kind(whole.append), kind(parts.append)
        at_once.update(data)
        for start in range(0, len(data), 3):
            bit_by_bit.update(data[start : start + 3])
        at_once.finish()
        bit_by_bit.finish()
        assert b"".join(whole) == b"".join(parts)


async def _signs(message: Message, dns: FakeResolver) -> None:
    """What we sign, we verify; what we seal, we validate."""
    try:
        fields = sign(message, [KEY], now=NOW)
        chain = await validate(message, dns, now=NOW)
        sealed = seal(message, chain, "mx.example.org; none", KEY, now=NOW)
    except SigningError:
        return
    octets = b"".join(message.chunks())
    assert (await verify(Message(fields + octets), dns, now=NOW))[0].passed
    if chain.result is Result.NONE:
        assert (await validate(Message(sealed + octets), dns, now=NOW)).passed


def main() -> None:
    """Fuzz with atheris."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
