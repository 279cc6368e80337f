"""What policy scripts order about a message: header, recipients, route, queue; delivered and queued alike."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mailqueue.model import Status
from mta.spool.record import decode_recipient, decode_record
from tests.dialog.backend import ScriptedStore
from tests.dialog.policies import STRANGERS, greeted, policed
from tests.dialog.queueing import QUEUED, MailStore, eventually, flush, queue_of, statuses, waiting
from tests.dialog.server import Client, Server, run

QUEUE = "enabled = true"
BUSY = "451 4.2.0 busy"
BODY = "From: a@x.test\r\nX-Old: 1\r\nSubject: hi\r\n\r\n.hello\r\n"
WIRE = BODY.replace("\r\n.", "\r\n..")
EDIT = """
stage "data" {
    deleteheader "X-Old";
    addheader "X-Policy" "caf\u00e9";
    addheader :last "X-Size" "${env.size}";
}
"""


async def send(client: Client, *recipients: str, sender: str = "a@x.test", parameters: str = "") -> str:
    """A message with a line that begins with a dot."""
    await client.envelope(*recipients, sender=sender, parameters=parameters)
    assert (await client.say("DATA")).startswith("354")
    return await client.say(WIRE + ".")


def check_edited(octets: bytes) -> None:
    """What `EDIT` makes of `BODY`."""
    header, _, body = octets.partition(b"\r\n\r\n")
    fields = header.split(b"\r\n")
    own = fields.index(b"X-Policy: =?utf-8?b?Y2Fmw6k=?=")
    assert fields[0].startswith(b"Received: ")
    assert fields[own:] == [
        b"X-Policy: =?utf-8?b?Y2Fmw6k=?=",
        b"From: a@x.test",
        b"Subject: hi",
        f"X-Size: {len(BODY)}".encode(),
    ]
    assert body == b".hello\r\n"


def test_edits_are_delivered_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with policed(tmp_path, EDIT) as server:
            client = await greeted(server)
            assert (await send(client, "b@example.test", "c@example.test")).startswith("250 2.0.0 kept")
            first, second = server.store.delivered
            assert first.octets == second.octets
            check_edited(first.octets)

    run(main)


def test_edits_are_queued_and_tried_again_as_they_are(tmp_path: Path) -> None:
    store = MailStore(b=BUSY)

    async def main() -> None:
        async with policed(tmp_path, EDIT, queue=QUEUE, store=store) as server:
            client = await greeted(server)
            assert QUEUED.match(await send(client, "b@example.test"))
            (message,) = await waiting(server)
            check_edited(message.header + b"".join((await message.body.fetch()).chunks()))
            store.heal()
            await flush(server)
            await eventually(lambda: store.got("b"), "the second try")
            check_edited(store.got("b")[0])

    run(main)


def test_large_edited_message_goes_through_a_file(tmp_path: Path) -> None:
    body = "X-Old: 1\r\nSubject: hi\r\n\r\n" + ("x" * 70 + "\r\n") * 30_000

    async def main() -> None:
        async with policed(tmp_path, EDIT) as server:
            client = await greeted(server)
            assert (await client.send("b@example.test", body=body)).startswith("250")
            octets = server.store.delivered[0].octets
            assert octets.partition(b"\r\n\r\n")[2] == body.partition("\r\n\r\n")[2].encode()
            assert b"X-Old" not in octets

    run(main)


def test_recipients_are_added_and_removed(tmp_path: Path) -> None:
    script = """
stage "data" {
    remove_recipient "c@example.test";
    add_recipient ["journal@example.test", "b@example.test", "x@foreign.test"];
    set_sender "changed@x.test";
}
"""

    async def main() -> None:
        async with policed(tmp_path, script, policy=STRANGERS) as server:
            client = await greeted(server)
            assert (await send(client, "b@example.test", "c@example.test")).startswith("250 2.0.0 delivered")
            assert [(one.sender, one.recipient) for one in server.store.delivered] == [
                ("changed@x.test", "b@example.test"),
                ("changed@x.test", "journal@example.test"),
            ]

    run(main)


def test_nobody_is_left(tmp_path: Path) -> None:
    script = 'stage "data" { remove_recipient "b@example.test"; }'

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            assert await send(client, "b@example.test") == "250 2.1.5 accepted\r\n"
            assert server.store.delivered == []
            assert server.daemon.snapshot()["messages"]["discarded\tsmtp"] == 1

    run(main)


def test_each_recipient_of_the_client_has_its_reply(tmp_path: Path) -> None:
    script = 'stage "data" { remove_recipient "c@example.test"; add_recipient "journal@example.test"; }'
    store = MailStore(d="550 5.2.1 no", journal="550 5.2.1 never")

    async def main() -> None:
        async with policed(tmp_path, script, store=store) as server:
            client = await greeted(server)
            people = [f"{name}@example.test" for name in "bcd"]
            await client.envelope(*people, parameters=" PRDR")
            await client.say("DATA")
            replies = await client.say(BODY + ".", 5)
            codes = [line[:9] for line in replies.splitlines()]
            assert codes[0].startswith("353")
            assert codes[1:] == ["250 2.0.0", "250 2.1.5", "550 5.2.1", "250 2.0.0"]
            assert "journal" not in replies

    run(main)


def test_an_added_recipient_that_waits_has_the_client_try_again(tmp_path: Path) -> None:
    """Without a queue: nobody gets it twice, and the journal gets it in the end."""
    script = 'stage "data" { add_recipient "journal@example.test"; }'
    store = MailStore(journal=BUSY)

    async def main() -> None:
        async with policed(tmp_path, script, store=store) as server:
            client = await greeted(server)
            body = "Message-ID: <1@x.test>\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\n\r\nx\r\n"
            assert (await client.send("b@example.test", body=body)).startswith("451 4.3.0")
            store.heal()
            assert (await client.send("b@example.test", body=body)).startswith("250")
            assert len(store.got("b")) == 1
            assert len(store.got("journal")) == 1

    run(main)


def test_added_recipient_waits_in_the_queue(tmp_path: Path) -> None:
    script = 'stage "data" { add_recipient "journal@example.test"; }'
    store = MailStore(journal=BUSY)

    async def main() -> None:
        async with policed(tmp_path, script, store=store, queue=QUEUE) as server:
            client = await greeted(server)
            assert (await send(client, "b@example.test")).startswith("250 2.0.0 kept")
            (message,) = await waiting(server)
            assert statuses(message) == {"b": Status.DELIVERED, "journal": Status.DEFERRED}

    run(main)


def route_to(port: int) -> str:
    return f'[backends.other]\naddresses = ["127.0.0.1:{port}"]\nfailure_delay = "0.1s"\n'


def test_route_at_rcpt_holds_for_the_queue_too(tmp_path: Path) -> None:
    script = 'stage "rcpt" { if envelope "to" "b@example.test" { route :to "backend:other"; } }'
    other = MailStore(b=BUSY)

    async def main() -> None:
        await other.start()
        try:
            more = route_to(other.port)
            async with policed(tmp_path, script, more=more, queue=QUEUE) as server:
                client = await greeted(server)
                assert "queued for 1" in await send(client, "b@example.test", "c@example.test")
                assert [one.recipient for one in server.store.delivered] == ["c@example.test"]
                (message,) = await waiting(server)
                assert message.recipients[0].site == "backend:other"
                other.heal()
                await flush(server)
                await eventually(lambda: other.got("b"), "the second try")
        finally:
            await other.stop()

    run(main)


def test_route_at_data_is_for_all(tmp_path: Path) -> None:
    script = 'stage "data" { if header "subject" "hi" { route :to "backend:other"; } }'
    other = ScriptedStore()

    async def main() -> None:
        await other.start()
        try:
            async with policed(tmp_path, script, more=route_to(other.port)) as server:
                client = await greeted(server)
                assert (await send(client, "b@example.test", "c@example.test")).startswith("250")
                assert len(other.delivered) == 2
                assert server.store.delivered == []
        finally:
            await other.stop()

    run(main)


def test_queue_orders(tmp_path: Path) -> None:
    script = """
stage "data" {
    hold "look at it"; priority "high"; expire "2h"; tag ["news", "list"]; tag "more";
    addheader "X-Held" "yes";
}
"""

    async def main() -> None:
        async with policed(tmp_path, script, queue=QUEUE) as server:
            client = await greeted(server)
            before = time.time()
            match = QUEUED.match(await send(client, "b@example.test"))
            assert match
            assert server.store.delivered == []
            (message,) = await waiting(server)
            (person,) = message.recipients
            assert (person.status, person.attempts) == (Status.HELD, 0)
            assert person.reply.startswith("held by the policy: policy.sieve:")
            assert person.reply.endswith("look at it")
            assert message.priority == 4
            assert set(message.tags) == {"news", "list", "more"}
            assert before + 7199 < message.expires < time.time() + 7201
            assert decode_record(message.envelope).lifetime == 7200
            await release(server, match[1])
            await eventually(lambda: server.store.delivered, "the first try")
            assert b"\r\nX-Held: yes\r\n" in b"\r\n" + server.store.delivered[0].octets

    run(main)


async def release(server: Server, name: str) -> None:
    service = server.daemon._queue
    assert service is not None
    assert service.acts is not None
    assert await service.acts.act("release", name)


def test_hold_is_refused_when_the_queue_takes_nothing(tmp_path: Path) -> None:
    script = 'stage "data" { hold; }'

    async def main() -> None:
        async with policed(tmp_path, script, queue=f"{QUEUE}\nmax_messages = 1") as server:
            client = await greeted(server)
            assert QUEUED.match(await send(client, "b@example.test"))
            assert (await send(client, "b@example.test")).startswith("452 ")
            assert len(list(queue_of(server).live.handles())) == 1
            assert server.store.delivered == []

    run(main)


@pytest.mark.parametrize("order", ["hold", 'delay "1h"'])
def test_what_the_policy_has_queued_is_kept_of_strangers_too(order: str, tmp_path: Path) -> None:
    """A 4xx would never end: each try of the client meets the same order."""
    script = f'stage "data" {{ if header "subject" "hi" {{ {order}; }} }}'
    queue, store = f'{QUEUE}\naccept = "vouched"', MailStore(b=BUSY)

    async def main() -> None:
        async with policed(tmp_path, script, queue=queue, policy=STRANGERS, store=store) as server:
            client = await greeted(server)
            assert QUEUED.match(await send(client, "b@example.test"))
            await client.envelope("b@example.test")
            await client.say("DATA")
            reply = await client.say("Subject: other\r\n\r\n.")
            assert reply.startswith("451 4.2.0 busy; mail of unknown senders is not queued")
            assert len(list(queue_of(server).live.handles())) == 1

    run(main)


def test_rewritten_recipient_is_named_as_the_client_knows_it(tmp_path: Path) -> None:
    script = 'stage "rcpt" { rewrite_recipient "new@example.test"; }'
    store = MailStore(new=BUSY)

    async def main() -> None:
        async with policed(tmp_path, script, store=store, queue=QUEUE) as server:
            client = await greeted(server)
            assert QUEUED.match(await send(client, "old@example.test"))
            (message,) = await waiting(server)
            (person,) = message.recipients
            kept = decode_recipient(person.address, person.data)
            assert person.address == "new@example.test"
            assert kept.original == ("rfc822", "old@example.test")

    run(main)


def test_recipients_that_become_one_get_one_copy(tmp_path: Path) -> None:
    script = 'stage "rcpt" { if envelope "to" "old@example.test" { rewrite_recipient "b@example.test"; } }'
    store = MailStore(b="550 5.2.1 no")

    async def main() -> None:
        async with policed(tmp_path, script, store=store) as server:
            client = await greeted(server)
            people = ("b@example.test", "old@example.test", "c@example.test")
            assert (await send(client, "b@example.test", "old@example.test")).startswith("550 5.2.1")
            store.heal()
            assert (await send(client, *people)).startswith("250")
            assert [len(store.got(name)) for name in ("b", "c")] == [1, 1]

    run(main)


def test_a_recipient_without_a_way_is_refused_alone(tmp_path: Path) -> None:
    script = 'stage "route" { if envelope "to" "c@example.test" { reply :code 551 "c has moved"; } }'

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            assert (await send(client, "c@example.test")) == "551 5.7.1 c has moved\r\n"
            await send(client, "b@example.test", "c@example.test")
            assert [got.recipient for got in server.store.delivered] == ["b@example.test"]

    run(main)


def test_stage_route_sees_the_edited_message_and_added_recipients(tmp_path: Path) -> None:
    script = (
        'stage "data" { addheader "X-Way" "back"; add_recipient "d@example.test"; }'
        'stage "route" { if allof (header "x-way" "back", envelope "to" "d@example.test")'
        ' { defer "not now"; } }'
    )

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            assert await send(client, "b@example.test") == "451 4.7.1 not now\r\n"
            assert server.store.delivered == []

    run(main)


RETRY = """
stage "retry" {
    if environment "vnd.tamis.reply.enhanced" "4.2.1" { reply :enhanced "5.2.1" "given up"; }
    elsif environment "vnd.tamis.reply.enhanced" "4.2.2" { hold "a full mailbox"; }
    else { retry_schedule ["3h", "5h"]; }
}
"""


def test_stage_retry_decides_about_what_could_not_be_delivered(tmp_path: Path) -> None:
    store = MailStore(a="451 4.2.1 off", b="452 4.2.2 full", c=BUSY)

    async def main() -> None:
        async with policed(tmp_path, RETRY, queue=QUEUE, store=store) as server:
            client = await greeted(server)
            assert await send(client, "a@example.test") == "550 5.2.1 given up\r\n"
            assert await waiting(server) == []
            assert QUEUED.match(await send(client, "b@example.test"))
            (held,) = await waiting(server)
            assert statuses(held) == {"b": Status.HELD}
            assert QUEUED.match(await send(client, "c@example.test"))
            (late,) = [one for one in await waiting(server) if one.id != held.id]
            assert 2.6 * 3600 < late.recipients[0].due - time.time() < 3.4 * 3600

    run(main)


def test_stage_bounce_decides_about_reports(tmp_path: Path) -> None:
    script = """
stage "bounce" {
    if allof (environment "vnd.tamis.report" "failed", envelope "to" "b@example.test",
              header "subject" "hi") { discard; }
}
"""
    store = MailStore(b="550 5.1.1 no", c="550 5.1.1 no")

    async def main() -> None:
        async with policed(tmp_path, script, queue=QUEUE, store=store) as server:
            client = await greeted(server)
            reply = await send(client, "a@example.test", "b@example.test", sender="d@example.test")
            assert reply.startswith("550"), reply
            reply = await send(client, "a@example.test", "c@example.test", sender="d@example.test")
            assert reply.startswith("250"), reply
            await eventually(lambda: store.got("d"), "the report")
            assert len(store.got("d")) == 1
            assert b"c@example.test" in store.got("d")[0]

    run(main)


def test_a_message_that_the_policy_delays(tmp_path: Path) -> None:
    script = """
stage "data" { delay "10m"; dsn :notify ["failure", "success"] :return "full" :envid "from-policy"; }
"""

    async def main() -> None:
        async with policed(tmp_path, script, queue=QUEUE) as server:
            client = await greeted(server)
            before = time.time()
            assert QUEUED.match(await send(client, "b@example.test", parameters=" RET=HDRS ENVID=mine"))
            assert server.store.delivered == []
            (message,) = await waiting(server)
            (person,) = message.recipients
            assert person.status is Status.QUEUED
            assert before + 599 < person.due < time.time() + 601
            record = decode_record(message.envelope)
            envelope = record.envelope(message.sender, time.time())
            assert (envelope.ret, envelope.envid) == ("FULL", "from-policy")
            kept = decode_recipient(person.address, person.data)
            assert kept.notify == frozenset({"FAILURE", "SUCCESS"})

    run(main)
