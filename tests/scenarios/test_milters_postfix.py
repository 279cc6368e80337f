"""One program on libmilter under real Postfix and under our daemon: the same callbacks, macros, replies."""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.dialog.server import run, serving
from tests.peers.milters import Recorder, running_recorder
from tests.peers.postfix import Postfix, running_postfix
from tests.peers.running import until

pytestmark = pytest.mark.scenario

HEAD = (
    b"From: a@sender.test\r\nX-Fold: 1\r\n\t2\r\nSubject:  two spaces\r\nX-Tab:\ttab\r\n"
    b"X-Twice: first\r\nX-Gone: away\r\nX-Twice: second\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n"
    b"Message-ID: <1@sender.test>\r\n"
)
BODY = b"line one\r\n.dotted\r\n\r\n" + b"long line " * 60 + b"\r\n"
OURS = ("i", "v", "j", "{daemon_name}", "{mail_host}", "{rcpt_host}", "{mail_mailer}", "{rcpt_mailer}")
"""Macros whose values are the server's own."""
MORE = """
[domains."relay.test"]
backend = "store"
recipients = "all"
[milters.recorder]
address = "{endpoint}"
listeners = ["*"]
"""
Lines = list[tuple[str, list[str], dict[str, str]]]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with running_recorder() as found:
        yield found


@pytest.fixture(scope="module")
def postfix(recorder: Recorder) -> Iterator[Postfix]:
    chain = trustme.CA().issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    settings = f"smtpd_milters = {recorder.endpoint}\nlocal_header_rewrite_clients =\n"
    with running_postfix(chain, settings) as server:
        until(lambda: not (lines := recorder.lines()) or lines[-1][0] == "close", "no session is open")
        yield server


def say(port: int) -> list[int]:
    """A session with all that milters hear of; the codes of its replies."""
    with smtplib.SMTP("127.0.0.1", port, "client.test") as client:
        codes = [client.ehlo("client.test")[0]]
        client.docmd("FROBNICATE")
        client.mail("a@sender.test", ["SIZE=200", "BODY=8BITMIME"])
        codes += [client.rcpt("b@relay.test")[0], client.rcpt("refuse@relay.test")[0]]
        codes.append(client.data(HEAD + b"\r\n" + BODY)[0])
        client.mail("other@sender.test")
        client.rset()
        for word in (b"reject", b"tempfail", b"reply", b"discard", b"accept", b"yes"):
            client.mail("a@sender.test")
            client.rcpt("b@relay.test")
            codes.append(client.data(b"X-Edit: " + word + b"\r\n" + HEAD + b"\r\n" + BODY)[0])
    return codes


def normal(lines: Lines) -> list[Any]:
    """Without ports, aborts, and the macros that are the server's own."""
    found: list[Any] = []
    for name, arguments, macros in lines:
        words = [re.sub(r"\('127.0.0.1', \d+\)", "address", one) for one in arguments]
        entry = (name, words, {key: value for key, value in macros.items() if key not in OURS})
        if name != "abort":
            found.append(entry)
    return found


def test_the_same_session(recorder: Recorder, postfix: Postfix, tmp_path: Path) -> None:
    codes = say(postfix.port)
    theirs = recorder.until("close")
    ours: list[Any] = []

    async def main() -> None:
        async with serving(tmp_path, more=MORE.format(endpoint=recorder.endpoint)) as server:
            ours.append(await asyncio.to_thread(say, server.ports["smtp"]))
            edited = server.store.delivered[-1]
            assert (edited.sender, edited.recipient) == ("changed@sender.test", "b@relay.test") or (
                edited.recipient == "added@relay.test"
            )
            assert edited.octets.startswith(b"X-Top: above all\r\n")
            assert edited.octets.endswith(b"\r\n\r\nnew body\r\n.dot\r\n" + b"x" * 70 + b"\r\n")
        ours.append(await asyncio.to_thread(recorder.until, "close"))

    run(main)
    assert ours[0] == codes
    assert normal(ours[1]) == normal(theirs)
