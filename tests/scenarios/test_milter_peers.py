"""Filters of our library under a real Postfix; opendkim as a milter of ours."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import smtplib
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailmilter.chain import MilterChain
from mailmilter.connection import Milter as Peer
from mailmilter.connection import MilterPool
from mailmilter.constants import Stage
from mailmilter.endpoint import parse_endpoint
from mailmilter.filter import DISCARD, TEMPFAIL, Answer, Client, Context, Field, Milter, reply, serve
from mailmilter.message import Message, split_fields
from mailmilter.requests import Family
from mailmilter.values import CONTINUE
from tests.peers.milters import running_opendkim
from tests.peers.postfix import Postfix, running_postfix, running_sink
from tests.peers.running import until

pytestmark = pytest.mark.scenario

SETTINGS = """\
smtpd_milters = {endpoint}
milter_default_action = accept
local_header_rewrite_clients =
relay_transport = smtp:[127.0.0.1]:{sink}
default_transport = smtp:[127.0.0.1]:{sink}
"""
SERVICES = "smtp unix - - n - - smtp\n"
FIXED = b"From: a@sender.test\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <1@sender.test>\r\n"
Heard = list[tuple[str, str]]


class Editing(Milter):
    """Edits in every way; its answers are in the local part of the sender."""

    rejected_recipients = True
    heard: Heard

    def note(self, name: str, text: object = "") -> None:
        self.heard.append((name, str(text)))

    async def connect(self, ctx: Context, client: Client) -> Answer | None:
        self.note("connect", f"{client.name} {client.family.name} {client.address} {ctx.macro('j')}")
        return None

    async def helo(self, ctx: Context, name: str) -> Answer | None:
        self.note("helo", name)
        return None

    async def mail(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        self.note("mail", f"{address.decode()} {parameters} {ctx.macro('mail_addr')}")
        if address.startswith(b"reply"):
            return reply(554, "5.7.9", "100% no", "never")
        return {b"tempfail": TEMPFAIL, b"crash": None}.get(address.partition(b"@")[0])

    async def rcpt(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        words = [ctx.macro(name) for name in ("rcpt_mailer", "rcpt_host", "rcpt_addr")]
        self.note("rcpt", " ".join([address.decode(), *(words if words[0] == "error" else words[2:])]))
        if ctx.sender.startswith(b"crash"):
            raise KeyError("a mistake of the filter's author")
        return None

    async def header(self, ctx: Context, field: Field) -> Answer | None:
        self.note("header", field)
        return None

    async def body(self, ctx: Context, piece: bytes) -> Answer | None:
        self.note("body", len(piece))
        return None

    async def end_of_message(self, ctx: Context) -> Answer | None:
        self.note("eom", f"{len(ctx.recipients)} {bool(ctx.macro('i'))}")
        if ctx.sender.startswith(b"discard"):
            return DISCARD
        ctx.progress()
        ctx.change_header("Subject", "changed\n and folded")
        ctx.delete_header("X-Gone", 2)
        ctx.insert_header(0, "X-Top", "top")
        ctx.insert_header(1, "X-Below", "below")
        ctx.add_header("X-Last", "last")
        ctx.add_recipient(b"added@relay.test", b"NOTIFY=NEVER")
        ctx.add_recipient(b"plain@relay.test")
        ctx.delete_recipient(b"gone@relay.test")
        ctx.change_sender(b"changed@sender.test")
        ctx.replace_body(b"new\r\n" * 30_000)
        ctx.replace_body(b"the end\r\n")
        return None

    async def abort(self, ctx: Context) -> None:
        self.note("abort")

    async def close(self, ctx: Context) -> None:
        self.note("close")


@contextmanager
def serving(kind: type[Milter]) -> Iterator[str]:
    """Serve a filter in a thread of its own, where Postfix (user postfix) may connect; its endpoint."""
    with tempfile.TemporaryDirectory(prefix="tamis-filter-") as name:
        Path(name).chmod(0o755)
        endpoint = f"unix:{name}/socket"
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(serve(kind, endpoint, mode=0o666), loop).result(10)
        try:
            yield endpoint
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


@pytest.fixture(scope="module")
def heard() -> Heard:
    return []


@pytest.fixture(scope="module")
def dumps() -> Iterator[tuple[Path, int]]:
    with tempfile.TemporaryDirectory(prefix="tamis-sink-") as name:
        Path(name).chmod(0o777)
        with running_sink("-d", f"{name}/mail.") as port:
            yield Path(name), port


@pytest.fixture(scope="module")
def postfix(heard: Heard, dumps: tuple[Path, int]) -> Iterator[Postfix]:
    Editing.heard = heard
    chain = trustme.CA().issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    with serving(Editing) as endpoint:
        settings = SETTINGS.format(endpoint=endpoint, sink=dumps[1])
        with running_postfix(chain, settings, SERVICES) as server:
            yield server


def submit(server: Postfix, sender: str, head: bytes, body: bytes, *recipients: str) -> tuple[int, bytes]:
    """One message; the first reply that is not good, else the last one."""
    with smtplib.SMTP("127.0.0.1", server.port, "client.test") as client:
        client.ehlo("client.test")
        found = client.mail(sender, ["BODY=8BITMIME"])
        for one in recipients:
            if found[0] == 250:
                found = client.rcpt(one)
        return found if found[0] != 250 else client.data(FIXED + head + b"\r\n" + body)


def test_every_edit_under_postfix(postfix: Postfix, heard: Heard, dumps: tuple[Path, int]) -> None:
    until(lambda: heard and heard[-1][0] == "close", "the session that the start of Postfix made ends")
    heard.clear()
    head = b"Subject: one\r\nX-Gone: 1\r\nX-Gone: 2\r\nX-Fold: a\r\n\tb\r\n"
    found = submit(postfix, "a@sender.test", head, b"old\r\n", "b@relay.test", "gone@relay.test")
    assert found[0] == 250
    text = until(lambda: _dumped(dumps[0]), "the message arrives").replace(b"\n", b"\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    fields = split_fields(head)
    names = [one.name for one in fields]
    first = names.index(b"Received") + 1
    assert names[first:] == [
        *(b"X-Top", b"X-Below", b"Received", b"From", b"Date", b"Message-ID"),
        *(b"Subject", b"X-Gone", b"X-Fold", b"X-Last"),
    ]
    values = {one.name: one.value for one in fields}
    assert values[b"Subject"] == b" changed\r\n and folded"
    assert values[b"X-Gone"] == b" 1"
    assert body.rstrip() == (b"new\r\n" * 30_000 + b"the end")
    envelope = b"".join(one.render() for one in fields[:first])
    assert b"<changed@sender.test>" in envelope
    assert all(one in envelope for one in (b"<added@relay.test>", b"<plain@relay.test>", b"<b@relay.test>"))
    assert b"<gone@relay.test>" not in envelope
    assert heard[:5] == [
        ("connect", "[127.0.0.1] INET 127.0.0.1 relay.test"),
        ("helo", "client.test"),
        ("mail", "a@sender.test (b'BODY=8BITMIME',) a@sender.test"),
        ("rcpt", "b@relay.test b@relay.test"),
        ("rcpt", "gone@relay.test gone@relay.test"),
    ]
    assert ("header", str(Field(b"X-Fold", b"a\r\n\tb"))) in heard
    assert ("eom", "2 True") in heard
    until(lambda: heard[-1][0] == "close", "the session ends")


def _dumped(folder: Path) -> bytes | None:
    for path in folder.iterdir():
        text = path.read_bytes()
        if b"X-Top" in text and b"the end" in text:
            return text
    return None


@pytest.mark.parametrize(
    ("sender", "code", "text"),
    [
        ("reply@sender.test", 554, b"5.7.9 100% no\n5.7.9 never"),
        ("tempfail@sender.test", 451, b"4.7.1 Service unavailable - try again later"),
        ("crash@sender.test", 451, b"4.7.1 Service unavailable - try again later"),
        ("discard@sender.test", 250, b"2.0.0 Ok"),
    ],
)
def test_verdicts_under_postfix(postfix: Postfix, sender: str, code: int, text: bytes) -> None:
    found = submit(postfix, sender, b"Subject: x\r\n", b"x\r\n", "b@relay.test")
    assert found[0] == code
    assert found[1].startswith(text)
    if sender.startswith("discard"):
        queued = found[1].split()[-1].decode()
        until(lambda: f"{queued}: milter-discard" in postfix.log(), "Postfix discards it")


# opendkim signs what we send through it.


def relaxed(field: Field) -> bytes:
    """RFC 6376 section 3.4.2."""
    value = re.sub(rb"[ \t]+", b" ", field.value.replace(b"\r\n", b"")).strip()
    return field.name.lower() + b":" + value


def test_opendkim_signs_through_our_chain(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    secret = tmp_path / "key.pem"
    secret.touch(0o600)
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    body = b"signed text\r\n" * 9000
    own = Field(b"Received", b" by us", own=True)
    message = Message([own, *split_fields(FIXED + b"Subject:  signed\r\n\tfolded\r\n")], lambda: (body,))

    def macros(stage: Stage) -> dict[str, str]:
        return {"j": "mx.test", "i": "Q1", "daemon_name": "mx.test", "mail_addr": "a@sender.test"}

    async def main(endpoint: str) -> None:
        pool = MilterPool()
        for number in range(2):
            chain = MilterChain(pool, macros, [Peer("opendkim", parse_endpoint(endpoint), reuse=True)])
            results = [await chain.connect(Client("localhost", Family.INET, 4711, "127.0.0.1"))]
            results += [await chain.helo("client.test"), await chain.mail(b"a@sender.test")]
            results += [await chain.rcpt(b"b@other.test"), await chain.data()]
            sent = message if number else Message(list(message.fields), message.body)
            results.append(await chain.message(sent))
            chain.abort()
            chain.close()
            assert [one.verdict for one in results] == [CONTINUE] * 6
            assert not any(one.failures for one in results)
        pool.close()

    with running_opendkim("sender.test", secret) as endpoint:
        asyncio.run(main(endpoint))
    assert [one.name for one in message.fields[:2]] == [b"DKIM-Signature", b"Received"]
    signature = message.fields[0]
    tags = dict(
        one.strip().split("=", 1)
        for one in re.sub(r"\s+", " ", signature.value.decode()).strip(" ;").split(";")
    )
    assert (tags["d"], tags["s"]) == ("sender.test", "s1")
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert tags["bh"].replace(" ", "") == digest
    shown = {one.name.lower(): one for one in message.shown()}
    assert b"received" not in shown
    signed = [shown[name.strip().lower().encode()] for name in tags["h"].split(":")]
    assert b"subject" in [one.name.lower() for one in signed]
    bare = Field(signature.name, re.sub(rb"(\bb=)[^;]+", rb"\1", signature.value))
    octets = b"".join(relaxed(one) + b"\r\n" for one in signed) + relaxed(bare)
    made = base64.b64decode(tags["b"].replace(" ", ""))
    key.public_key().verify(made, octets, padding.PKCS1v15(), hashes.SHA256())


def test_refused_recipients_as_postfix_tells_of_them(postfix: Postfix, heard: Heard) -> None:
    found = submit(postfix, "a@sender.test", b"", b"x\r\n", "x@refused.test")
    assert found[0] == 554
    text = "x@refused.test error 5.7.1 Recipient address rejected: not here"
    assert ("rcpt", text) in heard
