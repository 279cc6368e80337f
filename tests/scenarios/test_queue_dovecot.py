"""Mail for a real Dovecot that waits: down and up again, over quota, and users that turn out not to exist."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.peers.dovecot import DOMAIN, Dovecot
from tests.peers.queuesite import NEVER, QUICK, flush, queue_site, rows, waiting
from tests.peers.running import PATIENCE, until
from tests.peers.site import ALICE, PASSWORD, Site

pytestmark = pytest.mark.scenario


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    with Dovecot(check_quota=False) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path, dovecot: Dovecot) -> Iterator[Site]:
    backend = f'[backends.dovecot]\naddresses = ["127.0.0.1:{dovecot.lmtp_port}"]\nfailure_delay = "0.2s"\n'
    with queue_site(tmp_path, queue=QUICK + NEVER, backend=backend, recipients="all") as running:
        yield running


LOCKED = 120.0
"""Seconds for which Dovecot waits for a process that was killed while it held the lock of a Maildir."""
QUEUED = re.compile(r"250 2\.0\.0 queued (for 2 )?as [0-9A-Z]{26}")


def submit(server: Site, *names: str, size: int = 100, options: tuple[str, ...] = ()) -> tuple[str, str]:
    """Alice, who has logged in, sends a message; its subject, and the reply to it."""
    subject = uuid4().hex
    text = f"From: {ALICE}\r\nSubject: {subject}\r\n\r\n" + "0123456789" * 7 + "\r\n"
    with smtplib.SMTP("127.0.0.1", server.submission, timeout=60) as client:
        client.starttls(context=server.trust())
        client.login(ALICE, PASSWORD)
        assert client.mail(ALICE)[0] == 250
        for name in names:
            code, reply = client.rcpt(f"{name}@{DOMAIN}", list(options))
            assert code == 250, reply
        code, words = client.data(text.encode() + b"x" * 70 + b"\r\n" * (1 + size // 2))
    return subject, f"{code} {words.decode()}"


def copies(dovecot: Dovecot, user: str, subject: str) -> list[bytes]:
    return [octets for octets in dovecot.messages(user) if f"\nSubject: {subject}\n".encode() in octets]


def report_about(dovecot: Dovecot, subject: str) -> bytes:
    """The report, once it is there; there must not be two."""
    until(lambda: reports(dovecot, subject), "the report")
    (report,) = reports(dovecot, subject)
    return report


def reports(dovecot: Dovecot, subject: str) -> list[bytes]:
    """The reports in Alice's mailbox about a message."""
    return [
        octets
        for octets in dovecot.messages("alice")
        if b"multipart/report" in octets and subject.encode() in octets
    ]


def gone(server: Site, seconds: float = PATIENCE) -> None:
    """Wait until nothing waits."""

    def empty() -> bool:
        flush(server)
        return waiting(server) == 0

    until(empty, "an empty queue", seconds)


def test_a_dovecot_that_was_down(server: Site, dovecot: Dovecot) -> None:
    """What was sent meanwhile arrives; who does not exist is reported to the sender's mailbox."""
    dovecot.stop()
    good, reply = submit(server, "good", "bob")
    assert QUEUED.match(reply), reply
    bad, reply = submit(server, "good", "nobody", options=("ORCPT=rfc822;old@example.org",))
    assert QUEUED.match(reply), reply
    assert waiting(server) == 2
    assert all(row.deferred for row in rows(server))
    dovecot.start()
    gone(server)
    for user, subject in (("good", good), ("bob", good), ("good", bad)):
        (stored,) = copies(dovecot, user, subject)
        assert stored.startswith(b"Return-Path: <alice@example.test>\n")
    report = report_about(dovecot, bad)
    assert report.startswith(b"Return-Path: <>\n")
    assert b"Final-Recipient: rfc822; nobody@example.test\n" in report
    assert b"Original-Recipient: rfc822; old@example.org\n" in report
    assert b"Action: failed\nStatus: 5.1.1\n" in report
    assert b"good@example.test" not in report.partition(b"Subject: " + bad.encode())[0]
    assert reports(dovecot, good) == []


def test_who_is_over_quota(server: Site, dovecot: Dovecot) -> None:
    """552 is permanent at once; after queueing it is reported."""
    subject, reply = submit(server, "full", size=30_000)
    assert reply.startswith("552 5.2.2 "), reply
    assert waiting(server) == 0
    dovecot.stop()
    subject, reply = submit(server, "full", size=30_000)
    assert QUEUED.match(reply), reply
    dovecot.start()
    gone(server)
    report = report_about(dovecot, subject)
    assert b"Status: 5.2.2\n" in report
    assert dovecot.messages("full") == []


def test_a_mixed_answer_of_dovecot(server: Site, dovecot: Dovecot) -> None:
    """Delivered, refused for now and refused for good in one transaction: three fates."""
    subject, reply = submit(server, "good", "tempfail", "nobody")
    assert reply.startswith("250 2.0.0 delivered to 1 of 3 recipients, queued for 1 as "), reply
    assert len(copies(dovecot, "good", subject)) == 1
    until(lambda: reports(dovecot, subject), "the report")
    (report,) = reports(dovecot, subject)
    assert b"Final-Recipient: rfc822; nobody@example.test\nAction: failed\nStatus: 5.1.1\n" in report
    assert b"tempfail" not in report.partition(b"Subject: " + subject.encode())[0]
    # Dovecot has the report a moment before the queue has written down that it has.
    until(lambda: waiting(server) == 1, "the end of the report")
    (row,) = rows(server)
    assert {who.address.partition("@")[0]: who.status for who in row.recipients} == {
        "good": "delivered",
        "tempfail": "deferred",
        "nobody": "failed",
    }
    server.command("queue", "bounce", row.id)
    gone(server)
    until(lambda: len(reports(dovecot, subject)) == 2, "the second report")


def test_who_asks_hears_of_success_from_dovecot(server: Site, dovecot: Dovecot) -> None:
    dovecot.stop()
    subject, reply = submit(server, "good", options=("NOTIFY=SUCCESS,FAILURE",))
    assert QUEUED.match(reply), reply
    dovecot.start()
    gone(server)
    report = report_about(dovecot, subject)
    assert b"Action: delivered\n" in report
    assert len(copies(dovecot, "good", subject)) == 1


def test_dovecot_killed_while_it_is_drained_to(server: Site, dovecot: Dovecot) -> None:
    """Each recipient gets each message; twice only what Dovecot had stored and had no time to say."""
    dovecot.stop()
    subjects = [submit(server, "good", "bob")[0] for _ in range(20)]
    dovecot.start()
    flush(server)
    kills = 0
    for _ in range(3):
        until(lambda: dovecot.messages("good") or waiting(server) == 0, "deliveries")
        kills += dovecot.kill_lmtp()
    gone(server, LOCKED + PATIENCE)
    double = 0
    for user in ("good", "bob"):
        for subject in subjects:
            found = len(copies(dovecot, user, subject))
            assert found >= 1, (user, subject)
            double += found - 1
    assert double <= 2 * kills
