"""The examples of docs/policy: each script in a server, and the dialog beside it word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmilter.filter import reply
from tests.dialog.backend import ScriptedStore
from tests.dialog.milters import at, puppet
from tests.dialog.programs import deciding, scanning
from tests.dialog.server import Client, run, serving
from tests.unit.test_docs_policy import PAGES, blocks

GREY = "DEFER_IF_PERMIT Greylisted, see https://postgrey.example/"
SPAM = "Spam message rejected"
NAMES = [name for name in PAGES if name != "README.md"]


async def play(client: Client, dialog: str) -> None:
    """Say the lines behind "C:", and compare the last line of each reply with that behind "S:"."""
    assert (await client.read_reply()).startswith("220 ")
    said: list[str] = []
    for line in dialog.splitlines():
        who, _, text = line.partition(":")
        if who == "C":
            said.append(text.removeprefix(" "))
            continue
        assert who == "S", line
        reply = (await client.say("\r\n".join(said))).rstrip("\r\n").rpartition("\r\n")[2]
        said.clear()
        wanted = text.removeprefix(" ").replace("example.org", "example.test")
        if wanted.endswith(" ..."):
            assert reply.startswith(wanted.removesuffix("...")), (line, reply)
        else:
            assert reply == wanted, line
    assert not said


@pytest.mark.parametrize("name", NAMES)
def test_example(name: str, tmp_path: Path) -> None:
    (script,) = blocks(PAGES[name], "sieve")
    (dialog,) = blocks(PAGES[name], "smtp")
    (tmp_path / "policy.sieve").write_text(script.replace("example.org", "example.test"))
    (tmp_path / "blocked").write_text("# domains\nspam.example\nbad.example.net too much of it\n")
    (tmp_path / "aliases").write_text("sales: ann\n")
    (tmp_path / "secrets").write_text("a secret that nobody knows\n")
    (tmp_path / "secrets").chmod(0o600)
    (tmp_path / "dkim").mkdir()
    archive = ScriptedStore()

    async def main() -> None:
        await archive.start()
        more = f"""
[policy]
scripts = ["policy.sieve"]
[srs]
secrets_file = "secrets"
domain = "example.test"
[tables.aliases]
type = "aliases"
file = "aliases"
[tables.blocked]
file = "blocked"
[signing]
keys = "dkim"
required = false
[backends.archive]
addresses = ["127.0.0.1:{archive.port}"]
[relays.smarthost]
host = "127.0.0.1"
[dns]
resolvers = ["127.0.0.1:1"]
[outbound]
enabled = true
[milters.rspamd]
address = "unix:rspamd"
[policy_servers.postgrey]
address = "unix:postgrey"
[scanners.clamav]
kind = "clamav"
address = "unix:clamav"
"""
        try:
            async with (
                deciding(tmp_path / "postgrey", lambda asked: GREY),
                scanning(tmp_path / "clamav", b"stream: Eicar FOUND\0"),
                puppet(tmp_path, "rspamd", at("eom", lambda ctx: reply(554, "5.7.1", SPAM))),
                serving(tmp_path, more=more, queue="enabled = true") as server,
            ):
                client = await server.connect()
                await play(client, dialog.replace("example.org", "example.test"))
                assert len(archive.delivered) == (1 if name == "route.md" else 0)
                if name == "envelope.md":
                    found = [one.recipient for one in server.store.delivered]
                    assert found == ["bob@example.test", "archive@example.test"]
        finally:
            await archive.stop()

    run(main)
