"""XFORWARD and XCLIENT to a real Postfix, as a back end and as a content filter: its log knows our client."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from functools import partial
from uuid import uuid4

import pytest
import trustme

from tests.peers.ports import free_port
from tests.peers.postfix import Postfix, running_postfix
from tests.peers.running import until
from tests.peers.site import NO_QUEUE, Site, site
from tests.peers.store import RawClient

pytestmark = pytest.mark.scenario

CLIENTS = {
    "NAME=h.client.test ADDR=192.0.2.7 PORT=77": "h.client.test[192.0.2.7]",
    "ADDR=IPV6:2001:db8::7": "unknown[2001:db8::7]",
    "ADDR=192.0.2.8": "unknown[192.0.2.8]",
}
"""What is said of clients to us, and how Postfix names them then."""
SETTINGS = """\
inet_protocols = all
smtpd_peername_lookup = yes
smtpd_authorized_xforward_hosts = 127.0.0.1
smtpd_authorized_xclient_hosts = 127.0.0.1
mynetworks = 0.0.0.0/0 [::]/0
smtpd_client_restrictions = check_client_access inline:{{ 192.0.2.66 = REJECT }}
"""
PROXY = """\
{proxy} inet n - n - - smtpd
  -o smtpd_proxy_filter=127.0.0.1:{back}
  -o syslog_name=proxy
"""
"""A smtpd that hands each message on to our listener while we wait, by XFORWARD too."""
BACKEND = """\
[backends.{name}]
protocol = "smtp"
addresses = ["127.0.0.1:{port}"]
{name} = true
[domains."{name}.test"]
backend = "{name}"
recipients = "{recipients}"
"""
MORE = """\
[[listener]]
name = "filtered"
addresses = ["127.0.0.1:{back}"]
xforward_from = ["127.0.0.1"]
[filters.proxy]
addresses = ["127.0.0.1:{proxy}"]
returns_to = "filtered"
"""
SCRIPT = """\
require ["vnd.tamis.stage", "vnd.tamis.route", "envelope"];
stage "rcpt" { if envelope :localpart :matches "to" "filtered-*" { route :to "filter:proxy"; } }
"""


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    """Of the proxy, and of our listener behind it."""
    return free_port(), free_port()


@pytest.fixture(scope="module")
def postfix(ports: tuple[int, int]) -> Iterator[Postfix]:
    chain = trustme.CA().issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    with running_postfix(chain, SETTINGS, PROXY.format(proxy=ports[0], back=ports[1])) as running:
        yield running


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, postfix: Postfix, ports: tuple[int, int]
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("introducing")
    (folder / "policy.sieve").write_text(SCRIPT)
    backends = BACKEND.format(name="xforward", port=postfix.port, recipients="all")
    backends += BACKEND.format(name="xclient", port=postfix.port, recipients="ask")
    with site(
        folder,
        workers=1,
        queue=NO_QUEUE,
        backend=f'backend = "xforward"\n{backends}',
        smtp_options='xclient_from = ["127.0.0.1"]',
        policy='scripts = ["policy.sieve"]',
        more=MORE.format(proxy=ports[0], back=ports[1]),
    ) as running:
        yield running


def send(server: Site, client: str, recipient: str, *, times: int = 1) -> list[str]:
    """Messages in one session of the client that XCLIENT tells of; the last replies."""
    last = []
    with RawClient(socket.create_connection(("127.0.0.1", server.smtp), timeout=60)) as talk:
        assert talk.reply().startswith("220 ")
        talk.ask("EHLO proxy.test")
        assert talk.ask(f"XCLIENT {client}")[0].startswith("220 ")
        talk.ask("EHLO client.test")
        for _ in range(times):
            replies = talk.ask("MAIL FROM:<you@example.org>", f"RCPT TO:<{recipient}>")
            assert [reply[:3] for reply in replies] == ["250", "250"], replies
            assert talk.ask("DATA")[0].startswith("354 ")
            talk.send(b"From: you@example.org\r\nSubject: x\r\n\r\nhello\r\n.\r\n")
            last.append(talk.reply())
    return last


def clients(postfix: Postfix, replies: list[str]) -> list[str]:
    """How Postfix names the clients of messages; after a comma those from whom they came at first."""

    def find(queued: str) -> str:
        told = re.search(rf" {queued}: client=(.*)", postfix.log())
        return told[1].replace(" orig_client=", "") if told else ""

    names = []
    for reply in replies:
        found = re.fullmatch(r"250 2\.0\.0 Ok: .* queued as (\w+)", reply)
        assert found, reply
        names.append(until(partial(find, found[1]), postfix.log))
    return names


def test_xforward_to_a_back_end(server: Site, postfix: Postfix) -> None:
    """Each message over the same connection has its own client."""
    to = "good@xforward.test"
    named = [clients(postfix, send(server, client, to)) for client in (*CLIENTS, *CLIENTS)]
    assert named == [[f"localhost[127.0.0.1],{name}"] for name in (*CLIENTS.values(), *CLIENTS.values())]


@pytest.mark.parametrize(("client", "name"), CLIENTS.items())
def test_xforward_through_a_content_filter(server: Site, postfix: Postfix, client: str, name: str) -> None:
    """To the proxy, from it to us, and from us to the back end: the first client all the way."""
    before = len(postfix.log())
    replies = send(server, client, "filtered-good@xforward.test")
    assert clients(postfix, replies) == [f"localhost[127.0.0.1],{name}"]
    proxied = f"NOQUEUE: client=localhost[127.0.0.1], orig_client={name}\n"
    until(lambda: proxied in postfix.log()[before:], postfix.log)


def test_xclient_to_a_back_end(server: Site, postfix: Postfix) -> None:
    """Postfix takes one XCLIENT in a connection: it is used again for the same client alone."""
    for client, name in [*CLIENTS.items(), *CLIENTS.items()]:
        assert clients(postfix, send(server, client, "good@xclient.test", times=2)) == [name, name]


def test_whether_a_recipient_exists_is_not_asked_in_the_name_of_another(
    server: Site, postfix: Postfix
) -> None:
    """After a client that Postfix refuses everything."""
    to = f"{uuid4().hex}@xclient.test"
    assert send(server, "ADDR=192.0.2.8", to)[0].startswith("250 ")  # it is known now
    (refused,) = send(server, "ADDR=192.0.2.66", to)
    assert refused.startswith("554 5.7.1 <unknown[192.0.2.66]>: "), refused
    replies = send(server, "ADDR=192.0.2.8", f"{uuid4().hex}@xclient.test")
    assert clients(postfix, replies) == ["unknown[192.0.2.8]"]
