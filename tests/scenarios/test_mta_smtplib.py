"""Python's smtplib against a real server: what programs send, read back as a person reads it."""

from __future__ import annotations

import email
import email.policy
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from uuid import uuid4

import pytest

from tests.peers.needs import has_ipv6, needs_ipv6
from tests.peers.ports import free_port
from tests.peers.site import ALICE, BOB, DOMAIN, PASSWORD, Site, site

OUTSIDER = "you@example.org"


@pytest.fixture(scope="module")
def ipv6() -> int:
    """The port on ::1."""
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ipv6: int) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("smtplib")
    more = f"""
[[listener]]
protocol = "lmtp"
addresses = ["unix:{folder}/lmtp"]
"""
    if has_ipv6():
        more += f'[[listener]]\nname = "ipv6"\naddresses = ["[::1]:{ipv6}"]\n'
    with site(folder, more=more) as running:
        yield running


def message(sender: str = OUTSIDER, to: str = ALICE) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, to, uuid4().hex
    made.set_content("Grüße\n.\nend\n")
    return made


def plain(server: Site) -> smtplib.SMTP:
    return smtplib.SMTP("localhost", server.smtp, "client.example.org", timeout=30)


def stored(server: Site, sent: EmailMessage, user: str) -> EmailMessage:
    octets = server.message(user, sent["Subject"])
    found = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_a_message_from_outside(server: Site) -> None:
    sent = message()
    with plain(server) as client:
        assert client.send_message(sent) == {}
    found = stored(server, sent, ALICE)
    assert found.get_content() == "Grüße\n.\nend\n"
    assert found.get_all("Return-Path") == [f"<{OUTSIDER}>"]
    assert found.get_all("Delivered-To") == [ALICE]
    (received,) = found.get_all("Received", [])
    assert "from client.example.org ([127.0.0.1])" in received
    assert "with ESMTP id" in received
    # A server that passes mail on does not repair it (RFC 6409 is for submission).
    assert found["Date"] is None
    assert found["Message-ID"] is None


@pytest.mark.parametrize("implicit", [False, True])
def test_submission(server: Site, implicit: bool) -> None:
    sent = message(f"sales@{DOMAIN}", BOB)
    client = (
        smtplib.SMTP_SSL("localhost", server.submissions, timeout=30, context=server.trust())
        if implicit
        else smtplib.SMTP("localhost", server.submission, timeout=30)
    )
    with client:
        if not implicit:
            client.starttls(context=server.trust())
        client.login(ALICE, PASSWORD)
        client.send_message(sent)
    found = stored(server, sent, BOB)
    assert "with ESMTPSA id" in found["Received"]
    assert "(using TLSv1.3 with cipher" in found["Received"]
    assert found["Message-ID"].endswith("@mx.example.test>")
    assert found["Date"].datetime.year >= 2025


def test_submission_leaves_what_is_there(server: Site) -> None:
    sent = message(ALICE, BOB)
    sent["Message-ID"], sent["Date"] = "<mine@client.example.org>", "Sat, 22 Nov 2025 10:15:08 +0000"
    with smtplib.SMTP_SSL("localhost", server.submissions, timeout=30, context=server.trust()) as client:
        client.login(ALICE, PASSWORD)
        client.send_message(sent)
    found = stored(server, sent, BOB)
    assert found.get_all("Message-ID") == ["<mine@client.example.org>"]
    assert found.get_all("Date") == ["Sat, 22 Nov 2025 10:15:08 +0000"]


def test_unknown_recipients_beside_a_known_one(server: Site) -> None:
    sent = message()
    with plain(server) as client:
        refused = client.send_message(sent, to_addrs=[ALICE, f"nobody@{DOMAIN}", "x@example.net"])
    assert refused.keys() == {f"nobody@{DOMAIN}", "x@example.net"}
    assert refused[f"nobody@{DOMAIN}"][0] == 550
    assert refused[f"nobody@{DOMAIN}"][1].startswith(b"5.1.1")
    assert refused["x@example.net"] == (550, b"5.7.1 relaying denied")
    assert stored(server, sent, ALICE)


def test_over_ipv6(server: Site, ipv6: int) -> None:
    needs_ipv6()
    sent = message()
    with smtplib.SMTP("::1", ipv6, "client.example.org", timeout=30) as client:
        client.send_message(sent)
    assert "([IPv6:::1])" in stored(server, sent, ALICE)["Received"]


def test_lmtp_over_a_unix_socket(server: Site) -> None:
    """A local server hands its mail over; smtplib reads one reply, so it is one recipient at a time."""
    sent = message()
    with smtplib.LMTP(str(server.directory / "lmtp"), 0, "local.example.org") as client:
        for user in (ALICE, BOB):
            assert client.sendmail(OUTSIDER, [user], sent.as_bytes(policy=email.policy.SMTP)) == {}
        client.mail(OUTSIDER)
        assert client.rcpt(f"nobody@{DOMAIN}")[0] == 550
    for user in (ALICE, BOB):
        assert "with LMTP id" in stored(server, sent, user)["Received"]


def test_many_messages_on_one_connection(server: Site) -> None:
    many = [message() for _ in range(20)]
    with plain(server) as client:
        for sent in many:
            client.send_message(sent)
            client.rset()
    for sent in many:
        assert stored(server, sent, ALICE)


def test_internationalised_mail(server: Site) -> None:
    sent = message("jürgen@example.org")
    with plain(server) as client:
        client.send_message(sent)
    found = stored(server, sent, ALICE)
    assert found["From"] == "jürgen@example.org"
    assert "with UTF8SMTP id" in found["Received"]


def test_the_command_line_reads_the_mail(server: Site) -> None:
    sent = message(to=BOB)
    with plain(server) as client:
        client.send_message(sent)
    assert BOB in server.command("mailbox", "list")
    shown = server.command("mailbox", "show", BOB)
    assert sent["Subject"] in shown
    assert "Grüße" in shown


def test_a_full_mailbox(server: Site) -> None:
    server.command("user", "add", f"full@{DOMAIN}", "--quota", "20K", "--generate", "--no-scram")
    sent = message(to=f"full@{DOMAIN}")
    sent.set_content("x" * 60 + "\n", cte="7bit")

    with plain(server) as client:
        client.send_message(sent)
        big = message(to=f"full@{DOMAIN}")
        big.set_content("0123456789\n" * 5000)
        with pytest.raises(smtplib.SMTPDataError) as caught:
            client.send_message(big)
    assert caught.value.args[:1] == (552,)
    assert "5.2.2" in str(caught.value)
    assert not server.messages(f"full@{DOMAIN}", big["Subject"])
