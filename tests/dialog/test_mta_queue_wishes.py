"""What clients ask for and the queue must not forget: reports, DELIVERBY, FUTURERELEASE, priority, TLS."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailqueue.model import Status
from mta.accounts.user import User
from mta.accounts.usersfile import edit
from mta.dsn.decide import Kind
from mta.spool.record import decode_record
from tests.dialog.queueing import QUEUED, STRANGERS, MailStore, eventually, flush, queue_of, waiting
from tests.dialog.server import Client, Server, run, serving
from tests.peers.certificates import authority

ALICE, BOB = "alice@example.test", "bob@example.test"
BUSY = "451 4.2.0 busy"
BODY = "From: alice@example.test\r\nSubject: hi\r\n\r\nhello\r\n."
RELAY = 'protocol = "smtp"\ntls = "none"'
DSN = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN")
SUBMISSION = """\
[[listener]]
name = "submission"
protocol = "submission"
tls = "none"
auth = "optional"
addresses = ["127.0.0.1:2"]
[auth]
backend = "users"
users_file = "{folder}/users"
require_tls = false
"""


async def client_of(server: Server, name: str = "smtp") -> Client:
    client = await server.connect(name)
    await client.hello()
    return client


async def send(client: Client, mail: str, *rcpts: str) -> str:
    """A transaction with the arguments of MAIL and RCPT as they are."""
    assert (reply := await client.say(f"MAIL FROM:{mail}")).startswith("250"), reply
    for rcpt in rcpts:
        assert (reply := await client.say(f"RCPT TO:{rcpt}")).startswith("250"), reply
    assert (await client.say("DATA")).startswith("354")
    return await client.say(BODY)


def commands(store: MailStore, verb: str) -> list[str]:
    return [command for command in store.commands if command.startswith(verb)]


@pytest.mark.parametrize("later", [False, True], ids=["at once", "from the queue"])
def test_who_asks_hears_of_success(tmp_path: Path, later: bool) -> None:
    store = MailStore(bob=BUSY) if later else MailStore()

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            reply = await send(
                client,
                f"<{ALICE}> RET=HDRS ENVID=QQ+2B314159",
                f"<{BOB}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2Bwork@example.org",
                "<carol@example.test>",
            )
            assert reply.startswith("250 "), reply
            if later:
                assert "queued for 1 as" in reply
                assert store.got("alice") == []
                store.heal()
                await flush(server)
            await eventually(lambda: store.got("alice"))
            (report,) = store.got("alice")
            assert b"Original-Envelope-Id: QQ+314159\r\n" in report
            assert b"Original-Recipient: rfc822; Bob+work@example.org\r\n" in report
            assert b"Final-Recipient: rfc822; bob@example.test\r\nAction: delivered\r\n" in report
            assert b"carol@example.test" not in report.partition(b"Subject: hi")[0]
            assert b"Subject: hi\r\n" in report
            assert b"hello" not in report, "RET=HDRS"
            await eventually(lambda: len(queue_of(server).live) == 0)

    run(main)


@pytest.mark.parametrize("later", [False, True], ids=["at once", "from the queue"])
def test_a_next_hop_that_reports_gets_the_duty(tmp_path: Path, later: bool) -> None:
    """It offers DSN and is a relay: the parameters go along, and we say nothing (RFC 3461 section 5.2.2)."""
    store = MailStore(bob=BUSY) if later else MailStore()
    store.keywords = DSN

    async def main() -> None:
        async with serving(
            tmp_path, queue="", store=store, backend='protocol = "smtp"\ntls = "none"'
        ) as server:
            client = await client_of(server)
            mail = f"<{ALICE}> RET=FULL ENVID=abc"
            rcpt = f"<{BOB}> NOTIFY=SUCCESS ORCPT=rfc822;bob@old.test"
            assert (await send(client, mail, rcpt)).startswith("250 ")
            if later:
                store.heal()
                await flush(server)
            await eventually(lambda: store.got("bob"))
            assert "RET=FULL" in commands(store, "MAIL")[-1]
            assert "ENVID=abc" in commands(store, "MAIL")[-1]
            assert "NOTIFY=SUCCESS" in commands(store, "RCPT")[-1]
            assert "ORCPT=rfc822;bob@old.test" in commands(store, "RCPT")[-1]
            await asyncio.sleep(0.3)
            assert store.got("alice") == []

    run(main)


@pytest.mark.parametrize("later", [False, True], ids=["at once", "from the queue"])
@pytest.mark.parametrize("knows", [True, False])
def test_a_next_hop_that_is_told_of_the_time_is_not_reported_as_a_relay(
    tmp_path: Path, knows: bool, later: bool
) -> None:
    """DELIVERBY in mode N: one that does not know of it is (RFC 2852 section 4)."""
    store = MailStore(bob=BUSY) if later else MailStore()
    store.keywords = (*DSN, "DELIVERBY") if knows else DSN

    async def main() -> None:
        async with serving(
            tmp_path, queue="", store=store, backend='protocol = "smtp"\ntls = "none"'
        ) as server:
            client = await client_of(server)
            assert (await send(client, f"<{ALICE}> BY=3600;N", f"<{BOB}>")).startswith("250 ")
            if later:
                store.heal()
                await flush(server)
            await eventually(lambda: store.got("bob"))
            assert ("BY=3" in commands(store, "MAIL")[-1]) == knows
            if knows:
                await asyncio.sleep(0.5)
                assert store.got("alice") == []
            else:
                await eventually(lambda: store.got("alice"))
                assert b"Action: relayed\r\n" in store.got("alice")[0]

    run(main)


@pytest.mark.parametrize("later", [False, True], ids=["at once", "from the queue"])
def test_a_next_hop_that_does_not_report_is_reported_as_a_relay(tmp_path: Path, later: bool) -> None:
    store = MailStore(bob=BUSY) if later else MailStore()

    async def main() -> None:
        async with serving(
            tmp_path, queue="", store=store, backend='protocol = "smtp"\ntls = "none"'
        ) as server:
            client = await client_of(server)
            assert (await send(client, f"<{ALICE}>", f"<{BOB}> NOTIFY=SUCCESS")).startswith("250 ")
            if later:
                store.heal()
                await flush(server)
            await eventually(lambda: store.got("alice"))
            assert b"Action: relayed\r\n" in store.got("alice")[0]
            assert not any("NOTIFY" in command for command in store.commands)

    run(main)


def test_success_is_told_to_nobody_whom_nobody_knows(tmp_path: Path) -> None:
    store = MailStore()

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store, more=STRANGERS) as server:
            client = await client_of(server)
            assert (await send(client, f"<{ALICE}>", f"<{BOB}> NOTIFY=SUCCESS")).startswith("250 ")
            await asyncio.sleep(0.3)
            assert store.got("alice") == []
            assert len(queue_of(server).live) == 0

    run(main)


@pytest.mark.parametrize(
    ("sender", "notify"), [("", ""), (ALICE, " NOTIFY=NEVER"), (ALICE, " NOTIFY=SUCCESS")]
)
def test_failures_that_nobody_hears_of(tmp_path: Path, sender: str, notify: str) -> None:
    """Refused after it was queued: the null sender, and who asked for silence."""
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, f"<{sender}>", f"<{BOB}>{notify}"))
            store.replies[BOB] = "550 5.1.1 no such user"
            await flush(server)
            await eventually(lambda: len(queue_of(server).live) == 0)
            assert store.delivered == []

    run(main)


def test_a_refusal_after_queueing_is_reported(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, f"<{ALICE}> ENVID=xyz", f"<{BOB}>"))
            store.replies[BOB] = "552 5.2.2 over quota"
            await flush(server)
            await eventually(lambda: store.got("alice"))
            (report,) = store.got("alice")
            assert b"Status: 5.2.2\r\n" in report
            assert b"Diagnostic-Code: smtp; 552 5.2.2 over quota\r\n" in report
            assert b"Original-Envelope-Id: xyz\r\n" in report
            assert b"hello" in report
            await eventually(lambda: len(queue_of(server).live) == 0)

    run(main)


def test_a_refusal_without_an_enhanced_code_is_reported_by_its_basic_one(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, f"<{ALICE}>", f"<{BOB}>"))
            store.replies[BOB] = "552 over quota"
            await flush(server)
            await eventually(lambda: store.got("alice"))
            (report,) = store.got("alice")
            assert b"Status: 5.2.2\r\n" in report
            assert b"Diagnostic-Code: smtp; 552 over quota\r\n" in report
            assert b"The mailbox is full." in report

    run(main)


@pytest.mark.parametrize("first", ["NEVER", "SUCCESS"])
def test_a_recipient_that_is_named_twice_is_reported_as_either_wants(tmp_path: Path, first: str) -> None:
    """One copy is delivered; NEVER of one RCPT does not keep from the sender what the other asked for."""
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            twice = (f"<{BOB}> NOTIFY={first}", f"<{BOB}>")
            assert QUEUED.match(await send(client, f"<{ALICE}>", *twice))
            store.replies[BOB] = "550 5.1.1 no such user"
            await flush(server)
            await eventually(lambda: store.got("alice"))
            (report,) = store.got("alice")
            assert b"Status: 5.1.1\r\n" in report
            await eventually(lambda: len(queue_of(server).live) == 0)

    run(main)


def test_a_report_that_cannot_be_delivered_waits_too(tmp_path: Path) -> None:
    """And when it is refused the postmaster hears of it; then it ends."""
    store = MailStore(bob=BUSY, alice=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, f"<{ALICE}>", f"<{BOB}>"))
            store.replies[BOB] = "550 5.1.1 no such user"
            await flush(server)
            await eventually(lambda: any(b"x" for _ in commands(store, "MAIL FROM:<>")))
            await eventually(lambda: len(queue_of(server).live) == 1)
            (report,) = await waiting(server)
            assert report.sender == ""
            assert decode_record(report.envelope).kind == Kind.REPORT.value
            store.replies[ALICE] = "550 5.1.1 gone too"
            await flush(server)
            await eventually(lambda: store.got("postmaster"))
            assert b"gone too" in store.got("postmaster")[0]
            await eventually(lambda: len(queue_of(server).live) == 0)

    run(main)


def test_a_time_to_deliver_by_survives(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(await send(client, f"<{ALICE}> BY=2;R", f"<{BOB}>"))
            await eventually(lambda: store.got("alice"), "returned after two seconds")
            assert b"Status: 5.4.7\r\n" in store.got("alice")[0]
            assert store.got("bob") == []
            await eventually(lambda: len(queue_of(server).live) == 0)

    run(main)


def test_tls_that_was_required_is_required_later(tmp_path: Path) -> None:
    """REQUIRETLS: a relay that is back, without TLS, gets neither the message nor a report that quotes it."""
    ca = authority(tmp_path)
    ca.issue("main", "mx.test")
    more = f'[certificates.main]\nchain = "{tmp_path}/main.pem"\nkey = "{tmp_path}/main.key"\n'
    store = MailStore()

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store, more=more, backend=RELAY) as server:
            await store.stop()
            client = await client_of(server)
            await client.starttls(ssl.create_default_context(cafile=ca.file), "mx.test")
            assert "REQUIRETLS" in await client.say("EHLO client.test")
            assert QUEUED.match(await send(client, f"<{ALICE}> REQUIRETLS", f"<{BOB}>"))
            (kept,) = await waiting(server)
            assert decode_record(kept.envelope).require_tls
            await store.start(store.port)
            await flush(server)
            await eventually(lambda: len(queue_of(server).live) == 0)
            assert store.sessions > 0
            assert store.delivered == []

    run(main)


@asynccontextmanager
async def submission(folder: Path, store: MailStore, queue: str = "") -> AsyncIterator[Server]:
    """A daemon with a port for users."""
    with edit(folder / "users") as table:
        table.put(User(ALICE).with_password("secret"))
    more = SUBMISSION.format(folder=folder)
    async with serving(folder, queue=queue, store=store, more=more) as server:
        yield server


async def logged_in(server: Server) -> Client:
    client = await client_of(server, "submission")
    word = base64.b64encode(f"\0{ALICE}\0secret".encode()).decode()
    assert (await client.say(f"AUTH PLAIN {word}")).startswith("235")
    return client


def test_what_is_offered_to_whom(tmp_path: Path) -> None:
    """Each listener offers what it honours, and only with a queue."""

    def words(text: str) -> set[str]:
        return {line[4:].split()[0] for line in text.splitlines()[1:]}

    async def main() -> None:
        needs_queue = {"DSN", "DELIVERBY"}
        for_users = {"FUTURERELEASE", "MT-PRIORITY"}
        async with submission(tmp_path, MailStore()) as server:
            smtp = await server.connect()
            offered = words(await smtp.hello())
            assert needs_queue <= offered
            assert not for_users & offered
            assert "ETRN" in offered
            for parameter in ("HOLDFOR=60", "MT-PRIORITY=3"):
                assert (await smtp.say(f"MAIL FROM:<{ALICE}> {parameter}")).startswith("555 5.5.4")
            user = await server.connect("submission")
            for_it = words(await user.hello())
            assert needs_queue | for_users <= for_it
            assert "ETRN" not in for_it
        async with submission(tmp_path, MailStore(), queue="enabled = false") as server:
            user = await server.connect("submission")
            assert not (needs_queue | for_users) & words(await user.hello())
            smtp = await server.connect()
            assert "ETRN" not in words(await smtp.hello())
            assert (await smtp.say("ETRN example.test")).startswith("502 5.5.1")
            assert (await user.say(f"MAIL FROM:<{ALICE}> BY=60;R")).startswith("555 5.5.4")

    run(main)


def test_a_message_for_later(tmp_path: Path) -> None:
    store = MailStore()

    async def main() -> None:
        async with submission(tmp_path, store) as server:
            client = await logged_in(server)
            before = time.time()
            assert QUEUED.match(await send(client, f"<{ALICE}> HOLDFOR=2", f"<{BOB}>"))
            assert store.delivered == []
            (kept,) = await waiting(server)
            assert kept.recipients[0].status is Status.QUEUED
            assert kept.recipients[0].due == pytest.approx(before + 2, abs=1)
            await eventually(lambda: store.got("bob"))
            assert time.time() >= before + 1.9
            until = datetime.fromtimestamp(time.time() + 7200, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            assert QUEUED.match(await send(client, f"<{ALICE}> HOLDUNTIL={until}", f"<{BOB}>"))
            (kept,) = await waiting(server)
            assert kept.recipients[0].due == pytest.approx(time.time() + 7200, abs=5)

    run(main)


def test_priority_and_login_are_kept(tmp_path: Path) -> None:
    store = MailStore(bob=BUSY)

    async def main() -> None:
        async with submission(tmp_path, store) as server:
            client = await logged_in(server)
            assert QUEUED.match(await send(client, f"<{ALICE}> MT-PRIORITY=4", f"<{BOB}>"))
            (kept,) = await waiting(server)
            record = decode_record(kept.envelope)
            assert (kept.priority, record.priority, record.vouching, record.origin.user) == (
                4, 4, "login", ALICE,
            )  # fmt: skip
            assert record.origin.listener == "submission"
            assert b"Message-ID: <" in kept.header, "what we add for users is kept"
            assert b"\r\n for <bob@example.test>\r\n PRIORITY 4;\r\n" in kept.header

    run(main)


def test_utf8_envelopes(tmp_path: Path) -> None:
    store = MailStore(jörg=BUSY)
    store.keywords = (*store.keywords, "SMTPUTF8")

    async def main() -> None:
        async with serving(tmp_path, queue="", store=store) as server:
            client = await client_of(server)
            assert QUEUED.match(
                await send(client, f"<{ALICE}> SMTPUTF8 BODY=8BITMIME", "<jörg@example.test>")
            )
            store.heal()
            await flush(server)
            await eventually(lambda: store.got("jörg"))
            assert "SMTPUTF8" in commands(store, "MAIL")[-1]

    run(main)
