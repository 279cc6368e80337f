"""SRS with a real daemon: mail is passed on with a sender of ours, and a report about it finds back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mta.spool.record import decode_recipient
from tests.dialog.policies import STRANGERS, greeted
from tests.dialog.queueing import MailStore, eventually, flush, waiting
from tests.dialog.server import Server, run, serving

SCRIPT = """require ["vnd.tamis.stage", "vnd.tamis.envelope", "vnd.tamis.srs"];
stage "rcpt" { srs_reverse; expand "table:aliases"; }
stage "route" { srs; }
"""
ALIASES = "far: friend@far.test\nboth: ann, friend@far.test\n"


@asynccontextmanager
async def forwarding(folder: Path, outside: MailStore, *, queue: str = "") -> AsyncIterator[Server]:
    """A daemon that passes mail on to `outside`."""
    (folder / "policy.sieve").write_text(SCRIPT)
    (folder / "aliases").write_text(ALIASES)
    secrets = folder / "secrets"
    secrets.write_text("a secret that nobody knows\n")
    secrets.chmod(0o600)
    await outside.start()
    more = f"""
[policy]
scripts = ["policy.sieve"]
relay = "out"
{STRANGERS}
[srs]
secrets_file = "secrets"
domain = "example.test"
[tables.aliases]
type = "aliases"
file = "aliases"
[relays.out]
host = "127.0.0.1"
port = {outside.port}
tls = "none"
"""
    try:
        async with serving(folder, more=more, queue=queue) as server:
            yield server
    finally:
        await outside.stop()


def test_there_and_back(tmp_path: Path) -> None:
    outside = MailStore()

    async def main() -> None:
        async with forwarding(tmp_path, outside) as server:
            client = await greeted(server)
            assert (await client.send("both@example.test")).startswith("250 2.0.0")
            (here,), (there,) = server.store.delivered, outside.delivered
            assert (here.sender, here.recipient) == ("a@x.test", "ann@example.test")
            assert there.recipient == "friend@far.test"
            assert there.sender.startswith("SRS0=")
            assert there.sender.endswith("=x.test=a@example.test")
            # the report
            await client.say("MAIL FROM:<>")
            assert (await client.say(f"RCPT TO:<{there.sender}>")).startswith("250")
            await client.say("DATA")
            assert (await client.say("Subject: failed\r\n\r\n.")).startswith("250")
            assert outside.delivered[1].recipient == "a@x.test"
            assert outside.delivered[1].sender == ""

    run(main)


def test_forged_addresses_lead_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with forwarding(tmp_path, MailStore()) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<>")
            said = await client.say("RCPT TO:<SRS0=AAAAAAAA=AA=x.test=a@example.test>")
            assert said == "550 5.1.1 this return address was not made here\r\n"
            said = await client.say("RCPT TO:<SRS0=AAAAAAAA=AA=x.test=a@far.test>")
            assert said == "550 5.7.1 relaying denied\r\n"

    run(main)


def test_who_needs_no_other_sender(tmp_path: Path) -> None:
    """The null sender, and senders of ours."""
    outside = MailStore()

    async def main() -> None:
        async with forwarding(tmp_path, outside) as server:
            client = await greeted(server)
            for sender in ("", "ann@example.test"):
                await client.envelope("far@example.test", sender=sender)
                await client.say("DATA")
                assert (await client.say("Subject: x\r\n\r\n.")).startswith("250")
            assert [one.sender for one in outside.delivered] == ["", "ann@example.test"]

    run(main)


def test_in_the_queue(tmp_path: Path) -> None:
    outside = MailStore()
    outside.replies["friend@far.test"] = "451 4.2.0 busy"

    async def main() -> None:
        async with forwarding(tmp_path, outside, queue="enabled = true") as server:
            client = await greeted(server)
            assert (await client.send("far@example.test")).startswith("250 2.0.0 queued")
            (message,) = await waiting(server)
            assert message.sender == "a@x.test"
            (kept,) = message.recipients
            sender = decode_recipient(kept.address, kept.data).sender
            assert sender is not None
            assert sender.text.startswith("SRS0=")
            outside.heal()
            await flush(server)
            await eventually(lambda: outside.delivered, "the second try")
            assert outside.delivered[0].sender == sender.text

    run(main)
