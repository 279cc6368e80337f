"""What is over is freed at once, and does not wait for the collector: that looks after 20,000 new objects,
and until then a message keeps its memory and its temporary file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.authn.evaluation import SessionAuthentication
from mta.content import MessageBuffer
from mta.net.arrival import Arrival
from mta.session import Session
from sieve_ext.message import Message
from tests.dialog.senders import RSA, Zone, authenticating, deliver, signed, stranger
from tests.dialog.server import run, serving
from tests.peers.certificates import authority

MESSAGE = b"From: alice@good.test\r\nSubject: hi\r\nDate: Sat, 28 Nov 2026 00:00:00 +0000\r\n\r\nhello\r\n"


def of_kind(*kinds: type) -> list[object]:
    return [found for found in gc.get_objects() if isinstance(found, kinds)]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def none_new(before: list[object], *kinds: type) -> list[str]:
    """What there is beside `before`, as soon as that is nothing, or after two seconds."""
    for _ in range(20):
        found = [type(one).__name__ for one in of_kind(*kinds) if not any(one is old for old in before)]
        if not found:
            break
        await asyncio.sleep(0.1)
    return found


@pytest.mark.parametrize("end", ["quit", "cut"])
def test_a_message_whose_sender_was_looked_at_is_freed_with_its_answer(tmp_path: Path, end: str) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, Zone()) as server:
            first = await stranger(server)
            message = signed(MESSAGE, RSA, now=time.time())
            assert (await deliver(first, message)).startswith("250 ")
            await first.say("QUIT")
            with uncollected():
                messages = of_kind(MessageBuffer, Message)
                sessions = of_kind(Session, SessionAuthentication)
                client = await stranger(server)
                for _ in range(3):
                    assert (await deliver(client, message)).startswith("250 ")
                await client.say("MAIL FROM:<alice@good.test>")  # the answer is read
                assert await none_new(messages, MessageBuffer, Message) == []
                if end == "quit":
                    await client.say("QUIT")
                else:
                    client.cut()
                assert await none_new(sessions, Session, SessionAuthentication) == []

    run(main)


@pytest.mark.parametrize("hello", [b"EHLO there\r\n", b""])
def test_a_failed_handshake_is_freed_with_its_connection(tmp_path: Path, hello: bytes) -> None:
    made = authority(tmp_path).issue("mx", "mx.test")
    more = f'[certificates.main]\nchain = "{made.chain}"\nkey = "{made.key}"\n'

    async def main() -> None:
        async with serving(tmp_path, listener='tls = "implicit"', more=more) as server:
            with uncollected():
                before = of_kind(Arrival)
                for _ in range(3):
                    client = await server.connect()
                    client.writer.write(hello)
                    await client.writer.drain()
                    if hello:
                        with contextlib.suppress(ConnectionError):
                            await client.reader.read()
                    client.writer.close()
                assert await none_new(before, Arrival) == []

    run(main)
