"""Dialogs with the embedded store over real sockets: replies per recipient, limits, a clean stop."""

from __future__ import annotations

import errno
import gc
import os
import smtplib
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mta.address import Address
from mta.content import Content
from mta.store import deliver
from mta.store.maildir import FOLDERS
from mta.store.message import StoredMessage, for_delivery
from mta.store.quota import Quota
from tests.peers.running import until
from tests.peers.store import NO_QUOTA, RawClient, Running, mailboxes, running

USERS = {
    "alice": NO_QUOTA,
    "bob": NO_QUOTA,
    "full": Quota(octets=300),
    "one": Quota(messages=1),
    "gone": None,
}
TEXT = b"From: a@example.org\r\nSubject: hi\r\n\r\nHello.\r\n..\r\n"
END = b".\r\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Running]:
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS)) as started:
        yield started


@pytest.fixture
def client(store: Running) -> Iterator[RawClient]:
    with store.connect() as connected:
        connected.hello()
        yield connected


def begin(client: RawClient, *recipients: str) -> list[str]:
    """A transaction up to DATA; the replies to RCPT."""
    replies = client.ask(
        "MAIL FROM:<s@example.org>", *(f"RCPT TO:<{name}@example.test>" for name in recipients), "DATA"
    )
    assert replies[0] == "250 2.1.0 OK"
    return replies[1:-1]


def deliver_text(client: RawClient, text: bytes, *recipients: str) -> list[str]:
    """Deliver a message; one reply for each accepted recipient."""
    accepted = [reply for reply in begin(client, *recipients) if reply.startswith("250")]
    client.send(text + END)
    return [client.reply() for _ in accepted]


def codes(replies: list[str]) -> list[str]:
    return [reply[:9] for reply in replies]


def test_what_is_offered(store: Running) -> None:
    with store.connect() as client:
        assert client.reply() == "220 store.example.test Tamis LMTP"
        (hello,) = client.ask("LHLO client.example.org")
    assert hello == "|".join(
        (
            "250-store.example.test",
            "250-PIPELINING",
            "250-SIZE 115343360",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250 ENHANCEDSTATUSCODES",
        )
    )


def test_smtplib_delivers_and_reads_what_was_stored(store: Running) -> None:
    with smtplib.LMTP("127.0.0.1", store.port) as client:
        client.sendmail("s@example.org", ["alice@example.test"], "Subject: hi\n\nHello.\n.\n")
    assert store.messages("alice") == [
        b"Return-Path: <s@example.org>\nDelivered-To: alice@example.test\nSubject: hi\n\nHello.\n.\n"
    ]
    (path,) = (store.box("alice") / "new").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name.endswith(f".store.example.test,S={path.stat().st_size}")
    assert store.left_over() == []


def test_every_recipient_is_answered_in_the_order_of_rcpt(store: Running, client: RawClient) -> None:
    recipients = ("alice", "nobody", "full", "gone", "bob")
    assert codes(begin(client, *recipients)) == [
        "250 2.1.5",
        "550 5.1.1",
        "250 2.1.5",
        "550 5.2.1",
        "250 2.1.5",
    ]
    client.send(b"Subject: hi\r\n\r\n" + b"x" * 500 + b"\r\n" + END)
    assert codes([client.reply() for _ in range(3)]) == ["250 2.0.0", "552 5.2.2", "250 2.0.0"]
    assert client.ask("NOOP") == ["250 2.0.0 OK"]
    assert [len(store.messages(name)) for name in ("alice", "full", "bob")] == [1, 0, 1]
    assert b"Delivered-To: bob@example.test\n" in store.messages("bob")[0]
    assert store.left_over() == []


def test_a_recipient_named_twice_gets_one_copy_and_two_replies(store: Running, client: RawClient) -> None:
    assert codes(deliver_text(client, TEXT, "alice", "ALICE")) == ["250 2.0.0"] * 2
    assert len(store.messages("alice")) == 1


def test_over_quota_by_the_declared_size_is_refused_at_rcpt(client: RawClient) -> None:
    replies = client.ask("MAIL FROM:<s@example.org> SIZE=301", "RCPT TO:<full@example.test>")
    assert replies == ["250 2.1.0 OK", "552 5.2.2 Mailbox full"]


def test_a_full_mailbox_is_refused_at_rcpt_until_something_is_deleted(
    store: Running, client: RawClient
) -> None:
    assert codes(deliver_text(client, TEXT, "one")) == ["250 2.0.0"]
    assert begin(client, "one") == ["552 5.2.2 Mailbox full"]
    client.ask("RSET")
    for path in (store.box("one") / "new").iterdir():
        path.unlink()
    assert codes(deliver_text(client, TEXT, "one")) == ["250 2.0.0"]


def test_a_full_mailbox_may_be_a_temporary_failure(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS), over_quota="defer") as store, store.connect() as client:
        client.hello()
        assert (
            client.ask("MAIL FROM:<> SIZE=301", "RCPT TO:<full@example.test>")[1] == "452 4.2.2 Mailbox full"
        )


def test_deliveries_at_once_fill_a_quota_and_no_more(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    replies: list[str] = []
    with running(root, mailboxes(root, alice=Quota(messages=10))) as store:

        def talk() -> None:
            with store.connect() as client:
                client.hello()
                for _ in range(4):
                    rcpt = begin(client, "alice")
                    if rcpt[0].startswith("250"):
                        client.send(TEXT + END)
                        rcpt = [client.reply()]
                    else:
                        client.ask("RSET")
                    replies.extend(rcpt)

        threads = [threading.Thread(target=talk) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.messages("alice")) == 10
    assert sorted(codes(replies)) == ["250 2.0.0"] * 10 + ["552 5.2.2"] * 14


def test_subaddresses(store: Running, client: RawClient) -> None:
    for part in FOLDERS:
        (store.box("alice") / ".lists" / part).mkdir(parents=True)
    assert codes(deliver_text(client, TEXT, "alice+Lists", "alice+other")) == ["250 2.0.0"] * 2
    assert len(list((store.box("alice") / ".lists" / "new").iterdir())) == 1
    (inbox,) = store.messages("alice")
    assert b"Delivered-To: alice+other@example.test\n" in inbox


def test_detail_folders_can_be_off(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS), detail_folders=False) as store, store.connect() as client:
        for part in FOLDERS:
            (store.box("alice") / ".lists" / part).mkdir(parents=True)
        client.hello()
        assert codes(deliver_text(client, TEXT, "alice+lists")) == ["250 2.0.0"]
        assert len(store.messages("alice")) == 1


@pytest.mark.parametrize(
    "local", ['"../bob"', '".."', '"/etc/passwd"', '"a/../../b"', ".alice", "alice/", "%2E"]
)
def test_no_local_part_leads_out_of_the_mailbox(store: Running, client: RawClient, local: str) -> None:
    rcpt = client.ask(
        "MAIL FROM:<>",
        f"RCPT TO:<{local}@example.test>",
        f"RCPT TO:<alice+{local.strip(chr(34))}@example.test>",
    )
    assert rcpt[1][:3] in ("550", "501", "553")
    if rcpt[2].startswith("250"):
        client.ask("DATA")
        client.send(TEXT + END)
        assert client.reply().startswith("250")
        assert len(store.messages("alice")) == 1
    assert {path.name for path in store.root.glob("*/*")} <= {"alice"}


def test_shared_copies_are_one_file_without_delivered_to(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    users = dict(USERS, full=Quota(octets=10))
    with running(root, mailboxes(root, **users), share_copies=True) as store, store.connect() as client:
        client.hello()
        replies = deliver_text(client, TEXT, "alice", "full", "bob", "bob+x")
        assert codes(replies) == ["250 2.0.0", "552 5.2.2", "250 2.0.0", "250 2.0.0"]
        paths = [*(store.box("alice") / "new").iterdir(), *(store.box("bob") / "new").iterdir()]
        assert len(paths) == 3
        assert len({path.stat().st_ino for path in paths}) == 1
        assert b"Delivered-To" not in paths[0].read_bytes()
        assert codes(deliver_text(client, TEXT, "alice")) == ["250 2.0.0"]
        assert sum(b"Delivered-To" in text for text in store.messages("alice")) == 1


def test_a_return_path_that_came_with_the_message_is_replaced(store: Running, client: RawClient) -> None:
    deliver_text(client, b"Return-Path: <evil@example.com>\r\n" + TEXT, "alice")
    (text,) = store.messages("alice")
    assert text.count(b"Return-Path:") == 1
    assert text.startswith(b"Return-Path: <s@example.org>\n")


def test_the_null_sender(store: Running, client: RawClient) -> None:
    client.ask("MAIL FROM:<>", "RCPT TO:<alice@example.test>", "DATA")
    client.send(TEXT + END)
    assert client.reply().startswith("250 2.0.0")
    assert store.messages("alice")[0].startswith(b"Return-Path: <>\n")


def test_pipelined_transactions_and_octets_after_the_dot(store: Running, client: RawClient) -> None:
    begin(client, "alice")
    client.send(TEXT + END + b"MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    assert codes([client.reply() for _ in range(4)])[0] == "250 2.0.0"
    client.send(b".\r\nQUIT\r\n")
    assert [client.reply()[:3] for _ in range(3)] == ["250", "221", ""]
    assert store.messages("bob") == [b"Return-Path: <>\nDelivered-To: bob@example.test\n"]


def test_a_message_byte_by_byte(store: Running, client: RawClient) -> None:
    begin(client, "alice")
    for octet in TEXT + END:
        client.send(bytes((octet,)))
    assert client.reply().startswith("250 2.0.0")
    assert store.messages("alice")[0].endswith(b"\n\nHello.\n.\n")


@pytest.mark.parametrize(
    "text",
    [
        b"a\r\n.\nb\r\n",
        b"a\n.\r\nb\r\n",
        b"a\n.\nb\r\n",
        b"a\r.\rb\r\n",
        b"a\r\n.\r\r\nb\r\n",
        b"a\r\n.\0\r\nb\r\n",
    ],
)
def test_only_crlf_dot_crlf_ends_a_message(store: Running, client: RawClient, text: bytes) -> None:
    assert codes(deliver_text(client, text, "alice")) == ["250 2.0.0"]
    assert len(store.messages("alice")) == 1
    assert client.ask("NOOP") == ["250 2.0.0 OK"]


def test_a_large_message_passes_whole(store: Running, client: RawClient) -> None:
    line = b"0123456789" * 7 + b"\r\n"
    text = (
        b"Subject: large\r\n\r\n"
        + line * 50_000
        + b"8 bit: \xff\xc3\xbc\r\n"
        + b"long line " * 20_000
        + b"\r\n"
    )
    assert codes(deliver_text(client, text, "alice", "bob")) == ["250 2.0.0"] * 2
    for user in ("alice", "bob"):
        (stored,) = store.messages(user)
        assert stored.endswith(text.replace(b"\r\n", b"\n"))


def test_a_message_over_the_limit_is_read_and_refused_for_all(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS), size_limit=1000) as store, store.connect() as client:
        client.hello()
        assert codes(client.ask("MAIL FROM:<> SIZE=1001")) == ["552 5.3.4"]
        assert codes(deliver_text(client, b"x" * 998 + b"\r\n", "alice")) == ["250 2.0.0"]
        assert codes(deliver_text(client, b"x" * 999 + b"\r\n", "alice", "bob")) == ["552 5.3.4"] * 2
        assert codes(deliver_text(client, b"x" * 300_000 + b"\r\n", "alice")) == ["552 5.3.4"]
        assert client.ask("NOOP") == ["250 2.0.0 OK"]
        assert len(store.messages("alice")) == 1


def test_smtputf8(store: Running, client: RawClient) -> None:
    assert codes(client.ask("MAIL FROM:<jürgen@example.org>")) == ["553 5.6.7"]
    assert codes(client.ask("MAIL FROM:<jürgen@example.org> SMTPUTF8 BODY=8BITMIME")) == ["250 2.1.0"]
    client.ask("RCPT TO:<alice@example.test>", "DATA")
    client.send("Subject: Grüße\r\n\r\n".encode() + END)
    assert client.reply().startswith("250 2.0.0")
    assert store.messages("alice")[0].startswith("Return-Path: <jürgen@example.org>\n".encode())


@pytest.mark.parametrize(
    ("commands", "reply"),
    [
        (["RCPT TO:<alice@example.test>"], "503 5.5.1"),
        (["DATA"], "503 5.5.1"),
        (["MAIL FROM:<>", "DATA"], "503 5.5.1"),
        (["MAIL FROM:<>", "RCPT TO:<nobody@example.test>", "DATA"], "503 5.5.1"),
        (["MAIL FROM:<>", "MAIL FROM:<>"], "503 5.5.1"),
        (["MAIL FROM:<>", "RSET", "RCPT TO:<alice@example.test>"], "503 5.5.1"),
        (["MAIL FROM:<>", "LHLO x", "RCPT TO:<alice@example.test>"], "503 5.5.1"),
        (["MAIL FROM:<>", "RCPT TO:<alice@example.test>", "DATA now"], "501 5.5.4"),
        (["MAIL FROM:<> SIZE=x"], "501 5.5.4"),
        (["MAIL FROM:<> BODY=BINARYMIME"], "501 5.5.4"),
        (["MAIL FROM:<> RET=FULL"], "555 5.5.4"),
        (["MAIL FROM:<a b>"], "501 5.1.7"),
        (["MAIL"], "501 5.5.4"),
        (["MAIL FROM:<>", "RCPT TO:<alice@example.test> NOTIFY=NEVER"], "555 5.5.4"),
        (["MAIL FROM:<>", "RCPT TO:<postmaster>"], "550 5.1.1"),
        (["MAIL FROM:<>", "RCPT TO:<alice@other.test>"], "550 5.1.1"),
        (["LHLO"], "501 5.5.4"),
        (["HELO x"], "500 5.5.2"),
        (["EHLO x"], "500 5.5.2"),
        (["STARTTLS"], "500 5.5.2"),
        (["AUTH PLAIN"], "500 5.5.2"),
        (["VRFY alice"], "500 5.5.2"),
        (["NONSENSE"], "500 5.5.2"),
        ([""], "500 5.5.2"),
        (["MAIL FROM:<" + "a" * 3000 + ">"], "500 5.5.2"),
        (["RSET now"], "501 5.5.4"),
    ],
)
def test_wrong_commands(client: RawClient, commands: list[str], reply: str) -> None:
    assert client.ask(*commands)[-1].startswith(reply + " ")
    assert client.ask("NOOP") == ["250 2.0.0 OK"]


def test_before_lhlo(store: Running) -> None:
    with store.connect() as client:
        client.reply()
        assert codes(client.ask("MAIL FROM:<>")) == ["503 5.5.1"]


def test_too_many_recipients(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS), recipient_limit=2) as store, store.connect() as client:
        client.hello()
        assert codes(begin(client, "alice", "bob", "alice")) == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]


def test_unix_socket(tmp_path: Path) -> None:
    root, path = tmp_path / "mail", tmp_path / "lmtp"
    with running(root, mailboxes(root, **USERS), listen=(f"unix:{path}",)) as store:
        with smtplib.LMTP(str(path), 0) as client:
            client.sendmail("s@example.org", ["alice@example.test"], "Subject: x\n\n")
        assert len(store.messages("alice")) == 1


def test_strangers_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS), allow=("10.0.0.0/8",)) as store, store.connect() as client:
        assert client.reply().startswith("554 5.7.1")
        assert client.reply() == ""


def test_sessions_over_the_limit_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS), max_sessions=1) as store, store.connect() as first:
        first.hello()
        with store.connect() as second:
            assert second.reply().startswith("421 4.3.2")
            assert second.reply() == ""
        assert first.ask("QUIT")[0].startswith("221 2.0.0")
        assert first.reply() == ""
        with store.connect() as third:
            third.hello()


def test_an_idle_session_is_ended(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS), timeout=0.2) as store, store.connect() as client:
        client.hello()
        assert client.reply() == "421 4.4.2 Timed out"
        assert client.reply() == ""


def test_a_client_that_leaves_within_a_message_leaves_nothing(store: Running) -> None:
    with store.connect() as client:
        client.hello()
        begin(client, "alice")
        client.send(TEXT)
    with store.connect() as client:
        client.hello()
    assert store.messages("alice") == []
    assert store.left_over() == []


def test_a_client_that_resets_the_connection_is_no_news(
    store: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    troubles: list[object] = []
    store.loop.call_soon_threadsafe(
        store.loop.set_exception_handler, lambda _, context: troubles.append(context)
    )
    for _ in range(20):
        client = store.connect()
        client.hello()
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.send(b"NOOP\r\n" * 200)
        client.close()
    with store.connect() as last:
        last.hello()
        assert last.ask("QUIT")[0].startswith("221")
    gc.collect()
    assert troubles == []
    assert "Traceback" not in capfd.readouterr().err


def test_stopping_lets_a_message_end_and_tells_idle_sessions(store: Running, client: RawClient) -> None:
    with store.connect() as idle:
        idle.hello()
        begin(client, "alice")
        client.send(TEXT[:10])
        stopper = threading.Thread(target=store.drain, args=(10,))
        stopper.start()
        assert idle.reply().startswith("421 4.3.2")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", store.port), timeout=2)
        client.send(TEXT[10:] + END)
        assert client.reply().startswith("250 2.0.0")
        assert client.reply().startswith("421 4.3.2")
        stopper.join(10)
    assert len(store.messages("alice")) == 1


def test_stopping_does_not_wait_for_ever(store: Running, client: RawClient) -> None:
    begin(client, "alice")
    begun = time.monotonic()
    store.drain(0.2)
    assert time.monotonic() - begun < 5
    assert client.reply().startswith("421 4.3.2")


def under_way(store: Running, number: int) -> bool:
    return len(store.server._deliveries) == number


def test_what_was_received_is_stored_whoever_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients, one of whose messages waits for a thread, and then the server."""
    known, go = for_delivery, threading.Event()

    def slow(content: Content, sender: Address, recipient: str) -> StoredMessage:
        assert go.wait(10)
        return known(content, sender, recipient)

    monkeypatch.setattr(deliver, "for_delivery", slow)
    root = tmp_path / "mail"
    with running(root, mailboxes(root, **USERS), writers=1) as store:
        for number, name in enumerate(("alice", "bob"), 1):
            with store.connect() as client:
                client.hello()
                begin(client, name)
                client.send(TEXT + END)
                until(partial(under_way, store, number), "the delivery")
        until(lambda: store.server.snapshot()["sessions"] == 0, "the end of the sessions")
        stopper = threading.Thread(target=store.drain, args=(0,))
        stopper.start()
        stopper.join(0.2)
        assert stopper.is_alive()
        go.set()
        stopper.join(10)
        assert [len(store.messages(name)) for name in ("alice", "bob")] == [1, 1]


def test_an_error_of_our_own_ends_the_session_with_421(
    store: Running, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(store.server, "deliver", broken)
    begin(client, "alice", "bob")
    client.send(TEXT + END)
    assert client.reply() == "421 4.3.0 Internal error"
    assert client.reply() == ""


def test_an_error_of_our_own_for_one_recipient_is_not_that_of_others(
    store: Running, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would get the message again and again."""
    known = for_delivery

    def broken(content: Content, sender: Address, recipient: str) -> StoredMessage:
        if recipient.startswith("alice"):
            raise RuntimeError("secret")
        return known(content, sender, recipient)

    monkeypatch.setattr(deliver, "for_delivery", broken)
    assert deliver_text(client, TEXT, "alice", "bob")[0] == "451 4.3.0 Mail store failure"
    assert len(store.messages("bob")) == 1


def test_the_system_need_give_no_threads_later(
    store: Running, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of processes counts them, too. What is answered 451 must not be stored all the same."""
    known = for_delivery

    def slow(content: Content, sender: Address, recipient: str) -> StoredMessage:
        time.sleep(0.2)
        return known(content, sender, recipient)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(deliver, "for_delivery", slow)
    accepted = begin(client, "alice", "bob", "one", "full")
    assert codes(accepted) == ["250 2.1.5"] * 4
    monkeypatch.setattr(threading.Thread, "start", refuse)
    client.send(TEXT + END)
    assert codes([client.reply() for _ in accepted]) == ["250 2.0.0"] * 4
    assert [len(store.messages(name)) for name in ("alice", "bob", "one", "full")] == [1] * 4


def test_a_mailbox_without_permission_is_a_temporary_failure(store: Running, client: RawClient) -> None:
    # root may write anywhere, so the path is blocked by a file.
    store.box("alice").parent.mkdir(parents=True)
    store.box("alice").write_bytes(b"")
    assert codes(deliver_text(client, TEXT, "alice", "bob")) == ["451 4.3.0", "250 2.0.0"]


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        ("EACCES", "451 4.3.0"),
        ("EROFS", "451 4.3.0"),
        ("EIO", "451 4.3.0"),
        ("EMFILE", "451 4.3.0"),
        ("ENOSPC", "452 4.3.1"),
        ("EDQUOT", "452 4.3.1"),
    ],
)
def test_what_the_file_system_says_and_what_we_say(error: str, reply: str) -> None:
    number = getattr(errno, error)
    found = deliver.refusal(OSError(number, os.strerror(number), "/srv/mail/secret"))
    assert str(found).startswith(reply + " ")
    assert "secret" not in str(found)
    assert "secret" in found.cause
