"""What scripts ask of whoever delivers a redirected message, down to the commands."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest

from mta import config
from mta.store.submission import NotSent, Submission
from mta.store.wishes import BY_MOST, NONE, Wishes, wishes_of
from mta.supervisor.storehost import store_settings
from tests.peers.scripted import Script, ScriptedServer

NOW = datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(seconds=90)
BEFORE = NOW - datetime.timedelta(seconds=90)


@pytest.mark.parametrize(
    ("options", "mail", "rcpt"),
    [
        ({}, [], []),
        ({"notify": ("SUCCESS", "FAILURE")}, [], ["NOTIFY=SUCCESS,FAILURE"]),
        ({"notify": ("NEVER",), "ret": "HDRS"}, ["RET=HDRS"], ["NOTIFY=NEVER"]),
        ({"bytimerelative": 60, "bymode": "notify"}, ["BY=60;N"], []),
        ({"bytimerelative": 60, "bymode": "return", "bytrace": True}, ["BY=60;RT"], []),
        ({"bytimerelative": 0, "bymode": "return"}, ["BY=1;R"], []),
        ({"bytimeabsolute": LATER, "bymode": "notify"}, ["BY=90;N"], []),
        ({"bytimeabsolute": BEFORE, "bymode": "notify"}, ["BY=-90;N"], []),
        ({"bytimeabsolute": BEFORE, "bymode": "return"}, ["BY=1;R"], []),
        ({"bytimeabsolute": NOW.replace(year=9999), "bymode": "notify"}, [f"BY={BY_MOST};N"], []),
    ],
)
def test_wishes(options: dict[str, Any], mail: list[str], rcpt: list[str]) -> None:
    wishes = wishes_of(options, NOW)
    assert [said for _, said in wishes.mail] == mail
    assert [said for _, said in wishes.rcpt] == rcpt


WISHES = Wishes((("dsn", "RET=FULL"), ("deliverby", "BY=60;N")), (("dsn", "NOTIFY=DELAY"),))


@pytest.mark.parametrize(
    ("offers", "wishes", "mail", "rcpt"),
    [
        (("DSN", "DELIVERBY"), WISHES, " RET=FULL BY=60;N", " NOTIFY=DELAY"),
        (("DSN",), WISHES, " RET=FULL", " NOTIFY=DELAY"),
        (("SIZE 1000",), WISHES, " size=6", ""),
        (("DSN", "DELIVERBY"), NONE, "", ""),
    ],
)
def test_only_what_is_offered_is_said(offers: tuple[str, ...], wishes: Wishes, mail: str, rcpt: str) -> None:
    async def main() -> None:
        async with ScriptedServer(Script(offers=offers, lmtp=False)) as server:
            submission = Submission(f"127.0.0.1:{server.port}", "store.test")
            await asyncio.to_thread(submission.send, "a@x.test", ["b@y.test"], b"hi\r\n\r\n", wishes)
            said = [line for line in server.said if line.startswith(("MAIL", "RCPT"))]
            assert said == [f"MAIL FROM:<a@x.test>{mail}", f"RCPT TO:<b@y.test>{rcpt}"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("127.0.0.1:25", None),
        ("[::1]:25", None),
        ("203.0.113.5:25", ("127.0.0.1", 0)),
        ("[2001:db8::5]:25", ("::1", 0)),
        ("192.0.2.5:25", None),
    ],
)
def test_the_server_trusts_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, address: str, source: tuple[str, int] | None
) -> None:
    """A connection to an address of this machine comes from that address, which is in no trusted network."""
    seen: list[object] = []

    def refuse(host: str, port: int, name: str, timeout: float, source_address: object) -> None:
        seen.append(source_address)
        raise ConnectionRefusedError

    monkeypatch.setattr("smtplib.SMTP", refuse)
    submission = Submission(address, "store.test", trusted=("127.0.0.0/8", "::1/128", "192.0.2.0/24"))
    with pytest.raises(NotSent):
        submission.send("a@x.test", ["b@y.test"], b"hi\r\n\r\n")
    assert seen == [source]


@pytest.mark.parametrize(
    ("listeners", "submit"),
    [
        ('addresses = ["203.0.113.5:25", "127.0.0.1:2525"]', "127.0.0.1:2525"),
        ('addresses = ["203.0.113.5:25"]', "203.0.113.5:25"),
        ('addresses = ["0.0.0.0:25"]\nproxy_protocol_from = ["10.0.0.0/8"]', ""),
        ('addresses = ["fd:smtp"]', "127.0.0.1:25"),
        ('addresses = ["fd:smtp", "203.0.113.5:2525"]', "203.0.113.5:2525"),
        ('addresses = ["fd:smtp"]\nproxy_protocol_from = ["10.0.0.0/8"]', ""),
    ],
)
def test_to_which_listener_scripts_send(listeners: str, submit: str) -> None:
    assert store_settings(config.parse(f"[[listener]]\n{listeners}\n", "tamis.toml")).submit == submit
