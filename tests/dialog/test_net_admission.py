"""Implicit TLS and PROXY headers on real sockets, alone and together, and everything that fails there."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.net.counters import create
from mta.net.limits import Limits, LimitSettings
from mta.net.overload import Level, OverloadSettings
from mta.net.tls import Reload, ServerTls, TlsSettings, client_context, tls_info
from tests.peers.certificates import Authority, authority
from tests.peers.greeter import LOOPS, Guest, House, bound, run, until
from tests.peers.needs import needs
from tests.unit.test_net_proxyproto import INET, SIGNATURE, v2

both_loops = pytest.mark.parametrize("loop", LOOPS)
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\r\n"
V2 = v2(1, 0x11, INET)
PROXY = ("127.0.0.0/8",)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@pytest.fixture
def server(ca: Authority) -> ServerTls:
    return ServerTls([ca.issue("one", "one.example.org"), ca.issue("two", "*.example.net")])


@pytest.fixture
def node() -> Iterator[Limits]:
    fd = create(2)
    yield Limits(LimitSettings(exempt=()), OverloadSettings(), fd, 0)
    os.close(fd)


# Implicit TLS


@both_loops
def test_implicit_tls(loop: str, server: ServerTls, node: Limits) -> None:
    async def main() -> None:
        async with House(tls=server, limits=node) as house:
            guest = await house.connect(ssl=client_context("encrypt"), server_hostname="mx.example.net")
            facts = await guest.greeting()
            assert facts["tls"]
            assert facts["client"][0] == "127.0.0.1"
            (greeter,) = house.open
            info = tls_info(greeter.transport.get_extra_info("ssl_object"))
            assert (info.version, info.sni) == ("TLSv1.3", "mx.example.net")
            await guest.echo()
            assert node.sessions == 1
            await guest.close()
            await until(lambda: node.sessions == 0)
            assert house.listener.counts == {"accepted": 1}

    run(loop, main())


@both_loops
def test_under_stress_a_handshake_has_less_time(loop: str, server: ServerTls, node: Limits) -> None:
    async def main() -> None:
        async with House(
            tls=server, limits=node, handshake_timeout=60.0, stressed_handshake_timeout=0.1
        ) as house:
            patient = await house.connect()
            await until(lambda: node.sessions == 1)
            node.overload.level = Level.STRESSED
            late = await house.connect()
            assert await late.rest() == b""
            await until(lambda: node.sessions == 1)
            assert house.listener.counts["tls_timeout"] == 1
            await late.close()
            await patient.close()
            await until(lambda: node.sessions == 0)

    run(loop, main())


@both_loops
def test_octets_sent_right_behind_the_handshake_are_not_lost(loop: str, server: ServerTls) -> None:
    """An early talker: its first command comes in the segment that ends its handshake."""

    async def main() -> None:
        async with House(tls=server) as house:
            for _ in range(10):
                talker = await Talker.connect(house)
                await talker.handshake(extra=b"EARLY\r\n")
                assert (await talker.line()).startswith(b"220 ")
                assert await talker.line() == b"EARLY\r\n"
                await talker.guest.close()

    run(loop, main())


@both_loops
@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"EHLO client.example.org\r\n", "not_tls"),
        (b"GET / HTTP/1.0\r\n\r\n", "not_tls"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff", "protocol"),
        (b"", "closed"),
        (None, "timeout"),
    ],
)
def test_failed_handshakes_are_counted_and_logged_without_a_traceback(
    loop: str,
    octets: bytes | None,
    reason: str,
    server: ServerTls,
    node: Limits,
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with House(tls=server, limits=node, handshake_timeout=0.2 if octets is None else 10) as house:
            guest = await house.connect()
            if octets is not None:
                guest.writer.write(octets)
                guest.writer.write_eof()
            await guest.rest()
            await house.listener.settled()
            assert house.listener.counts == {"accepted": 1, f"tls_{reason}": 1}
            assert house.log.events == ["TLS handshake failed"]
            fields = house.log.lines[0][1]
            assert (fields["client"], fields["reason"]) == ("127.0.0.1", reason)
            assert not house.open
            assert node.sessions == 0
            await guest.close()
            other = await house.connect(ssl=client_context("encrypt"), server_hostname="x")
            await other.greeting()
            await other.close()

    run(loop, main())
    assert not caplog.records
    if loop == "uvloop":
        assert not errors
    else:  # asyncio reports some; with `quieten` they are only counted
        assert all(isinstance(error.get("exception"), OSError) for error in errors)


@both_loops
def test_over_implicit_tls_nobody_is_refused_in_clear(loop: str, server: ServerTls, node: Limits) -> None:
    async def main() -> None:
        full = Limits(LimitSettings(), OverloadSettings(sessions=1), node_fd, 0)
        async with House(tls=server, limits=full) as house:
            first = await house.connect(ssl=client_context("encrypt"), server_hostname="x")
            await first.greeting()
            second = await house.connect()
            assert await second.rest() == b""
            assert house.listener.counts == {"accepted": 1, "refused": 1}
            await first.close()
            await second.close()

    node_fd = create(1)
    run(loop, main())
    os.close(node_fd)


@both_loops
def test_certificates_change_while_a_session_is_open(loop: str, ca: Authority, server: ServerTls) -> None:
    async def main() -> None:
        async with House(tls=server) as house:
            context = client_context("verify", ca_file=ca.file)
            old = await house.connect(ssl=context, server_hostname="one.example.org")
            await old.greeting()
            ca.issue("one", "one.example.org", "renewed.example.org")
            with pytest.raises(ssl.SSLCertVerificationError):
                await house.connect(ssl=context, server_hostname="renewed.example.org")
            assert server.reload() == Reload(taken=("one",))
            new = await house.connect(ssl=context, server_hostname="renewed.example.org")
            await new.greeting()
            await old.echo()
            await old.close()
            await new.close()

    run(loop, main())


def s_client(port: int, *options: str, send: bytes = b"QUIT\n") -> str:
    """What openssl says."""
    needs("openssl")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
    done = subprocess.run(command, input=send, capture_output=True, timeout=20, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-tls1_3"], "Cipher is TLS_AES_256_GCM_SHA384"),
        (["-tls1_2"], "Protocol  : TLSv1.2"),
        (["-tls1_2"], "Compression: NONE"),
        (["-tls1_3"], "Verification error: unable to verify the first certificate"),
    ],
)
def test_openssl_agrees(server: ServerTls, options: list[str], expected: str) -> None:
    async def main() -> str:
        async with House(tls=server) as house:
            return await asyncio.to_thread(s_client, house.address[1], *options)

    assert expected in run("uvloop", main())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "version"),
        (["-tls1", "-cipher", "ALL:@SECLEVEL=0"], "version"),
        (["-tls1_2", "-cipher", "AES128-SHA"], "cipher"),
    ],
)
def test_openssl_gets_no_weak_session(server: ServerTls, options: list[str], reason: str) -> None:
    async def main() -> str:
        async with House(tls=server) as house:
            said = await asyncio.to_thread(s_client, house.address[1], *options)
            await house.listener.settled()
            assert house.listener.counts == {"accepted": 1, f"tls_{reason}": 1}
            return said

    assert "Cipher is (NONE)" in run("uvloop", main())


def test_renegotiation_is_refused(server: ServerTls) -> None:
    async def main() -> str:
        async with House(tls=server) as house:
            return await asyncio.to_thread(s_client, house.address[1], "-tls1_2", send=b"R\n")

    said = run("uvloop", main())
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


def test_the_chain_is_verified_by_openssl(ca: Authority, server: ServerTls) -> None:
    async def main() -> str:
        async with House(tls=server) as house:
            options = [
                "-CAfile",
                ca.file,
                "-servername",
                "mx.example.net",
                "-verify_hostname",
                "mx.example.net",
            ]
            return await asyncio.to_thread(s_client, house.address[1], *options)

    assert "Verify return code: 0 (ok)" in run("uvloop", main())


def test_client_certificates(ca: Authority) -> None:
    server = ServerTls(
        [ca.issue("one", "one.example.org")],
        TlsSettings(client_ca_file=ca.file, require_client_certificate=True),
    )

    async def main() -> None:
        async with House(tls=server) as house:
            context = client_context("encrypt")
            ca.ca.issue_cert("alice@example.org").configure_cert(context)
            guest = await house.connect(ssl=context, server_hostname="x")
            await guest.greeting()
            (greeter,) = house.open
            assert tls_info(greeter.transport.get_extra_info("ssl_object")).peer_names == (
                "alice@example.org",
            )
            await guest.close()
            stranger = await house.connect(ssl=client_context("encrypt"), server_hostname="x")
            assert await stranger.rest() == b""  # in TLS 1.3 the client learns of it after its handshake
            await stranger.close()
            await until(lambda: house.listener.counts["tls_client_certificate"] == 1)

    run("uvloop", main())


# PROXY


@both_loops
@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("piece", [1, 10, 1000])
def test_a_client_behind_a_proxy(loop: str, header: bytes, piece: int, node: Limits) -> None:
    async def main() -> None:
        async with House(proxy_from=PROXY, limits=node) as house:
            guest = await house.connect()
            stream = header + b"EHLO x\r\n"
            for start in range(0, len(stream), piece):
                guest.writer.write(stream[start : start + piece])
                await asyncio.sleep(0.002)
            facts = await guest.greeting()
            assert facts["client"] == ["192.0.2.7", 40000]
            assert facts["server"] == ["198.51.100.25", 25]
            assert facts["proxied"]
            assert await guest.reader.readline() == b"EHLO x\r\n"
            cells = node.client("192.0.2.7").cells
            assert node.counters.open_sessions.count(cells) == 1
            await guest.close()
            await until(lambda: node.sessions == 0)

    run(loop, main())


@both_loops
@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", v2(0, 0, b""), v2(0, 0xFF, b"x"), v2(1, 0, b""), v2(1, 0x31, bytes(216))]
)
def test_the_proxy_speaks_for_itself(loop: str, header: bytes) -> None:
    async def main() -> None:
        async with House(proxy_from=PROXY) as house:
            guest = await house.connect()
            guest.writer.write(header)
            facts = await guest.greeting()
            assert facts["client"] == ["127.0.0.1", guest.writer.get_extra_info("sockname")[1]]
            assert not facts["proxied"]
            (greeter,) = house.open
            assert greeter.arrival.proxy is not None
            await guest.close()

    run(loop, main())


@both_loops
@pytest.mark.parametrize(
    ("octets", "count", "reason"),
    [
        (b"EHLO x\r\n" * 5, "proxy_error", "PROXY unrecognized signature"),
        (SIGNATURE + b"\x21\x11\xff\xff", "proxy_error", "header too long"),
        (V1[:20], "proxy_error", "closed within the PROXY header"),
        (b"", "proxy_error", "closed within the PROXY header"),
        (None, "proxy_timeout", "no PROXY header in time"),
    ],
)
def test_without_a_header_the_connection_is_closed(
    loop: str, octets: bytes | None, count: str, reason: str, node: Limits
) -> None:
    async def main() -> None:
        timeout = 0.1 if octets is None else 10.0
        async with House(proxy_from=PROXY, limits=node, proxy_timeout=timeout) as house:
            guest = await house.connect()
            if octets is None:
                guest.writer.write(V1[:-1])
            else:
                guest.writer.write(octets)
                guest.writer.write_eof()
            assert await guest.rest() == b""
            assert house.listener.counts == {count: 1}
            assert house.log.lines == [
                ("connection closed", {"listener": "test", "client": "127.0.0.1", "reason": reason})
            ]
            assert node.sessions == 0
            await guest.close()

    run(loop, main())


@both_loops
def test_a_header_from_a_stranger_is_worth_nothing(loop: str) -> None:
    async def main() -> None:
        async with House(proxy_from=("192.0.2.0/24", "::1")) as house:
            guest = await house.connect()
            guest.writer.write(V1)
            assert await guest.rest() == b""
            assert house.listener.counts == {"proxy_stranger": 1}
            await guest.close()

    run(loop, main())


@both_loops
def test_waiting_for_a_header_costs_no_turns(loop: str) -> None:
    """What is peeked at is taken, so the socket does not report the same octets again and again."""

    async def main() -> None:
        async with House(proxy_from=PROXY) as house:
            guest = await house.connect()
            guest.writer.write(V2[:20])
            await asyncio.sleep(0.05)
            before = os.times()
            await asyncio.sleep(0.5)
            after = os.times()
            assert (after.user + after.system) - (before.user + before.system) < 0.3
            guest.writer.write(V2[20:])
            await guest.greeting()
            await guest.close()

    run(loop, main())


@both_loops
def test_a_proxy_on_a_unix_socket(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with House([bound(socket.AF_UNIX, str(tmp_path / "s"))], proxy_from=PROXY) as house:
            guest = await house.connect()
            guest.writer.write(V1)
            assert (await guest.greeting())["client"] == ["192.0.2.7", 40000]
            await guest.close()

    run(loop, main())


@both_loops
@pytest.mark.parametrize("header", [V1, V2])
def test_a_header_and_a_client_hello_in_one_segment(loop: str, header: bytes, server: ServerTls) -> None:
    async def main() -> None:
        async with House(tls=server, proxy_from=PROXY) as house:
            for piece in (100000, 1, len(header) + 3):
                talker = await Talker.connect(house)
                await talker.handshake(before=header, piece=piece)
                line = await talker.line()
                assert b'"192.0.2.7", 40000' in line
                assert b'"tls": true' in line
                await talker.guest.close()
            assert house.listener.counts == {"accepted": 3}

    run(loop, main())


@both_loops
def test_clear_text_behind_a_header_on_a_tls_listener(loop: str, server: ServerTls, node: Limits) -> None:
    async def main() -> None:
        async with House(tls=server, proxy_from=PROXY, limits=node) as house:
            guest = await house.connect()
            guest.writer.write(V1 + b"EHLO x\r\n")
            await guest.rest()
            await house.listener.settled()
            assert house.listener.counts == {"accepted": 1, "tls_not_tls": 1}
            assert house.log.lines[0][1]["client"] == "192.0.2.7"
            assert node.sessions == 0
            await guest.close()

    run(loop, main())


@both_loops
def test_stopping_lets_headers_and_handshakes_under_way_finish(loop: str, server: ServerTls) -> None:
    async def main() -> None:
        async with House(tls=server, proxy_from=PROXY) as house:
            talker = await Talker.connect(house)
            talker.guest.writer.write(V1[:10])
            await until(lambda: house.listener.pending == 1)
            house.listener.stop()
            await talker.handshake(before=V1[10:])
            assert (await talker.line()).startswith(b"220 ")
            await house.listener.settled()
            assert house.listener.pending == 0
            await talker.guest.close()

    run(loop, main())


class Talker:
    """A TLS client that decides what goes into one segment."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context("encrypt").wrap_bio(self._incoming, self._outgoing, server_hostname="x")
        self._plain = b""

    @classmethod
    async def connect(cls, house: House) -> Talker:
        return cls(await house.connect())

    async def handshake(self, before: bytes = b"", extra: bytes = b"", piece: int = 100000) -> None:
        """Shake hands; `before` goes in front of the ClientHello, `extra` behind the Finished."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                data = before + self._outgoing.read()
                before = b""
                for start in range(0, len(data), piece):
                    self.guest.writer.write(data[start : start + piece])
                    if piece < len(data):
                        await asyncio.sleep(0.001)
                received = await self.guest.reader.read(65536)
                assert received, "closed in the handshake"
                self._incoming.write(received)
            else:
                break
        if extra:
            self._tls.write(extra)
        self.guest.writer.write(self._outgoing.read())

    async def line(self) -> bytes:
        """The next line that the server sends."""
        while b"\n" not in self._plain:
            try:
                self._plain += self._tls.read(65536)
            except ssl.SSLWantReadError:
                received = await self.guest.reader.read(65536)
                assert received, "closed"
                self._incoming.write(received)
        line, _, self._plain = self._plain.partition(b"\n")
        return line + b"\n"
