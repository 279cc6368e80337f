"""MTA-STS as text, HTTPS against a real server, and the header field TLS-Required."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from mta.delivery.security.clienttls import ClientContexts
from mta.delivery.security.sts import FetchError, fetcher
from mta.delivery.security.stspolicy import MAX_AGE, PolicyError, StsPolicy, read_id, read_policy
from mta.delivery.security.tlsrequired import tls_optional
from mta.net.https import HttpsError, Request, request
from mta.net.limits import Networks
from mta.net.resolver.fake import FakeResolver
from mta.net.tlsfailure import FailureType

IDS: list[tuple[list[bytes], str | None]] = [
    ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
    ([b"v=STSv1;id=1"], "1"),
    ([b"v=STSv1 ; id = a1 ; ext=x"], "a1"),
    ([b"v=STSv1; ext=x; id=1;"], "1"),
    ([b"v=spf1 -all", b"v=STSv1; id=1"], "1"),
    ([], None),
    ([b"v=STSv1; id=1", b"v=STSv1; id=2"], None),
    ([b"v=STSv2; id=1"], None),
    ([b"v=STSv10; id=1"], None),
    ([b" v=STSv1; id=1"], None),
    ([b"v=STSv1"], None),
    ([b"v=STSv1; id="], None),
    ([b"v=STSv1; id=a-b"], None),
    ([b"v=STSv1; id=" + b"a" * 33], None),
    ([b"v=STSv1; id=1; id=2"], None),
    ([b"v=STSv1; id=\xff"], None),
]


@pytest.mark.parametrize(("texts", "expected"), IDS, ids=lambda value: repr(value)[:40])
def test_record(texts: list[bytes], expected: str | None) -> None:
    assert read_id(texts) == expected


GOOD = b"version: STSv1\nmode: enforce\nmx: mx.example.org\nmx: *.Example.NET\nmax_age: 604800\n"


def test_policy() -> None:
    expected = StsPolicy("enforce", 604800, ("mx.example.org", "*.example.net"))
    assert read_policy(GOOD) == expected
    assert read_policy(GOOD.replace(b"\n", b"\r\n") + b"\r\n\r\n") == expected
    assert read_policy(GOOD.replace(b": ", b":").replace(b"mode", b" mode ") + b"future: thing") == expected
    assert read_policy(GOOD + b"mode: none\n") == expected, "of several equal fields the first counts"
    assert read_policy(
        b"version: STSv1\nmode: none\nmax_age: 99999999999".replace(b"9" * 11, b"9" * 10)
    ) == StsPolicy("none", MAX_AGE)
    assert read_policy(
        "version: STSv1\nmode: testing\nmx: *.bücher.example\nmax_age: 0".encode()
    ) == StsPolicy("testing", 0, ("*.xn--bcher-kva.example",))
    assert read_policy(read_lines(expected)) == expected


def read_lines(policy: StsPolicy) -> bytes:
    return "\n".join(policy.lines).encode()


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "version"),
        (GOOD.replace(b"STSv1", b"STSv2"), "version"),
        (GOOD.replace(b"enforce", b"enforced"), "mode"),
        (GOOD.replace(b"mode: enforce\n", b""), "mode"),
        (GOOD.replace(b"604800", b"a week"), "max_age"),
        (GOOD.replace(b"604800", b"-1"), "max_age"),
        (GOOD.replace(b"604800", b"9" * 30), "max_age"),
        (b"version: STSv1\nmode: enforce\nmax_age: 1\n", "mx is missing"),
        (GOOD.replace(b"mx.example.org", b"mx.*.org"), "host name"),
        (GOOD.replace(b"mx.example.org", b"*"), "host name"),
        (GOOD.replace(b"mx.example.org", b"*."), "host name"),
        (GOOD.replace(b"mx.example.org", b"a b"), "host name"),
        (GOOD + b"no field\n", "no field"),
        (GOOD + b"\xff: x\n", "UTF-8"),
        (b"a" * 65537, "64 kB"),
        (GOOD + b"mx: a.test\n" * 300, "too many"),
        (b"<html>404</html>", "no field"),
    ],
)
def test_policy_that_is_none(octets: bytes, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        read_policy(octets)


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mx.example.org", True),
        ("example.org", False),
        ("a.example.net", True),
        ("a.b.example.net", False),
        ("example.net", False),
        ("xexample.net", False),
        ("net", False),
        ("", False),
    ],
)
def test_names_of_a_policy(host: str, named: bool) -> None:
    assert read_policy(GOOD).matches(host) is named


@given(st.binary(max_size=300))
def test_any_policy(octets: bytes) -> None:
    try:
        policy = read_policy(octets)
    except PolicyError:
        return
    assert read_policy(read_lines(policy)) == policy


@given(st.lists(st.sampled_from([*GOOD.splitlines(), b"mode: none", b"mx:", b"mx: a", b":", b"max_age: 0"])))
def test_policies_of_lines(lines: list[bytes]) -> None:
    try:
        policy = read_policy(b"\n".join(lines))
    except PolicyError:
        return
    assert policy.mode == "none" or policy.mx


@given(st.lists(st.binary(max_size=40)))
def test_any_record(texts: list[bytes]) -> None:
    read_id(texts)
    found = read_id([b"v=STSv1;" + b";".join(texts)])
    assert found is None or (found.isalnum() and found.isascii())


# --- HTTPS ---------------------------------------------------------------------------------------------

HOST = "mta-sts.good.test"
Answer = Callable[[bytes], bytes]


def plain(body: bytes, head: str = "200 OK\r\nContent-Type: text/plain; charset=utf-8") -> Answer:
    return lambda _: f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Web:
    """A server for HTTPS on loopback."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.answer: Answer = plain(GOOD)
        self.asked: list[bytes] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or (HOST,))).configure_cert(self.context)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=self.context)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int((head.lower().partition(b"content-length: ")[2].split() or [b"0"])[0])
            self.asked.append(head + await reader.readexactly(length))
            writer.write(self.answer(self.asked[-1]))
            await writer.drain()
        except (OSError, EOFError):
            return
        finally:
            writer.close()


def ask(web: Web, *, ca_file: str = "", seconds: float = 20.0) -> bytes:
    async def run() -> bytes:
        dns = FakeResolver()
        dns.add(HOST, "A", "127.0.0.1")
        context = ClientContexts(ca_file or web.ca_file).context(verify=True)
        async with web.serve() as port:
            fetch = fetcher(dns, context, port)
            return await fetch("good.test", asyncio.get_running_loop().time() + seconds)

    return asyncio.run(run())


def test_fetch(tmp_path: Path) -> None:
    web = Web(tmp_path)
    assert ask(web) == GOOD
    assert web.asked[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.good.test:")


def test_fetch_in_chunks_and_to_the_end(tmp_path: Path) -> None:
    web = Web(tmp_path)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
    half = len(GOOD) // 2
    chunks = b"".join(b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in (GOOD[:half], GOOD[half:]))
    web.answer = lambda _: (
        b"HTTP/1.1 103 Early\r\n\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    )
    assert ask(web) == GOOD
    web.answer = lambda _: head + b"\r\n" + GOOD
    assert ask(web) == GOOD


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (plain(b"", "404 Not Found"), FailureType.STS_POLICY_FETCH_ERROR),
        (plain(b"", "301 Moved\r\nLocation: https://good.test/"), FailureType.STS_POLICY_FETCH_ERROR),
        (plain(GOOD, "200 OK\r\nContent-Type: text/html"), FailureType.STS_POLICY_INVALID),
        (plain(GOOD, "200 OK"), FailureType.STS_POLICY_INVALID),
        (plain(b"x" * 70000), FailureType.STS_POLICY_FETCH_ERROR),
        (lambda _: b"220 mail ready\r\n\r\n", FailureType.STS_POLICY_FETCH_ERROR),
        (lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40000, FailureType.STS_POLICY_FETCH_ERROR),
        (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", FailureType.STS_POLICY_FETCH_ERROR),
        (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", FailureType.STS_POLICY_FETCH_ERROR),
        (
            lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            FailureType.STS_POLICY_FETCH_ERROR,
        ),
        (
            lambda _: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200000,
            FailureType.STS_POLICY_FETCH_ERROR,
        ),
        (lambda _: b"", FailureType.STS_POLICY_FETCH_ERROR),
    ],
)
def test_fetch_of_nonsense(tmp_path: Path, answer: Answer, failure: FailureType) -> None:
    web = Web(tmp_path)
    web.answer = answer
    with pytest.raises(FetchError) as caught:
        ask(web)
    assert caught.value.failure is failure


@pytest.mark.parametrize("wrong", ["name", "authority", "common name"])
def test_fetch_verifies(tmp_path: Path, wrong: str) -> None:
    web = Web(tmp_path, "other.test") if wrong == "name" else Web(tmp_path)
    if wrong == "common name":
        web.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        web.ca.issue_cert("other.test", common_name=HOST).configure_cert(web.context)
    other = tmp_path / "other"
    other.mkdir()
    ca_file = Web(other).ca_file if wrong == "authority" else ""
    with pytest.raises(FetchError) as caught:
        ask(web, ca_file=ca_file)
    assert caught.value.failure is FailureType.STS_WEBPKI_INVALID
    assert not web.asked


def test_addresses_that_nobody_connects_to(tmp_path: Path) -> None:
    async def run() -> None:
        dns, web = FakeResolver(), Web(tmp_path)
        context = ClientContexts(web.ca_file).context(verify=True)
        loop = asyncio.get_running_loop()
        async with web.serve() as port:
            dns.add(HOST, "AAAA", "::ffff:127.0.0.1")
            fetch = fetcher(dns, context, port, Networks(["127.0.0.0/8"]).contain_text)
            with pytest.raises(FetchError, match=r"refused address ::ffff:127\.0\.0\.1"):
                await fetch("good.test", loop.time() + 20)
            assert not web.asked
            dns.add(HOST, "A", "127.0.0.1")
            fetch = fetcher(dns, context, port, Networks(["::ffff:0:0/96"]).contain_text)
            with pytest.raises(FetchError, match=r"refused address 127\.0\.0\.1"):
                await fetch("good.test", loop.time() + 20)
            fetch = fetcher(dns, context, port, lambda address: ":" in address)
            assert await fetch("good.test", loop.time() + 20) == GOOD

    asyncio.run(run())


def test_nobody_there(tmp_path: Path) -> None:
    async def run() -> None:
        dns = FakeResolver()
        context = ClientContexts(Web(tmp_path).ca_file).context(verify=True)
        deadline = asyncio.get_running_loop().time() + 5
        with pytest.raises(HttpsError, match="no address"):
            await request(Request("none.test", "/"), dns, context, limit=9, deadline=deadline)
        dns.fail("failed.test", reason="SERVFAIL")
        with pytest.raises(HttpsError, match="SERVFAIL"):
            await request(Request("failed.test", "/"), dns, context, limit=9, deadline=deadline)
        with pytest.raises(ValueError, match="ASCII"):
            Request("good.test", "/a b").encode()

    asyncio.run(run())


def test_silence_ends(tmp_path: Path) -> None:
    async def run() -> None:
        web = Web(tmp_path)
        dns = FakeResolver()
        dns.add(HOST, "A", "127.0.0.1")
        release = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.close()

        server = await asyncio.start_server(wait, "127.0.0.1", 0, ssl=web.context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            deadline = asyncio.get_running_loop().time() + 0.3
            with pytest.raises(HttpsError, match="in time"):
                await request(
                    Request(HOST, "/", port), dns, ClientContexts(web.ca_file).context(verify=True),
                    limit=9, deadline=deadline,
                )  # fmt: skip
            release.set()

    asyncio.run(run())


# --- TLS-Required --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"TLS-Required: No\r\n\r\n", True),
        (b"From: a\r\ntls-required:no\r\n\r\nbody", True),
        (b"TLS-Required:\r\n No\r\n\r\n", True),
        (b"TLS-Required: Yes\r\n\r\n", False),
        (b"TLS-Required: \r\n\r\n", False),
        (b"TLS-Required: No\r\nTLS-Required: No\r\n\r\n", False),
        (b"X-TLS-Required: No\r\n\r\n", False),
        (b"Subject: x\r\n TLS-Required: No\r\n\r\n", False),
        (b"From: a\r\n\r\nTLS-Required: No\r\n", False),
        (b"", False),
    ],
)
def test_tls_required(head: bytes, expected: bool) -> None:
    assert tls_optional(head) is expected
