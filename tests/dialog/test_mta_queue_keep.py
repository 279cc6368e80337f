"""What cannot be delivered while the client waits: kept and answered 250, or not kept and answered 4xx."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mailqueue.model import Status
from mailqueue.store.base import StoreFull, StoreRefused, StoreUnavailable
from mailqueue.store.file import FileStore
from tests.dialog.queueing import (
    QUEUED,
    STRANGERS,
    MailStore,
    breakable,
    eventually,
    flush,
    on_disk,
    queue_of,
    statuses,
    store_of,
    waiting,
)
from tests.dialog.server import Client, Server, run, serving

ALICE = "alice@example.test"
BUSY = "451 4.2.0 busy"
GONE = "550 5.1.1 no such user"


async def client_of(server: Server, name: str = "smtp") -> Client:
    client = await server.connect(name)
    await client.hello()
    return client


async def send(
    client: Client, *names: str, sender: str = ALICE, parameters: str = "", replies: int = 1, body: str = ""
) -> str:
    await client.envelope(*(f"{name}@example.test" for name in names), sender=sender, parameters=parameters)
    assert (await client.say("DATA")).startswith("354 ")
    return await client.say((body or "Subject: hi\r\n\r\nhello\r\n") + ".", replies)


@pytest.mark.parametrize("strangers", [False, True])
def test_all_temporary_is_queued_and_durable(tmp_path: Path, strangers: bool) -> None:
    store = MailStore(bob=BUSY, carol="452 4.2.2 full")

    async def main() -> None:
        more = STRANGERS if strangers else ""
        async with serving(tmp_path, queue="", store=store, more=more) as server:
            client = await client_of(server)
            found = QUEUED.match(await send(client, "bob", "carol"))
            assert found
            (kept,) = await on_disk(tmp_path)
            assert kept.id == found[1]
            assert kept.sender == ALICE
            assert [(r.address, r.status, r.reply, r.attempts) for r in kept.recipients] == [
                ("bob@example.test", Status.DEFERRED, "451 4.2.0 busy", 1),
                ("carol@example.test", Status.DEFERRED, "452 4.2.2 full", 1),
            ]
            store.heal()
            assert await flush(server) == 1
            await eventually(lambda: len(store.delivered) == 2)
            (octets,) = {delivered.octets for delivered in store.delivered}
            assert octets.endswith(b"Subject: hi\r\n\r\nhello\r\n")
            assert octets.startswith(b"Received: from client.test")
            assert octets.count(b"Received: ") == 1
            await eventually(lambda: not len(queue_of(server).live) and not queue_of(server).stats().pending)
            assert await on_disk(tmp_path) == []

    run(main)


@pytest.mark.parametrize("news", ["flushed", "new mail", "none"])
def test_a_back_end_that_is_down(tmp_path: Path, news: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is back what has waited goes soon, whether or not somebody says so, or new mail finds out."""
    monkeypatch.setattr("mta.spool.comeback.FIRST_LOOK", 0.5 if news == "none" else 300.0)
    store = MailStore()

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            await store.stop()
            client = await client_of(server)
            assert QUEUED.match(await send(client, "bob"))
            await store.start(store.port)
            if news == "flushed":
                await flush(server)
            elif news == "new mail":
                assert (await send(client, "carol")).startswith("250 2.0.0 kept")
            await eventually(lambda: len(store.got("bob")) == 1)

    run(main)


def test_a_large_message_with_eight_bits_and_dots(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)
    line = "ä.dots\r\n..and\r\n.\r\n"
    body = "Subject: big\r\n\r\n" + line * 70_000

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            stuffed = body.replace("\r\n.", "\r\n..")
            assert QUEUED.match(await send(client, "bob", body=stuffed, parameters=" BODY=8BITMIME"))
            store.heal()
            await flush(server)
            await eventually(lambda: store.got("bob"))
            assert store.got("bob")[0].endswith(body.encode())
            assert any("BODY=8BITMIME" in command for command in store.commands[-8:])

    run(main)


def test_mixed_with_a_reply_for_each(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY, gone=GONE)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            text = await send(client, "alice", "bob", "gone", parameters=" PRDR", replies=5)
            lines = text.splitlines()
            assert lines[0].startswith("353 ")
            assert lines[1] == "250 2.0.0 kept"
            assert lines[2].startswith("250 2.0.0 queued as ")
            assert lines[3] == "550 5.1.1 no such user"
            assert lines[4].startswith("250 2.0.0 delivered to 1 of 3 recipients, queued for 1 as ")
            (kept,) = await on_disk(tmp_path)
            assert statuses(kept) == {
                "alice": Status.DELIVERED,
                "bob": Status.DEFERRED,
                "gone": Status.FAILED,
            }
            assert len(queue_of(server).live) == 1, "the client knows of the refusal: no report"

    run(main)


def test_mixed_with_a_reply_for_each_over_lmtp(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY, gone=GONE)
    more = '[[listener]]\nname = "lmtp"\nprotocol = "lmtp"\naddresses = ["127.0.0.1:2"]\n'

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store, more=more) as server:
            client = await server.connect("lmtp")
            await client.read_reply()
            await client.say("LHLO client.test")
            lines = (await send(client, "alice", "bob", "gone", replies=3)).splitlines()
            assert lines[0] == "250 2.0.0 kept"
            assert QUEUED.match(lines[1] + "\r\n")
            assert lines[2] == "550 5.1.1 no such user"

    run(main)


def test_mixed_from_a_sender_that_is_known(tmp_path: Path) -> None:
    """One 250, and a report about who was refused."""
    store = MailStore(bob=BUSY, gone=GONE)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            reply = await send(client, "carol", "bob", "gone")
            assert reply.startswith("250 2.0.0 delivered to 1 of 3 recipients, queued for 1 as "), reply
            await eventually(lambda: store.got("alice"))
            (report,) = store.got("alice")
            assert b"Final-Recipient: rfc822; gone@example.test\r\nAction: failed\r\n" in report
            assert b"550 5.1.1 no such user" in report
            assert b"bob@example.test" not in report
            assert any(command.startswith("MAIL FROM:<>") for command in store.commands)
            (kept,) = await waiting(server)
            assert statuses(kept)["bob"] is Status.DEFERRED

    run(main)


def test_a_bug_in_a_report_brings_nobody_a_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MailStore(bob=BUSY, gone=GONE)
    monkeypatch.setattr("mta.spool.reports.Reports.about", {}.__getitem__)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            reply = await send(client, "carol", "bob", "gone")
            assert reply == (
                "550 5.1.1 not delivered to <gone@example.test>: no such user (other recipients: 2 done)\r\n"
            )
            assert len(queue_of(server).live) == 1

    run(main)


def test_mixed_from_a_sender_that_nobody_knows(tmp_path: Path) -> None:
    """No backscatter: the reply names who was refused, and the client's own server tells its user."""
    store = MailStore(bob=BUSY, gone=GONE)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store, more=STRANGERS) as server:
            client = await client_of(server)
            reply = await send(client, "carol", "bob", "gone")
            assert reply.startswith("550 5.1.1 not delivered to <gone@example.test>"), reply
            (kept,) = await waiting(server)
            assert statuses(kept)["bob"] is Status.DEFERRED
            await asyncio.sleep(0.3)
            assert store.got("alice") == []

    run(main)


@pytest.mark.parametrize("strangers", [False, True])
def test_nothing_is_queued_that_is_refused(tmp_path: Path, strangers: bool) -> None:
    store = MailStore(bob=GONE, carol=GONE)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store, more=STRANGERS if strangers else "") as server:
            client = await client_of(server)
            assert await send(client, "bob", "carol") == "550 5.1.1 no such user\r\n"
            assert await on_disk(tmp_path) == []

    run(main)


def test_at_the_deadline_it_is_queued(tmp_path: Path) -> None:
    """And the attempt that was given up brings no copy, for the store did not see the end of the data."""
    store = MailStore()
    store.rcpt_delay = 30.0

    async def main() -> None:
        more = '[delivery]\ndeadline = "1s"\n'
        backend = 'connect_timeout = "0.5s"'
        async with serving(tmp_path, queue="", store=store, more=more, backend=backend) as server:
            client = await client_of(server)
            before = asyncio.get_running_loop().time()
            assert QUEUED.match(await send(client, "bob"))
            assert asyncio.get_running_loop().time() - before < 20
            store.rcpt_delay = 0.0
            await flush(server)
            await eventually(lambda: store.got("bob"))

    run(main)


def test_a_client_that_has_gone_leaves_nothing(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)
    store.final_delay = 0.5

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            await client.envelope("bob@example.test", sender=ALICE)
            await client.say("DATA")
            client.writer.write(b"Subject: hi\r\n\r\nhello\r\n.\r\n")
            await store.data_seen.wait()
            client.cut()
            await asyncio.sleep(1.0)
            assert await on_disk(tmp_path) == []

    run(main)


def test_a_client_that_goes_while_it_is_kept_gets_no_second_copy(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)
    body = "Message-ID: <1@x.test>\r\nSubject: hi\r\n\r\nhello\r\n"

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            queue = queue_of(server)
            enqueue = queue.enqueue
            client = await client_of(server)

            async def slow(new: Any) -> str:
                name = await enqueue(new)
                client.cut()
                await asyncio.sleep(0.3)
                return name

            queue.enqueue = slow  # type: ignore[method-assign]
            await client.envelope("bob@example.test", sender=ALICE)
            await client.say("DATA")
            client.writer.write(body.encode() + b".\r\n")
            await eventually(lambda: len(queue.live) == 1)
            await asyncio.sleep(0.5)
            queue.enqueue = enqueue  # type: ignore[method-assign]
            again = await client_of(server)
            assert await send(again, "bob", body=body) == "250 2.0.0 already delivered\r\n"
            assert len(queue.live) == 1

    run(main)


@pytest.mark.parametrize(
    "error",
    [StoreFull("s", "no room"), StoreRefused("s", "read-only"), StoreUnavailable("s", "no answer")],
    ids=["full", "read-only", "silent"],
)
def test_a_store_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """4xx with both reasons; what the store did take in the end is withdrawn, and others still get mail."""
    store = MailStore(bob=BUSY)
    breakable(monkeypatch)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            queue, under = queue_of(server), store_of(server)
            queue._intake._timeout = 1.0
            under.fault = lambda key: error if key.startswith("log/") else None
            client = await client_of(server)
            reply = await send(client, "bob")
            assert reply == "451 4.2.0 busy; the queue cannot keep the message\r\n"
            assert (await send(client, "carol")) == "250 2.0.0 kept\r\n"
            assert len(queue.live) == 0
            under.fault = lambda key: None
            await eventually(lambda: queue.stats().pending == 0, "what was stuck is written")
            assert await on_disk(tmp_path) == []
            store.heal()
            assert (await send(client, "bob")) == "250 2.0.0 kept\r\n"

    run(main)


class Told:
    """What a service writes into its log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **facts: self.lines.append((level, event, facts))


def test_a_queue_that_cannot_be_used_is_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the log says so once, and once that it is over."""
    store = MailStore(bob=BUSY)
    breakable(monkeypatch)
    log = Told()

    async def trouble(server: Server) -> str:
        return str((await server.daemon.answer("queue", {"op": "trouble"}))["trouble"])

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            service, queue, under = server.daemon._queue, queue_of(server), store_of(server)
            assert service is not None
            monkeypatch.setattr(service, "_log", log)
            assert await trouble(server) == ""
            assert server.daemon.snapshot()["queue_open"] == {"": 1}
            queue._intake._timeout = 1.0
            full = StoreFull("file:x", "writing log/1: No space left on device")
            under.fault = lambda key: full if key.startswith("log/") else None
            client = await client_of(server)
            assert (await send(client, "bob")).startswith("451 ")
            await eventually(lambda: not server.daemon.snapshot()["queue_open"][""], "it is not open")
            assert await trouble(server) == "file:x: writing log/1: No space left on device"
            assert log.lines == [], "a moment is nothing to speak of"
            await eventually(lambda: log.lines, "a warning")
            await asyncio.sleep(2.5)
            under.fault = lambda key: None
            await eventually(lambda: server.daemon.snapshot()["queue_open"][""], "it is open again")
            assert await trouble(server) == ""
            await eventually(lambda: len(log.lines) == 2, "that it is over")
            (first, began, facts), (second, ended, more) = log.lines
            assert (first, began) == ("warning", "the queue cannot be used")
            assert facts["reason"] == "file:x: writing log/1: No space left on device"
            assert (second, ended) == ("warning", "the queue can be used again")
            assert more["seconds"] >= 4
            assert QUEUED.match(await send(client, "bob"))

    run(main)


def test_a_body_that_cannot_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MailStore(bob=BUSY)
    breakable(monkeypatch)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            full = StoreFull("s", "no room")
            store_of(server).fault = lambda key: full if key.startswith("body/") else None
            client = await client_of(server)
            reply = await send(client, "bob", body="Subject: big\r\n\r\n" + "0123456789\r\n" * 50_000)
            assert reply == "451 4.2.0 busy; the queue cannot keep the message\r\n"
            assert QUEUED.match(await send(client, "bob")), "small ones are kept"

    run(main)


@pytest.mark.parametrize(
    ("queue", "reply"),
    [
        ("max_messages = 8", "452 4.3.1 busy; too many messages are queued\r\n"),
        ('max_size = "5kB"', "452 4.3.1 busy; too much mail is queued\r\n"),
    ],
)
def test_high_water_marks(tmp_path: Path, queue: str, reply: str) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue=queue, store=store) as server:
            client = await client_of(server)
            kept = 0
            while QUEUED.match(answer := await send(client, "bob")):
                kept += 1
            assert answer == reply
            assert 0 < kept == len(queue_of(server).live) < 40
            assert await send(client, "carol") == "250 2.0.0 kept\r\n"
            store.heal()
            await flush(server)
            await eventually(lambda: len(queue_of(server).live) == 0)
            store.replies["bob@example.test"] = BUSY
            assert QUEUED.match(await send(client, "bob"))

    run(main)


def test_what_cannot_be_delivered_nor_kept_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    store = MailStore()

    async def main() -> None:
        async with serving(tmp_path, queue="max_messages = 4", store=store) as server:
            await store.stop()
            client = await client_of(server)
            # The limit is shared out to workers, and a next hop is known not to answer after some failures.
            assert QUEUED.match(await send(client, "bob"))
            for _ in range(10):
                assert (await client.say("MAIL FROM:<a@x.test>")).startswith("250 ")
                answer = await client.say("RCPT TO:<bob@example.test>")
                if answer == "452 4.3.1 too many messages are queued\r\n":
                    break
                assert answer.startswith("250 ")
                assert (await client.say("DATA")).startswith("354 ")
                assert (await client.say("Subject: x\r\n\r\n.")).startswith(("250 ", "452 4.3.1 "))
            else:
                pytest.fail("a recipient was taken whose message could neither be delivered nor kept")
            assert len(queue_of(server).live) <= 4

    run(main)


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            monkeypatch.setattr(FileStore, "room", -1)
            client = await client_of(server)
            assert await send(client, "bob") == "452 4.3.1 busy; there is no room for more mail\r\n"
            assert await send(client, "carol") == "250 2.0.0 kept\r\n"

    run(main)


def test_a_store_that_is_too_slow(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue='max_latency = "0.1s"', store=store) as server:
            queue = queue_of(server)
            queue._log.latency = 0.5
            client = await client_of(server)
            assert await send(client, "bob") == "452 4.3.1 busy; the queue is too slow\r\n"

    run(main)


def test_only_mail_that_somebody_vouches_for(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        queue = 'accept = "vouched"'
        async with serving(tmp_path, queue=queue, store=store, more=STRANGERS) as server:
            client = await client_of(server)
            reply = await send(client, "bob")
            assert reply == "451 4.2.0 busy; mail of unknown senders is not queued here\r\n"
            assert len(queue_of(server).live) == 0
        async with serving(tmp_path, queue=queue, store=MailStore(bob=BUSY)) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, "bob"))

    run(main)


def test_without_a_queue_the_client_keeps_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, store=MailStore(bob=BUSY)) as server:
            client = await client_of(server)
            assert await send(client, "bob") == "451 4.2.0 busy\r\n"
            assert not (tmp_path / "queue").exists()

    run(main)


def test_a_queue_that_is_not_open_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store does not answer at the start: mail is delivered all the same; later the queue opens."""
    monkeypatch.setattr("mta.spool.service.START_PATIENCE", 0.2)
    monkeypatch.setattr("mta.spool.service.AGAIN", 0.2)
    there = asyncio.Event()

    async def silent(store: object) -> list[str]:
        if not there.is_set():
            raise StoreUnavailable("s", "no answer")
        return []

    monkeypatch.setattr("mta.spool.trial.probe_what_answers", silent)
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert await send(client, "bob") == "451 4.2.0 busy; the queue is not ready\r\n"
            assert await send(client, "carol") == "250 2.0.0 kept\r\n"
            there.set()
            service = server.daemon._queue
            assert service is not None
            await eventually(lambda: service.queue)
            assert QUEUED.match(await send(client, "bob"))

    run(main)


def test_a_store_that_refuses_keeps_the_daemon_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refusing(store: object) -> list[str]:
        raise StoreRefused("file:x", "answers 200 to everybody")

    monkeypatch.setattr("mta.spool.trial.probe_what_answers", refusing)

    async def main() -> None:
        with pytest.raises(ValueError, match="queue: file:x: answers 200 to everybody"):
            async with serving(tmp_path, queue="", store=MailStore()):
                pass

    run(main)


def test_a_stream_that_was_taken_over(tmp_path: Path) -> None:
    """The worker opens a new one by itself, and accepts into that."""
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, "bob"))
            service = server.daemon._queue
            assert service is not None
            old = queue_of(server)
            old._log.fence()
            assert "the queue is not ready" in await send(client, "bob")
            await eventually(lambda: service.queue is not None and service.queue is not old)
            assert QUEUED.match(await send(client, "bob"))

    run(main)


def test_the_next_daemon_goes_on(tmp_path: Path) -> None:
    """A clean stop hands the queue over: whoever comes next has it at once."""
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            for _ in range(5):
                assert QUEUED.match(await send(client, "bob"))
        second = MailStore()
        async with serving(tmp_path, queue="", store=second) as server:
            await eventually(lambda: len(queue_of(server).live) == 5)
            await flush(server)
            await eventually(lambda: len(second.got("bob")) == 5)

    run(main)


def test_what_the_queue_is_called_in_the_log_and_in_received(tmp_path: Path) -> None:
    """The name of the transaction, which Received has, is kept with the message."""
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, "bob"))
            (kept,) = await waiting(server)
            assert b" id " in kept.header
            assert kept.header.endswith(b"\r\n\r\n")

    run(main)


def test_a_message_without_a_body(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            for body in (
                "Subject: no end of the header\r\n",
                "Subject: empty\r\n\r\n",
                "\r\nonly a body\r\n",
            ):
                reply = await send(client, "bob", body=body)
                assert QUEUED.match(reply), reply
            store.heal()
            await flush(server)
            await eventually(lambda: len(store.got("bob")) == 3)
            texts = store.got("bob")
            assert any(b"Subject: no end of the header\r\n" in text for text in texts)
            assert any(text.endswith(b"Subject: empty\r\n\r\n") for text in texts)
            assert any(text.endswith(b"\r\n\r\nonly a body\r\n") for text in texts)

    run(main)


def test_a_bug_in_the_loop_that_works_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that nobody works is opened anew, with all that is in it."""
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            for _ in range(3):
                assert QUEUED.match(await send(client, "bob"))
            service = server.daemon._queue
            assert service is not None
            assert service.runner is not None
            old = queue_of(server)

            def broken(now: float) -> bool:
                raise RuntimeError("a bug")

            monkeypatch.setattr(service.runner, "_start", broken)
            service.runner.nudge()
            await eventually(lambda: service.queue is not None and service.queue is not old)
            await eventually(lambda: len(queue_of(server).live) == 3)
            store.heal()
            await flush(server)
            await eventually(lambda: len(store.got("bob")) == 3)

    run(main)


def test_a_daemon_that_stops_in_the_middle_of_a_try(tmp_path: Path) -> None:
    """The try is given time to end; what it delivered is not delivered again by the next daemon."""
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, "bob"))
            store.heal()
            store.final_delay = 1.0
            store.data_seen.clear()
            await flush(server)
            await store.data_seen.wait()
        assert len(store.got("bob")) == 1
        again = MailStore()
        async with serving(tmp_path, queue="", store=again) as server:
            await asyncio.sleep(1)
            assert len(queue_of(server).live) == 0
            assert again.delivered == []

    run(main)
