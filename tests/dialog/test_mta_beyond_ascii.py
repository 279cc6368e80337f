"""Mail with addresses beyond ASCII (SMTPUTF8) that a next hop cannot take: who is told what."""

from __future__ import annotations

from pathlib import Path

from tests.dialog.policies import greeted, policed
from tests.dialog.queueing import MailStore, eventually
from tests.dialog.server import Client, run

UTF8 = " SMTPUTF8"


def outside(store: MailStore) -> str:
    """The configuration of a relay that takes no such addresses, and is no LMTP server."""
    return f'[relays.out]\nhost = "127.0.0.1"\nport = {store.port}\ntls = "none"\n'


async def sent(client: Client, *recipients: str, subject: str = "hi") -> str:
    """The answer to a message."""
    await client.envelope(*recipients, sender="ann@example.test", parameters=UTF8)
    await client.say("DATA")
    return await client.say(f"From: ann@example.test\r\nSubject: {subject}\r\n\r\nhello\r\n.")


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    """The field Received repeats the address of a single recipient: that is no mistake of the header's."""

    async def main() -> None:
        relay = MailStore()
        await relay.start()
        try:
            async with policed(tmp_path, "", policy='relay = "out"', more=outside(relay)) as server:
                client = await greeted(server)
                assert (await sent(client, "jürgen@far.test")).startswith("553 5.6.7 ")
                assert (await sent(client, "ann@far.test", subject="Grüße")).startswith("554 5.6.9 ")
                assert (await sent(client, "ann@bücher.test")).startswith("250 ")
                assert (await client.say("QUIT")).startswith("221 ")
                assert "RCPT TO:<ann@xn--bcher-kva.test>" in relay.commands
        finally:
            await relay.stop()

    run(main)


def test_a_report_to_a_domain_beyond_ascii_goes_to_any_server(tmp_path: Path) -> None:
    """Its address has a form in ASCII; only a local part has none."""
    store = MailStore(full="552 5.2.2 full")

    async def main() -> None:
        relay = MailStore()
        await relay.start()
        try:
            async with policed(
                tmp_path, "", policy='relay = "out"', more=outside(relay), store=store, queue="enabled = true"
            ) as server:
                client = await greeted(server)
                people = ("bob@example.test", "full@example.test")
                await client.envelope(*people, sender="ann@bücher.test", parameters=UTF8)
                await client.say("DATA")
                said = await client.say("From: ann@bücher.test\r\nSubject: Grüße\r\n\r\nhello\r\n.")
                assert said.startswith("250 2.0.0 delivered to 1 of 2")
                await eventually(lambda: bool(relay.delivered), "the report")
                (report,) = relay.delivered
                assert report.recipient == "ann@xn--bcher-kva.test"
                assert b"\r\nTo: <ann@xn--bcher-kva.test>\r\n" in report.octets
        finally:
            await relay.stop()

    run(main)


def test_a_report_does_not_put_words_into_a_servers_mouth(tmp_path: Path) -> None:
    store = MailStore(full="552 5.2.2 full")

    async def main() -> None:
        async with policed(tmp_path, "", store=store, queue="enabled = true") as server:
            client = await greeted(server)
            people = ("bob@example.test", "jürgen@example.test", "full@example.test")
            assert (await sent(client, *people)).startswith("250 2.0.0 delivered to 1 of 3")
            await eventually(lambda: bool(store.got("ann")), "the report")
            (report,) = store.got("ann")
            assert b"\r\nDiagnostic-Code: X-Tamis; 553 5.6.7 " in report
            assert b"\r\nDiagnostic-Code: smtp; 552 5.2.2 full\r\n" in report
            assert report.count(b"\r\nRemote-MTA: ") == 1
            assert report.count(b" said:") == 1

    run(main)
