"""DKIM: what passes, what is refused and with which result, and what would take forever."""

from __future__ import annotations

import asyncio
import base64
import itertools
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta.authn.dkim import MAX_SIGNATURES, Options, method_results, verify
from mta.authn.dkimkeys import SigningKey, make_key
from mta.authn.dkimsign import sign
from mta.authn.results import Result
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import Message
from tests.unit.dkim_kit import (
    BODY,
    DOMAIN,
    ED25519,
    HEAD,
    MESSAGE,
    NOW,
    RSA,
    dns_with,
    forge,
    record,
    results,
)

RFC8463 = b"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")


def rfc8463_dns() -> FakeResolver:
    dns = FakeResolver()
    dns.text(
        "brisbane._domainkey.football.example.com",
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    )
    dns.text(
        "test._domainkey.football.example.com",
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
        "iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC"
        "DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3"
        "Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
    )
    return dns


def test_the_message_of_rfc_8463() -> None:
    found = results(RFC8463, rfc8463_dns())
    assert [one.result for one in found] == [Result.PASS, Result.PASS]
    assert [one.method_result.properties["header.a"] for one in found] == ["ed25519-sha256", "rsa-sha256"]
    changed = results(RFC8463.replace(b"dinner", b"supper"), rfc8463_dns())
    assert [one.result for one in changed] == [Result.FAIL, Result.FAIL]


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
@pytest.mark.parametrize(
    "c", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple", "relaxed"]
)
@pytest.mark.parametrize("body", [BODY, b"", b"\r\n\r\n", b"no line end", b" \t\r\n"])
def test_canonicalisations(key: SigningKey, c: str, body: bytes) -> None:
    message = forge(HEAD + b"\r\n" + body, key, c=c)
    (one,) = results(message, dns_with(RSA, ED25519))
    assert (one.result, one.reason, one.domain) == (Result.PASS, "", DOMAIN)


SIGNATURES: list[tuple[str, dict[str, str | None], Result, str]] = [
    ("as it should be", {}, Result.PASS, ""),
    ("without c=, which is simple", {"c": None}, Result.PASS, ""),
    ("From unsigned", {"h": "to:subject"}, Result.PERMERROR, "From is not signed"),
    ("rsa-sha1", {"a": "rsa-sha1"}, Result.PERMERROR, "rsa-sha1"),
    ("unknown algorithm", {"a": "rsa-sha512"}, Result.PERMERROR, "unknown signature algorithm"),
    ("no algorithm", {"a": None}, Result.PERMERROR, "missing"),
    ("no version", {"v": None}, Result.PERMERROR, "missing"),
    ("another version", {"v": "2"}, Result.PERMERROR, "v="),
    ("no domain", {"d": None}, Result.PERMERROR, "missing"),
    ("no selector", {"s": None}, Result.PERMERROR, "missing"),
    ("no names", {"h": None}, Result.PERMERROR, "missing"),
    ("empty names", {"h": ""}, Result.PERMERROR, "From is not signed"),
    ("wrong body hash", {"bh": "AAAA"}, Result.FAIL, "body"),
    ("broken body hash", {"bh": "****"}, Result.PERMERROR, "base64"),
    ("unknown canonicalisation", {"c": "nofws"}, Result.PERMERROR, "c="),
    ("i= below d=", {"i": "bob@mail.example.org"}, Result.PASS, ""),
    ("i= outside d=", {"i": "bob@example.net"}, Result.PERMERROR, "i="),
    ("i= like d=", {"i": "@badexample.org"}, Result.PERMERROR, "i="),
    ("i= is only the domain", {"i": "example.org"}, Result.PERMERROR, ""),
    ("i= below d=, but no host name", {"i": "@*.Example.org"}, Result.PASS, ""),
    ("d= with brackets", {"d": "[192.0.2.1]"}, Result.PERMERROR, "d="),
    ("s= with blanks", {"s": "a b"}, Result.PERMERROR, "s="),
    ("q= unknown", {"q": "dns/none"}, Result.PERMERROR, "not in the DNS"),
    ("q= with a known one", {"q": "dns/none : dns/txt"}, Result.PASS, ""),
    ("unknown tag", {"zz": "1"}, Result.PASS, ""),
    ("signed a while ago", {"t": str(NOW - 10**6)}, Result.PASS, ""),
    ("signed in the future", {"t": str(NOW + 7200)}, Result.PERMERROR, "future"),
    ("the clock is a little ahead", {"t": str(NOW + 600)}, Result.PASS, ""),
    ("time is no number", {"t": "now"}, Result.PERMERROR, "t="),
    ("expired", {"x": str(NOW - 7200)}, Result.PERMERROR, "expired"),
    ("not yet expired", {"t": str(NOW - 60), "x": str(NOW + 60)}, Result.PASS, ""),
    ("expires before it was made", {"t": str(NOW), "x": str(NOW - 5)}, Result.PERMERROR, "before"),
    ("l= for all", {"l": "29"}, Result.PASS, ""),
    ("l= for a part", {"l": "5"}, Result.POLICY, "not signed"),
    ("l= for nothing", {"l": "0"}, Result.POLICY, "not signed"),
    ("l= too long", {"l": "30"}, Result.PERMERROR, "longer"),
    ("l= no number", {"l": "-1"}, Result.PERMERROR, "l="),
    ("l= enormous", {"l": "9" * 70}, Result.PERMERROR, "l="),
    ("oversigned", {"h": "from:from:to:to:subject:subject:cc:reply-to"}, Result.PASS, ""),
    ("too many names", {"h": "from:" + "x:" * 600}, Result.PERMERROR, "too many names"),
    ("field too long", {"zz": "x" * 20_000}, Result.PERMERROR, "too long"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "result", "reason"), [row[1:] for row in SIGNATURES], ids=[r[0] for r in SIGNATURES]
)
def test_signature_fields(tags: dict[str, Any], result: Result, reason: str) -> None:
    (one,) = results(forge(MESSAGE, **tags), dns_with(RSA))
    assert one.result is result, one.reason
    assert reason in one.reason


def test_partial_body_is_an_option() -> None:
    message = forge(MESSAGE, l="5") + b"and what somebody added\r\n"
    (one,) = results(message, dns_with(RSA), Options(partial_body=True))
    assert one.passed


RECORDS: list[tuple[str, str, Result, str]] = [
    ("without version", record(RSA).removeprefix("v=DKIM1; "), Result.PASS, ""),
    ("without type", record(RSA).replace("k=rsa; ", ""), Result.PASS, ""),
    ("with a note", record(RSA, "n=a note; "), Result.PASS, ""),
    ("sha256", record(RSA, "h=sha1:sha256; "), Result.PASS, ""),
    ("for sha1 only", record(RSA, "h=sha1; "), Result.PERMERROR, "SHA-256"),
    ("for mail", record(RSA, "s=email; "), Result.PASS, ""),
    ("for all", record(RSA, "s=tlsrpt:*; "), Result.PASS, ""),
    ("for reports", record(RSA, "s=tlsrpt; "), Result.PERMERROR, "not for mail"),
    ("exact domain", record(RSA, "t=s; "), Result.PASS, ""),
    ("testing", record(RSA, "t=y; "), Result.PASS, ""),
    ("another version", record(RSA).replace("DKIM1", "DKIM2"), Result.PERMERROR, "version"),
    ("version not first", record(RSA).removeprefix("v=DKIM1; ") + "; v=DKIM1", Result.PERMERROR, "version"),
    ("revoked", "v=DKIM1; p=", Result.PERMERROR, "revoked"),
    ("no key", "v=DKIM1; k=rsa", Result.PERMERROR, "no key"),
    ("not base64", "v=DKIM1; p=?", Result.PERMERROR, "base64"),
    ("not a key", "v=DKIM1; p=AAAA", Result.PERMERROR, "cannot be read"),
    ("of another type", record(ED25519), Result.PERMERROR, "the signature is rsa"),
    ("of an unknown type", "v=DKIM1; k=dsa; p=AAAA", Result.PERMERROR, "unknown type"),
    ("another key", record(SigningKey(DOMAIN, "x", make_key("rsa", 1024))), Result.FAIL, "header"),
    ("no record at all", "v=spf1 -all", Result.PERMERROR, ""),
    ("non-ASCII", "v=DKIM1; n=\u00fc\u20ac; p=\u00e9", Result.PERMERROR, ""),
    ("twice a tag", record(RSA, "n=1; n=2; "), Result.PERMERROR, "twice"),
    ("huge", record(RSA, f"n={'x' * 9000}; "), Result.PERMERROR, "too long"),
]


@pytest.mark.parametrize(
    ("text", "result", "reason"), [row[1:] for row in RECORDS], ids=[row[0] for row in RECORDS]
)
def test_key_records(text: str, result: Result, reason: str) -> None:
    dns = FakeResolver()
    dns.text(f"rsa._domainkey.{DOMAIN}", text)
    (one,) = results(forge(MESSAGE), dns)
    assert one.result is result, one.reason
    assert reason in one.reason


def test_a_bare_rsa_public_key() -> None:
    assert isinstance(RSA.key, RSAPrivateKey)
    der = RSA.key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    dns = FakeResolver()
    dns.text(f"rsa._domainkey.{DOMAIN}", f"p={base64.b64encode(der).decode()}")
    assert results(forge(MESSAGE), dns)[0].passed


def test_short_keys_are_refused() -> None:
    # A genuine key of 512 bits: `cryptography` makes none.
    dns = FakeResolver()
    dns.text(
        f"rsa._domainkey.{DOMAIN}",
        "v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAIWmlgix/84GJ+dfgjm7LTc9EPdfk"
        "ftlgiPpCq4/kbDAZmU0VvYKDljjleJ1dfvS+CGy9U/kk1tG3EeEvb82xAcCAwEAAQ==",
    )
    (one,) = results(forge(MESSAGE), dns)
    assert (one.result, one.reason) == (Result.PERMERROR, "the key is too short (512 bits)")


@pytest.mark.parametrize(("bits", "refused"), [(2, False), (64, False), (65, True), (1500, True)])
def test_exponents_that_cost_too_much_are_refused(bits: int, refused: bool) -> None:
    assert isinstance(RSA.key, RSAPrivateKey)
    exponent = (1 << bits - 1) + 1
    public = RSAPublicNumbers(exponent, RSA.key.public_key().public_numbers().n).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    dns = FakeResolver()
    dns.text(f"rsa._domainkey.{DOMAIN}", f"p={base64.b64encode(octets).decode()}")
    (one,) = results(forge(MESSAGE), dns)
    if refused:
        assert (one.result, one.reason) == (Result.PERMERROR, "the key has too large a public exponent")
    else:
        assert (one.result, one.reason) == (Result.FAIL, "the header is not what was signed")


def test_exact_keys_allow_no_subdomain() -> None:
    (one,) = results(forge(MESSAGE, i="@sub.example.org"), dns_with(RSA, rsa="t=y:s; "))
    assert (one.result, one.reason) == (Result.PERMERROR, "the key does not allow subdomains in i=")


IDN = SigningKey("xn--bcher-kva.example", "rsa", RSA.key)


@pytest.mark.parametrize("domain", ["bücher.example", "xn--bcher-kva.example", "BÜCHER.example"])
@pytest.mark.parametrize("identity", [None, "@bücher.example", "u@xn--bcher-kva.example"])
@pytest.mark.parametrize("below", ["", "sub."])
def test_identities_are_compared_in_a_labels(domain: str, identity: str | None, below: str) -> None:
    """Also by a key for the domain alone (RFC 8616 section 5)."""
    identity = identity and identity.replace("@", f"@{below}")
    message = forge(MESSAGE, IDN, d=domain, i=identity)
    assert results(message, dns_with(IDN))[0].passed
    (exact,) = results(message, dns_with(IDN, rsa="t=s; "))
    assert exact.passed is not bool(below and identity)


def test_a_bad_signature_of_a_domain_that_tests_is_like_none() -> None:
    (one,) = results(forge(MESSAGE) + b"more\r\n", dns_with(RSA, rsa="t=y; "))
    assert one.result is Result.NEUTRAL


def test_the_key_is_found_beside_stray_records() -> None:
    dns = FakeResolver()
    dns.text(f"rsa._domainkey.{DOMAIN}", "hello", record(RSA))
    assert results(forge(MESSAGE), dns)[0].passed


@pytest.mark.parametrize("status", [Status.FAIL, Status.BOGUS])
def test_dns_trouble_is_temporary(status: Status) -> None:
    dns = dns_with(ED25519)
    dns.fail(f"rsa._domainkey.{DOMAIN}", status=status, reason="timeout")
    found = results(forge(forge(MESSAGE, ED25519)), dns)
    assert [(one.result, one.reason) for one in found] == [
        (Result.TEMPERROR, "no key: timeout"), (Result.PASS, ""),
    ]  # fmt: skip


def test_no_name_is_permanent() -> None:
    (one,) = results(forge(MESSAGE), FakeResolver())
    assert (one.result, one.reason) == (Result.PERMERROR, "there is no key: the name does not exist")


def test_dnssec_is_told() -> None:
    dns = dns_with(RSA)
    assert not results(forge(MESSAGE), dns)[0].secure
    dns.status(DOMAIN, Status.SECURE)
    assert results(forge(MESSAGE), dns)[0].secure


CHANGES: list[tuple[str, bytes, bytes, Result]] = [
    ("nothing", b"", b"", Result.PASS),
    ("a signed field", b"weekly", b"daily", Result.FAIL),
    ("blanks of a signed field", b"The   weekly", b"The weekly", Result.PASS),
    ("an unsigned field", b"from a by b", b"from c by d", Result.PASS),
    ("the body", b"all is well", b"all is lost", Result.FAIL),
    ("blanks of the body", b"Hello  Bob,\t", b"Hello \t Bob,", Result.PASS),
    ("a second From", b"To: bob", b"From: eve@example.com\r\nTo: bob", Result.POLICY),
    ("a From on top", b"Received:", b"from : eve@example.com\r\nReceived:", Result.POLICY),
    ("no From left", b"From: Alice", b"X-From: Alice", Result.FAIL),
]


@pytest.mark.parametrize(
    ("old", "new", "result"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_changes_on_the_way(old: bytes, new: bytes, result: Result) -> None:
    signature, _, _ = forge(MESSAGE).partition(MESSAGE)
    (one,) = results(signature + MESSAGE.replace(old, new, 1) if old else signature + MESSAGE, dns_with(RSA))
    assert one.result is result, one.reason


def test_repeated_fields_are_taken_from_below() -> None:
    message = b"Subject: second\r\nSubject: first\r\n" + MESSAGE.replace(b"Subject", b"X-Subject")
    assert results(forge(message, h="from:subject"), dns_with(RSA))[0].passed
    on_top = forge(message, h="from:subject").replace(b"Subject: second", b"Subject: changed")
    assert results(on_top, dns_with(RSA))[0].passed
    both = forge(message, h="from:subject:subject").replace(b"Subject: second", b"Subject: changed")
    assert results(both, dns_with(RSA))[0].result is Result.FAIL


ODD = [
    b"",
    b"\r\n",
    b" folded first line\r\nFrom: a@b.example\r\n\r\nx",
    b"DKIM-Signature:\r\nFrom: a@b.example\r\n\r\nx",
    b"DKIM-Signature: ;;;=;\r\nFrom: a@b.example\r\n\r\nx",
    b"DKIM-Signature: v=1; b\r\nFrom: a@b.example\r\n\r\nx",
    b"DKIM-Signature: \xff\xfe=\x00\r\nFrom: a@b.example\r\n\r\nx",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=\xff; s=\xff; h=\xff; b=AAAA; bh=AAAA\r\n\r\n",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=e.example; s=x; i=; h=from; b=AAAA; bh=AAAA\r\n\r\n",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=; s=; h=from; b=; bh=\r\nFrom: x\r\n\r\n",
    b"DKIM-Signature: v=1; a=rsa-sha256; d="
    + b"x." * 300
    + b"e; s=x; h=from; b=AAAA; bh=AAAA\r\nFrom: x\r\n\r\n",
]


@pytest.mark.parametrize("message", ODD, ids=range(len(ODD)))
def test_nothing_is_raised_for_what_strangers_write(message: bytes) -> None:
    found = results(message, FakeResolver())
    assert all(one.result is Result.PERMERROR for one in found)
    assert all(one.method_result.reason for one in found)


def test_more_signatures_than_we_look_at() -> None:
    message = MESSAGE
    for _ in range(MAX_SIGNATURES + 3):
        message = forge(message, ED25519)
    dns = dns_with(ED25519)
    found = results(message, dns)
    assert [one.result for one in found] == [Result.PASS] * MAX_SIGNATURES + [Result.POLICY]
    assert found[-1].reason == "3 more signatures ignored"
    assert len(dns.asked) == 1


def test_unsigned_mail_has_no_result_but_none() -> None:
    assert results(MESSAGE, FakeResolver()) == ()
    (one,) = method_results(())
    assert (one.method, one.result) == ("dkim", Result.NONE)


def test_a_large_message_comes_in_pieces_and_does_not_hold_up_the_loop() -> None:
    line = b"a line of text with some words in it, about seventy columns wide\r\n"
    signed = HEAD + b"\r\n" + line * 100_000
    signed = sign(Message(signed), [ED25519], now=NOW) + signed
    head = signed[: signed.index(b"\r\n\r\n") + 4]
    reads = 0

    def chunks() -> Iterator[bytes]:
        nonlocal reads
        reads += 1
        for start in range(0, len(signed), 65_536):
            yield signed[start : start + 65_536]

    async def run() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        worst, last = 0.0, loop.time()
        message = Message(head, len(signed), chunks)
        task = asyncio.ensure_future(verify(message, dns_with(ED25519), now=NOW))
        while not task.done():
            await asyncio.sleep(0.001)
            worst, last = max(worst, loop.time() - last), loop.time()
        return worst, task.result()[0].passed

    worst, passed = asyncio.run(run())
    assert passed
    assert reads == 1
    assert worst < 0.2, "the loop stood still"


def test_a_large_message_is_never_in_memory() -> None:
    head = HEAD + b"\r\n"
    line = b"a line of text with some words in it, about seventy columns wide\r\n" * 1000

    def message(head: bytes) -> Message:
        def chunks() -> Iterator[bytes]:
            yield head
            yield from itertools.repeat(line, 100)

        return Message(head, len(head) + 100 * len(line), chunks)

    tracemalloc.start()
    try:
        fields = sign(message(head), [ED25519], now=NOW)
        found = asyncio.run(verify(message(fields + head), dns_with(ED25519), now=NOW))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[0].passed
    assert peak < 1_000_000


def test_the_identity_is_told() -> None:
    (one,) = results(forge(MESSAGE, i="@mail.example.org"), dns_with(RSA))
    assert one.method_result.properties["header.i"] == "@mail.example.org"


def test_what_we_sign_we_verify() -> None:
    fields = sign(Message(MESSAGE), [RSA, ED25519], now=NOW, lifetime=86_400)
    found = results(fields + MESSAGE, dns_with(RSA, ED25519))
    assert [(one.result, one.reason) for one in found] == [(Result.PASS, "")] * 2
