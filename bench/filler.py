"""A node that takes messages into a queue and then does nothing: `python -m bench.filler URL COUNT [NODE]`.

It prints "filled" when all messages are durable and waits to be killed. The messages are of 4 kB, due at
once, for the recipient of the benchmarks.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from bench.system import DOMAIN, RECIPIENT, SENDER
from mailqueue.model import NewMessage, QueuedRecipient, Status
from mailqueue.queue import MailQueue
from mailqueue.settings import QueueSettings
from mailqueue.store.urls import open_store
from mta.address import parse_address
from mta.dsn.decide import Vouching
from mta.envelope import Envelope, Recipient
from mta.spool.record import encode_record, make_record

SITE = "backend:sink"
"""The next hop, as the configuration of the benchmarks names it."""
AT_ONCE = 256
BODY = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abc\r\n" * 62


async def fill(url: str, count: int, node: str) -> None:
    """Take messages, say so, wait."""
    queue = await MailQueue.open(open_store(url), QueueSettings(node=node, spacing=0.0))
    envelope = Envelope(parse_address(SENDER), [Recipient(parse_address(RECIPIENT))])
    now = time.time()
    record = encode_record(make_record(envelope, None, now, vouching=Vouching.NETWORK, plain=True))
    numbers = iter(range(count))

    async def take() -> None:
        for number in numbers:
            header = (
                f"Received: by {DOMAIN}; Sat, 28 Nov 2026 00:00:00 +0000\r\n"
                f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: number {number}\r\n"
                f"Message-ID: <{number}@{DOMAIN}>\r\n\r\n"
            ).encode()
            recipient = QueuedRecipient(RECIPIENT, SITE, Status.QUEUED, now)
            await queue.enqueue(NewMessage(SENDER, [recipient], header, BODY, record, now))

    await asyncio.gather(*(take() for _ in range(AT_ONCE)))
    print("filled", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Run the command line."""
    url, count, *node = sys.argv[1:]
    uvloop.run(fill(url, int(count), node[0] if node else "filler"))


if __name__ == "__main__":
    main()
