"""A real `tamis serve` before a real Dovecot: every kind of answer reaches the client, mail arrives once."""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.peers import dovecot_version as version
from tests.peers.dovecot import DOMAIN, PASSWORD, Dovecot
from tests.peers.running import children_of, until
from tests.peers.site import NO_QUEUE, Site, site
from tests.peers.store import RawClient

pytestmark = pytest.mark.scenario

OUTSIDER = "you@example.org"
ATTEMPTS = 8
"""Tries to catch a delivery in the middle."""


def back_end(dovecot: Dovecot, *, unix: bool = False, more: str = "") -> str:
    where = f"unix:{dovecot.lmtp_path}" if unix else f"127.0.0.1:{dovecot.lmtp_port}"
    return f'[backends.dovecot]\naddresses = ["{where}"]\nfailure_delay = "0.2s"\n{more}'


def login_at(dovecot: Dovecot, *, unix: bool) -> str:
    where = f"unix:{dovecot.auth_path}" if unix else f"127.0.0.1:{dovecot.auth_port}"
    return f'backend = "dovecot"\ndovecot_socket = "{where}"\nfailure_delay = "0.1s"\n'


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with Dovecot(check_quota=False) as server:
        yield server


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot) -> Iterator[Site]:
    """Over TCP, with recipients = "ask" and logins at Dovecot."""
    folder = tmp_path_factory.mktemp("asking")
    with site(
        folder, queue=NO_QUEUE, backend=back_end(dovecot), auth=login_at(dovecot, unix=True)
    ) as running:
        yield running


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot) -> Iterator[Site]:
    """Over the Unix socket, with recipients = "all"."""
    folder = tmp_path_factory.mktemp("trusting")
    backend, auth = back_end(dovecot, unix=True), login_at(dovecot, unix=False)
    with site(folder, queue=NO_QUEUE, backend=backend, recipients="all", auth=auth) as running:
        yield running


def at(*names: str) -> list[str]:
    return [name if "@" in name else f"{name}@{DOMAIN}" for name in names]


class Mail:
    """A message with a unique subject."""

    def __init__(self, size: int = 100) -> None:
        self.subject = uuid4().hex
        line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789\r\n"
        head = f"From: {OUTSIDER}\r\nSubject: {self.subject}\r\n\r\n".encode()
        self.octets = head + line * (size // len(line) + 1)

    def copies(self, dovecot: Dovecot, user: str) -> list[bytes]:
        return [octets for octets in dovecot.messages(user) if self.subject.encode() in octets]

    def send(self, server: Site, *names: str, prdr: bool = False) -> list[str]:
        """Send; the refusals at RCPT, then the replies after the data (several with PRDR)."""
        with Talk(server) as talk:
            return talk.deliver(self, *names, prdr=prdr)


class Talk(RawClient):
    """A client that tells the replies as they are."""

    def __init__(self, server: Site) -> None:
        super().__init__(socket.create_connection(("127.0.0.1", server.smtp), timeout=60))
        assert self.reply().startswith("220 ")
        assert self.ask("EHLO client.example.org")[0].startswith("250-")

    def deliver(self, mail: Mail, *names: str, sender: str = OUTSIDER, prdr: bool = False) -> list[str]:
        """A transaction; the refusals at RCPT, then the replies after the data (several with PRDR)."""
        commands = [f"RCPT TO:<{address}>" for address in at(*names)]
        accepted, *replies = self.ask(f"MAIL FROM:<{sender}>{' PRDR' if prdr else ''}", *commands)
        assert accepted.startswith("250 "), accepted
        refused = [reply for reply in replies if reply[0] != "2"]
        if len(refused) == len(replies):
            self.ask("RSET")
            return refused
        assert self.ask("DATA")[0].startswith("354 ")
        self.send(mail.octets + b".\r\n")  # it has no line that begins with a dot
        first = self.reply()
        if not first.startswith("353"):
            return [*refused, first]
        return [*refused, *[self.reply() for _ in range(len(replies) - len(refused) + 1)]]


def test_delivery(asking: Site, trusting: Site, dovecot: Dovecot) -> None:
    for server, protocol in ((asking, "over TCP"), (trusting, "over a Unix socket")):
        mail = Mail()
        (reply,) = mail.send(server, "good")
        assert reply.startswith("250 2.0.0 <good@example.test> "), protocol
        assert reply.endswith(" Saved")  # Dovecot's own words
        (stored,) = mail.copies(dovecot, "good")
        assert stored.count(b"Return-Path:") == 1
        assert stored.startswith(b"Return-Path: <you@example.org>\n")
        assert stored.count(b"Delivered-To:") == 1
        assert b" by mx.example.test (Tamis) with ESMTP id " in stored
        assert stored.endswith(mail.octets.replace(b"\r\n", b"\n"))


def test_a_large_message(asking: Site, dovecot: Dovecot) -> None:
    mail = Mail(12_000_000)
    assert mail.send(asking, "good")[0].startswith("250 2.0.0")
    (stored,) = mail.copies(dovecot, "good")
    assert stored.partition(b"\n\n")[2] == mail.octets.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")


def test_an_unknown_user(asking: Site, trusting: Site) -> None:
    with Talk(asking) as talk:
        mail, recipient = talk.ask(f"MAIL FROM:<{OUTSIDER}>", "RCPT TO:<nobody@example.test>")
        assert mail.startswith("250 ")
        assert recipient.startswith("550 5.1.1 <nobody@example.test> ")  # Dovecot's own words
    with Talk(trusting) as talk:
        assert talk.ask(f"MAIL FROM:<{OUTSIDER}>", "RCPT TO:<nobody@example.test>")[1].startswith("250 ")
        talk.ask("DATA")
        talk.send(Mail().octets + b".\r\n")
        assert talk.reply().startswith("550 5.1.1 <nobody@example.test> ")


def test_the_null_sender(asking: Site, dovecot: Dovecot) -> None:
    mail = Mail()
    with Talk(asking) as talk:
        assert talk.deliver(mail, "alice", sender="")[0].startswith("250 ")
    (stored,) = mail.copies(dovecot, "alice")
    assert stored.startswith(b"Return-Path: <>\n")


def test_over_quota_is_passed_through_unchanged(asking: Site, dovecot: Dovecot) -> None:
    mail = Mail(40_000)
    (reply,) = mail.send(asking, "full")
    assert reply.startswith("552 5.2.2 <full@example.test> ")
    assert not mail.copies(dovecot, "full")
    small = Mail()
    assert small.send(asking, "full")[0].startswith("250 ")
    assert len(small.copies(dovecot, "full")) == 1


def test_a_temporary_failure(asking: Site, trusting: Site) -> None:
    for server in (asking, trusting):
        (reply,) = Mail().send(server, "tempfail")
        assert reply.startswith("451 4."), server


def test_mixed_recipients(trusting: Site, dovecot: Dovecot) -> None:
    mail = Mail(40_000)
    (reply,) = mail.send(trusting, "good", "full", "nobody", "bob")
    assert reply.startswith("5")
    assert "<full@example.test>" in reply
    assert "<nobody@example.test>" in reply
    assert "<good@example.test>" not in reply
    assert [len(mail.copies(dovecot, user)) for user in ("good", "full", "bob")] == [1, 0, 1]


def test_mixed_recipients_with_prdr(trusting: Site, dovecot: Dovecot) -> None:
    mail = Mail(40_000)
    replies = mail.send(trusting, "good", "full", "nobody", "tempfail", "bob", prdr=True)
    codes = [reply[:9] for reply in replies]
    assert codes[:3] == ["250 2.0.0", "552 5.2.2", "550 5.1.1"]
    assert codes[3].startswith("451 4.")
    assert codes[4:] == ["250 2.0.0", "250 2.0.0"]
    assert [len(mail.copies(dovecot, user)) for user in ("good", "full", "bob")] == [1, 0, 1]


def test_a_temporary_failure_beside_a_delivery_makes_no_second_copy(trusting: Site, dovecot: Dovecot) -> None:
    mail = Mail()
    for _ in range(6):  # over several connections, so that both workers are asked
        (reply,) = mail.send(trusting, "good", "tempfail")
        assert reply.startswith("451 4.")
        assert "<tempfail@example.test>" in reply
        time.sleep(0.1)  # the other worker is told
    assert len(mail.copies(dovecot, "good")) == 1


def test_unknown_and_known_recipients_when_dovecot_is_asked(asking: Site, dovecot: Dovecot) -> None:
    mail = Mail()
    refused, final = mail.send(asking, "nobody", "good")
    assert refused.startswith("550 5.1.1")
    assert final.startswith("250 2.0.0")
    assert len(mail.copies(dovecot, "good")) == 1


def test_a_subaddress(asking: Site, dovecot: Dovecot) -> None:
    mail = Mail()
    assert mail.send(asking, "alice+lists")[0].startswith("250 ")
    (stored,) = mail.copies(dovecot, "alice")
    assert b"Delivered-To: alice+lists@example.test" in stored


def test_login(asking: Site, trusting: Site, dovecot: Dovecot) -> None:
    for server in (asking, trusting):
        mail = Mail()
        alice = f"alice@{DOMAIN}"
        with smtplib.SMTP("localhost", server.submission, timeout=30) as client:
            client.starttls(context=server.trust())
            client.ehlo()
            assert {"PLAIN", "LOGIN", "SCRAM-SHA-256"} <= set(client.esmtp_features["auth"].split())
            client.user, client.password = alice, "wrong"
            with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
                client.auth("PLAIN", client.auth_plain)
            assert caught.value.smtp_code == 535
            client.login(alice, PASSWORD)
            with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                client.sendmail(f"bob@{DOMAIN}", at("bob"), mail.octets)
            assert refused.value.smtp_code == 553
            client.sendmail(alice, at("bob"), mail.octets)
        (stored,) = mail.copies(dovecot, "bob")
        assert b" with ESMTPSA id " in stored


def test_login_without_a_domain(tmp_path: Path, dovecot: Dovecot) -> None:
    """As users of the system have it; the mailbox is that of the address."""
    with (dovecot.folder / "users").open("a") as users:
        users.write(f"ann:{{PLAIN}}{PASSWORD}::::::\n")
    auth = f'{login_at(dovecot, unix=True)}default_domain = "{DOMAIN}"\n'
    with site(tmp_path, queue=NO_QUEUE, backend=back_end(dovecot), auth=auth) as server:
        mail = Mail()
        with smtplib.SMTP("localhost", server.submission, timeout=30) as client:
            client.starttls(context=server.trust())
            client.login("ann", PASSWORD)
            with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                client.sendmail(f"alice@{DOMAIN}", at("bob"), mail.octets)
            assert refused.value.smtp_code == 553
            client.sendmail(f"ann@{DOMAIN}", at("bob"), mail.octets)
        assert len(mail.copies(dovecot, "bob")) == 1
        server.stop()


# --- Dovecot dies ---------------------------------------------------------------------------------------


def lmtp_processes(dovecot: Dovecot) -> list[int]:
    """The LMTP processes of this Dovecot."""
    master = int((dovecot.folder / "run" / "master.pid").read_text())
    return [pid for pid in children_of(master) if _name(pid) == "lmtp"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _read(pid: int) -> int:
    """Octets that a process has read so far, from sockets too."""
    try:
        return int(Path(f"/proc/{pid}/io").read_text().split()[1])
    except OSError:
        return 0


class Killer(threading.Thread):
    """Kills the LMTP process that has read `least` octets since the start of this thread."""

    def __init__(self, dovecot: Dovecot, least: int) -> None:
        super().__init__()
        self._dovecot = dovecot
        self._least = least
        self._done = threading.Event()
        self.killed = 0
        self._begun = {pid: _read(pid) for pid in lmtp_processes(dovecot)}

    def run(self) -> None:
        while not self._done.is_set():
            for pid in lmtp_processes(self._dovecot):
                if _read(pid) - self._begun.get(pid, 0) >= self._least:
                    os.kill(pid, signal.SIGKILL)
                    self.killed = pid
                    return

    def stop(self) -> None:
        self._done.set()
        self.join()


def retried(server: Site, mail: Mail, user: str) -> str:
    """Send a message again until it is accepted, as a client does; the reply."""

    def accepted() -> str:
        (reply,) = mail.send(server, user)
        return reply if reply.startswith("250 ") else ""

    return until(accepted, "the retry")


def test_killed_in_the_middle_of_a_message(tmp_path: Path) -> None:
    """A temporary answer, and the retry delivers exactly one copy."""
    with (
        Dovecot() as dovecot,
        site(
            tmp_path, queue=NO_QUEUE, backend=back_end(dovecot), auth=login_at(dovecot, unix=True)
        ) as server,
    ):
        assert Mail().send(server, "good")[0].startswith("250 ")
        caught = 0
        for _ in range(ATTEMPTS):
            mail = Mail(40_000_000)
            killer = Killer(dovecot, 4_000_000)
            killer.start()
            (reply,) = mail.send(server, "good")
            killer.stop()
            if reply.startswith("250 "):  # it was too late
                assert len(mail.copies(dovecot, "good")) == 1
                continue
            caught += 1
            assert killer.killed
            assert reply.startswith("451 4.4.")
            assert mail.copies(dovecot, "good") == []
            assert retried(server, mail, "good").endswith(" Saved")
            assert len(mail.copies(dovecot, "good")) == 1
            if caught == 2:
                break
        assert caught == 2


def test_stopped_and_started_again(tmp_path: Path) -> None:
    with (
        Dovecot() as dovecot,
        site(
            tmp_path, queue=NO_QUEUE, backend=back_end(dovecot), auth=login_at(dovecot, unix=True)
        ) as server,
        Talk(server) as talk,
    ):
        assert talk.deliver(Mail(), "good")[0].startswith("250 ")
        dovecot.stop()
        mail = Mail()
        assert talk.deliver(mail, "good")[0].startswith("451 4.4.1")  # known by the cache
        assert talk.deliver(mail, "bob")[0].startswith("451 4.4.1")  # asked
        dovecot.start()
        until(lambda: talk.deliver(mail, "bob", "good")[-1].startswith("250 "), "delivery after the start")
        assert [len(mail.copies(dovecot, user)) for user in ("bob", "good")] == [1, 1]

        def logged_in() -> bool:
            with smtplib.SMTP_SSL("localhost", server.submissions, context=server.trust()) as client:
                try:
                    return bool(client.login(f"alice@{DOMAIN}", PASSWORD)[0] == 235)
                except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError):
                    return False

        until(logged_in, "login after the start")


@pytest.mark.parametrize("kept", [True, False])
def test_asleep_when_the_deadline_comes(tmp_path: Path, dovecot: Dovecot, kept: bool) -> None:
    """Dovecot has the message and answers late: with a queue and without, there is one copy."""
    more = 'connect_timeout = "1s"\n[delivery]\ndeadline = "2s"\n'
    queue = "" if kept else NO_QUEUE
    auth = login_at(dovecot, unix=True)
    with (
        site(
            tmp_path,
            queue=queue,
            recipients="all",
            auth=auth,
            backend=back_end(dovecot, more=more),
            workers=1,
        ) as server,
        Talk(server) as talk,
    ):
        assert talk.deliver(Mail(), "good")[0].startswith("250 2.0.0 <good@example.test> ")
        mail = Mail()
        with asleep(dovecot):
            # Over a connection that has just been used all is sent ahead.
            (told,) = talk.deliver(mail, "good")
            assert told.startswith("250 2.0.0 queued as " if kept else "451 4.4.2 "), told
            assert mail.copies(dovecot, "good") == []
        until(lambda: mail.copies(dovecot, "good"), "the copy that was under way")
        if kept:
            until(lambda: "empty" in server.command("queue", "list"), server.log)
        else:
            until(lambda: "delivered, not acknowledged" in server.log(), server.log)
            assert talk.deliver(mail, "good")[0].startswith("250 2.0.0 already delivered")
        assert len(mail.copies(dovecot, "good")) == 1


def test_addresses_beyond_ascii(asking: Site, trusting: Site) -> None:
    """What docs/dovecot.md says of them."""
    if version.is_2_4():
        pytest.skip("about the LMTP of Dovecot 2.3")
    for server, at_rcpt in ((asking, "553 5.6.7"), (trusting, "250")):
        with Talk(server) as talk:
            assert talk.ask(f"MAIL FROM:<{OUTSIDER}> SMTPUTF8")[0].startswith("250 ")
            assert talk.ask("RCPT TO:<zoë@example.test>")[0].startswith(at_rcpt)
    with Talk(trusting) as talk:
        commands = (f"MAIL FROM:<{OUTSIDER}> SMTPUTF8", "RCPT TO:<zoë@example.test>", "DATA")
        assert talk.ask(*commands)[-1].startswith("354 ")
        assert talk.ask("Subject: Zoë\r\n\r\n.")[0].startswith("553 5.6.7 ")
    for sender, reply in (("zoë@example.org", "553 5.6.7 "), ("you@zoë.example", "250 2.0.0 ")):
        with Talk(asking) as talk:
            accepted, *_, ready = talk.ask(
                f"MAIL FROM:<{sender}> SMTPUTF8", "RCPT TO:<good@example.test>", "DATA"
            )
            assert (accepted[:4], ready[:4]) == ("250 ", "354 ")
            assert talk.ask("Subject: Zoë\r\n\r\n.")[0].startswith(reply)


def test_smtputf8_that_is_not_offered(tmp_path: Path, dovecot: Dovecot) -> None:
    options = 'discard_ehlo_keywords = ["SMTPUTF8"]'
    with (
        site(tmp_path, queue=NO_QUEUE, smtp_options=options, backend=back_end(dovecot), workers=1) as server,
        Talk(server) as talk,
    ):
        assert "SMTPUTF8" not in talk.ask("EHLO client.example.org")[0]
        assert talk.ask("MAIL FROM:<zoë@example.org>")[0].startswith("553 5.6.7 ")
        assert talk.ask(f"MAIL FROM:<{OUTSIDER}>")[0].startswith("250 ")
        assert talk.ask("RCPT TO:<zoë@example.test>")[0].startswith("553 5.6.7 ")


@contextlib.contextmanager
def asleep(dovecot: Dovecot) -> Iterator[None]:
    """Its LMTP processes do nothing meanwhile."""
    pids = lmtp_processes(dovecot)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
