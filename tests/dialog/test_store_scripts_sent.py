"""What users' scripts in the embedded store send: loops, refusals, addresses, a server that goes away."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.dialog.test_store_scripts import Taker, folder, scripted, send
from tests.peers.running import until
from tests.peers.scripted import Script, ScriptedServer
from tests.peers.store import RawClient

FROM_ALICE = "X-Sieve-Redirected-From: alice@example.test\r\n"


def deliver(client: RawClient, text: str, to: str = "alice", sender: str = "s@example.org") -> str:
    """A message as it is written here; the final reply."""
    utf8 = "" if sender.isascii() else " SMTPUTF8"
    client.ask(f"MAIL FROM:<{sender}>{utf8}", f"RCPT TO:<{to}@example.test>", "DATA")
    client.send(text.encode() + b".\r\n")
    return client.reply()


@pytest.mark.parametrize(
    ("script", "kept", "filed"),
    [
        ('redirect "x@far.test"; redirect "y@far.test";', 1, 0),
        ('redirect :copy "x@far.test";', 1, 0),
        ('redirect :copy "x@far.test"; fileinto "A";', 0, 1),
        ('redirect "x@far.test"; fileinto "A"; keep;', 1, 1),
        ('redirect :copy "x@far.test"; discard;', 1, 0),
    ],
)
def test_what_was_here_before_is_kept_once(tmp_path: Path, script: str, kept: int, filed: int) -> None:
    """Two users who send each other a copy get one each."""
    with scripted(tmp_path, f'require ["copy", "fileinto"]; {script}') as (store, client, taker):
        assert deliver(client, f"{FROM_ALICE}Subject: x\r\n\r\nHello.\r\n").startswith("250")
        assert taker.got == []
        assert len(store.messages("alice")) == kept
        assert (len(folder(store, ".A")) if filed else 0) == filed


def test_a_detail_makes_no_new_recipient_of_a_user(tmp_path: Path) -> None:
    """Eight addresses for each message, each with a detail of its own, would be mail without end."""
    script = """require ["envelope", "subaddress", "variables"];
set "d" "";
if envelope :detail :matches "to" "*" { set "d" "${1}"; }
redirect "alice+1${d}@example.test"; redirect "alice+2${d}@example.test";
"""
    with scripted(tmp_path, script) as (store, client, taker):
        assert deliver(client, "Subject: x\r\n\r\nHello.\r\n").startswith("250")
        assert [people for _, people, _ in taker.got] == [["alice+1@example.test"], ["alice+2@example.test"]]
        again = taker.got[0][2].decode()
        assert deliver(client, again, "alice+1").startswith("250")
        assert len(taker.got) == 2
        assert len(store.messages("alice")) == 1


def test_a_refusal_leaves_notifications(tmp_path: Path) -> None:
    """`notify` goes together with every other action (RFC 5435 section 3.8)."""
    script = 'require ["reject", "enotify"]; notify "mailto:boss@far.test"; reject "no";'
    with scripted(tmp_path, script) as (store, client, taker):
        assert send(client) == ["550 5.7.1 no"]
        taker.wait(1)
        assert [people for _, people, _ in taker.got] == [["boss@far.test"]]
        taker.answer = "451 4.3.0 later"
        assert send(client) == ["550 5.7.1 no"]
        assert store.messages("alice") == []


def test_details_are_told_apart_as_the_store_does(tmp_path: Path) -> None:
    script = """require ["envelope", "subaddress", "fileinto"];
if envelope :detail "to" "lists" { fileinto "A"; }
"""
    with scripted(tmp_path, script, recipient_delimiters="-") as (store, client, _):
        assert deliver(client, "Subject: x\r\n\r\nHello.\r\n", "alice-lists").startswith("250")
        assert len(folder(store, ".A")) == 1


def test_nobody_is_away_for_oneself(tmp_path: Path) -> None:
    """Mail to a detail of one's own address is from oneself (RFC 5230 section 4.5)."""
    with scripted(tmp_path, 'require "vacation"; vacation "I am away";') as (store, client, taker):
        text = "From: alice@example.test\r\nTo: alice+todo@example.test\r\nSubject: x\r\n\r\nHello.\r\n"
        assert deliver(client, text, "alice+todo", "alice@example.test").startswith("250")
        assert deliver(client, text, "alice+todo").startswith("250")
        taker.wait(1)
        assert [people for _, people, _ in taker.got] == [["s@example.org"]]
        assert len(store.messages("alice")) == 2


@pytest.mark.parametrize("script", ['redirect "x@far.test";', 'require "vacation"; vacation "away";'])
def test_domains_beyond_ascii_are_written_in_ascii(tmp_path: Path, script: str) -> None:
    """No next hop needs SMTPUTF8 for them."""
    with scripted(tmp_path, script) as (_, client, taker):
        text = "From: x@b\u00fccher.example\r\nTo: alice@example.test\r\nSubject: x\r\n\r\nHello.\r\n"
        assert deliver(client, text, sender="x@b\u00fccher.example").startswith("250")
        taker.wait(1)
        ((sender, people, octets),) = taker.got
        if "redirect" in script:
            assert (sender, people) == ("x@xn--bcher-kva.example", ["x@far.test"])
        else:
            assert people == ["x@xn--bcher-kva.example"]
            assert octets.isascii()


@pytest.mark.parametrize("offers", [("SMTPUTF8", "8BITMIME"), ()])
def test_addresses_beyond_ascii(tmp_path: Path, offers: tuple[str, ...]) -> None:
    async def main() -> None:
        async with ScriptedServer(Script(offers=offers, lmtp=False)) as server:
            submit = f"127.0.0.1:{server.port}"
            with scripted(tmp_path, 'redirect "x@far.test";', submit=submit) as (store, client, _):
                text = "Subject: x\r\n\r\nGrüße.\r\n"
                reply = await asyncio.to_thread(deliver, client, text, "alice", "jürgen@example.org")
                assert reply.startswith("250")
                assert len(store.messages("alice")) == (not offers)
            if offers:
                said = "MAIL FROM:<jürgen@example.org> BODY=8BITMIME SMTPUTF8"
                assert said.encode().decode("latin-1") in server.said
                assert "Grüße".encode() in server.messages[0]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("client", "script", "said"),
    [
        ("203.0.113.9", 'redirect "x@far.test";', " NOTIFY=NEVER"),
        ("203.0.113.9", 'redirect :notify "SUCCESS" "x@far.test";', " NOTIFY=NEVER"),
        ("192.0.2.9", 'redirect "x@far.test";', ""),
        ("192.0.2.9", 'redirect :notify "SUCCESS" "x@far.test";', " NOTIFY=SUCCESS"),
    ],
)
def test_no_report_goes_to_a_forged_sender(tmp_path: Path, client: str, script: str, said: str) -> None:
    """The server trusts the store, so it is for the store to say that nobody vouches for the sender."""
    text = (
        f"Received: from x ([{client}])\r\n by mx.test (Tamis) with ESMTP id a;\r\n now\r\n"
        "Subject: x\r\n\r\nHello.\r\n"
    )

    async def main() -> None:
        async with ScriptedServer(Script(offers=("DSN",), lmtp=False)) as server:
            changes: dict[str, Any] = {"submit": f"127.0.0.1:{server.port}", "trusted": ("192.0.2.0/24",)}
            with scripted(tmp_path, f'require "redirect-dsn"; {script}', **changes) as (_, connection, __):
                assert (await asyncio.to_thread(deliver, connection, text)).startswith("250")
            assert f"RCPT TO:<x@far.test>{said}" in server.said

    asyncio.run(main())


def test_senders_beyond_ascii_are_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with ScriptedServer(Script(offers=("SMTPUTF8", "8BITMIME"), lmtp=False)) as server:
            submit = f"127.0.0.1:{server.port}"
            script = 'require "vacation"; vacation "away";'
            with scripted(tmp_path, script, submit=submit) as (_, client, __):
                text = "To: alice@example.test\r\nSubject: x\r\n\r\nHello.\r\n"
                reply = await asyncio.to_thread(deliver, client, text, "alice", "jürgen@example.org")
                assert reply.startswith("250")
                await asyncio.to_thread(until, lambda: server.messages, "an answer", 5)
            assert "MAIL FROM:<> BODY=8BITMIME SMTPUTF8" in server.said
            assert "To: <jürgen@example.org>\r\n".encode() in server.messages[0]

    asyncio.run(main())


@pytest.mark.parametrize("answer", ["421 4.3.2 shutting down", "close"])
def test_what_the_server_has_taken_is_not_kept_too(tmp_path: Path, answer: str) -> None:
    """Whatever it says to QUIT."""

    async def main() -> None:
        async with ScriptedServer(Script({"QUIT": answer}, lmtp=False)) as server:
            submit = f"127.0.0.1:{server.port}"
            with scripted(tmp_path, 'redirect "x@far.test";', submit=submit) as (store, client, _):
                assert (await asyncio.to_thread(send, client))[0].startswith("250")
                assert len(server.messages) == 1
                assert store.messages("alice") == []

    asyncio.run(main())


@pytest.mark.parametrize("deadline", [0.0, 3.0])
def test_the_server_may_answer_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: float
) -> None:
    """What it delivers or queues then must not be kept in the mailbox as well."""
    monkeypatch.setattr("mta.store.submission.TIMEOUT", 0.3)

    class Slow(Taker):
        async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
            await asyncio.sleep(1)
            return await super().handle_DATA(server, session, envelope)

    monkeypatch.setattr("tests.dialog.test_store_scripts.Taker", Slow)
    with scripted(tmp_path, 'redirect "x@far.test";', submit_deadline=deadline) as (store, client, taker):
        assert send(client)[0].startswith("250")
        assert len(store.messages("alice")) == (not deadline)
        assert len(taker.got) == bool(deadline)


class Patient(Taker):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        await asyncio.get_running_loop().run_in_executor(None, self.go.wait)
        return await super().handle_DATA(server, session, envelope)


def test_nobody_waits_for_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of a forged sender may be slow; the message has been stored, and one answer is enough."""
    monkeypatch.setattr("tests.dialog.test_store_scripts.Taker", Patient)
    script = 'require "vacation"; vacation :addresses "alice@example.test" "x";'
    with scripted(tmp_path, script) as (store, client, taker):
        assert isinstance(taker, Patient)
        try:
            for _ in range(3):
                assert send(client)[0].startswith("250 2.0.0 Stored as")
            assert taker.got == []
        finally:
            taker.go.set()
        taker.wait(1)
        assert len(store.messages("alice")) == 3
    assert len(taker.got) == 1


def test_an_answer_waits_for_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than what is sent on does, for which a server waits."""
    monkeypatch.setattr("tests.dialog.test_store_scripts.Taker", Patient)
    monkeypatch.setattr("mta.store.server.ANSWERERS", 1)
    monkeypatch.setattr("mta.store.server.TURN", 0.1)
    script = 'require "vacation"; vacation :addresses "alice@example.test" "x";'
    with scripted(tmp_path, script) as (store, client, taker):
        assert isinstance(taker, Patient)
        try:
            for sender in ("a@example.org", "b@example.org"):
                assert send(client, sender=sender)[0].startswith("250 2.0.0 Stored as")
            time.sleep(0.3)
        finally:
            taker.go.set()
        taker.wait(2)
        assert len(store.messages("alice")) == 2


class Counting(Taker):
    """Counts what it is given."""

    tries = 0

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        self.tries += 1
        return await super().handle_DATA(server, session, envelope)


def test_an_answer_that_could_not_be_sent_is_tried_with_the_next_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.dialog.test_store_scripts.Taker", Counting)
    script = 'require "vacation"; vacation :addresses "alice@example.test" "x";'
    with scripted(tmp_path, script) as (store, client, taker):
        assert isinstance(taker, Counting)
        answered = tmp_path / "state" / "sieve-answered"
        taker.answer = "451 4.3.0 later"
        assert send(client)[0].startswith("250")
        until(lambda: taker.tries and not list(answered.glob("*/*")), "a try")
        taker.answer = "250 OK"
        assert send(client)[0].startswith("250")
        taker.wait(1)
        assert len(store.messages("alice")) == 2
