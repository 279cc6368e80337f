"""Copies of which nobody hears: `bcc`, and `journal`, which reports the message to an archive."""

from __future__ import annotations

import socket
from email import message_from_bytes
from pathlib import Path

import pytest

from mta.spool.record import decode_recipient
from tests.dialog.policies import STRANGERS, greeted, policed
from tests.dialog.queueing import MailStore, breakable, eventually, flush, store_of, waiting
from tests.dialog.server import run
from tests.peers.load import RESET

BCC = 'stage "data" { bcc "archive@example.test"; }'
BUSY = "451 4.2.0 busy"


def test_a_copy_has_no_sender(tmp_path: Path) -> None:
    """So that nobody can report to the sender about it."""

    async def main() -> None:
        async with policed(tmp_path, BCC) as server:
            client = await greeted(server)
            assert (await client.send("b@example.test")).startswith("250 2.0.0 kept")
            found = {one.recipient: one for one in server.store.delivered}
            assert found["b@example.test"].sender == "a@x.test"
            assert found["archive@example.test"].sender == ""
            assert found["archive@example.test"].octets == found["b@example.test"].octets

    run(main)


@pytest.mark.parametrize("reply", [BUSY, "550 5.2.1 never"])
def test_its_failure_is_not_the_messages(tmp_path: Path, reply: str) -> None:
    async def main() -> None:
        async with policed(tmp_path, BCC, store=MailStore(archive=reply)) as server:
            client = await greeted(server)
            assert (await client.send("b@example.test")).startswith("250 2.0.0 kept")
            assert [one.recipient for one in server.store.delivered] == ["b@example.test"]

    run(main)


def test_it_waits_in_the_queue(tmp_path: Path) -> None:
    store = MailStore(archive=BUSY)

    async def main() -> None:
        async with policed(tmp_path, BCC, store=store, queue="enabled = true") as server:
            client = await greeted(server)
            assert (await client.send("b@example.test")).startswith("250 2.0.0 kept")
            (message,) = await waiting(server)
            (copy,) = [one for one in message.recipients if one.address.startswith("archive")]
            kept = decode_recipient(copy.address, copy.data)
            assert kept.notify == frozenset({"NEVER"})
            assert kept.sender is not None
            assert kept.sender.is_null
            store.heal()
            await flush(server)
            await eventually(lambda: store.got("archive"), "the copy")
            (late,) = [one for one in store.delivered if one.recipient == "archive@example.test"]
            assert late.sender == ""

    run(main)


def test_a_copy_for_another_server(tmp_path: Path) -> None:
    """The site said so: a stranger needs no right to relay for it."""
    outside = MailStore()

    async def main() -> None:
        await outside.start()
        more = f'[relays.out]\nhost = "127.0.0.1"\nport = {outside.port}\ntls = "none"\n'
        script = 'stage "data" { bcc ["archive@far.test", "b@example.test"]; }'
        try:
            async with policed(tmp_path, script, policy=f'{STRANGERS}\nrelay = "out"', more=more) as server:
                client = await greeted(server)
                assert (await client.send("b@example.test")).startswith("250 2.0.0")
                assert [one.recipient for one in server.store.delivered] == ["b@example.test"]
                assert [(one.sender, one.recipient) for one in outside.delivered] == [
                    ("", "archive@far.test")
                ]
        finally:
            await outside.stop()

    run(main)


SHADOW = """stage "rcpt" {
    if envelope :localpart :matches "to" "*" { bcc "copy-${1}@example.test"; }
}"""


@pytest.mark.parametrize("reply", ["", BUSY, "550 5.2.1 never"])
def test_a_copy_for_each_recipient_that_is_accepted(tmp_path: Path, reply: str) -> None:
    """As by recipient_bcc_maps of Postfix: nobody hears what becomes of it; who is refused has none."""
    store = MailStore(**({"copy-b": reply} if reply else {}))
    script = f'{SHADOW}\nstage "data" {{ bcc "archive@example.test"; }}'

    async def main() -> None:
        async with policed(tmp_path, script, policy=STRANGERS, store=store) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<b@example.test>")).startswith("250")
            assert (await client.say("RCPT TO:<b@example.test>")).startswith("250")
            assert (await client.say("RCPT TO:<c@far.test>")).startswith("550 5.7.1")
            await client.say("DATA")
            assert (await client.say("Subject: hi\r\n\r\nhi\r\n.")).startswith("250 2.0.0 kept")
            assert {(one.sender, one.recipient) for one in store.delivered} == {
                ("a@x.test", "b@example.test"),
                ("", "archive@example.test"),
                *([] if reply else [("", "copy-b@example.test")]),
            }
            # nothing of it is left for the next message
            await client.say("MAIL FROM:<a@x.test>")
            await client.say("RCPT TO:<d@example.test>")
            await client.say("RSET")
            store.delivered.clear()
            assert (await client.send("alice@example.test")).startswith("250 2.0.0 kept")
            assert sorted(one.recipient for one in store.delivered) == [
                "alice@example.test",
                "archive@example.test",
                "copy-alice@example.test",
            ]

    run(main)


def test_more_recipients_than_may_have_copies_come_in_another_transaction(tmp_path: Path) -> None:
    async def main() -> None:
        async with policed(tmp_path, SHADOW) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            for number in range(100):
                assert (await client.say(f"RCPT TO:<b+{number}@example.test>")).startswith("250")
            assert await client.say("RCPT TO:<b+100@example.test>") == (
                "452 4.5.3 too many recipients with copies, send to the rest again\r\n"
            )

    run(main)


JOURNAL = 'stage "data" { journal "archive@example.test"; }'


def test_journal(tmp_path: Path) -> None:
    """A report with the message as it was delivered; the client and the recipients see nothing of it."""
    store = MailStore()
    script = f'stage "rcpt" {{ rewrite_recipient "b@example.test"; }}\n{JOURNAL}'

    async def main() -> None:
        async with policed(tmp_path, script, store=store, queue="enabled = true") as server:
            client = await greeted(server)
            body = "Message-ID: <1@x.test>\r\nSubject: caf\u00e9\r\n\r\nhello\r\n"
            assert (await client.send("sales@example.test", body=body)).startswith("250 2.0.0 kept")
            await eventually(lambda: store.got("archive"), "the report")
            (report,) = [one for one in store.delivered if one.recipient == "archive@example.test"]
            assert report.sender == ""
            assert b"\r\nSender: a@x.test\r\n" in report.octets
            assert b"\r\nMessage-Id: <1@x.test>\r\nRecipient: b@example.test (for sales@" in report.octets
            assert b"\r\nClient: 127.0.0.1\r\n" in report.octets
            read = message_from_bytes(report.octets)
            kinds = [part.get_content_type() for part in read.walk()]
            assert kinds == ["multipart/mixed", "text/plain", "message/rfc822", "text/plain"]
            (delivered,) = store.got("b")
            assert delivered in report.octets

    run(main)


def test_a_journal_of_what_is_queued_and_refused(tmp_path: Path) -> None:
    store = MailStore(b=BUSY, c="550 5.2.1 no", archive=BUSY)

    async def main() -> None:
        async with policed(tmp_path, JOURNAL, store=store, queue="enabled = true") as server:
            client = await greeted(server)
            assert (await client.send("b@example.test")).startswith("250 2.0.0 queued")
            assert (await client.send("c@example.test")).startswith("550 5.2.1 no")
            names = sorted(person.address for one in await waiting(server) for person in one.recipients)
            assert names == ["archive@example.test", "b@example.test"]
            store.heal()
            await flush(server)
            await eventually(lambda: store.got("archive"), "the report")

    run(main)


def test_a_journal_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is delivered all the same."""
    breakable(monkeypatch)

    async def main() -> None:
        async with policed(tmp_path, JOURNAL, queue="enabled = true") as server:
            store_of(server).fault = lambda key: OSError(28, "no space")
            client = await greeted(server)
            assert (await client.send("b@example.test")).startswith("250 2.0.0 kept")

    run(main)


@pytest.mark.parametrize("script", [BCC, 'stage "data" { add_recipient "archive@example.test"; }'])
def test_a_client_that_is_told_to_come_again_brings_no_second_copy(tmp_path: Path, script: str) -> None:
    """Nobody keeps what waits for b, so that the client does; who was added has the message by then."""
    store = MailStore(b=BUSY)

    async def main() -> None:
        async with policed(tmp_path, script, store=store) as server:
            client = await greeted(server)
            body = "Message-ID: <1@x.test>\r\nSubject: hi\r\n\r\nhello\r\n"
            assert (await client.send("b@example.test", body=body)).startswith("451 4.2.0")
            assert len(store.got("archive")) == 1
            store.heal()
            assert (await client.send("b@example.test", body=body)).startswith("250 2.0.0")
            assert len(store.got("b")) == 1
            assert len(store.got("archive")) == 1

    run(main)


@pytest.mark.parametrize("script", [BCC, 'stage "data" { add_recipient "archive@example.test"; }'])
def test_a_client_that_has_not_read_its_answer_brings_no_second_copy(tmp_path: Path, script: str) -> None:
    """Its connection breaks just after the 250; who was added has the message, as who was named."""

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            body = "Message-ID: <1@x.test>\r\nSubject: hi\r\n\r\nhello\r\n"
            client = await greeted(server)
            assert (await client.send("b@example.test", body=body)).startswith("250 2.0.0 kept")
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.cut()
            await eventually(lambda: len(server.daemon._unacknowledged) == 2, "the memory")
            client = await greeted(server)
            assert (await client.send("b@example.test", body=body)).startswith("250 2.0.0")
            found = sorted(one.recipient for one in server.store.delivered)
            assert found == ["archive@example.test", "b@example.test"]

    run(main)


def test_a_refusal_is_told_once_though_a_copy_is_delivered(tmp_path: Path) -> None:
    """The client reads it, so that its user hears of it; a report would be the second word."""
    store = MailStore(b="550 5.2.1 never")

    async def main() -> None:
        async with policed(tmp_path, BCC, store=store, queue="enabled = true") as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<alice@example.test>")
            await client.say("RCPT TO:<b@example.test>")
            await client.say("DATA")
            assert await client.say("Subject: hi\r\n\r\nhello\r\n.") == "550 5.2.1 never\r\n"
            assert len(store.got("archive")) == 1
            assert await waiting(server) == []
            assert store.got("alice") == []

    run(main)


def test_a_copy_that_cannot_be_kept_keeps_no_report_back(tmp_path: Path) -> None:
    """The queue takes no more mail; what was delivered and refused is reported as if there were no copy."""
    store = MailStore(archive=BUSY, dan=BUSY, c="550 5.2.1 never")

    async def main() -> None:
        queue = 'max_messages = 1\nretry = ["1h"]'
        async with policed(tmp_path, BCC, store=store, policy="", queue=queue) as server:
            client = await greeted(server)
            assert "queued as" in await client.send("dan@example.test")
            await client.say("MAIL FROM:<alice@example.test>")
            await client.say("RCPT TO:<b@example.test> NOTIFY=SUCCESS")
            await client.say("RCPT TO:<c@example.test>")
            await client.say("DATA")
            assert (await client.say("Subject: hi\r\n\r\nhello\r\n.")).startswith(
                "250 2.0.0 delivered to 1 of"
            )
            await eventually(lambda: store.got("alice"), "the report")
            (report,) = store.got("alice")
            assert [line for line in report.splitlines() if line.startswith(b"Action: ")] == [
                b"Action: delivered",
                b"Action: failed",
            ]
            assert b"archive@" not in report

    run(main)
