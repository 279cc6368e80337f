"""One program on libmilter under real Postfix and under our side: the same callbacks, macros and octets."""

from __future__ import annotations

import asyncio
import re
import smtplib
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme

from mailmilter.chain import MilterChain, Result
from mailmilter.connection import Milter, MilterPool
from mailmilter.constants import Stage
from mailmilter.endpoint import parse_endpoint
from mailmilter.message import Field, Message, split_fields
from mailmilter.requests import Client, Family
from mailmilter.values import AddRecipient, Quarantine, Ruling
from tests.peers.milters import Recorder, running_recorder
from tests.peers.postfix import Postfix, running_postfix, running_sink
from tests.peers.running import until

pytestmark = pytest.mark.scenario
T = TypeVar("T")

SETTINGS = """\
smtpd_milters = {endpoint}
local_header_rewrite_clients =
relay_transport = smtp:[127.0.0.1]:{sink}
default_transport = smtp:[127.0.0.1]:{sink}
"""
SERVICES = "smtp unix - - n - - smtp\n"
HEAD = (
    b"From: a@sender.test\r\nX-Fold: 1\r\n\t2\r\n  3\r\nSubject:  two spaces\r\nX-Tab:\ttab\r\n"
    b"X-None:none\r\nX-Twice: first\r\nX-Gone: away\r\nX-Twice: second\r\nX-Empty:\r\n"
    b"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <1@sender.test>\r\n"
)
BODY = b"line one\r\n.dotted\r\n\r\n" + b"long line " * 60 + b"\r\n"
VARYING = ("i", "v", "{mail_host}", "{rcpt_host}")
BIG = b"0123456789" * 7 + b"\r\n"


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with running_recorder() as found:
        yield found


@pytest.fixture(scope="module")
def dumps() -> Iterator[tuple[Path, int]]:
    with tempfile.TemporaryDirectory(prefix="tamis-sink-") as name:
        Path(name).chmod(0o777)
        with running_sink("-d", f"{name}/mail.") as port:
            yield Path(name), port


@pytest.fixture(scope="module")
def postfix(recorder: Recorder, dumps: tuple[Path, int]) -> Iterator[Postfix]:
    chain = trustme.CA().issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    settings = SETTINGS.format(endpoint=recorder.endpoint, sink=dumps[1])
    with running_postfix(chain, settings, SERVICES) as server:
        yield server


class Session:
    """Our side of one session, with the macros that Postfix would have."""

    def __init__(self, recorder: Recorder, pool: MilterPool | None = None, *, reuse: bool = False) -> None:
        self.macros = {
            "j": "relay.test",
            "daemon_name": "relay.test",
            "daemon_addr": "127.0.0.1",
            "v": "Postfix 3.7.11",
            "_": "unknown [127.0.0.1]",
            "client_addr": "127.0.0.1",
        }
        self.pool = pool or MilterPool()
        milter = Milter("recorder", parse_endpoint(recorder.endpoint), reuse=reuse)
        self.chain = MilterChain(self.pool, self._values, [milter])
        self.results: list[Result] = []

    def _values(self, stage: Stage) -> dict[str, str]:
        return dict(self.macros)

    async def open(self) -> None:
        self.results.append(await self.chain.connect(Client("", Family.INET, 4711, "127.0.0.1")))
        self.results.append(await self.chain.helo("client.test"))

    async def mail(self, address: str, *parameters: bytes) -> None:
        for name in ("i", "rcpt_addr", "rcpt_host", "rcpt_mailer"):
            self.macros.pop(name, None)
        host = address.partition("@")[2] or "relay.test"
        self.macros |= {"mail_addr": address, "mail_host": host, "mail_mailer": "smtp"}
        self.results.append(await self.chain.mail(address.encode(), parameters))

    async def rcpt(self, address: str) -> None:
        self.macros |= {"rcpt_addr": address, "rcpt_host": "relay.test", "rcpt_mailer": "smtp"}
        self.results.append(await self.chain.rcpt(address.encode()))
        self.macros["i"] = "QUEUE"

    async def content(self, head: bytes, body: bytes) -> tuple[Result, Message]:
        self.results.append(await self.chain.data())
        own = Field(b"Received", b" by us", own=True)
        rcpt = [AddRecipient(b"b@relay.test"), AddRecipient(b"gone@relay.test")]
        message = Message([own, *split_fields(head)], lambda: (body,), b"a@sender.test", recipients=rcpt)
        result = await self.chain.message(message)
        self.results.append(result)
        self.chain.abort()
        return result, message


def normal(lines: list[tuple[str, list[str], dict[str, str]]]) -> list[tuple[str, list[str], dict[str, str]]]:
    """Without what differs between any two sessions: port, queue id, version and the next hop's port."""
    found = []
    for name, arguments, macros in lines:
        values = {key: key if key in VARYING else value for key, value in macros.items()}
        words = [re.sub(r"\('127.0.0.1', \d+\)", "address", one) for one in arguments]
        found.append((name, words, values))
    return found


def test_the_same_session_gives_the_same_callbacks_and_macros(recorder: Recorder, postfix: Postfix) -> None:
    recorder.quiet()  # the start of Postfix has made one
    with smtplib.SMTP("127.0.0.1", postfix.port, "client.test") as client:
        client.ehlo("client.test")
        client.docmd("FROBNICATE")
        client.mail("a@sender.test", ["SIZE=200", "BODY=8BITMIME"])
        client.rcpt("b@relay.test")
        assert client.rcpt("refuse@relay.test")[0] == 550
        assert client.data(HEAD + b"\r\n" + BODY)[0] == 250
        client.mail("other@sender.test")
        client.rset()
        client.mail("big@sender.test")
        client.rcpt("b@relay.test")
        assert client.data(b"X-Edit: reject\r\n" + HEAD + b"\r\n" + BIG * 2000)[0] == 550
    theirs = recorder.until("close")

    async def ours() -> None:
        session = Session(recorder)
        await session.open()
        await session.chain.unknown(b"FROBNICATE")
        await session.mail("a@sender.test", b"SIZE=200", b"BODY=8BITMIME")
        await session.rcpt("b@relay.test")
        await session.rcpt("refuse@relay.test")
        assert session.results[-1].verdict.code == 550
        await session.content(HEAD, BODY)
        await session.mail("other@sender.test")
        session.chain.abort()
        await session.mail("big@sender.test")
        await session.rcpt("b@relay.test")
        result, _ = await session.content(b"X-Edit: reject\r\n" + HEAD, BIG * 2000)
        assert result.verdict.ruling is Ruling.REJECT
        session.chain.close()

    run(ours())
    assert normal(recorder.until("close")) == normal(theirs)
    assert [name for name, _, _ in theirs].count("body") == 1 + 3
    assert [name for name, _, _ in theirs].count("abort") >= 1


def test_the_same_edits_give_the_same_octets(
    recorder: Recorder, postfix: Postfix, dumps: tuple[Path, int]
) -> None:
    head = b"X-Edit: yes\r\n" + HEAD
    with smtplib.SMTP("127.0.0.1", postfix.port, "client.test") as client:
        client.ehlo("client.test")
        client.mail("a@sender.test")
        client.rcpt("b@relay.test")
        client.rcpt("gone@relay.test")
        client.rcpt("b2@relay.test")
        assert client.data(head + b"\r\n" + BODY)[0] == 250
    text = until(lambda: _dumped(dumps[0], b"X-Edit: yes"), "the message arrives")
    envelope, fields, body = _taken_apart(text)

    async def ours() -> Message:
        session = Session(recorder)
        await session.open()
        await session.mail("a@sender.test")
        await session.rcpt("b@relay.test")
        await session.rcpt("gone@relay.test")
        _, message = await session.content(head, BODY)
        session.chain.close()
        return message

    message = run(ours())
    assert [one.render() for one in message.fields] == fields
    assert b"".join(message.body()) == body
    assert message.sender == b"changed@sender.test"
    assert [one.address for one in message.recipients] == [b"b@relay.test", b"added@relay.test"]
    assert b"<changed@sender.test>" in envelope
    assert b"<added@relay.test>" in envelope
    assert b"<gone@relay.test>" not in envelope


def _dumped(folder: Path, word: bytes) -> bytes | None:
    for path in folder.iterdir():
        text = path.read_bytes()
        if word in text and text.endswith(b"\n"):
            return text
    return None


def _taken_apart(text: bytes) -> tuple[bytes, list[bytes], bytes]:
    """What smtp-sink wrote: the envelope, the fields below its own, the body; line ends as sent."""
    head, _, body = text[:-1].replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    fields = split_fields(head)
    first = next(at for at, one in enumerate(fields) if one.name == b"Received") + 1
    rendered = [b"Received: by us\r\n" if one.name == b"Received" else one.render() for one in fields[first:]]
    return b"".join(one.render() for one in fields[:first]), rendered, body


@pytest.mark.parametrize(
    ("word", "ruling", "code", "lines"),
    [
        ("reject", Ruling.REJECT, 550, ("Command rejected",)),
        ("tempfail", Ruling.TEMPFAIL, 451, ("Service unavailable - try again later",)),
        ("discard", Ruling.DISCARD, 0, ()),
        ("accept", Ruling.CONTINUE, 0, ()),
        ("reply", Ruling.REPLY, 554, ("first 100% line", "second")),
        ("quarantine", Ruling.CONTINUE, 0, ()),
    ],
)
def test_verdicts_of_libmilter(
    recorder: Recorder, word: str, ruling: Ruling, code: int, lines: tuple[str, ...]
) -> None:
    async def ours() -> Result:
        session = Session(recorder)
        await session.open()
        await session.mail("a@sender.test")
        await session.rcpt("b@relay.test")
        result, _ = await session.content(b"X-Edit: " + word.encode() + b"\r\n", b"x\r\n")
        session.chain.close()
        return result

    result = run(ours())
    assert (result.verdict.ruling, result.verdict.code) == (ruling, code)
    if lines:
        assert result.verdict.lines == lines
    assert result.edits == ([Quarantine("for a look")] if word == "quarantine" else [])


def test_one_connection_serves_several_sessions(recorder: Recorder) -> None:
    recorder.quiet()

    async def ours() -> int:
        pool = MilterPool()
        connections = set()
        for _ in range(3):
            session = Session(recorder, pool, reuse=True)
            await session.open()
            await session.mail("a@sender.test")
            await session.rcpt("b@relay.test")
            result, _ = await session.content(HEAD, BODY)
            assert not result.failures
            session.chain.close()
            connections |= {id(one) for one, _ in pool._idle[parse_endpoint(recorder.endpoint)]}
        pool.close()
        return len(connections)

    assert run(ours()) == 1
    names = [name for name, _, _ in recorder.until("close", 3)]
    assert names.count("connect") == names.count("close") == names.count("eom") == 3


def test_a_milter_that_joins_late_hears_what_was(recorder: Recorder) -> None:
    recorder.quiet()

    async def ours() -> Result:
        session = Session(recorder)
        late = MilterChain(session.pool, session._values)
        session.chain = late
        await session.open()
        await session.mail("a@sender.test")
        await session.rcpt("b@relay.test")
        await session.rcpt("refuse@relay.test")
        await late.data()
        result = await late.join(Milter("recorder", parse_endpoint(recorder.endpoint)))
        message = Message(split_fields(HEAD), lambda: (BODY,))
        assert not (await late.message(message)).failures
        late.close()
        return result

    result = run(ours())
    assert [one.address for one in result.refused] == [b"refuse@relay.test"]
    lines = recorder.until("close")
    names = [name for name, _, _ in lines if name != "header"]
    assert " ".join(names) == "connect hello envfrom envrcpt envrcpt data eoh body eom close"
    assert "i" not in lines[2][2], "the macros are those of their time"


@pytest.mark.parametrize(
    ("client", "arguments"),
    [
        (Client("h.test", Family.INET, 4711, "192.0.2.1"), ["'h.test'", "2", "('192.0.2.1', 4711)"]),
        (
            Client("", Family.INET6, 4711, "2001:db8::1"),
            ["'[2001:db8::1]'", "10", "('2001:db8::1', 4711, 0, 0)"],
        ),
        (Client("localhost", Family.UNIX, 0, "/run/s"), ["'localhost'", "1", "'/run/s'"]),
        (Client("localhost"), ["'localhost'", "0", "None"]),
    ],
)
def test_clients_as_libmilter_reads_them(recorder: Recorder, client: Client, arguments: list[str]) -> None:
    recorder.quiet()

    async def ours() -> None:
        session = Session(recorder)
        assert not (await session.chain.connect(client)).failures
        session.chain.close()

    run(ours())
    assert recorder.until("close")[0][1] == arguments
