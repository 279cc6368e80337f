"""Whatever octets come: parsers say `Malformed` or have a value, verification has a result, nothing else."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.authn.arc import Chain, validate
from mta.authn.arcseal import seal
from mta.authn.dkim import verify
from mta.authn.dkimkey import read_record
from mta.authn.dkimlib import Malformed, tag_list
from mta.authn.dkimsignature import read_signature, unsigned_line
from mta.authn.results import Result
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import Message
from tests.fuzz import fuzz_dkim
from tests.unit.dkim_kit import ED25519, MESSAGE, NOW, dns_with, forge, record

PIECES = [
    b"v=1", b"v=DKIM1", b"a=", b"rsa-sha256", b"ed25519-sha256", b"b=", b"bh=", b"c=", b"relaxed/simple",
    b"d=", b"example.org", b"h=", b"from:to", b"i=", b"@", b"l=", b"q=", b"s=", b"t=", b"x=", b"k=", b"p=",
    b"n=", b";", b"; ", b"=", b":", b" ", b"\t", b"\r\n ", b"\n ", b"\r", b"\0", b"\xff", b"1",
    b"99999999999999999999", b"AAAA", b"cv=", b"none", b"pass", b"fail", b"i=1", b"i=2",
]  # fmt: skip
T = TypeVar("T")
octets = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join) | st.binary(max_size=60)
GOOD = forge(MESSAGE, ED25519, i="bob@example.org", t=str(NOW), x=str(NOW + 9))
SEALED = seal(Message(GOOD), Chain(Result.NONE), "mx; spf=pass", ED25519, now=NOW) + GOOD


@st.composite
def mutated(draw: st.DrawFn, message: bytes) -> bytes:
    """The message with some of it, mostly in its first fields, replaced by something else."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(message)))
        end = draw(st.integers(start, min(start + 12, len(message))))
        message = message[:start] + draw(octets) + message[end:]
    return message


def read(parser: Callable[[T], object], value: T) -> str:
    """The words of a refusal, for a log; nothing else is raised."""
    try:
        parser(value)
    except Malformed as problem:
        words = str(problem)
    else:
        words = "fine"
    assert words.isprintable()
    return words


@given(octets)
def test_tag_lists(text: bytes) -> None:
    if read(tag_list, text) != "fine":
        return
    tags = tag_list(text)
    assert all(
        name.isascii() and name.strip() == name and value.strip() == value for name, value in tags.items()
    )


@given(octets)
def test_records(text: bytes) -> None:
    read(read_record, text)


@given(mutated(record(ED25519).encode()))
def test_records_of_ours(text: bytes) -> None:
    read(read_record, text)


@given(octets)
def test_signature_fields(text: bytes) -> None:
    field = Message(b"DKIM-Signature: " + text + b"\r\n\r\n").get("dkim-signature")
    if field is None:
        return
    assert len(unsigned_line(field)) <= len(field.line)
    read(read_signature, field)


@settings(max_examples=150)
@given(mutated(GOOD))
def test_verification(message: bytes) -> None:
    for one in asyncio.run(verify(Message(message), dns_with(ED25519), now=NOW)):
        assert one.result in (Result.PASS, Result.FAIL, Result.PERMERROR, Result.POLICY)
        assert one.reason.isprintable()
        assert one.method_result.method == "dkim"


@settings(max_examples=150)
@given(mutated(SEALED))
def test_chains(message: bytes) -> None:
    chain = asyncio.run(validate(Message(message), dns_with(ED25519), now=NOW))
    assert chain.result in (Result.NONE, Result.PASS, Result.FAIL)
    assert chain.reason.isprintable()


@settings(max_examples=60)
@given(octets | mutated(GOOD))
def test_the_invariant_of_the_fuzzer(data: bytes) -> None:
    fuzz_dkim.check(data)


@given(st.binary(max_size=300))
def test_any_key(octets: bytes) -> None:
    dns = FakeResolver()
    dns.text("ed._domainkey.example.org", octets)
    (one,) = asyncio.run(verify(Message(GOOD), dns, now=NOW))
    assert one.result is Result.PERMERROR
    dns = FakeResolver()
    dns.text("ed._domainkey.example.org", b"k=rsa; p=" + base64.b64encode(octets))
    (one,) = asyncio.run(verify(Message(GOOD), dns, now=NOW))
    assert one.result is Result.PERMERROR
