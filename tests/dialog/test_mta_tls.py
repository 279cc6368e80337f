"""TLS of the whole daemon over real sockets: STARTTLS, implicit TLS, and what must not get through."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from mta import metrics
from tests.dialog.server import Client, Server, run, serving
from tests.peers.certificates import Authority, authority

CERTIFICATES = """
[certificates.main]
chain = "main.pem"
key = "main.key"
[certificates.other]
chain = "other.pem"
key = "other.key"
"""
IMPLICIT = '[[listener]]\nname = "smtps"\ntls = "implicit"\naddresses = ["127.0.0.1:2"]\n'
REQUIRED = '[[listener]]\nname = "strict"\ntls = "required"\naddresses = ["127.0.0.1:3"]\n'
EVIL = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<bob@example.test>\r\n"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    made = authority(tmp_path)
    made.issue("main", "mx.test", "mail.test")
    made.issue("other", "mx.other.test")
    return made


def trust(ca: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca.file)


def names(client: Client) -> set[str]:
    """The names in the certificate that the server showed."""
    certificate = client.ssl_object.getpeercert()
    assert certificate is not None
    return {str(entry[1]) for entry in certificate["subjectAltName"]}


async def until(probe: Callable[[], object]) -> None:
    while not probe():  # noqa: ASYNC110 - whatever it is, it has no event
        await asyncio.sleep(0.01)


async def rest(client: Client) -> bytes:
    """What comes until the server closes; a reset counts as the end."""
    try:
        return await client.reader.read()
    except (ConnectionError, ssl.SSLError):
        return b""


async def works(server: Server) -> None:
    """Another client is served."""
    client = await server.connect()
    await client.hello()
    assert (await client.send("bob@example.test")).startswith("250 2.0.0")


def count(server: Server, name: str, key: str = "") -> float:
    return metrics.value(server.daemon.snapshot(), name, *([key] if key else []))


# --- STARTTLS ---------------------------------------------------------------------------------------------


def test_starttls(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            client = await server.connect()
            assert "250-STARTTLS" in await client.hello("before.test")
            await client.starttls(trust(ca), "mail.test")
            # Everything that was said before is void (RFC 3207 section 4.2).
            assert (await client.say("MAIL FROM:<a@x.test>")).startswith("503 5.5.1")
            answer = await client.say("EHLO after.test")
            assert "STARTTLS" not in answer
            assert "REQUIRETLS" in answer
            assert (await client.say("STARTTLS")).startswith("503 5.5.1")
            assert (await client.send("bob@example.test")).startswith("250 2.0.0 kept")
            assert (await client.say("QUIT")).startswith("221 2.0.0")
            (message,) = server.store.delivered
            head = message.octets.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ")
            assert b"from after.test ([127.0.0.1]) (using TLSv1.3 with cipher " in head
            assert b" with ESMTPS id " in head

    run(main)


def test_starttls_in_a_transaction_is_refused(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("bob@example.test")
            assert (await client.say("STARTTLS")).startswith("503 5.5.1")
            assert (await client.say("RSET")).startswith("250")
            await client.starttls(trust(ca), "mx.test")
            assert (await client.say("EHLO c.test")).startswith("250-")

    run(main)


@pytest.mark.parametrize("injected", [b"RSET\r\n", EVIL, b"x", b"\r\n"])
def test_a_command_in_the_same_segment_is_never_executed(
    tmp_path: Path, ca: Authority, injected: bytes
) -> None:
    """The injection of CVE-2011-0411: what comes with STARTTLS is from whoever sits on the line."""

    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            client = await server.connect()
            await client.hello()
            client.writer.write(b"STARTTLS\r\n" + injected)
            answer = await rest(client)
            assert answer.startswith(b"554 5.5.0 ")
            assert answer.count(b"\r\n") == 1
            await works(server)

    run(main)


@pytest.mark.parametrize("injected", [b"RSET\r\n", EVIL, b"\r\n"])
def test_octets_between_220_and_the_handshake_break_it(
    tmp_path: Path, ca: Authority, injected: bytes
) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.say("STARTTLS")).startswith("220 ")
            client.writer.write(injected)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await client.handshake(trust(ca), "mx.test")
            await until(lambda: count(server, "tls_failures") == 1)
            assert server.store.commands == []
            await works(server)
            assert count(server, "internal_errors") == 0

    run(main)


def test_octets_that_race_with_220_break_the_handshake(tmp_path: Path, ca: Authority) -> None:
    """They are in the server's kernel before it has answered, in a segment of their own."""

    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            for _ in range(20):
                client = await server.connect()
                await client.hello()
                client.writer.write(b"STARTTLS\r\n")
                await asyncio.sleep(0)
                client.writer.write(EVIL)
                answer = await client.read_reply()
                if answer.startswith("554 "):  # it was one segment after all
                    continue
                assert answer.startswith("220 ")
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await client.handshake(trust(ca), "mx.test")
            assert server.store.commands == []
            await works(server)

    run(main)


def test_a_client_that_does_not_trust_us_or_leaves(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            distrusting = await server.connect()
            await distrusting.hello()
            with pytest.raises(ssl.SSLCertVerificationError):
                await distrusting.starttls(ssl.create_default_context(), "mx.test")
            await until(lambda: count(server, "tls_failures") == 1)
            leaving = await server.connect()
            await leaving.hello()
            assert (await leaving.say("STARTTLS")).startswith("220 ")
            leaving.cut()
            await until(lambda: count(server, "tls_failures") == 2)
            await until(lambda: count(server, "sessions_open") == 0)
            await works(server)

    run(main)


def test_a_handshake_has_its_time(tmp_path: Path, ca: Authority) -> None:
    more = f'{CERTIFICATES}{IMPLICIT}[timeouts]\nhandshake = "0.3s"'

    async def main() -> None:
        async with serving(tmp_path, more=more) as server:
            slow = await server.connect()
            await slow.hello()
            assert (await slow.say("STARTTLS")).startswith("220 ")
            silent = await server.connect("smtps")
            assert await rest(slow) == b""
            assert await rest(silent) == b""
            assert count(server, "tls_failures", "timeout") == 1

    run(main)


def test_versions(tmp_path: Path, ca: Authority) -> None:
    def only(version: ssl.TLSVersion) -> ssl.SSLContext:
        context = trust(ca)
        context.minimum_version = context.maximum_version = version
        return context

    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            client = await server.connect()
            await client.hello()
            await client.starttls(only(ssl.TLSVersion.TLSv1_2), "mx.test")
            await client.say("EHLO c.test")
            await client.send("bob@example.test")
            assert b"(using TLSv1.2 with cipher ECDHE-" in server.store.delivered[0].octets
        more = f'{CERTIFICATES}[tls]\nminimum_version = "TLSv1.3"'
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await client.starttls(only(ssl.TLSVersion.TLSv1_2), "mx.test")
            await until(lambda: count(server, "tls_failures", "version") == 1)
            await works(server)

    run(main)


# --- certificates -----------------------------------------------------------------------------------------


def test_sni_chooses_the_certificate(tmp_path: Path, ca: Authority) -> None:
    lenient = trust(ca)
    lenient.check_hostname = False

    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES + IMPLICIT) as server:
            for name, expected in (
                ("mx.test", {"mx.test", "mail.test"}),
                ("mail.test", {"mx.test", "mail.test"}),
                ("mx.other.test", {"mx.other.test"}),
                ("MX.Other.Test", {"mx.other.test"}),
                ("unknown.test", {"mx.test", "mail.test"}),  # the default, which the client may refuse
                (None, {"mx.test", "mail.test"}),
            ):
                client = await server.connect()
                await client.hello()
                await client.starttls(lenient, name)
                assert names(client) == expected, name
                implicit = await server.connect("smtps", ssl=lenient, server_hostname=name or "")
                assert names(implicit) == expected, name

    run(main)


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=f'{CERTIFICATES}[tls]\npoll_interval = "0.05s"') as server:
            old = await server.connect()
            await old.hello()
            await old.starttls(trust(ca), "mx.test")
            ca.issue("main", "mx.test", "new.test")

            async def renewed() -> bool:
                client = await server.connect()
                await client.hello()
                await client.starttls(trust(ca), "mx.test")
                return names(client) == {"mx.test", "new.test"}

            while not await renewed():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.02)
            # Rubbish is not taken, and who was connected before goes on.
            (tmp_path / "main.pem").write_text("rubbish")
            await asyncio.sleep(0.2)
            assert await renewed()
            await old.say("EHLO c.test")
            assert (await old.send("bob@example.test")).startswith("250 2.0.0")

    run(main)


# --- implicit TLS, required TLS ---------------------------------------------------------------------------


def test_implicit_tls(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES + IMPLICIT) as server:
            client = await server.connect("smtps", ssl=trust(ca), server_hostname="mx.test")
            answer = await client.hello()
            assert "STARTTLS" not in answer
            assert (await client.say("STARTTLS")).startswith("503 5.5.1")
            assert (await client.send("bob@example.test")).startswith("250 2.0.0")
            assert b" with ESMTPS id " in server.store.delivered[0].octets
            assert (await client.say("QUIT")).startswith("221 ")
            assert await rest(client) == b""

    run(main)


@pytest.mark.parametrize(
    "octets", [b"EHLO c.test\r\n" + EVIL, b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff"]
)
def test_plain_text_at_the_port_of_implicit_tls(tmp_path: Path, ca: Authority, octets: bytes) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES + IMPLICIT) as server:
            client = await server.connect("smtps")
            client.writer.write(octets)
            client.writer.write_eof()
            answer = await rest(client)
            assert b"220" not in answer  # at most an alert: nothing that a mail client could take for a reply
            assert answer[:1] in (b"", b"\x15")
            await until(lambda: sum(listener.counts.total() for listener in server.daemon._listeners) == 2)
            secure = await server.connect("smtps", ssl=trust(ca), server_hostname="mx.test")
            await secure.hello()
            assert server.store.commands == []

    run(main)


def test_a_handshake_at_the_port_of_plain_text(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            with pytest.raises(ssl.SSLError):
                await server.connect(ssl=trust(ca), server_hostname="mx.test")
            await until(lambda: count(server, "sessions_open") == 0)
            await works(server)
            assert count(server, "internal_errors") == 0

    run(main)


def test_required_tls(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES + REQUIRED) as server:
            client = await server.connect("strict")
            assert "250-STARTTLS" in await client.hello()
            for command in ("MAIL FROM:<a@x.test>", "VRFY bob", "RSET", "DATA"):
                assert (await client.say(command)).startswith("530 5.7.0"), command
            for command in ("NOOP", "EHLO again.test"):
                assert (await client.say(command)).startswith("250"), command
            await client.starttls(trust(ca), "mx.test")
            await client.say("EHLO c.test")
            assert (await client.send("bob@example.test")).startswith("250 2.0.0")
            plain = await server.connect("strict")
            await plain.hello()
            assert (await plain.say("QUIT")).startswith("221 2.0.0")

    run(main)


def test_client_certificates_where_they_are_required(tmp_path: Path, ca: Authority) -> None:
    listener = f'client_ca = "{ca.file}"\nrequire_client_certificate = true'

    async def main() -> None:
        async with serving(tmp_path, listener=listener, more=CERTIFICATES) as server:
            certified = trust(ca)
            ca.ca.issue_cert("client.test").configure_cert(certified)
            client = await server.connect()
            await client.hello()
            await client.starttls(certified, "mx.test")
            await client.say("EHLO c.test")
            assert (await client.send("bob@example.test")).startswith("250 2.0.0")
            stranger = await server.connect()
            await stranger.hello()
            with pytest.raises((ssl.SSLError, ConnectionError)):  # noqa: PT012 - TLS 1.3 tells it late
                await stranger.starttls(trust(ca), "mx.test")
                await stranger.say("EHLO c.test")
                raise ConnectionResetError(await stranger.read_reply())
            await until(lambda: count(server, "tls_failures", "client_certificate") == 1)

    run(main)
