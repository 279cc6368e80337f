"""Whose address SPF vouches for hears what becomes of mail that was accepted; a forged one gets nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.dialog.queueing import QUEUED, eventually, flush, queue_of
from tests.dialog.senders import Zone, authenticating, deliver, stranger
from tests.dialog.server import Client, run
from tests.dialog.test_authn_signing import relaying

QUEUE = 'enabled = true\nretry = ["1h"]'
ELSEWHERE = "198.51.100.7"
"""Nobody may send for good.test from here."""


def message(subject: str) -> bytes:
    return f"From: a@other.test\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()


def test_mail_that_is_refused_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with relaying(tmp_path, signing="", queue=QUEUE, trusted="", zone=Zone()) as (server, relay):
            server.store.final_reply = lambda address: "450 4.2.0 later"
            for client, subject in (
                (await stranger(server), "mine"),
                (await stranger(server, ELSEWHERE), "forged"),
            ):
                assert QUEUED.match(await deliver(client, message(subject)))
            server.store.final_reply = lambda address: "552 5.2.2 full"
            assert await flush(server) == 2
            await eventually(lambda: relay.delivered, "the report")
            queue = queue_of(server)
            await eventually(lambda: not len(queue.live), "the end of both")
            (report,) = relay.delivered
            assert (report.sender, report.recipient) == ("", "alice@good.test")
            assert b"Status: 5.2.2" in report.octets
            assert b"Subject: mine" in report.octets

    run(main)


def test_the_postmaster_does_not_hear_of_dead_addresses_of_strangers(tmp_path: Path) -> None:
    async def main() -> None:
        async with relaying(tmp_path, signing="", queue=QUEUE, trusted="", zone=Zone()) as (server, relay):
            relay.final_reply = lambda address: "550 5.1.1 no such user"
            server.store.final_reply = lambda address: "450 4.2.0 later"
            assert QUEUED.match(await deliver(await stranger(server), message("mine")))
            server.store.final_reply = lambda address: "550 5.2.1 no" if address[0] == "b" else "250 2.0.0 ok"
            assert await flush(server) == 1
            await eventually(lambda: "RCPT TO:<alice@good.test>" in " ".join(relay.commands), "the report")
            await asyncio.sleep(0.5)
            assert len(queue_of(server).live) == 0
            assert not server.store.delivered

    run(main)


async def to_two(client: Client, sender: str = "alice@good.test") -> str:
    await client.say(f"MAIL FROM:<{sender}>")
    await client.say("RCPT TO:<b@example.test>")
    await client.say("RCPT TO:<c@example.test>")
    await client.say("DATA")
    return await client.say("From: a@other.test\r\nSubject: two\r\n\r\nhello\r\n.")


def test_one_of_two_is_refused_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with relaying(tmp_path, signing="", queue=QUEUE, trusted="", zone=Zone()) as (server, relay):
            server.store.final_reply = lambda address: "550 5.1.1 no" if address[0] == "c" else "250 2.0.0 ok"
            assert (await to_two(await stranger(server, ELSEWHERE))).startswith("550 5.1.1 not delivered to")
            assert (await to_two(await stranger(server))).startswith("250 2.0.0 delivered to 1 of 2")
            await eventually(lambda: relay.delivered, "the report")
            (report,) = relay.delivered
            assert b"Final-Recipient: rfc822; c@example.test" in report.octets
            assert (await to_two(await stranger(server), "")).startswith("550 5.1.1 not delivered to")

    run(main)


def test_a_server_that_only_takes_mail_in_promises_no_report(tmp_path: Path) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, Zone(), queue=QUEUE) as server:
            server.store.final_reply = lambda address: "550 5.1.1 no" if address[0] == "c" else "250 2.0.0 ok"
            assert (await to_two(await stranger(server))).startswith("550 5.1.1 not delivered to")
            assert [one.sender for one in server.store.delivered] == ["alice@good.test"]

    run(main)


def test_mail_of_strangers_is_not_kept_where_only_that_of_users_is(tmp_path: Path) -> None:
    """Whether SPF vouches for them is known when it is too late to tell them before the message."""

    async def main() -> None:
        queue = f'{QUEUE}\naccept = "vouched"'
        async with relaying(tmp_path, signing="", queue=queue, trusted="", zone=Zone()) as (server, _):
            server.store.final_reply = lambda address: "450 4.2.0 later"
            assert (await deliver(await stranger(server), message("mine"))).startswith("450 4.2.0 later")

    run(main)
