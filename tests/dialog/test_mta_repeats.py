"""What is a retry and what is another message: no second copy of the one, and none too few of the other."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.dialog.backend import ScriptedStore
from tests.dialog.policies import policed
from tests.dialog.queueing import eventually, flush, waiting
from tests.dialog.server import run, serving
from tests.peers.load import RESET


@pytest.mark.parametrize(
    ("fields", "copies"),
    [
        ("Message-ID: <1@x.test>\r\n", 1),
        ("Date: Sat, 22 Nov 2025 10:15:08 +0000\r\n", 1),
        ("", 3),
    ],
)
def test_messages_without_a_name_are_not_taken_for_one(tmp_path: Path, fields: str, copies: int) -> None:
    """A script may say the same each hour, so 250 without a delivery would lose what it says."""
    body = f"Subject: disk is full\r\n{fields}\r\nplease look\r\n"
    store = ScriptedStore(final_delay=0.2)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            hasty = await server.connect()
            await hasty.hello()
            await hasty.envelope("bob@example.test")
            await hasty.say("DATA")
            hasty.writer.write(body.encode() + b".\r\n")
            await store.data_seen.wait()
            hasty.cut()
            while not store.delivered:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.4)  # what is remembered is remembered now
            client = await server.connect()
            await client.hello()
            for _ in range(2):
                assert (await client.send("bob@example.test", body=body)).startswith("250 ")
            assert len(store.delivered) == copies

    run(main)


@pytest.mark.parametrize("fields", ["Message-ID: <1@x.test>\r\n", ""])
def test_a_retry_waits_for_the_first_try_whose_client_has_left(tmp_path: Path, fields: str) -> None:
    """A phone that changes its network sends the message again while the first one is delivered."""
    body = f"Subject: hi\r\n{fields}\r\nhello\r\n"
    store = ScriptedStore(final_delay=1.0)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            hasty = await server.connect()
            await hasty.hello()
            await hasty.envelope("bob@example.test", "carol@example.test")
            await hasty.say("DATA")
            hasty.writer.write(body.encode() + b".\r\n")
            await store.data_seen.wait()
            hasty.cut()
            await asyncio.sleep(0.1)
            assert not store.delivered
            client = await server.connect()
            await client.hello()
            reply = await client.send("bob@example.test", "dave@example.test", body=body)
            assert reply.startswith("250 2.0.0 ")
            got = sorted(one.recipient.partition("@")[0] for one in store.delivered)
            if fields:
                assert got == ["bob", "carol", "dave"]
            else:  # it may be another message
                assert got == ["bob", "bob", "carol", "dave"]
            assert not server.daemon._unacknowledged.abandoned

    run(main)


@pytest.mark.parametrize("is_hasty", [True, False])
def test_the_sender_hears_once_of_what_was_delivered_without_an_answer(
    tmp_path: Path, is_hasty: bool
) -> None:
    """The client goes before the mail store has answered, or just after our answer, and comes again."""
    store = ScriptedStore(final_delay=0.2)
    body = b"Message-ID: <1@x.test>\r\nSubject: hi\r\n\r\nhello\r\n.\r\n"

    def reports() -> list[bytes]:
        return [one.octets for one in store.delivered if one.recipient == "alice@example.test"]

    async def main() -> None:
        async with serving(tmp_path, store=store, queue='retry = ["1s"]') as server:
            for goes in (True, False):
                client = await server.connect()
                await client.hello()
                await client.say("MAIL FROM:<alice@example.test>")
                await client.say("RCPT TO:<bob@example.test> NOTIFY=SUCCESS")
                await client.say("DATA")
                client.writer.write(body)
                if not (goes and is_hasty):
                    assert (await client.read_reply()).startswith("250 2.0.0")
                    await eventually(reports, "the report")
                if goes:
                    await store.data_seen.wait()
                    sock = client.writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    client.cut()
                    await eventually(lambda: len(server.daemon._unacknowledged), "what is remembered")
            await asyncio.sleep(0.5)  # a second report would come now
            assert len(reports()) == 1
            assert b"\r\nAction: delivered\r\n" in reports()[0]
            assert [one.recipient for one in store.delivered].count("bob@example.test") == 1

    run(main)


@pytest.mark.parametrize("is_ours", [True, False])
def test_what_waits_without_a_try_is_queued_once(tmp_path: Path, is_ours: bool) -> None:
    """The client does not read that a message is on hold, or kept until its time, and sends it again."""
    store = ScriptedStore()
    order = 'hold "look";' if is_ours else 'delay "1m";'
    body = b"Message-ID: <1@x.test>\r\nSubject: hi\r\n\r\nhello\r\n.\r\n"

    async def main() -> None:
        script = f'stage "data" {{ {order} }}'
        async with policed(tmp_path, script, store=store, queue='retry = ["1h"]') as server:
            for number in (1, 2):
                client = await server.connect()
                await client.hello()
                await client.envelope("bob@example.test", "carol@example.test")
                await client.say("DATA")
                client.writer.write(body)
                assert (await client.read_reply()).startswith("250 2.0.0")
                assert len(await waiting(server)) == 1, f"after {number}"
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.cut()
                await eventually(lambda: len(server.daemon._unacknowledged) == 2, "what is remembered")
            service = server.daemon._queue
            assert service is not None
            assert service.acts is not None
            await service.acts.act("release", (await waiting(server))[0].id)
            await flush(server)
            await eventually(lambda: len(store.delivered) == 2, "the mail")

    run(main)


def test_a_report_of_success_waits_for_the_try_that_is_kept(tmp_path: Path) -> None:
    """The queue takes nothing, so that the client is told to come again; it goes without reading that."""
    busy = {"bob@example.test": "451 4.2.0 busy", "dan@example.test": "451 4.2.0 busy"}
    store = ScriptedStore(final_reply=lambda address: busy.get(address, "250 2.0.0 kept"))
    body = b"Message-ID: <1@x.test>\r\nSubject: hi\r\n\r\nhello\r\n.\r\n"

    async def main() -> None:
        async with serving(tmp_path, store=store, queue='max_messages = 1\nretry = ["1h"]') as server:
            client = await server.connect()
            await client.hello()
            assert "queued as" in await client.send("dan@example.test")
            for code in ("452 4.3.1", "250 2.0.0"):
                client = await server.connect()
                await client.hello()
                await client.say("MAIL FROM:<alice@example.test>")
                await client.say("RCPT TO:<bob@example.test>")
                await client.say("RCPT TO:<carol@example.test> NOTIFY=SUCCESS")
                await client.say("DATA")
                client.writer.write(body)
                reply = await client.read_reply()
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.cut()
                await asyncio.sleep(0.2)
                assert reply.startswith(code), reply
                busy.clear()
            await eventually(lambda: "alice@example.test" in [one.recipient for one in store.delivered])

    run(main)


def test_who_is_done_is_reported_though_another_is_not_kept(tmp_path: Path) -> None:
    """With PRDR the client comes again only for who was answered 4xx."""
    store = ScriptedStore(final_reply=lambda one: "451 4.2.0 busy" if one[:3] in ("bob", "dan") else "250 ok")

    async def main() -> None:
        async with serving(tmp_path, store=store, queue='max_messages = 1\nretry = ["1h"]') as server:
            client = await server.connect()
            await client.hello()
            assert "queued as" in await client.send("dan@example.test")
            await client.say("MAIL FROM:<alice@example.test> PRDR")
            await client.say("RCPT TO:<bob@example.test>")
            await client.say("RCPT TO:<carol@example.test> NOTIFY=SUCCESS")
            await client.say("DATA")
            said = await client.say("Subject: hi\r\n\r\nhello\r\n.", 4)
            assert [line[:3] for line in said.splitlines()] == ["353", "452", "250", "250"]
            await eventually(lambda: "alice@example.test" in [one.recipient for one in store.delivered])

    run(main)
