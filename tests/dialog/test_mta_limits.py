"""What clients hear beyond the limits, and that each place comes back, however a session ends."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mta import assembly
from mta.trace import QUICKLY_READ
from sieve_ext.message.index import HeaderIndex
from tests.dialog.server import Client, Server, run, serving
from tests.peers.certificates import Authority, authority
from tests.peers.greeter import until

LISTENERS = """
[[listener]]
name = "smtps"
protocol = "submission"
tls = "implicit"
auth = "none"
addresses = ["127.0.0.1:2"]
[[listener]]
name = "proxied"
addresses = ["127.0.0.1:3"]
proxy_protocol_from = ["127.0.0.0/8"]
[certificates.main]
chain = "main.pem"
key = "main.key"
"""


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    made = authority(tmp_path)
    made.issue("main", "mx.test")
    return made


def limits(text: str) -> str:
    return f"{LISTENERS}[limits]\nexempt_networks = []\n{text}\n"


async def proxied(server: Server, address: str) -> tuple[Client, str]:
    """A client from `address`, and what it hears first."""
    family, other = ("TCP6", "2001:db8::25") if ":" in address else ("TCP4", "198.51.100.25")
    client = await server.connect("proxied")
    client.writer.write(f"PROXY {family} {address} {other} 40000 25\r\n".encode())
    return client, await client.read_reply()


ADDRESS, NETWORK = "Too many sessions from your address", "Too many sessions from your network"
FAST, FAST_NETWORK = "Too many new sessions from your address", "Too many new sessions from your network"


@pytest.mark.parametrize(
    ("settings", "addresses", "reason", "neighbour"),
    [
        ("sessions_per_client = 2", ["192.0.2.7"] * 3, ADDRESS, "192.0.2.8"),
        ("sessions_per_client = 2", ["2001:db8::7"] * 3, ADDRESS, "2001:db8::8"),
        ("sessions_per_client = 2", ["192.0.2.7", "::ffff:192.0.2.7", "192.0.2.7"], ADDRESS, "192.0.3.7"),
        ("sessions_per_prefix = 2", ["192.0.2.1", "192.0.2.200", "192.0.2.77"], NETWORK, "192.0.3.1"),
        ("sessions_per_prefix = 2", [f"2001:db8:0:1:{n}::1" for n in "abc"], NETWORK, "2001:db8:0:2::1"),
        ("session_rate_per_client = 2", ["192.0.2.7"] * 3, FAST, "192.0.2.8"),
        ("session_rate_per_prefix = 2", [f"2001:db8:0:1::{n}" for n in "abc"], FAST_NETWORK, "192.0.2.1"),
    ],
)
def test_a_client_beyond_a_limit_is_told_which(
    tmp_path: Path, ca: Authority, settings: str, addresses: list[str], reason: str, neighbour: str
) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=limits(settings)) as server:
            for address in addresses[:-1]:
                assert (await proxied(server, address))[1].startswith("220 ")
            client, heard = await proxied(server, addresses[-1])
            assert heard == f"421 4.7.0 {reason}\r\n"
            assert await client.read_reply() == ""
            assert (await proxied(server, neighbour))[1].startswith("220 ")
            assert server.daemon.snapshot()["limits"] == {settings.partition(" ")[0]: 1}

    run(main)


def test_a_listener_has_limits_of_its_own(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        own = "limits = { sessions_per_client = 1 }"
        async with serving(tmp_path, listener=own, more=limits("sessions_per_client = 2")) as server:
            assert (await (await server.connect()).read_reply()).startswith("220 ")
            assert await (await server.connect()).read_reply() == f"421 4.7.0 {ADDRESS}\r\n"
            heard = [(await proxied(server, "192.0.2.7"))[1][:4] for _ in range(3)]
            assert heard == ["220 ", "220 ", "421 "]

    run(main)


def test_messages_and_recipients_of_an_address(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        settings = "messages_per_client = 2\nrecipients_per_client = 3"
        async with serving(tmp_path, more=limits(settings)) as server:
            client = await server.connect()
            await client.hello()
            await client.send("a@example.test")
            await client.envelope("a@example.test", "b@example.test")
            too_many = await client.say("RCPT TO:<c@example.test>")
            assert too_many == "450 4.7.1 Too many recipients, try again later\r\n"
            await client.say("RSET")
            again = await server.connect()  # another session does not help
            await again.hello()
            assert await again.say("MAIL FROM:<a@x.test>") == (
                "450 4.7.1 Too many messages, try again later\r\n"
            )
            other, _ = await proxied(server, "192.0.2.9")
            await other.say("EHLO other.test")
            assert (await other.say("MAIL FROM:<a@x.test>")).startswith("250 ")
            counted = {"messages_per_client": 1, "recipients_per_client": 1}
            assert server.daemon.snapshot()["limits"] == counted

    run(main)


# --- how sessions end -------------------------------------------------------------------------------------

End = Callable[[Server, ssl.SSLContext], Awaitable[object]]


def reset(client: Client) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.cut()


async def greeted(server: Server) -> Client:
    client = await server.connect()
    await client.hello()
    return client


async def resets(server: Server, _: ssl.SSLContext) -> None:
    reset(await greeted(server))


async def closes(server: Server, _: ssl.SSLContext) -> None:
    (await greeted(server)).writer.close()


async def quits(server: Server, _: ssl.SSLContext) -> None:
    assert (await (await greeted(server)).say("QUIT")).startswith("221 ")


async def says_nothing(server: Server, _: ssl.SSLContext) -> None:
    client = await greeted(server)
    assert (await client.read_reply()).startswith("421 4.4.2")
    client.cut()


async def leaves_in_a_message(server: Server, _: ssl.SSLContext) -> None:
    client = await greeted(server)
    await client.envelope("a@example.test")
    await client.say("DATA")
    client.writer.write(b"Subject: x\r\n\r\nhalf a l")
    await client.writer.drain()
    reset(client)


async def talks_early(server: Server, _: ssl.SSLContext) -> None:
    client = await greeted(server)
    assert (await client.say("DATA\r\nNOOP")).startswith("5")
    client.cut()


async def breaks_starttls(server: Server, _: ssl.SSLContext) -> None:
    client = await greeted(server)
    assert (await client.say("STARTTLS")).startswith("220 ")
    client.writer.write(b"this is no handshake\r\n")
    await client.reader.read()


async def forgets_starttls(server: Server, _: ssl.SSLContext) -> None:
    client = await greeted(server)
    assert (await client.say("STARTTLS")).startswith("220 ")
    assert await client.reader.read() == b""


async def forgets_the_handshake(server: Server, _: ssl.SSLContext) -> None:
    assert await (await server.connect("smtps")).reader.read() == b""


async def breaks_the_handshake(server: Server, _: ssl.SSLContext) -> None:
    client = await server.connect("smtps")
    client.writer.write(b"EHLO client.test\r\n")
    await client.reader.read()


async def resets_the_handshake(server: Server, _: ssl.SSLContext) -> None:
    client = await server.connect("smtps")
    client.writer.write(b"\x16\x03\x01\x02\x00\x01")
    await client.writer.drain()
    reset(client)


async def distrusts(server: Server, _: ssl.SSLContext) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await server.connect("smtps", ssl=ssl.create_default_context(), server_hostname="mx.test")


async def leaves_inside_tls(server: Server, trust: ssl.SSLContext) -> None:
    client = await server.connect("smtps", ssl=trust, server_hostname="mx.test")
    await client.hello()
    client.cut()


@pytest.mark.parametrize(
    "end",
    [
        resets, closes, quits, says_nothing, leaves_in_a_message, talks_early, breaks_starttls,
        forgets_starttls, forgets_the_handshake, breaks_the_handshake, resets_the_handshake, distrusts,
        leaves_inside_tls,
    ],
)  # fmt: skip
def test_the_place_of_a_session_comes_back(tmp_path: Path, ca: Authority, end: End) -> None:
    """There is one place, so a place that is lost shuts the client out."""
    more = limits("sessions_per_client = 1") + '[timeouts]\ncommand = "0.5s"\nhandshake = "0.3s"\n'
    more += 'stressed_command = "0.5s"\n'

    async def main() -> None:
        trust = ssl.create_default_context(cafile=ca.file)
        async with serving(tmp_path, more=more) as server:
            node = server.daemon._limits
            for _ in range(2):
                await end(server, trust)
                await until(lambda: node.sessions == 0)
                assert node.counters.open_sessions.count(node.client("127.0.0.1").all_cells) == 0
            assert await (await greeted(server)).say("NOOP") == "250 2.0.0 ok\r\n"

    run(main)


# --- far too many -----------------------------------------------------------------------------------------


def descriptors() -> int:
    """How many this process has open: ours, the daemon's and the store's."""
    return len(os.listdir("/proc/self/fd"))


def test_an_overloaded_server_says_so_and_is_well_again_at_once(
    tmp_path: Path, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times as many clients as have room, most of them slow in their handshakes."""
    made = assembly.overload_settings
    monkeypatch.setattr(assembly, "overload_settings", lambda settings: replace(made(settings), hold=0.1))

    async def main() -> None:
        async with serving(tmp_path, more=f"{LISTENERS}[limits]\nsessions = 20\n") as server:
            inside = await greeted(server)
            await inside.send("a@example.test")  # the connection to the store stays open
            node, before = server.daemon._limits, descriptors()
            crowd = [await server.connect("smtps") for _ in range(120)]
            await until(lambda: node.sessions == 20)
            crowd += [await server.connect() for _ in range(80)]
            for client in crowd[120:]:
                assert await client.read_reply() == "421 4.3.2 The system is busy, try again later\r\n"
            assert node.sessions == 20
            assert server.daemon.snapshot()["limits"]["overloaded"] > 80
            assert (await inside.send("a@example.test")).startswith("250 ")  # who is in gets its work done
            for number, client in enumerate(crowd):
                (reset if number % 2 else Client.cut)(client)
            await until(lambda: node.sessions == 1)
            while not (await (client := await server.connect()).read_reply()).startswith("220 "):
                client.cut()
                await asyncio.sleep(0.05)
            await client.say("EHLO client.test")
            assert (await client.send("b@example.test")).startswith("250 ")
            client.cut()
            # Fewer when what earlier tests have left is collected meanwhile.
            await until(lambda: node.sessions == 1 and descriptors() <= before)

    run(main)


class Counted(HeaderIndex):
    """Knows how much was indexed."""

    largest = 0

    def __init__(self, head: bytes) -> None:
        Counted.largest = max(Counted.largest, len(head))
        HeaderIndex.__init__(self, head)


@pytest.mark.parametrize("count", [10_000, 100_000, 400_000])
def test_a_header_beyond_the_limits_costs_no_more_the_larger_it_is(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sieve_ext.message.message.HeaderIndex", Counted)
    monkeypatch.setattr(Counted, "largest", 0)

    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            reply = await client.say(b"Message-ID: <1@x>\r\n" + b"A:\r\n" * count + b"\r\nhello\r\n.\r\n")
            assert reply.startswith("552 5.3.4 ")
            assert 0 < Counted.largest <= QUICKLY_READ

    run(main)
