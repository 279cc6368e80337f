"""Copies of which nobody hears: `bcc`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.spool.record import decode_recipient
from tests.dialog.policies import STRANGERS, greeted, policed
from tests.dialog.queueing import MailStore, eventually, flush, waiting
from tests.dialog.server import run

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
