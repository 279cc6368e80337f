"""XCLIENT to a real Dovecot over LMTP: what it writes into Received is our client's address, not ours."""

from __future__ import annotations

import re
import smtplib
import socket
from collections.abc import Iterator
from typing import NamedTuple
from uuid import uuid4

import pytest

from tests.peers.dovecot import DOMAIN, Dovecot
from tests.peers.site import ALICE, NO_QUEUE, PASSWORD, Site, site
from tests.peers.store import RawClient

pytestmark = pytest.mark.scenario

LOOPBACK, IPV4, IPV6 = "127.0.0.9", "192.0.2.7", "2001:db8::7"
RECEIVED = re.compile(
    r"Received: from \S+(?:\s\(\[(?:IPv6:)?(?P<client>[^]]+)\]\))?\s+by lmtp\S* with LMTP\S*\s+"
    r"id (?P<session>[^\s:]+)"
)
"""What Dovecot puts on top: whom it takes for the client, and an id that it gives to a connection."""


class Trace(NamedTuple):
    """What Dovecot says of a message in its Received field."""

    client: str
    session: str


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with Dovecot(trusting=True) as server:
        yield server


@pytest.fixture(scope="module", params=["ask", "all"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot
) -> Iterator[Site]:
    """One worker, so that there is one pool of connections; who is told by XCLIENT comes from 127.0.0.1."""
    with site(
        tmp_path_factory.mktemp(request.param),
        workers=1,
        queue=NO_QUEUE,
        recipients=request.param,
        backend=f'[backends.dovecot]\naddresses = ["127.0.0.1:{dovecot.lmtp_port}"]\nxclient = true\n',
        smtp_options='xclient_from = ["127.0.0.1"]',
    ) as running:
        yield running


def send(server: Site, address: str, *names: str) -> tuple[str, list[str]]:
    """A message from the client at `address`: its subject, and the replies to RCPT and to the content."""
    subject = uuid4().hex
    source = address if address == LOOPBACK else "127.0.0.1"
    with RawClient(
        socket.create_connection(("127.0.0.1", server.smtp), timeout=60, source_address=(source, 0))
    ) as client:
        assert client.reply().startswith("220 ")
        if address != source:
            told = f"IPV6:{address}" if ":" in address else address
            assert "XCLIENT " in client.ask("EHLO proxy.test")[0]
            (reply,) = client.ask(f"XCLIENT ADDR={told}")
            assert reply.startswith("220 "), reply
        assert client.ask("EHLO client.test")[0].startswith("250-")
        mail, *replies = client.ask(
            "MAIL FROM:<you@example.org>", *[f"RCPT TO:<{name}@{DOMAIN}>" for name in names]
        )
        assert mail.startswith("250 "), mail
        if any(reply.startswith("250 ") for reply in replies):
            assert client.ask("DATA")[0].startswith("354 ")
            client.send(f"From: you@example.org\r\nSubject: {subject}\r\n\r\nhello\r\n.\r\n".encode())
            replies.append(client.reply())
    return subject, replies


def trace(dovecot: Dovecot, subject: str) -> Trace:
    """What Dovecot has written into the one copy of a message."""
    (stored,) = [octets.decode() for octets in dovecot.messages("good") if subject.encode() in octets]
    found = RECEIVED.search(stored)
    assert found, stored
    return Trace(found["client"], found["session"])


def test_each_client_of_a_connection_is_told(server: Site, dovecot: Dovecot) -> None:
    clients = [LOOPBACK, IPV4, IPV4, IPV6, "2001:db8::8", LOOPBACK]
    traces = []
    for address in clients:
        subject, replies = send(server, address, "good")
        assert replies[-1].startswith("250 2.0.0 <good@example.test> "), replies
        traces.append(trace(dovecot, subject))
    assert [one.client for one in traces] == clients
    assert len({one.session for one in traces}) == 1, "another connection for another client"


def test_a_user_and_then_a_stranger(server: Site, dovecot: Dovecot) -> None:
    """LOGIN is told too, and taken back for the next one."""
    subject = uuid4().hex
    with smtplib.SMTP("localhost", server.submission, timeout=60, source_address=(LOOPBACK, 0)) as client:
        client.starttls(context=server.trust())
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, f"good@{DOMAIN}", f"From: {ALICE}\r\nSubject: {subject}\r\n\r\nhello\r\n")
    user = trace(dovecot, subject)
    stranger = trace(dovecot, send(server, IPV4, "good")[0])
    assert (user.client, stranger.client) == (LOOPBACK, IPV4)
    assert user.session == stranger.session


def test_after_refused_recipients(server: Site, dovecot: Dovecot) -> None:
    """A transaction that came to nothing is not in the way of the next client."""
    before = trace(dovecot, send(server, IPV4, "good")[0])
    _, replies = send(server, IPV6, "nobody")
    assert replies[-1].startswith("550 5.1.1 <nobody@example.test> "), replies
    after = trace(dovecot, send(server, LOOPBACK, "good")[0])
    assert after == Trace(LOOPBACK, before.session)
