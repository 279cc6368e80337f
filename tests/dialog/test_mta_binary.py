"""BINARYMIME through the daemon: the mail store, which knows nothing of it, gets lines."""

from __future__ import annotations

import email
from pathlib import Path

from tests.dialog.queueing import QUEUED, MailStore, eventually, flush
from tests.dialog.server import Client, run, serving

HEAD = b"Message-ID: <1@x.test>\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
PICTURE = bytes(range(256)) + b"\r\n.\r\nQUIT\r\n\n.\n"


async def send(client: Client, octets: bytes) -> str:
    await client.envelope("bob@example.test", parameters=" BODY=BINARYMIME")
    half = len(octets) // 2
    assert (await client.say(b"BDAT %d\r\n%s" % (half, octets[:half]))).startswith("250 ")
    return await client.say(b"BDAT %d LAST\r\n%s" % (len(octets) - half, octets[half:]))


def picture(octets: bytes) -> bytes:
    payload = email.message_from_bytes(octets).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def test_binary_content(tmp_path: Path) -> None:
    store = MailStore()

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            assert "250-BINARYMIME\r\n" in await client.hello()
            assert (await send(client, HEAD + PICTURE)).startswith("250 2.0.0 kept")
            (octets,) = store.got("bob")
            assert picture(octets) == PICTURE
            assert octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r")
            assert "MAIL FROM:<a@x.test>" in store.commands  # nothing of BINARYMIME, which it does not know
            text = b"Subject: hi\r\n\r\n.text\r\n"
            assert (await send(client, text)).startswith("250 2.0.0 kept")
            assert store.got("bob")[1].endswith(b"\r\n" + text)
            refused = await send(client, b"Subject: h\ni\r\n\r\n\0\r\n")
            assert refused.startswith("554 5.6.3 ")
            assert len(store.delivered) == 2
            await client.envelope("bob@example.test", parameters=" BODY=BINARYMIME")
            assert (await client.say("DATA")).startswith("503 5.5.1")

    run(main)


def test_binary_content_that_is_queued(tmp_path: Path) -> None:
    store = MailStore(bob="451 4.2.0 busy")

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await server.connect()
            await client.hello()
            assert QUEUED.match(await send(client, HEAD + PICTURE))
            store.heal()
            await flush(server)
            await eventually(lambda: store.got("bob"))
            assert picture(store.got("bob")[0]) == PICTURE

    run(main)


def test_without_a_queue_a_retry_is_known_by_what_the_client_sent(tmp_path: Path) -> None:
    store = MailStore(carol="451 4.2.0 busy")

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            await client.hello()
            octets = HEAD + PICTURE
            for _ in range(2):
                parameters = " BODY=BINARYMIME"
                await client.envelope("bob@example.test", "carol@example.test", parameters=parameters)
                reply = await client.say(b"BDAT %d LAST\r\n%s" % (len(octets), octets))
                assert reply.startswith("451 4.2.0 not delivered yet to <carol@example.test>")
            assert len(store.got("bob")) == 1

    run(main)
