"""What submission adds to SMTP: who may send as whom, and fields that a message lacks."""

from __future__ import annotations

import base64
from pathlib import Path

import structlog

from sieve_ext.message import Message
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
    users.write_text(
        "alice@example.test:{PLAIN}secret:\nscanner@example.test:{PLAIN}secret:\n"
        "alice+boss@example.test:{PLAIN}secret:\n"
    )
    more = MORE.format(folder=tmp_path)

    async def main() -> None:
        async with serving(tmp_path, listener='auth = "optional"', more=more) as server:
            alice = await log_in(server, "alice@example.test")
            assert (await alice.say("MAIL FROM:<alice+x@example.test>")).startswith("250 ")
            await alice.say("RSET")
            assert (await alice.say("MAIL FROM:<bob@example.test>")).startswith("553 5.7.1")
            assert (await alice.say("MAIL FROM:<Alice+Boss@example.test>")).startswith("553 5.7.1")
            scanner = await log_in(server, "SCANNER@example.test")
            assert (await scanner.say("MAIL FROM:<bob@example.test>")).startswith("250 ")

    run(main)


def test_subaddresses_are_those_of_the_domain(tmp_path: Path) -> None:
    """What is no subaddress in a domain may be the address of somebody else."""
    users = tmp_path / "users"
    users.touch(0o640)
    users.write_text("alice@example.test:{PLAIN}secret:\n")

    async def main() -> None:
        async with serving(
            tmp_path,
            listener='auth = "optional"',
            domain='subaddress_delimiter = "-"',
            more=MORE.format(folder=tmp_path),
        ) as server:
            alice = await log_in(server, "alice@example.test")
            assert (await alice.say("MAIL FROM:<alice+x@example.test>")).startswith("553 5.7.1")
            assert (await alice.say("MAIL FROM:<alice-x@example.test>")).startswith("250 ")

    run(main)


def test_the_line_of_a_message_has_the_message_id_that_it_was_given(tmp_path: Path) -> None:
    listener = 'protocol = "submission"\nauth = "none"\ntls = "none"'

    async def main() -> None:
        async with serving(tmp_path, listener=listener) as server:
            client = await server.connect()
            await client.hello()
            with structlog.testing.capture_logs() as lines:
                await client.send("bob@example.test", body="From: <a@x.test>\r\n\r\nhello\r\n")
                await client.send(
                    "bob@example.test", body="From: <a@x.test>\r\nMessage-ID: <1@x>\r\n\r\nhi\r\n"
                )
            logged = [line["message_id"] for line in lines if line["event"] == "message"]
            sent = [Message(found.octets).text("message-id") for found in server.store.delivered]
            assert logged == sent
            assert sent[0] is not None
            assert sent[0].endswith("@mx.test>")
            assert sent[1] == "<1@x>"

    run(main)


def test_what_xforward_says_is_about_one_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, listener='xforward_from = ["127.0.0.1"]') as server:
            client = await server.connect()
            await client.hello()
            with structlog.testing.capture_logs() as lines:
                assert (await client.say("XFORWARD NAME=a.test ADDR=192.0.2.7")).startswith("250 ")
                await client.send("bob@example.test")
                await client.send("bob@example.test")
                assert (await client.say("XFORWARD ADDR=192.0.2.8 HELO=b.test")).startswith("250 ")
                await client.envelope("bob@example.test")
                await client.say("RSET")
                await client.send("bob@example.test")
                assert (await client.say("XFORWARD ADDR=192.0.2.9")).startswith("250 ")
                assert (await client.say("XFORWARD ADDR=[UNAVAILABLE]")).startswith("250 ")
                await client.send("bob@example.test")
            origins = [line.get("origin") for line in lines if line["event"] == "message"]
            assert origins == ["192.0.2.7", None, None, "unknown"]
            assert [line.get("origin_name") for line in lines if line["event"] == "message"][:2] == [
                "a.test",
                None,
            ]

    run(main)
