"""For whose sender nobody vouches, by the fields that the server itself writes."""

from __future__ import annotations

import asyncio
import time

import pytest

from mta.address import parse_address
from mta.authn.authresults import render
from mta.authn.dkimkeys import SigningKey
from mta.authn.results import MethodResult, Result
from mta.authn.signer import Signer, SignerSettings
from mta.envelope import Envelope
from mta.net.limits import Networks
from mta.passedon import came, is_redirected
from mta.session import Session, TlsInfo
from mta.trace import ReceivedTemplate
from sieve_ext import Message

TRUSTED = Networks(("127.0.0.0/8", "::1/128", "192.0.2.0/24")).contain_text
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)


def session(
    client: str = "203.0.113.9", *, helo: str = "[127.0.0.1]", user: str = "", tls: TlsInfo | None = None
) -> Session:
    return Session("a", "mx", "smtp", client, helo=helo, esmtp=True, user=user, tls=tls)


STRANGER, STORE = session(), session("127.0.0.1", helo="mx.test")
AGAIN = "X-Sieve-Redirected-From: alice@example.test\r\n"


def received(session: Session, name: str = "") -> str:
    template = ReceivedTemplate(session, "mx.test", client_name=name)
    return template.render("tpaaq10229", 1_700_000_000.0).decode()


def results(spf: Result, reason: str = "") -> str:
    found = [
        MethodResult("iprev", Result.PASS, reason, {"policy.iprev": "203.0.113.9"}),
        MethodResult("spf", spf, reason, {"smtp.mailfrom": "s@example.org"}),
    ]
    return f"Authentication-Results: {render('mx.test', found)}\r\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (received(STRANGER), True),
        (received(STRANGER, "spf=pass.example.org"), True),
        (received(session("2001:db8::9", tls=TLS)), True),
        (received(session(helo="a" * 200)), True),
        (received(session(user="alice", tls=TLS)), False),
        (received(session("192.0.2.7"), "pc.example.test"), False),
        (received(session("::1")), False),
        (received(session("unix")), False),
        (results(Result.PASS) + received(STRANGER), False),
        (results(Result.FAIL, "spf=pass; spf=pass (; spf=pass) ; spf=pass") + received(STRANGER), True),
        (received(STRANGER) + results(Result.PASS) + received(STORE), True),
        (received(STORE) + AGAIN + received(STRANGER), True),
        (received(STORE) + AGAIN + results(Result.PASS) + received(STRANGER), False),
        (received(STORE) + AGAIN + received(STORE) + AGAIN + received(STRANGER), True),
        (received(STORE) + received(STRANGER), False),
        (received(STRANGER) + AGAIN + received(STORE), True),
        ("Received: from somewhere by postfix.test (Postfix) with ESMTP id 1\r\n", False),
        ("", False),
    ],
)
def test_who_is_a_stranger(header: str, expected: bool) -> None:
    message = Message(f"{header}From: s@example.org\r\n\r\nHello.\r\n".encode())
    found = came(message, TRUSTED)
    assert (found.from_outside and not found.spf_passed) is expected
    assert is_redirected(message) is False


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (AGAIN + received(STRANGER), True),
        ("X-Spam: no\r\n" + AGAIN + results(Result.PASS) + received(STRANGER), True),
        (AGAIN + received(STORE) + AGAIN + received(STRANGER), True),
        (AGAIN + received(session("192.0.2.7")), False),
        (AGAIN + received(session(user="alice")), False),
        (AGAIN, False),
    ],
)
def test_what_is_passed_on_from_outside(header: str, expected: bool) -> None:
    message = Message(f"{header}From: s@example.org\r\n\r\nHello.\r\n".encode())
    assert is_redirected(message) is True
    assert came(message, TRUSTED).from_outside is expected


class NoKeys:
    def signing_keys(self, domain: str) -> tuple[SigningKey, ...]:
        return ()


@pytest.mark.parametrize("user", ["", "alice"])
def test_a_user_passes_nothing_on(user: str) -> None:
    """Who has logged in could write the store's field himself, and send what must be signed unsigned."""
    signer = Signer(SignerSettings("mx.test"), NoKeys(), lambda session: True, time.time, TRUSTED)
    message = Message(f"{AGAIN}{received(STRANGER)}From: alice@example.test\r\n\r\nHello.\r\n".encode())
    envelope = Envelope(parse_address("alice@example.test"))
    work = signer.sign(session("192.0.2.7", user=user), envelope, message, None, leaves=True)
    assert (asyncio.run(work).refusal is not None) is bool(user)
