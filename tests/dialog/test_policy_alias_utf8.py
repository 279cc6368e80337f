"""An alias whose name is not ASCII: what next hops are told of it."""

from __future__ import annotations

from pathlib import Path

from mta.smtp.parameters import parse_orcpt
from tests.dialog.policies import STRANGERS, greeted, policed
from tests.dialog.queueing import MailStore
from tests.dialog.server import run

QUEUE = 'enabled = true\nretry = ["1h"]\n'


def test_the_original_recipient_is_of_the_type_for_it(tmp_path: Path) -> None:
    """RFC 6533 section 3: one of type rfc822 is ASCII, and servers refuse others."""

    async def main() -> None:
        outside = MailStore()
        outside.keywords = (*outside.keywords, "DSN", "SMTPUTF8")
        await outside.start()
        (tmp_path / "aliases").write_text("büro@example.test: friend@far.test\n")
        more = (
            '[tables.aliases]\ntype = "aliases"\nfile = "aliases"\n'
            f'[relays.out]\nhost = "127.0.0.1"\nport = {outside.port}\ntls = "none"\n'
        )
        script = 'stage "rcpt" { expand "table:aliases"; }'
        try:
            async with policed(
                tmp_path, script, policy=f'{STRANGERS}\nrelay = "out"', more=more, queue=QUEUE
            ) as server:
                client = await greeted(server)
                await client.say("MAIL FROM:<a@x.test> SMTPUTF8 BODY=8BITMIME")
                assert (await client.say("RCPT TO:<büro@example.test> NOTIFY=FAILURE")).startswith("250")
                await client.say("DATA")
                assert (await client.say("From: a@x.test\r\n\r\nhello\r\n.")).startswith("250")
        finally:
            await outside.stop()
        (line,) = [line for line in outside.commands if line.startswith("RCPT")]
        encoded = line.partition(" ORCPT=")[2]
        assert parse_orcpt(encoded) == ("utf-8", "büro@example.test"), line

    run(main)
