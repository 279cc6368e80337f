"""What strangers may send to keep us busy: a quadratic algorithm would need seconds to minutes for each."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import pytest

from mta.authn.arc import validate
from mta.authn.dkim import DkimResult, verify
from mta.authn.dkimsign import sign
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import Message
from tests.peers.cost import processor_seconds
from tests.unit.dkim_kit import BODY, ED25519, HEAD, MESSAGE, NOW, dns_with, forge

SECONDS = 1.0
SIGNATURE = b"DKIM-Signature: v=1; a=ed25519-sha256; c=%s; d=example.org; s=ed; h=%s; bh=%s; b=%s\r\n"
EMPTY = base64.b64encode(hashlib.sha256(b"\r\n").digest())
"""The hash of an empty body, "simple"."""
SIMPLE = base64.b64encode(hashlib.sha256(BODY.rstrip(b"\r\n") + b"\r\n").digest())
"""The hash of the body of `MESSAGE`, "simple"."""


def hostile_body(body: bytes) -> bytes:
    return SIGNATURE % (b"relaxed/relaxed", b"from", b"AAAA", b"AAAA") + HEAD + b"\r\n" + body


def hostile_header(names: bytes, fields: bytes) -> bytes:
    return SIGNATURE % (b"relaxed/simple", names, EMPTY, b"AAAA") + HEAD + fields + b"\r\n"


def hostile_tag(value: bytes) -> bytes:
    return SIGNATURE % (b"relaxed/simple", b"from", SIMPLE, value) + MESSAGE


CASES: dict[str, bytes] = {
    "blanks": hostile_body(b" " * 1_000_000 + b"\r\n"),
    "blanks without an end": hostile_body(b" \t" * 500_000),
    "lines of blanks": hostile_body((b" " * 998 + b"\r\n") * 1000),
    "empty lines": hostile_body(b"\r\n" * 500_000),
    "empty lines and one more": hostile_body(b"\r\n" * 500_000 + b"x\r\n"),
    "carriage returns": hostile_body(b"\r" * 1_000_000),
    "line feeds": hostile_body(b"\n" * 1_000_000),
    "line feeds and an empty line": hostile_body((b"\n" * 99 + b"\r\n\r\n") * 10_000),
    "blanks in a field": hostile_header(b"from:subject", b"Subject: " + b" " * 900_000 + b"x\r\n"),
    "a field folded often": hostile_header(b"from:subject", b"Subject: x" + b"\r\n " * 300_000 + b"\r\n"),
    "20,000 fields, 300 names": hostile_header(
        b":".join([b"from"] + [b"x-%d" % number for number in range(299)]), b"X-1: y\r\n" * 20_000
    ),
    "20,000 fields, one name 300 times": hostile_header(b"from" + b":x" * 299, b"X: y\r\n" * 20_000),
    "20,000 names of fields": hostile_header(b"from", b"".join(b"X-%d: y\r\n" % n for n in range(20_000))),
    "blanks in b=": hostile_tag(b" " * 15_000 + b"?"),
    "folding in b=": hostile_tag(b"\r\n " * 5_000 + b"A?"),
    "a huge signature": hostile_tag(b"A" * 900_000),
    "semicolons": hostile_tag(b";" * 15_000),
    "1,000 signatures": SIGNATURE % (b"simple", b"from", SIMPLE, b"AAAA") * 1000 + MESSAGE,
    "1,000 signatures of much": SIGNATURE % (b"relaxed", b"from:" + b"x:" * 99, SIMPLE, b"AAAA") * 1000
    + b"X: y\r\n" * 10_000 + MESSAGE,
}  # fmt: skip


@pytest.mark.parametrize("message", CASES.values(), ids=CASES)
def test_verification(message: bytes) -> None:
    found: list[DkimResult] = []

    def work() -> None:
        found[:] = asyncio.run(verify(Message(message), dns_with(ED25519), now=NOW))

    assert processor_seconds(work, SECONDS) < SECONDS
    # All that there is to compute was computed: nothing was refused for its form but what has none.
    name = next(name for name, octets in CASES.items() if octets is message)
    wanted = "body" if message.startswith(hostile_body(b"")[:90]) else "header"
    if name in ("folding in b=", "blanks in b=", "a huge signature", "semicolons"):
        wanted = "bad signature field"
    assert wanted in found[0].reason


def test_good_signatures_over_a_long_header_and_body() -> None:
    message = HEAD + b"X: y  z\r\n" * 20_000 + b"\r\n" + b"a  b\r\n" * 100_000
    for _ in range(3):
        message = forge(message, ED25519, h=":".join(["from"] + ["x"] * 400))
    found: list[DkimResult] = []

    def work() -> None:
        found[:] = asyncio.run(verify(Message(message), dns_with(ED25519), now=NOW))

    assert processor_seconds(work, SECONDS) < SECONDS
    assert [one.passed for one in found] == [True] * 3


ARC_CASES: dict[str, bytes] = {
    "20,000 seals": b"ARC-Seal: i=1; a=rsa-sha256; b=AAAA; cv=none; d=a.example; s=b\r\n" * 20_000 + MESSAGE,
    "50 sets of nothing": b"".join(
        b"ARC-Seal: i=%d; a=rsa-sha256; b=AAAA; cv=pass; d=a.example; s=b\r\n"
        b"ARC-Message-Signature: i=%d; a=rsa-sha256; b=AAAA; bh=AAAA; d=a.example; s=b; h=from\r\n"
        b"ARC-Authentication-Results: i=%d; x%s\r\n" % (number, number, number, b" " * 10_000)
        for number in range(1, 51)
    )
    + MESSAGE,
    "blanks before an instance": b"ARC-Authentication-Results: " + b" " * 900_000 + b"i\r\n" + MESSAGE,
}  # fmt: skip


@pytest.mark.parametrize("message", ARC_CASES.values(), ids=ARC_CASES)
def test_chains(message: bytes) -> None:
    def work() -> None:
        asyncio.run(validate(Message(message), FakeResolver(), now=NOW))

    assert processor_seconds(work, SECONDS) < SECONDS


@pytest.mark.parametrize(
    "body", [b" " * 1_000_000, b"\r\n" * 500_000 + b"x", b"x \t" * 300_000], ids=["blanks", "lines", "pairs"]
)
def test_signing(body: bytes) -> None:
    message = MESSAGE + body + b"\r\n"
    assert processor_seconds(lambda: sign(Message(message), [ED25519], now=NOW), SECONDS) < SECONDS
