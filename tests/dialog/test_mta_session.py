"""Sessions with the whole daemon over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from mta import metrics
from mta.envelope import Envelope
from mta.session import Session
from tests.dialog.backend import ScriptedStore
from tests.dialog.queueing import STRANGERS
from tests.dialog.server import Client, run, serving


def test_a_message_goes_to_the_store_and_its_reply_to_the_client(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            answer = await client.hello()
            for keyword in ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "PRDR"):
                assert keyword in answer
            assert await client.send("bob@example.test") == "250 2.0.0 kept\r\n"
            assert (await client.say("QUIT")).startswith("221 2.0.0")
            assert await client.reader.read() == b""
            (message,) = server.store.delivered
            assert (message.sender, message.recipient) == ("a@x.test", "bob@example.test")
            head, _, body = message.octets.partition(b"Subject: hi\r\n")
            assert body == b"\r\nhello\r\n"
            assert head.startswith(b"Received: from client.test ([127.0.0.1])")
            assert b"by mx.test (Tamis) with ESMTP id" in head
            assert b"for <bob@example.test>" in head

    run(main)


def test_a_printer_that_has_no_domain_gets_that_of_its_listener(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, listener='qualify_domain = "Example.TEST"') as server:
            client = await server.connect()
            await client.hello()
            assert (await client.say("MAIL FROM:<scanner>")).startswith("250 ")
            assert (await client.say("RCPT TO:<bob>")).startswith("250 ")
            assert (await client.say("RCPT TO:<.>")).startswith("501 5.1.3 ")
            assert (await client.say("DATA")).startswith("354 ")
            assert (await client.say("Subject: scan\r\n\r\n.")).startswith("250 ")
            (message,) = server.store.delivered
            assert (message.sender, message.recipient) == ("scanner@example.test", "bob@example.test")

    run(main)


def test_who_only_looks_like_a_user_is_nobody(tmp_path: Path) -> None:
    """A login prepares names (RFC 8265), an address is what it is: nobody would read the mail."""
    users = tmp_path / "users"
    users.write_text("bob@example.test:{PLAIN}x::::\n")
    users.chmod(0o640)

    async def main() -> None:
        more = f'[auth]\nbackend = "users"\nusers_file = "{users}"'
        async with serving(tmp_path, recipients="users", more=more) as server:
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@x.test> SMTPUTF8")
            for name in ("b\u00adob", "\uff42ob", "b\u200dob"):
                assert (await client.say(f"RCPT TO:<{name}@example.test>")).startswith("550 5.1.1")
            assert (await client.say("RCPT TO:<BOB@example.test>")).startswith("250 2.1.5")

    run(main)


def test_a_domain_of_the_world_needs_no_smtputf8_of_the_store(tmp_path: Path) -> None:
    """Clients ask for SMTPUTF8 whatever they send; our own Received is what any store can take."""
    more = '[domains."b\u00fccher.test"]\nrecipients = "all"\nbackend = "store"\n'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("x@b\u00fccher.test", parameters=" SMTPUTF8")
            assert (await client.say("DATA")).startswith("354 ")
            assert (await client.say("Subject: hi\r\n\r\n.")).startswith("250 2.0.0 kept")
            assert b"for <x@xn--bcher-kva.test>" in server.store.delivered[0].octets

    run(main)


def test_dots_are_stuffed_once_each_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            await client.send("bob@example.test", body="Subject: x\r\n\r\n..\r\n...two\r\nend\r\n")
            assert server.store.delivered[0].octets.endswith(b"\r\n\r\n.\r\n..two\r\nend\r\n")

    run(main)


def test_a_message_cut_into_octets(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await client.read_reply()
            for group in (
                "EHLO c.test\r\n",
                "MAIL FROM:<a@x.test>\r\n",
                "RCPT TO:<bob@example.test>\r\n",
                "DATA\r\n",
            ):
                for octet in group:
                    client.writer.write(octet.encode())
                    await asyncio.sleep(0)
                assert (await client.read_reply())[0] in "23"
            for octet in "Subject: x\r\n\r\nhello\r\n.\r\n":
                client.writer.write(octet.encode())
                await asyncio.sleep(0)
            assert (await client.read_reply()).startswith("250 2.0.0 kept")

    run(main)


def test_the_stores_refusals_are_passed_on_unchanged(tmp_path: Path) -> None:
    store = ScriptedStore(final_reply=lambda address: "552 5.2.2 <full> mailbox is full")

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            await client.hello()
            assert await client.send("bob@example.test") == "552 5.2.2 <full> mailbox is full\r\n"
            store.final_reply = lambda address: "452 4.2.2 nearly full"
            assert await client.send("bob@example.test") == "452 4.2.2 nearly full\r\n"
            store.rcpt_reply = lambda address: "550 5.1.1 who?"
            assert await client.send("bob@example.test") == "550 5.1.1 who?\r\n"

    run(main)


def mixed(address: str) -> str:
    local = address.partition("@")[0]
    return {"ok": "250 2.0.0 kept", "full": "552 5.2.2 full", "busy": "451 4.3.2 busy"}[local]


@pytest.mark.parametrize(
    ("recipients", "final"),
    [
        (("ok", "ok"), "250 2.0.0"),
        (("full", "full"), "552 5.2.2"),
        (("busy", "busy"), "451 4.3.2"),
        (("full", "busy"), "451 4.3.2"),
        (("ok", "busy"), "451 4.3.2"),
        (("ok", "full"), "552 5.2.2"),
        (("ok", "full", "busy"), "451 4.3.2"),
    ],
)
def test_mixed_outcomes_without_prdr(tmp_path: Path, recipients: tuple[str, ...], final: str) -> None:
    async def main() -> None:
        async with serving(tmp_path, store=ScriptedStore(final_reply=mixed)) as server:
            client = await server.connect()
            await client.hello()
            addresses = [f"{name}@example.test" for name in recipients]
            reply = await client.send(*addresses)
            assert reply.startswith(final)
            if "ok" in recipients and not final.startswith("2"):
                failed = {name for name in recipients if name != "ok" and mixed(f"{name}@x")[0] == final[0]}
                for name in failed:
                    assert f"<{name}@example.test>" in reply
                assert "<ok@example.test>" not in reply

    run(main)


def test_prdr_tells_each_recipients_outcome(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, store=ScriptedStore(final_reply=mixed)) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope(
                "ok@example.test", "full@example.test", "busy@example.test", parameters=" PRDR"
            )
            await client.say("DATA")
            replies = (await client.say("Subject: x\r\n\r\n.", 5)).splitlines()
            assert [line[:9] for line in replies[:4]] == ["353 repli", "250 2.0.0", "552 5.2.2", "451 4.3.2"]
            assert replies[4].startswith("250 2.0.0")

    run(main)


def test_recipients_do_not_read_of_each_other(tmp_path: Path) -> None:
    """RFC 5321 section 7.2: with several of them Received names none."""

    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            await client.send("ann@example.test")
            await client.send("ann@example.test", "bob@example.test")
            alone, *together = (one.octets for one in server.store.delivered)
            assert b" for <ann@example.test>;" in alone
            for octets in together:
                assert b"ann@" not in octets
                assert b"bob@" not in octets

    run(main)


def test_lmtp_in_answers_each_recipient(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(
            tmp_path, listener='protocol = "lmtp"', store=ScriptedStore(final_reply=mixed)
        ) as server:
            client = await server.connect()
            await client.read_reply()
            assert (await client.say("LHLO c.test")).startswith("250-")
            text = await client.send("ok@example.test", "full@example.test", replies=2)
            assert [line[:9] for line in text.splitlines()] == ["250 2.0.0", "552 5.2.2"]
            assert b" with LMTP id " in server.store.delivered[0].octets

    run(main)


def test_a_retry_after_a_mixed_answer_makes_no_second_copy(tmp_path: Path) -> None:
    store = ScriptedStore(final_reply=mixed)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.send("ok@example.test", "busy@example.test")).startswith("451 ")
            assert [message.recipient for message in store.delivered] == ["ok@example.test"]
            store.final_reply = lambda address: "250 2.0.0 kept"
            assert (await client.send("ok@example.test", "busy@example.test")).startswith("250 ")
            assert [message.recipient for message in store.delivered] == [
                "ok@example.test",
                "busy@example.test",
            ]
            # Another message to the same recipient is not the same message.
            assert (await client.send("ok@example.test", body="Subject: 2\r\n\r\n")).startswith("250 ")
            assert len(store.delivered) == 3
            assert [topic for topic, _ in server.link.published] == ["unacknowledged"]

    run(main)


def test_a_client_that_leaves_before_the_answer_gets_250_at_its_retry(tmp_path: Path) -> None:
    store = ScriptedStore(final_delay=0.3)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            client.writer.write(b"Message-ID: <1@x.test>\r\n\r\nhello\r\n.\r\n")
            await store.data_seen.wait()
            client.cut()
            while not server.daemon._unacknowledged:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert len(store.delivered) == 1
            again = await server.connect()
            await again.hello()
            reply = await again.send("bob@example.test", body="Message-ID: <1@x.test>\r\n\r\nhello\r\n")
            assert reply == "250 2.0.0 already delivered\r\n"
            assert len(store.delivered) == 1

    run(main)


def test_a_client_that_leaves_before_the_message_is_handed_over_gets_nothing_delivered(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            client.writer.write(b"Subject: x\r\n\r\nhel")
            await client.writer.drain()
            client.cut()
            await asyncio.sleep(0.2)
            assert server.store.delivered == []
            assert server.link.published == []

    run(main)


@pytest.mark.parametrize("way", ["leaves", "resets", "is silent", "in chunks", "between messages"])
def test_a_message_that_breaks_off_is_told(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks why a large message does not arrive finds that much of it has come."""
    told: list[tuple[str, int, str]] = []

    def note(session: Session, envelope: Envelope | None, size: int, error: Exception | None) -> None:
        sender = envelope.sender.text if envelope is not None else "?"
        told.append((sender, size, type(error).__name__))

    async def main() -> None:
        more = '[timeouts]\ndata = "1s"\nstressed_data = "1s"'
        async with serving(tmp_path, more=more) as server:
            monkeypatch.setattr(server.daemon._journal, "broken_off", note)
            client = await server.connect()
            await client.hello()
            if way == "between messages":
                await client.send("bob@example.test")
            await client.envelope("bob@example.test")
            if way == "in chunks":
                assert (await client.say("BDAT 15\r\nSubject: x\r\n\r\nhe")).startswith("250 ")
            elif way != "between messages":
                await client.say("DATA")
                client.writer.write(b"Subject: x\r\n\r\nhel\r\n")
                await client.writer.drain()
                await asyncio.sleep(0.1)
            if way == "is silent":
                assert (await client.read_reply()).startswith("421 4.4.2")
            if way == "resets":
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.cut()
            while metrics.value(server.daemon.snapshot(), "sessions_open"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    run(main)
    assert told == {
        "leaves": [("a@x.test", 17, "NoneType")],
        "resets": [("a@x.test", 17, "ConnectionResetError")],
        "is silent": [("?", 17, "NoneType")],
        "in chunks": [("a@x.test", 15, "NoneType")],
        "between messages": [],
    }.get(way)


def test_a_client_that_leaves_while_the_store_is_slow_gets_nothing_delivered(tmp_path: Path) -> None:
    store = ScriptedStore(rcpt_delay=0.3)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            client.writer.write(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            while not any(command.startswith("MAIL") for command in store.commands):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            client.cut()
            await asyncio.sleep(0.6)
            assert store.delivered == []
            assert server.link.published == []
            again = await server.connect()
            await again.hello()
            assert await again.send("bob@example.test") == "250 2.0.0 kept\r\n"

    run(main)


def test_the_deadline_is_a_temporary_answer(tmp_path: Path) -> None:
    store = ScriptedStore(final_delay=5)

    async def main() -> None:
        more = '[delivery]\ndeadline = "1s"'
        async with serving(tmp_path, store=store, backend='connect_timeout = "0.5s"', more=more) as server:
            client = await server.connect()
            await client.hello()
            started = asyncio.get_running_loop().time()
            reply = await client.send("bob@example.test")
            assert reply.startswith("451 4.4.")
            assert 0.8 < asyncio.get_running_loop().time() - started < 4.5

    run(main)


def test_a_store_that_is_away_is_a_temporary_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            port = server.store.port
            await server.store.stop()
            client = await server.connect()
            await client.hello()
            assert (await client.send("bob@example.test")).startswith("451 4.4.1")
            await server.store.start(port)
            await asyncio.sleep(0.15)
            assert (await client.send("bob@example.test")).startswith("250 2.0.0")

    run(main)


@pytest.mark.parametrize("verb", ["LHLO", "MAIL", "RCPT", "DATA", "."])
def test_a_store_that_cuts_the_connection_is_a_temporary_answer(tmp_path: Path, verb: str) -> None:
    async def main() -> None:
        async with serving(tmp_path, store=ScriptedStore(close_at=verb)) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.send("bob@example.test")).startswith("451 4.4.")
            assert server.store.delivered == []

    run(main)


def test_relaying_is_denied_to_strangers(tmp_path: Path) -> None:
    async def main() -> None:
        more = '[policy]\ntrusted_networks = ["192.0.2.0/24"]'
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@example.test>")
            for address in (
                "b@other.test",
                "b%other.test@example.test.other.test",
                "@example.test:b@other.test",
                '"b@other.test"@elsewhere.test',
                "b@[192.0.2.1]",
            ):
                assert (await client.say(f"RCPT TO:<{address}>")).startswith("550 5.7.1"), address
            for address in ("bob@example.test", "postmaster", "Postmaster@[127.0.0.1]", "abuse@EXAMPLE.test"):
                assert (await client.say(f"RCPT TO:<{address}>")).startswith("250 2.1.5"), address

    run(main)


def test_the_store_is_asked_for_recipients_and_its_answer_remembered(tmp_path: Path) -> None:
    store = ScriptedStore(rcpt_reply=lambda a: "250 2.1.5 ok" if a.startswith("bob") else "550 5.1.1 unknown")

    async def main() -> None:
        async with serving(tmp_path, recipients="ask", store=store) as server:
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@x.test>")
            for _ in range(3):
                assert (await client.say("RCPT TO:<nobody@example.test>")).startswith("550 5.1.1 unknown")
            assert (await client.say("RCPT TO:<bob@example.test>")).startswith("250 2.1.5")
            assert (await client.say("RCPT TO:<postmaster@example.test>")).startswith("250 2.1.5")
            asked = [command for command in store.commands if command.startswith("RCPT")]
            assert [command.split()[1] for command in asked] == [
                "TO:<nobody@example.test>",
                "TO:<bob@example.test>",
                "TO:<postmaster@example.test>",
            ]

    run(main)


def test_a_temporary_answer_of_the_store_about_a_recipient_is_passed_on(tmp_path: Path) -> None:
    store = ScriptedStore(rcpt_reply=lambda address: "451 4.3.0 database away")

    async def main() -> None:
        async with serving(tmp_path, recipients="ask", store=store, more=STRANGERS) as server:
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<bob@example.test>")).startswith("451 4.3.0")
            store.rcpt_reply = lambda address: "250 2.1.5 ok"
            assert (await client.say("RCPT TO:<bob@example.test>")).startswith("250 2.1.5")

    run(main)


@pytest.mark.parametrize("proxy", [False, True])
def test_who_talks_at_once_is_sent_away_without_a_delay(tmp_path: Path, proxy: bool) -> None:
    """Its words are there when it is accepted."""

    async def main() -> None:
        listener = 'proxy_protocol_from = ["127.0.0.1"]\n' if proxy else ""
        async with serving(tmp_path, listener=listener) as server:
            sock = socket.create_connection(("127.0.0.1", server.ports["smtp"]))
            sock.sendall((b"PROXY UNKNOWN\r\n" if proxy else b"") + b"EHLO early.test\r\n")
            client = Client(*await asyncio.open_connection(sock=sock))
            assert (await client.read_reply()).startswith("554 5.5.0")
            assert await client.reader.read() == b""
            client.cut()

    run(main)


def test_early_talkers_are_sent_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, listener='greet_delay = "0.3s"') as server:
            client = await server.connect()
            assert (await client.say("EHLO early.test")).startswith("554 5.5.0")
            assert await client.reader.read() == b""
            patient = await server.connect()
            assert (await patient.read_reply()).startswith("220 ")

    run(main)


def test_errors_slow_a_client_down_and_end_its_session(tmp_path: Path) -> None:
    more = '[limits]\nerrors_before_delay = 1\nerror_delay = "0.8s"\nerrors_per_session = 3'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            loop = asyncio.get_running_loop()
            started = loop.time()
            assert (await client.say("FOO")).startswith("500 ")
            assert loop.time() - started < 0.7
            assert (await client.say("FOO")).startswith("500 ")
            assert loop.time() - started >= 0.79
            assert (await client.say("FOO")).startswith("500 ")
            assert (await client.say("FOO")).startswith("421 4.7.0")
            assert await client.reader.read() == b""

    run(main)


def test_a_silent_client_is_told_and_cut(tmp_path: Path) -> None:
    more = '[timeouts]\ncommand = "0.5s"\ndata = "0.5s"\nstressed_command = "0.5s"\nstressed_data = "0.5s"'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            idle = await server.connect()
            await idle.hello()
            in_data = await server.connect()
            await in_data.hello()
            await in_data.envelope("bob@example.test")
            await in_data.say("DATA")
            in_data.writer.write(b"Subject: x\r\n")
            for client in (idle, in_data):
                assert (await client.read_reply()).startswith("421 4.4.2")
                assert await client.reader.read() == b""
            assert server.store.delivered == []

    run(main)


def test_a_client_that_does_not_read_is_cut(tmp_path: Path) -> None:
    more = '[timeouts]\nwrite = "0.5s"\n[limits]\nidle_commands = 1000000'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            client = await server.connect(limit=1024)
            await client.hello()
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            with pytest.raises(ConnectionError):
                await flood(client)

    run(main)


async def flood(client: Client) -> None:
    while True:
        client.writer.write(b"RSET\r\n" * 10_000)
        await client.writer.drain()


def test_draining_tells_idle_sessions_and_lets_others_finish(tmp_path: Path) -> None:
    store = ScriptedStore(final_delay=0.5)

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            idle = await server.connect()
            await idle.hello()
            busy = await server.connect()
            await busy.hello()
            await busy.envelope("bob@example.test")
            await busy.say("DATA")
            busy.writer.write(b"Subject: x\r\n\r\n.\r\n")
            await store.data_seen.wait()
            draining = asyncio.create_task(server.daemon.drain(60))
            await asyncio.sleep(0.05)
            with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the kernel likes
                await (await server.connect()).say("EHLO late.test")
            assert (await busy.read_reply()).startswith("250 2.0.0 kept")
            assert (await idle.read_reply()).startswith("421 4.3.2")
            await draining

    run(main)


def test_xclient_changes_who_the_client_is(tmp_path: Path) -> None:
    listener = 'xclient_from = ["127.0.0.1"]\nxforward_from = ["127.0.0.1"]'
    more = '[policy]\nrelay = "out"\n[relays.out]\nhost = "127.0.0.1"\nport = 1\ntls = "none"'

    async def main() -> None:
        async with serving(tmp_path, listener=listener, more=more) as server:
            client = await server.connect()
            assert "XCLIENT" in await client.hello()
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<b@other.test>")).startswith("250")
            await client.say("RSET")
            told = "ADDR=192.0.2.7 NAME=spike.test HELO=other.test PROTO=ESMTP"
            assert (await client.say(f"XCLIENT {told}")).startswith("220 ")
            assert (await client.say("MAIL FROM:<a@x.test>")).startswith("503 ")
            assert "XFORWARD" in await client.say("EHLO spike.test")
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<b@other.test>")).startswith("550 5.7.1")
            await client.say("RSET")
            assert (await client.send("bob@example.test")).startswith("250 ")
            assert b"from spike.test (spike.test [192.0.2.7])" in server.store.delivered[0].octets

    run(main)


@pytest.mark.parametrize(
    ("header", "believed"),
    [
        (b"", False),
        (b"PROXY TCP4 192.0.2.8 192.0.2.1 4711 25\r\n", True),
        (b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 25\r\n", False),
    ],
)
def test_only_those_named_are_believed(tmp_path: Path, header: bytes, believed: bool) -> None:
    """Behind a load balancer it is its client who is named."""
    listener = 'xclient_from = ["192.0.2.8"]\nxforward_from = ["192.0.2.8"]'
    if header:
        listener += '\nproxy_protocol_from = ["127.0.0.1"]'

    async def main() -> None:
        async with serving(tmp_path, listener=listener) as server:
            client = await server.connect()
            client.writer.write(header)
            offered = await client.hello()
            for command in ("XFORWARD", "XCLIENT"):
                assert (command in offered) is believed
                reply = await client.say(f"{command} ADDR=192.0.2.7")
                assert reply.startswith("2" if believed else "550 5.7.0 ")

    run(main)


def test_a_proxy_header_names_the_client(tmp_path: Path) -> None:
    header = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", 12)
    header += socket.inet_aton("192.0.2.9") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 25)

    async def main() -> None:
        async with serving(tmp_path, listener='proxy_protocol_from = ["127.0.0.1"]') as server:
            for octets, address in (
                (b"PROXY TCP4 192.0.2.8 192.0.2.1 4711 25\r\n", b"[192.0.2.8]"),
                (header, b"[192.0.2.9]"),
            ):
                client = await server.connect()
                client.writer.write(octets)
                await client.hello()
                await client.send("bob@example.test")
                assert b"from client.test (" + address + b")" in server.store.delivered[-1].octets

    run(main)


def test_a_large_message_passes_through_a_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            server.store.final_delay = 0
            client = await server.connect()
            await client.hello()
            line = b"0123456789" * 7 + b"\r\n"
            body = b"Subject: large\r\n\r\n" + line * 14_000
            await client.envelope("bob@example.test")
            await client.say("DATA")
            client.writer.write(body + b".\r\n")
            assert (await client.read_reply()).startswith("250 2.0.0 kept")
            assert server.store.delivered[0].octets.endswith(body)

    run(main)


def test_a_full_disk_is_a_temporary_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, more="") as server:
            settings = server.daemon._config.process
            assert settings.spill_directory
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            await client.say("DATA")
            import mta.content

            def full(self: object, chunk: bytes) -> None:
                raise mta.content.SpillError("no space left on device")

            original = mta.content.MessageBuffer._write
            mta.content.MessageBuffer._write = full  # type: ignore[method-assign]
            try:
                line = b"0123456789" * 7 + b"\r\n"
                client.writer.write(b"Subject: x\r\n\r\n" + line * 20_000 + b".\r\n")
                assert (await client.read_reply()).startswith("452 4.3.1")
            finally:
                mta.content.MessageBuffer._write = original  # type: ignore[method-assign]
            assert server.store.delivered == []
            assert (await client.send("bob@example.test")).startswith("250 ")

    run(main)


def test_chunks_all_in_one_group(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            group = (
                b"MAIL FROM:<a@x.test>\r\nRCPT TO:<bob@example.test>\r\nBDAT 14\r\nSubject: x\r\n\r\n"
                b"BDAT 7 LAST\r\nhello\r\nQUIT\r\n"
            )
            replies = (await client.say(group, 5)).splitlines()
            assert [line[:3] for line in replies] == ["250", "250", "250", "250", "221"]
            assert server.store.delivered[0].octets.endswith(b"Subject: x\r\n\r\nhello\r\n")

    run(main)


def test_a_looping_message_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, more="[message]\nmax_hops = 10") as server:
            client = await server.connect()
            await client.hello()
            reply = await client.send("bob@example.test", body="Received: x\r\n" * 11 + "\r\nhi\r\n")
            assert reply.startswith("554 5.4.6")
            assert server.store.delivered == []

    run(main)


def test_a_bug_is_a_temporary_answer_and_the_session_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            transport = server.daemon._transports["backend:store"]

            async def broken(*arguments: object) -> None:
                raise RuntimeError("a bug of ours")

            original = transport.deliver
            transport.deliver = broken  # type: ignore[method-assign, assignment]
            assert (await client.send("bob@example.test")).startswith("451 4.3.0")
            transport.deliver = original  # type: ignore[method-assign]
            assert (await client.send("bob@example.test")).startswith("250 2.0.0")
            assert metrics.value(server.daemon.snapshot(), "internal_errors") == 1

    run(main)


@pytest.mark.parametrize(
    "read", [False, True], ids=["closes before the answer comes", "closes after it has read it"]
)
@pytest.mark.parametrize("ahead", [b"", b"QUIT\r\n", b"MAIL FROM:<a@x.test>\r\n"])
def test_a_client_that_closes_as_the_answer_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: bool, ahead: bytes
) -> None:
    """Both ends look alike: a FIN. What it has sent `ahead`, as Postfix does with QUIT, is no sign."""

    async def main() -> None:
        async with serving(tmp_path) as server:
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", server.ports["smtp"])) as sock:
                sock.setblocking(False)

                async def say(text: bytes) -> bytes:
                    if text:
                        await loop.sock_sendall(sock, text)
                    return await loop.sock_recv(sock, 4096)

                for line in (
                    b"",
                    b"EHLO c.test\r\n",
                    b"MAIL FROM:<a@x.test>\r\n",
                    b"RCPT TO:<bob@example.test>\r\n",
                ):
                    assert (await say(line))[:1] == b"2"
                assert (await say(b"DATA\r\n"))[:3] == b"354"
                if not read:
                    completed = server.daemon._journal.completed

                    def vanish(*arguments: Any) -> None:
                        completed(*arguments)
                        sock.close()  # a moment before the answer is written

                    monkeypatch.setattr(server.daemon._journal, "completed", vanish)
                await loop.sock_sendall(sock, b"Message-ID: <1@x.test>\r\n\r\nhello\r\n.\r\n" + ahead)
                if read:
                    assert (await loop.sock_recv(sock, 4096)).startswith(b"250 2.0.0 kept")
                    sock.close()
                while metrics.value(server.daemon.snapshot(), "sessions_open"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            # Remembering is a task of its own, for the session is over.
            await asyncio.sleep(0.05)
            while not read and not server.daemon._unacknowledged:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            monkeypatch.undo()
            assert len(server.store.delivered) == 1
            assert bool(server.link.published) is not read
            again = await server.connect()
            await again.hello()
            reply = await again.send("bob@example.test", body="Message-ID: <1@x.test>\r\n\r\nhello\r\n")
            assert reply == ("250 2.0.0 kept\r\n" if read else "250 2.0.0 already delivered\r\n")

    run(main)


def test_the_log_has_the_address_that_was_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    async def main() -> None:
        async with serving(tmp_path) as server:
            monkeypatch.setattr(
                server.daemon._journal,
                "refused",
                lambda who, stage, reply, env, what: seen.append((stage, what)),
            )
            client = await server.connect("smtp")
            await client.hello()
            assert (await client.say("MAIL FROM:<a@x.test>")).startswith("250 ")
            assert (await client.say("RCPT TO:<bob@..>")).startswith("501 5.1.3")
            assert (await client.say("AUTH PLAIN AGJvYgBzZWNyZXQ")).startswith("50")

    run(main)
    assert [what for _, what in seen] == ["TO:<bob@..>", ""]
