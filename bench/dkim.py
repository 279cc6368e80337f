"""Signing and verifying with DKIM beside the bare arithmetic: `openssl speed rsa2048` in the same run.

Both are messages, or operations, a second of one core, by processor time. OpenSSL's figure is the ceiling for
any signer and verifier that uses it: one number is signed or checked again and again, there is no message.
Ours takes a message of 10 kB that it has not seen before, with its index; keys are known, and so is the
answer of the DNS. The others are milliseconds for a message, of 10 kB or 1 MB.
"""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
import time
from collections.abc import Callable

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.rounds import Round
from bench.system import Failure
from mta.authn.dkim import verify
from mta.authn.dkimkeys import SigningKey, make_key, public_octets
from mta.authn.dkimsign import sign
from mta.net.resolver.fake import FakeResolver
from sieve_ext import Message

DOMAIN = "example.org"
SMALL, LARGE = 10_240, 1_048_576
BATCH = 20
"""Messages between two looks at the clock."""
_LINE = re.compile(r"^rsa\s+2048 bits\s+\S+\s+\S+\s+([\d.]+)\s+([\d.]+)", re.MULTILINE)


def message(size: int) -> bytes:
    """A message of `size` octets."""
    head = (
        f"Received: from mx.example.net by mx.{DOMAIN} with ESMTPS; Fri, 27 Nov 2026 10:00:00 +0000\r\n"
        "Date: Fri, 27 Nov 2026 10:00:00 +0000\r\n"
        f'From: "Alice Example" <alice@{DOMAIN}>\r\n'
        "To: Bob <bob@example.net>,\r\n\tcarol@example.net\r\n"
        "Subject: Re: the weekly report on everything\r\n"
        f"Message-ID: <123@{DOMAIN}>\r\n"
        "In-Reply-To: <122@example.net>\r\n"
        "References: <120@example.net> <121@example.net>\r\n\t<122@example.net>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
        "\r\n"
    ).encode()
    line = b"a line of text with some words in it, about seventy columns wide\r\n"
    return (head + line * (size // len(line) + 1))[: size - 2] + b"\r\n"


def measure(options: Options) -> list[Figure]:
    """Measure both in turns."""
    openssl = workplace.program("openssl", "openssl")
    rsa, ed25519 = (SigningKey(DOMAIN, kind, make_key(kind)) for kind in ("rsa", "ed25519"))
    dns = FakeResolver()
    for key in (rsa, ed25519):
        octets = base64.b64encode(public_octets(key.key)).decode()
        dns.text(f"{key.selector}._domainkey.{DOMAIN}", f"v=DKIM1; k={key.type}; p={octets}")

    def signing(octets: bytes, *keys: SigningKey) -> float:
        return seconds(lambda: sign(Message(octets), keys, now=time.time()), options)

    def verifying(octets: bytes, *keys: SigningKey) -> float:
        signed = sign(Message(octets), keys, now=time.time()) + octets
        return asyncio.run(verify_seconds(signed, dns, options))

    small, large = message(SMALL), message(LARGE)
    signs: list[Round] = []
    verifications: list[Round] = []
    for number in range(options.rounds):
        theirs = speed(openssl) if number % 2 == 0 else None
        ours = 1 / signing(small, rsa), 1 / verifying(small, rsa)
        one, other = theirs or speed(openssl)
        signs.append(Round(ours[0], one))
        verifications.append(Round(ours[1], other))
    for rounds in (signs, verifications):
        rounds.sort(key=lambda one: one.quotient)
    return [
        Figure.of_rounds("dkim_sign", signs, "messages/s", rate=True),
        Figure.of_rounds("dkim_verify", verifications, "messages/s", rate=True),
        Figure("dkim_verify_10k", verifying(small, rsa) * 1e3, "ms"),
        Figure("dkim_sign_ed25519", signing(small, ed25519) * 1e3, "ms"),
        Figure("dkim_verify_ed25519", verifying(small, ed25519) * 1e3, "ms"),
        Figure("dkim_sign_both", signing(small, rsa, ed25519) * 1e3, "ms"),
        Figure("dkim_sign_1m", signing(large, rsa) * 1e3, "ms"),
        Figure("dkim_verify_1m", verifying(large, rsa) * 1e3, "ms"),
    ]


def seconds(work: Callable[[], object], options: Options) -> float:
    """Processor seconds of one call, on the whole."""
    work()
    count, begin = 0, time.process_time()
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        for _ in range(BATCH):
            work()
        count += BATCH
    return (time.process_time() - begin) / count


async def verify_seconds(signed: bytes, dns: FakeResolver, options: Options) -> float:
    """Processor seconds of one verification, in a loop that runs already."""
    count, begin = 0, time.process_time()
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        for _ in range(BATCH):
            found = await verify(Message(signed), dns)
            if not all(one.passed for one in found):
                raise Failure(f"a signature of our own is not good: {found[0].reason}")
        count += BATCH
    return (time.process_time() - begin) / count


def speed(openssl: str) -> tuple[float, float]:
    """Signatures and verifications a second of one core. Raises Failure when they cannot be read."""
    words = [openssl, "speed", "-seconds", "1", "rsa2048"]
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = _LINE.search(output)
    if found is None:
        raise Failure(f"`{' '.join(words)}` says: {output.strip()[-200:]}")
    return float(found[1]), float(found[2])


measure.peer = "OpenSSL"  # type: ignore[attr-defined]

if __name__ == "__main__":
    run("dkim", measure)
