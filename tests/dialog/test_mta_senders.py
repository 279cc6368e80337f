"""Who may send as whom, in whole sessions with a users file."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.dialog.server import Client, Server, run, serving

MORE = """
[auth]
backend = "users"
users_file = "{folder}/users"
require_tls = false
master_users = ["Scanner@example.test"]
"""


async def log_in(server: Server, user: str) -> Client:
    client = await server.connect()
    await client.hello()
    response = base64.b64encode(f"\0{user}\0secret".encode()).decode()
    assert (await client.say(f"AUTH PLAIN {response}")).startswith("235 ")
    return client


def test_a_master_sends_as_anybody_and_others_only_as_themselves(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch(0o640)
    users.write_text("alice@example.test:{PLAIN}secret:\nscanner@example.test:{PLAIN}secret:\n")
    more = MORE.format(folder=tmp_path)

    async def main() -> None:
        async with serving(tmp_path, listener='auth = "optional"', more=more) as server:
            alice = await log_in(server, "alice@example.test")
            assert (await alice.say("MAIL FROM:<alice+x@example.test>")).startswith("250 ")
            await alice.say("RSET")
            assert (await alice.say("MAIL FROM:<bob@example.test>")).startswith("553 5.7.1")
            scanner = await log_in(server, "SCANNER@example.test")
            assert (await scanner.say("MAIL FROM:<bob@example.test>")).startswith("250 ")

    run(main)
