"""ARC: chains of our own, chains with one defect each, and what may be added to them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import dkim  # type: ignore[import-untyped]
import pytest

from mta.authn.arc import Chain, validate
from mta.authn.arcseal import seal, seal_message
from mta.authn.arcset import MAX_INSTANCE
from mta.authn.dkimkeys import SigningKey
from mta.authn.dkimsign import SigningError, sign
from mta.authn.results import Result
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import Message
from tests.peers.cost import processor_seconds
from tests.unit.dkim_kit import ED25519, HEAD, MESSAGE, NOW, RSA, dns_with, record

PAYLOAD = (
    'mx.example.org;\r\n\tspf=pass smtp.mailfrom=a@example.net;\r\n dkim=pass (a "good" key) header.d=b.c'
)


def chain_of(message: bytes, dns: FakeResolver | None = None) -> Chain:
    return asyncio.run(validate(Message(message), dns or dns_with(RSA, ED25519), now=NOW))


def sealed(message: bytes, times: int = 1, key: SigningKey = RSA) -> bytes:
    for _ in range(times):
        message = seal(Message(message), chain_of(message), PAYLOAD, key, now=NOW) + message
    return message


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_chains_of_our_own(key: SigningKey, times: int) -> None:
    message = sealed(MESSAGE, times, key)
    chain = chain_of(message)
    assert (chain.result, chain.reason, chain.ended) == (Result.PASS, f"{times} sets", False)
    assert chain.sealers == ("example.org",) * times
    assert chain.sets[0].payload.startswith("mx.example.org;")
    seals = Message(message).all("arc-seal")
    assert [re.findall(rb"cv=(\w+)", field.unfolded) for field in seals] == [[b"pass"]] * (times - 1) + [
        [b"none"]
    ]


@pytest.mark.parametrize("times", [1, 3])
def test_dkimpy_validates_our_chains(times: int) -> None:
    message = sealed(MESSAGE, times)

    def validated(octets: bytes) -> bytes:
        cv, _, reason = dkim.arc_verify(octets, dnsfunc=lambda name, timeout=5: record(RSA).encode())
        assert reason
        return bytes(cv)

    assert validated(message) == b"pass"
    assert validated(message.replace(b"weekly", b"daily")) == b"fail"
    assert validated(message.replace(b"mx.example.org", b"mx.example.com")) == b"fail"


def test_no_chain() -> None:
    assert chain_of(MESSAGE).result is Result.NONE
    assert chain_of(b"").method_result.result is Result.NONE


RESULTS = b"ARC-Authentication-Results"
Edit = Callable[[bytes], bytes]


def without(name: bytes) -> Edit:
    """Remove the topmost field of a name."""
    return lambda message: re.sub(
        name + rb":(?:[^\r]|\r\n[ \t])*\r\n", b"", message, count=1, flags=re.IGNORECASE
    )


def replacing(old: bytes, new: bytes, count: int = 1) -> Edit:
    return lambda message: message.replace(old, new, count)


def again(name: bytes) -> Edit:
    """Repeat the topmost field of a name."""

    def edit(message: bytes) -> bytes:
        found = re.search(name + rb":(?:[^\r]|\r\n[ \t])*\r\n", message, re.IGNORECASE)
        assert found is not None
        return found[0] + message

    return edit


DEFECTS: list[tuple[str, Edit, Result, str]] = [
    ("nothing", lambda message: message, Result.PASS, ""),
    ("another Received", lambda message: b"Received: x\r\n" + message, Result.PASS, ""),
    ("folded anew", replacing(b"ARC-Seal: a=rsa-sha256;\r\n b", b"arc-seal :\r\n\ta=rsa-sha256;  b"),
     Result.PASS, ""),
    ("the body", lambda message: message + b"more\r\n", Result.FAIL, "the body"),
    ("the subject", replacing(b"weekly", b"daily"), Result.FAIL, "message signature 2: the header"),
    ("an older AAR", replacing(b"i=1;\r\n mx.example.org", b"i=1; mx.evil.example"), Result.FAIL, "seal 1"),
    ("the newest AAR", replacing(b"i=2;\r\n mx.example.org", b"i=2; mx.evil.example"),
     Result.FAIL, "seal 2"),
    ("no AAR", without(RESULTS), Result.FAIL, "not whole"),
    ("no AMS", without(b"ARC-Message-Signature"), Result.FAIL, "not whole"),
    ("no AS", without(b"ARC-Seal"), Result.FAIL, "not whole"),
    ("no newest AAR and AMS", lambda m: without(RESULTS)(without(b"ARC-Message-Signature")(m)),
     Result.FAIL, "not whole"),
    ("two AAR", again(RESULTS), Result.FAIL, "not whole"),
    ("two of all", lambda m: again(b"ARC-Seal")(again(b"ARC-Message-Signature")(again(RESULTS)(m))),
     Result.FAIL, "occurs twice"),
    ("a gap", lambda message: message.replace(b"i=1;", b"i=3;"), Result.FAIL, "numbered"),
    ("instance 0", lambda message: message.replace(b"i=1;", b"i=0;"), Result.FAIL, "from 1 to 50"),
    ("instance 51", lambda message: message.replace(b"i=2;", b"i=51;"), Result.FAIL, "from 1 to 50"),
    ("no instance", replacing(b"Results: i=2;", b"Results: x=2;"), Result.FAIL, "does not begin"),
    ("instance not first", replacing(b"Results: i=2;", b"Results: x=1; i=2;"), Result.FAIL, "does not begin"),
    ("cv=none above", replacing(b"cv=pass", b"cv=none"), Result.FAIL, "another cv="),
    ("cv=pass below", replacing(b"cv=none", b"cv=pass"), Result.FAIL, "another cv="),
    ("cv unknown", replacing(b"cv=pass", b"cv=good"), Result.FAIL, "cv="),
    ("no cv", replacing(b"cv=pass;", b""), Result.FAIL, "missing"),
    ("h= in a seal", replacing(b"cv=pass;", b"cv=pass; h=from;"), Result.FAIL, "it has h="),
    ("a seal in h=", replacing(b"h=from", b"h=arc-seal:from"), Result.FAIL, "signs an ARC-Seal"),
    ("rsa-sha1", replacing(b"a=rsa-sha256", b"a=rsa-sha1"), Result.FAIL, "algorithm"),
    ("another key", replacing(b"s=rsa", b"s=ed"), Result.FAIL, "the key is for ed25519"),
    ("no key", replacing(b"s=rsa", b"s=nothere"), Result.FAIL, "no key"),
    ("from the future", replacing(f"t={NOW}".encode(), f"t={NOW + 9999}".encode()), Result.FAIL, "future"),
    ("a tag twice", replacing(b"cv=pass;", b"cv=pass; cv=pass;"), Result.FAIL, "twice"),
    ("no tags", replacing(b"a=rsa-sha256", b"hello"), Result.FAIL, "no list of tags"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "result", "reason"), [row[1:] for row in DEFECTS], ids=[row[0] for row in DEFECTS]
)
def test_defects(edit: Edit, result: Result, reason: str) -> None:
    message = sealed(MESSAGE, 2)
    edited = edit(message)
    assert edited != message or result is Result.PASS
    chain = chain_of(edited)
    assert chain.result is result, chain.reason
    assert reason in chain.reason


def test_an_older_message_signature_may_be_broken() -> None:
    message = sealed(MESSAGE)
    message = sealed(message.replace(b"weekly", b"daily"))
    # The second sealer found a chain that fails and says so.
    chain = chain_of(message)
    assert (chain.result, chain.ended) == (Result.FAIL, True)
    first = sealed(MESSAGE)
    changed = first.replace(b"weekly", b"daily")
    honest = seal(Message(changed), chain_of(first), PAYLOAD, RSA, now=NOW) + changed
    assert chain_of(honest).result is Result.PASS


def test_nothing_is_added_to_a_chain_that_has_ended() -> None:
    message = sealed(sealed(MESSAGE).replace(b"weekly", b"daily"))
    assert message.count(b"cv=fail") == 1
    assert sealed(message) == message


def test_nothing_is_added_to_a_chain_that_cannot_be_read() -> None:
    message = without(b"ARC-Seal")(sealed(MESSAGE))
    assert sealed(message) == message


def test_a_seal_that_ends_the_chain_covers_its_own_set() -> None:
    message = sealed(sealed(MESSAGE).replace(b"weekly", b"daily"))
    # As the first of its chain it would be good, were it not for its number: so it covers nothing else.
    alone = message[: message.index(b"ARC-Seal", 10)] + HEAD
    assert chain_of(alone).reason == "the sets are not numbered 1, 2, 3"
    assert message.count(b"ARC-Seal:") == 2


@pytest.mark.parametrize("status", [Status.FAIL, Status.BOGUS])
def test_dns_trouble_is_temporary_and_nothing_is_sealed(status: Status) -> None:
    message = sealed(MESSAGE)
    dns = FakeResolver()
    dns.fail("rsa._domainkey.example.org", status=status, reason="timeout")
    chain = chain_of(message, dns)
    assert (chain.result, chain.reason) == (Result.TEMPERROR, "message signature 1: no key: timeout")
    assert seal(Message(message), chain, PAYLOAD, RSA, now=NOW) == b""


def test_dnssec_is_told() -> None:
    dns = dns_with(RSA)
    assert not chain_of(sealed(MESSAGE), dns).secure
    dns.status("example.org", Status.SECURE)
    assert chain_of(sealed(MESSAGE), dns).secure


def test_the_longest_chain() -> None:
    message = sealed(MESSAGE, MAX_INSTANCE, ED25519)
    assert processor_seconds(lambda: chain_of(message), 0.5) < 0.5
    chain = chain_of(message)
    assert (chain.result, len(chain.sets)) == (Result.PASS, 50)
    assert sealed(message, key=ED25519) == message
    more = b"".join(f"ARC-Seal: i={number}; a=b\r\n".encode() for number in range(1, 52)) + MESSAGE
    assert chain_of(more).reason == "there are more than 50 sets"


def test_a_large_message_is_sealed_in_a_thread() -> None:
    message = MESSAGE + b"x" * 400_000 + b"\r\n"
    chain = chain_of(message)
    fields = asyncio.run(seal_message(Message(message), chain, PAYLOAD, ED25519, now=NOW))
    assert chain_of(fields + message).result is Result.PASS


def test_signatures_that_came_are_covered() -> None:
    message = sealed(sign(Message(MESSAGE), [RSA, ED25519], now=NOW) + MESSAGE)
    assert chain_of(message).result is Result.PASS
    for key in (b"s=rsa", b"s=ed"):
        broken = message[::-1].replace(key[::-1], b"x=s", 1)[::-1]  # the last one is in a DKIM-Signature
        assert chain_of(broken).reason == "message signature 1: the header is not what was signed"


def test_no_line_is_too_long() -> None:
    message = b"List-Id: x\r\n" * 120 + MESSAGE
    fields = sealed(message).removesuffix(message)
    assert max(map(len, fields.split(b"\r\n"))) < 400
    assert chain_of(fields + message).result is Result.PASS


def test_what_cannot_be_sealed() -> None:
    with pytest.raises(SigningError, match="no From"):
        seal(Message(b"To: x\r\n\r\n"), Chain(Result.NONE), PAYLOAD, RSA, now=NOW)


def test_line_ends_in_a_payload_make_no_field() -> None:
    message = Message(
        seal(Message(MESSAGE), Chain(Result.NONE), "mx; spf=pass\r\nEvil: x\ry\nz \u00fc", RSA, now=NOW)
    )
    assert [field.key for field in message.fields] == [
        "arc-seal", "arc-message-signature", "arc-authentication-results",
    ]  # fmt: skip
    assert message.fields[2].unfolded.decode().endswith("spf=pass Evil: x y z \u00fc")
