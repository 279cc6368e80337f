"""Clients that do to a connection what nobody should: nothing of them stays, nothing grows without end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import os
import socket
import ssl
import struct
from pathlib import Path

import pytest

from mta import metrics
from mta.content import MessageBuffer
from mta.net.connection import READ_AHEAD, Connection
from mta.policy.ground import Ground
from mta.receiver import Receiver
from tests.dialog.backend import ScriptedStore
from tests.dialog.server import Client, Server, run, serving
from tests.peers.certificates import Authority, authority

TLS = """
[certificates.main]
chain = "{chain}"
key = "{key}"
names = ["mx.test"]
[tls]
poll_interval = "0s"
[timeouts]
handshake = "0.5s"
stressed_command = "0.5s"
"""


def certificates(ca: Authority) -> str:
    made = ca.issue("mx", "mx.test")
    return TLS.format(chain=made.chain, key=made.key)


async def gone(server: Server) -> None:
    """Wait until the server knows of no session any more, nor do the limits."""
    async with asyncio.timeout(30):
        while len(server.daemon._connections) or server.daemon._limits.sessions:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert server.daemon.snapshot()["sessions_open"] == {"smtp": 0.0}


def reset(client: Client) -> None:
    """Close with a RST instead of a FIN."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.cut()


@pytest.mark.parametrize("end", ["reset", "close", "silence", "garbage"])
def test_a_client_that_leaves_in_the_handshake_of_starttls_leaves_nothing(tmp_path: Path, end: str) -> None:
    more = certificates(authority(tmp_path))

    async def main() -> None:
        listener = 'tls = "starttls"\ncertificates = ["main"]'
        async with serving(tmp_path, listener=listener, more=more) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.say("STARTTLS")).startswith("220 ")
            await asyncio.sleep(0.05)
            if end == "reset":
                reset(client)
            elif end == "close":
                client.writer.close()
            elif end == "garbage":
                client.writer.write(b"EHLO again\r\n")
            await gone(server)

    run(main)


def test_a_client_that_was_sent_away_does_not_stay_by_talking_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mta.net.connection.LINGER", 1.5)

    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.say("GET / HTTP/1.1")).startswith("500 5.5.1")
            talk = asyncio.create_task(drip(client, b"x", 0.2))
            try:
                await gone(server)
            finally:
                talk.cancel()

    run(main)


def test_a_command_line_in_drips_is_no_way_to_stay(tmp_path: Path) -> None:
    more = '[timeouts]\ncommand = "1.5s"\nstressed_command = "1.5s"'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            talk = asyncio.create_task(drip(client, b"N", 0.2))
            async with asyncio.timeout(30):
                assert (await client.read_reply()).startswith("421 4.4.2")
            talk.cancel()

    run(main)


async def drip(client: Client, octets: bytes, seconds: float) -> None:
    while True:
        client.writer.write(octets)
        await asyncio.sleep(seconds)


def test_a_client_that_sends_and_never_reads_fills_no_memory_and_is_cut(tmp_path: Path) -> None:
    more = '[timeouts]\nwrite = "3s"\nstressed_data = "3s"\n[limits]\nidle_commands = 100000000'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            client = await server.connect(limit=1024)
            await client.hello()
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            talk = asyncio.create_task(flood(client))
            (connection,) = server.daemon._connections._open
            most = 0
            async with asyncio.timeout(60):
                while len(server.daemon._connections):
                    most = max(most, connection._smtp.buffered)
                    await asyncio.sleep(0.05)
            assert 0 < most < 1024 * 1024
            talk.cancel()

    run(main)


def test_a_client_that_reads_late_gets_all_replies(tmp_path: Path) -> None:
    number = 300_000

    async def main() -> None:
        async with serving(tmp_path, more="[limits]\nidle_commands = 100000000") as server:
            client = await server.connect()
            await client.hello()
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(b"RSET\r\n" * number)
            await asyncio.sleep(0.5)
            client.reader._transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(90):
                await client.reader.readexactly(len(b"250 2.0.0 ok\r\n") * number)
            assert (await client.say("NOOP")).startswith("250 ")

    run(main)


def test_what_is_sent_ahead_while_a_message_is_delivered_waits_outside(tmp_path: Path) -> None:
    store = ScriptedStore(final_delay=2)

    async def main() -> None:
        async with serving(tmp_path, store=store, more="[limits]\nidle_commands = 100000000") as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            (connection,) = server.daemon._connections._open
            client.writer.write(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            client.writer.write(b"RSET\r\n" * 1_000_000)
            for _ in range(20):
                await asyncio.sleep(0.05)
                assert connection._smtp.buffered < 1024 * 1024
            assert connection._smtp.buffered > READ_AHEAD
            assert await client.read_reply() == "250 2.0.0 kept\r\n"
            client.cut()

    run(main)


def test_a_message_in_drips_is_no_way_to_stay(tmp_path: Path) -> None:
    more = '[timeouts]\nmessage = "2s"'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            talk = asyncio.create_task(drip(client, b"Subject: x\r\n", 0.2))
            async with asyncio.timeout(30):
                assert (await client.read_reply()).startswith("421 4.4.2")
            talk.cancel()

    run(main)


async def flood(client: Client) -> None:
    try:
        while True:
            client.writer.write(b"RSET\r\n" * 10_000)
            await client.writer.drain()
    except ConnectionError:
        return


def test_a_chunk_that_nobody_asked_for_has_its_time(tmp_path: Path) -> None:
    more = '[timeouts]\nmessage = "10s"'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            group = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@elsewhere.test>\r\nBDAT 20 LAST\r\n0123456789"
            assert (await client.say(group, 2)).splitlines()[1].startswith("550 5.4.4")
            await asyncio.sleep(2.5)
            assert (await client.say(b"0123456789")).startswith("554 5.5.1")

    run(main)


def test_a_client_that_leaves_within_a_message_leaves_no_file_and_no_object(tmp_path: Path) -> None:
    more = f'spill_directory = "{tmp_path}"\n' + users(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, listener='auth = "optional"', more=more) as server:
            others = sessions()  # Python 3.13 keeps some of other tests
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            client.writer.write(b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 200_000)
            async with asyncio.timeout(30):
                while not spilled(tmp_path):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            gc.collect()
            gc.disable()
            try:
                client.cut()
                await gone(server)
                assert not spilled(tmp_path)
                assert all(any(found is other for other in others) for found in sessions())
            finally:
                gc.enable()

    run(main)


def test_a_client_that_is_lost_before_its_message_is_looked_at_is_no_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            (connection,) = server.daemon._connections._open
            connection._receiver.lost(None)
            client.writer.write(b"Subject: x\r\n\r\n.\r\n")
            assert (await client.read_reply()).startswith("451 ")
            assert server.store.delivered == []
            assert metrics.value(server.daemon.snapshot(), "internal_errors") == 0

    run(main)


def sessions() -> list[object]:
    """What is in memory of sessions."""
    return [found for found in gc.get_objects() if isinstance(found, (Connection, Receiver))]


def spilled(folder: Path) -> list[str]:
    """The files without a name in `folder` that this process has open."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [path for path in found if path.startswith(str(folder)) and path.endswith(" (deleted)")]


USERS = """
[auth]
backend = "users"
users_file = "{folder}/users"
require_tls = false
"""


def users(folder: Path) -> str:
    path = folder / "users"
    path.touch(0o640)
    path.write_text("alice@example.test:{PLAIN}secret:\nbob@example.test:{PLAIN}secret:\n")
    return USERS.format(folder=folder)


async def log_in(client: Client, user: str) -> str:
    response = base64.b64encode(f"\0{user}\0secret".encode()).decode()
    return await client.say(f"AUTH PLAIN {response}")


def test_a_login_before_starttls_is_forgotten(tmp_path: Path) -> None:
    """RFC 3207 section 4.2: whoever sat on the line may have logged in."""
    ca = authority(tmp_path)
    more = users(tmp_path) + certificates(ca)
    context = ssl.create_default_context(cafile=ca.file)

    async def main() -> None:
        listener = 'tls = "starttls"\ncertificates = ["main"]\nauth = "optional"'
        async with serving(tmp_path, listener=listener, more=more) as server:
            client = await server.connect()
            assert "AUTH" in await client.hello()
            assert (await log_in(client, "bob@example.test")).startswith("235 ")
            assert (await client.say("STARTTLS")).startswith("220 ")
            await client.writer.start_tls(context, server_hostname="mx.test")
            assert "AUTH" in await client.say("EHLO client.test")
            assert (await log_in(client, "alice@example.test")).startswith("235 ")
            assert (await client.say("MAIL FROM:<bob@example.test>")).startswith("553 5.7.1")

    run(main)


def test_the_client_that_xclient_names_has_no_addresses_of_the_one_before(tmp_path: Path) -> None:
    more = users(tmp_path)
    path = tmp_path / "users"
    path.write_text("alice@example.test:{PLAIN}secret:addresses=sales@example.test\n")

    async def main() -> None:
        listener = 'xclient_from = ["127.0.0.1"]\nauth = "optional"'
        async with serving(tmp_path, listener=listener, more=more) as server:
            client = await server.connect()
            await client.hello()
            assert (await log_in(client, "alice@example.test")).startswith("235 ")
            assert (await client.say("MAIL FROM:<sales@example.test>")).startswith("250 ")
            await client.say("RSET")
            assert (await client.say("XCLIENT ADDR=192.0.2.7 LOGIN=bob@example.test")).startswith("220 ")
            await client.say("EHLO bob.test")
            assert (await client.say("MAIL FROM:<sales@example.test>")).startswith("553 5.7.1")

    run(main)


def test_a_bug_before_the_first_await_is_a_temporary_answer_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug of ours")

    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.say("MAIL FROM:<a@x.test>")).startswith("250 ")
            with monkeypatch.context() as patch:
                patch.setattr(Ground, "rcpt", broken)
                assert (await client.say("RCPT TO:<bob@example.test>")).startswith("451 4.3.0")
            assert (await client.say("RCPT TO:<bob@example.test>")).startswith("250 ")
            assert (await client.say("DATA")).startswith("354 ")
            with monkeypatch.context() as patch:
                patch.setattr(MessageBuffer, "append", broken)
                assert (await client.say("Subject: x\r\n\r\n.")).startswith("451 4.3.0")
            with monkeypatch.context() as patch:
                patch.setattr(Receiver, "tick", broken)
                await asyncio.sleep(1.2)
            assert (await client.send("bob@example.test")).startswith("250 ")
            assert metrics.value(server.daemon.snapshot(), "internal_errors") >= 3
            assert len(server.store.delivered) == 1

    run(main)


def test_a_handshake_does_not_hold_up_the_end(tmp_path: Path) -> None:
    more = certificates(authority(tmp_path)).replace('"0.5s"', '"20s"', 1)
    tls = (
        '\n[[listener]]\nname = "tls"\ntls = "implicit"\naddresses = ["127.0.0.1:2"]\ncertificates = ["main"]'
    )

    async def main() -> None:
        async with serving(tmp_path, listener=tls, more=more) as server:
            silent = await server.connect("tls")
            await asyncio.sleep(0.1)
            idle = await server.connect()
            await idle.hello()
            async with asyncio.timeout(15):
                await server.daemon.drain(0.5)
            assert (await idle.read_reply()).startswith("421 4.3.2")
            assert await silent.reader.read() == b""

    run(main)
