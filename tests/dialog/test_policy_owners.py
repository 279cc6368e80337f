"""Aliases with an owner with a real daemon: from whom members get the mail, and who hears of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mta.spool.record import decode_recipient
from tests.dialog.policies import STRANGERS, greeted, policed
from tests.dialog.queueing import MailStore, eventually, flush, waiting
from tests.dialog.server import Client, Server, run

ALIASES = """
staff: ann, bob, friend@far.test
owner-staff: carol
single: bob
owner-single: carol, dan
nobody: bob
all: staff, eve
"""
OWNER = "owner-staff@example.test"
WORD = 'stage "rcpt" { expand "table:aliases"; }'
QUEUE = 'enabled = true\nretry = ["1h"]\n'


@asynccontextmanager
async def listed(
    folder: Path,
    store: MailStore,
    outside: MailStore,
    script: str = WORD,
    policy: str = STRANGERS,
    more: str = "",
    **options: Any,
) -> AsyncIterator[Server]:
    """A daemon with the table; mail for other domains goes to `outside`."""
    (folder / "aliases").write_text(ALIASES)
    await outside.start()
    more += (
        f'[tables.aliases]\ntype = "aliases"\nfile = "aliases"\n'
        f'[relays.out]\nhost = "127.0.0.1"\nport = {outside.port}\ntls = "none"\n'
    )
    options.setdefault("queue", QUEUE)
    try:
        async with policed(
            folder, script, policy=f'{policy}\nrelay = "out"', more=more, store=store, **options
        ) as server:
            yield server
    finally:
        await outside.stop()


def seen(store: MailStore) -> dict[str, str]:
    """The senders of what each recipient got, reports left out."""
    return {one.recipient.partition("@")[0]: one.sender for one in store.delivered if one.sender}


def reports(store: MailStore) -> dict[str, bytes]:
    return {one.recipient.partition("@")[0]: one.octets for one in store.delivered if not one.sender}


async def send(client: Client, recipient: str, *, notify: str = "", sender: str = "a@x.test") -> str:
    await client.say(f"MAIL FROM:<{sender}> RET=HDRS ENVID=mine")
    assert (await client.say(f"RCPT TO:<{recipient}>{notify}")).startswith("250")
    await client.say("DATA")
    return await client.say("From: a@x.test\r\nSubject: hi\r\n\r\nhello\r\n.")


def test_members_get_it_from_the_owner(tmp_path: Path) -> None:
    """Wherever they are; the next hop does not hear what the sender wants to be told."""

    async def main() -> None:
        store, outside = MailStore(), MailStore()
        outside.keywords = (*outside.keywords, "DSN")
        async with listed(tmp_path, store, outside) as server:
            client = await greeted(server)
            assert (await send(client, "STAFF@example.test", notify=" NOTIFY=NEVER")).startswith("250 2.0.0")
            assert seen(store) == {"ann": OWNER, "bob": OWNER}
            assert seen(outside) == {"friend": OWNER}
            assert [line for line in outside.commands if line.startswith(("MAIL", "RCPT"))] == [
                f"MAIL FROM:<{OWNER}>",
                "RCPT TO:<friend@far.test> ORCPT=rfc822;STAFF@example.test",
            ]
            store.delivered.clear()
            assert (await send(client, "all@example.test")).startswith("250 2.0.0")
            assert seen(store) == {"ann": OWNER, "bob": OWNER, "eve": "a@x.test"}
            assert (await send(client, "nobody@example.test")).startswith("250 2.0.0")
            assert seen(store)["bob"] == "a@x.test"
            assert (await send(client, OWNER)).startswith("250 2.0.0")
            assert seen(store)["carol"] == "a@x.test"

    run(main)


def test_the_null_sender_stays(tmp_path: Path) -> None:
    async def main() -> None:
        store = MailStore()
        async with listed(tmp_path, store, MailStore()) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<>")
            await client.say("RCPT TO:<staff@example.test>")
            await client.say("DATA")
            assert (await client.say("Subject: report\r\n\r\n.")).startswith("250 2.0.0")
            assert sorted(reports(store)) == ["ann", "bob"]
            assert seen(store) == {}

    run(main)


def test_one_member_is_a_list_too_and_all_owners_hear(tmp_path: Path) -> None:
    """It refuses later, from the queue."""

    async def main() -> None:
        store = MailStore(bob="451 4.2.0 busy")
        async with listed(tmp_path, store, MailStore()) as server:
            client = await greeted(server)
            assert "queued as" in await send(client, "single@example.test")
            (message,) = await waiting(server)
            (bob,) = [decode_recipient(one.address, one.data) for one in message.recipients]
            assert bob.sender is not None
            assert str(bob.sender) == "owner-single@example.test"
            assert message.sender == "a@x.test"
            store.replies["bob@example.test"] = "552 5.2.2 full"
            await flush(server)
            await eventually(lambda: len(reports(store)) == 2, "the reports")
            assert sorted(reports(store)) == ["carol", "dan"]
            report = reports(store)["carol"]
            assert b"\r\nOriginal-Recipient: rfc822; single@example.test\r\n" in report
            assert b"\r\nFinal-Recipient: rfc822; bob@example.test\r\n" in report
            assert b"Original-Envelope-Id" not in report
            assert b"\r\n\r\nhello\r\n" in report  # whole, for RET is the sender's

    run(main)


@pytest.mark.parametrize("parameters", ["", " PRDR"])
@pytest.mark.parametrize("policy", [STRANGERS, ""])
def test_a_refusal_is_the_owner_s_whoever_vouches_for_the_sender(
    tmp_path: Path, policy: str, parameters: str
) -> None:
    async def main() -> None:
        store, outside = MailStore(bob="552 5.2.2 full"), MailStore()
        async with listed(tmp_path, store, outside, policy=policy) as server:
            client = await greeted(server)
            await client.say(f"MAIL FROM:<a@x.test>{parameters}")
            await client.say("RCPT TO:<staff@example.test>")
            await client.say("DATA")
            said = await client.say("Subject: hi\r\n\r\nhello\r\n.")
            assert said.startswith("250 2.0.0")
            await eventually(lambda: "carol" in reports(store), "the report")
            report = reports(store)["carol"]
            assert report.count(b"\r\nAction: ") == 1
            assert b"\r\nFinal-Recipient: rfc822; bob@example.test\r\n" in report
            assert outside.got("a") == []
            assert reports(outside) == {}

    run(main)


def test_a_refusal_beside_one_who_has_no_owner(tmp_path: Path) -> None:
    """The client hears of the one, the owner of the other."""

    async def main() -> None:
        store = MailStore(bob="552 5.2.2 full", eve="550 5.7.1 no")
        async with listed(tmp_path, store, MailStore()) as server:
            client = await greeted(server)
            said = await send(client, "all@example.test")
            assert said.startswith("550 5.7.1 not delivered to <eve@example.test>: no")
            await eventually(lambda: "carol" in reports(store), "the report")
            assert b"eve@example.test" not in reports(store)["carol"].replace(b"all@example.test", b"")

    run(main)


def test_all_refuse(tmp_path: Path) -> None:
    """Then nobody got it, and the client hears that."""

    async def main() -> None:
        store = MailStore(bob="552 5.2.2 full")
        async with listed(tmp_path, store, MailStore()) as server:
            client = await greeted(server)
            assert (await send(client, "single@example.test")).startswith("552 5.2.2 full")
            assert reports(store) == {}

    run(main)


def test_without_a_queue_the_client_hears(tmp_path: Path) -> None:
    async def main() -> None:
        store = MailStore(bob="552 5.2.2 full")
        async with listed(tmp_path, store, MailStore(), queue="enabled = false") as server:
            client = await greeted(server)
            said = await client.send("staff@example.test")
            assert said.startswith("552 5.2.2 not delivered to <bob@")

    run(main)


@pytest.mark.parametrize("name", ["staff", "single"])
def test_success_is_that_the_list_has_it(tmp_path: Path, name: str) -> None:
    """For the sender; its members are the owner's."""

    async def main() -> None:
        store = MailStore()
        async with listed(tmp_path, store, MailStore(), policy="") as server:
            client = await greeted(server)
            said = await send(
                client, f"{name}@example.test", notify=" NOTIFY=SUCCESS", sender="eve@example.test"
            )
            assert said.startswith("250 2.0.0")
            await eventually(lambda: "eve" in reports(store), "the report")
            report = reports(store)["eve"]
            assert report.count(b"\r\nAction: ") == 1
            assert b"\r\nAction: delivered\r\n" in report
            assert f"\r\nFinal-Recipient: rfc822; {name}@example.test\r\n".encode() in report
            assert b"\r\nOriginal-Envelope-Id: mine\r\n" in report
            assert set(reports(store)) == {"eve"}

    run(main)


def test_srs_leaves_owners(tmp_path: Path) -> None:
    """They are ours."""
    script = 'require ["vnd.tamis.srs"];\n' + WORD + '\nstage "route" { srs; }'
    secrets = tmp_path / "secrets"
    secrets.write_text("a secret that nobody knows\n")
    secrets.chmod(0o600)

    async def main() -> None:
        outside = MailStore()
        more = '[srs]\nsecrets_file = "secrets"\ndomain = "example.test"\n'
        async with listed(tmp_path, MailStore(), outside, script, more=more) as server:
            client = await greeted(server)
            assert (await send(client, "staff@example.test")).startswith("250 2.0.0")
            assert seen(outside) == {"friend": OWNER}

    run(main)
