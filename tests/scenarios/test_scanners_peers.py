"""rspamd, spamd and clamd under our daemon: clean mail passes, bad mail is refused; and the dead ones."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from tests.dialog.server import run, serving
from tests.peers.scanners import EICAR, GTUBE, running_scanner

pytestmark = pytest.mark.scenario

SCRIPT = """\
require ["vnd.tamis.stage", "vnd.tamis.scan", "vnd.tamis.reply", "spamtest", "virustest", "envelope"];
stage "data" {
    if envelope "to" "careless@example.test" { scan :on_error "ignore" "one"; } else { scan "one"; }
    if virustest "5" { reply :code 554 :enhanced "5.7.0" "a virus"; }
    elsif spamtest "10" { reply :code 554 :enhanced "5.7.1" "spam"; }
    elsif allof (envelope "to" "b@example.test", spamtest "0", virustest "0") { reply "not scanned"; }
}
"""
HEAD = "From: a@x.test\r\nTo: b@example.test\r\nSubject: hi\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
CLEAN = HEAD + "Message-ID: <1@x.test>\r\n\r\nhello\r\n"
SPAM = f"{HEAD}Message-ID: <2@x.test>\r\n\r\n{GTUBE}\r\n"
VIRUS = (
    f'{HEAD}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nsee\r\n--b\r\n'
    "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    f"{base64.b64encode(EICAR.encode()).decode()}\r\n--b--\r\n"
)
BAD = {
    "rspamd": (SPAM, "554 5.7.1 spam"),
    "spamassassin": (SPAM, "554 5.7.1 spam"),
    "clamav": (VIRUS, "554 5.7.0 a virus"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_scanner(tmp_path: Path, kind: str) -> None:
    (tmp_path / "policy.sieve").write_text(SCRIPT)
    bad, refusal = BAD[kind]

    with running_scanner(kind) as scanner:
        more = (
            f'[scanners.one]\nkind = "{kind}"\naddress = "{scanner.address}"\ntimeout = "15s"\n'
            '[policy]\nscripts = ["policy.sieve"]\n'
        )

        async def main() -> None:
            async with serving(tmp_path, more=more) as server:
                client = await server.connect()
                await client.hello()
                assert (await client.send("b@example.test", body=CLEAN)).startswith("250 ")
                assert len(server.store.delivered) == 1
                assert (await client.send("b@example.test", body=bad)).startswith(refusal)
                assert (await client.send("b@example.test", body=CLEAN)).startswith("250 ")
                scanner.kill()
                assert (await client.send("b@example.test", body=CLEAN)).startswith("451 4.7.1")
                assert (await client.send("careless@example.test", body=bad)).startswith("250 ")
                assert len(server.store.delivered) == 3

        run(main)


def test_rspamd_as_a_milter(tmp_path: Path) -> None:
    with running_scanner("rspamd") as scanner:
        more = f'[milters.rspamd]\naddress = "{scanner.milter}"\nlisteners = ["*"]\n'

        async def main() -> None:
            async with serving(tmp_path, more=more) as server:
                client = await server.connect()
                await client.hello()
                assert (await client.send("b@example.test", body=CLEAN)).startswith("250 ")
                assert (await client.send("b@example.test", body=SPAM)).startswith("554 5.7.1 Gtube pattern")
                assert (await client.send("b@example.test", body=CLEAN)).startswith("250 ")
                assert len(server.store.delivered) == 2
                scanner.kill()
                await asyncio.sleep(0.1)  # so that the server's loop reads the end of the connection first
                assert (await client.say("MAIL FROM:<a@x.test>")).startswith("451 4.7.1")
                assert len(server.store.delivered) == 2

        run(main)
