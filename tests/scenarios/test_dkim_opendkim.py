"""opendkim verifies what we sign, and we verify what it signs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.authn.dkimkeys import SigningKey
from mta.authn.dkimsign import sign
from mta.authn.results import Result
from sieve_ext.message import Message
from tests.peers.opendkim import Opendkim
from tests.unit.dkim_kit import BODY, ED25519, HEAD, MESSAGE, NOW, RSA, dns_with, results

pytestmark = pytest.mark.scenario

MESSAGES = {
    "usual": MESSAGE,
    "no body": HEAD + b"\r\n",
    "empty lines": HEAD + b"\r\n\r\n\r\n",
    "blanks": HEAD + b"\r\n" + b"a \t  b\t\r\n \r\n  c\r\n \t\r\n\r\n",
    "large": HEAD + b"\r\n" + b"a line of text with some words in it \r\n" * 30_000,
    "many fields": b"List-Id: <a.example.org>\r\nSender: x@example.org\r\nReply-To: y@example.org\r\n"
    + MESSAGE,
    "8bit": HEAD + b"\r\n" + "gr\u00fc\u00df dich \u20ac\r\n".encode(),
}


@pytest.fixture
def opendkim(tmp_path: Path) -> Opendkim:
    return Opendkim(tmp_path)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_it_verifies_what_we_sign(opendkim: Opendkim, message: bytes) -> None:
    signed = sign(Message(message), [RSA, ED25519], now=NOW) + message
    assert opendkim.results(signed, RSA, ED25519) == [("pass", "rsa"), ("pass", "ed")]


@pytest.mark.parametrize("change", [(b"weekly", b"daily"), (b"Received", b"Subject: added\r\nReceived")])
def test_it_sees_what_was_changed(opendkim: Opendkim, change: tuple[bytes, bytes]) -> None:
    signed = sign(Message(MESSAGE), [RSA, ED25519], now=NOW) + MESSAGE
    found = opendkim.results(signed.replace(*change, 1), RSA, ED25519)
    assert [result for result, _ in found] == ["fail", "fail"]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize(
    ("key", "canonicalization"),
    [
        # What it signs with Ed25519 and a simple header (2.11.0) it cannot verify either.
        (RSA, "relaxed/relaxed"),
        (RSA, "relaxed/simple"),
        (RSA, "simple/simple"),
        (RSA, "simple/relaxed"),
        (ED25519, "relaxed/relaxed"),
        (ED25519, "relaxed/simple"),
    ],
)
def test_we_verify_what_it_signs(
    opendkim: Opendkim, key: SigningKey, canonicalization: str, message: bytes
) -> None:
    # Its test mode drops all blanks after a colon but one before it signs; as a milter it gets them.
    message = message.replace(b"Subject:  ", b"Subject: ")
    signature = opendkim.signature(message, key, key.algorithm, canonicalization)
    assert f"c={canonicalization};".encode() in signature
    (one,) = results(signature + message, dns_with(RSA, ED25519), now=4_000_000_000)
    assert (one.result, one.reason) == (Result.PASS, "")
    (other,) = results(signature + message + b"more\r\n", dns_with(RSA, ED25519), now=4_000_000_000)
    assert other.result is Result.FAIL


def test_we_refuse_its_sha1(opendkim: Opendkim) -> None:
    signature = opendkim.signature(HEAD + b"\r\n" + BODY, RSA, "rsa-sha1", "relaxed/simple")
    (one,) = results(signature + MESSAGE, dns_with(RSA), now=4_000_000_000)
    assert (one.result, one.reason) == (Result.PERMERROR, "rsa-sha1 proves nothing")
