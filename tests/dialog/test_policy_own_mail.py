"""Mail that the server writes itself, for aliases, with a real daemon: reports, notices, journals."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.dialog.policies import greeted, policed
from tests.dialog.queueing import MailStore, eventually, flush, waiting
from tests.dialog.server import Server, run

ALIASES = """
sales: ann, bob, ghost
owner-sales: carol
postmaster: root
root: carol
archive: bob, carol
ring: ring2
ring2: ring
"""
PEOPLE = "ann@example.test\nbob@example.test\ncarol@example.test\nx@example.test\n"
WORD = 'stage "rcpt" { expand "table:aliases"; }\n'
QUEUE = 'enabled = true\nretry = ["1h"]\n'
TABLE = '[tables.aliases]\ntype = "aliases"\nfile = "aliases"\n'


def policed_here(
    folder: Path, store: MailStore, script: str = WORD, more: str = TABLE
) -> AbstractAsyncContextManager[Server]:
    (folder / "aliases").write_text(ALIASES)
    (folder / "people").write_text(PEOPLE)
    return policed(
        folder,
        script,
        more=more,
        store=store,
        queue=QUEUE,
        recipients=f"table:{folder}/people",
    )


async def send(server: Server, sender: str, recipient: str = "x@example.test") -> str:
    client = await greeted(server)
    await client.envelope(recipient, sender=sender)
    assert (await client.say("DATA")).startswith("354 ")
    return await client.say("From: a@x.test\r\nSubject: hi\r\n\r\nhello\r\n.")


async def fails_later(server: Server, store: MailStore, sender: str) -> None:
    """A message from `sender` that is queued, and refused afterwards."""
    assert "queued as" in await send(server, sender)
    store.replies["x@example.test"] = "552 5.2.2 full"
    await flush(server)


def got(store: MailStore) -> list[str]:
    return sorted(one.recipient for one in store.delivered)


@pytest.mark.parametrize("client_words", ["", "rate"])
def test_a_sender_that_is_an_alias(tmp_path: Path, client_words: str) -> None:
    """All behind it who exist get the report; what scripts ask about clients keeps none of them away."""
    store = MailStore(x="451 4.2.0 busy")
    script = WORD
    if client_words:
        script = 'require ["vnd.tamis.greylist", "vnd.tamis.rate"];\n' + (
            'stage "rcpt" { if envelope "from" "" { greylist;\n'
            '  if anyof (rate :limit 1 :per "1h" "a" "b", rate :limit 1 :per "1h" "a" "b") {\n'
            '    reply :code 450 "too much"; } } }\n' + WORD
        )

    async def main() -> None:
        async with policed_here(tmp_path, store, script) as server:
            await fails_later(server, store, "sales@example.test")
            await eventually(lambda: len(store.delivered) == 2, "the reports")
            assert got(store) == ["ann@example.test", "bob@example.test"]
            for report in store.delivered:
                assert report.sender == ""
                assert b"\r\nTo: <sales@example.test>\r\n" in report.octets
                assert b"\r\nFinal-Recipient: rfc822; x@example.test\r\n" in report.octets
            assert await waiting(server) == []

    run(main)


def test_a_postmaster_that_is_an_alias(tmp_path: Path) -> None:
    """A report that cannot be delivered is the postmaster's, and arrives."""
    store = MailStore(x="451 4.2.0 busy", ann="550 5.2.1 gone")

    async def main() -> None:
        async with policed_here(tmp_path, store) as server:
            await fails_later(server, store, "ann@example.test")
            await eventually(lambda: store.delivered, "the notice")
            (notice,) = store.delivered
            assert notice.recipient == "carol@example.test"
            assert notice.sender == ""
            assert b"\r\nTo: <postmaster@example.test>\r\n" in notice.octets
            assert b"550 5.2.1 gone" in notice.octets
            assert await waiting(server) == []

    run(main)


def test_aliases_in_a_circle(tmp_path: Path) -> None:
    """The report waits until they are mended."""
    store = MailStore(x="451 4.2.0 busy")

    async def main() -> None:
        async with policed_here(tmp_path, store) as server:
            await fails_later(server, store, "ring@example.test")
            await eventually(lambda: tried(server) == "451 4.4.6", "the first try")
            (report,) = await waiting(server)
            assert report.sender == ""
            assert report.recipients[0].address == "ring@example.test"
            assert store.delivered == []

    run(main)


@pytest.mark.parametrize("way", ["", ':on_error "ignore" ', ':on_error "reject" '])
def test_a_table_that_is_away(tmp_path: Path, way: str) -> None:
    """The report waits for it, and goes to who is in it then, whatever a client would be told."""
    store = MailStore(x="451 4.2.0 busy")
    answers = {"sales@example.test": "ann, bob"}

    async def lookup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            value = answers.get(line.decode().split()[-1])
            writer.write(b"500 none\n" if value is None else f"200 {value.replace(' ', '%20')}\n".encode())
        writer.close()

    async def main() -> None:
        table = await asyncio.start_server(lookup, "127.0.0.1", 0)
        port = table.sockets[0].getsockname()[1]
        table.close()
        await table.wait_closed()
        more = f'[tables.away]\ntype = "tcp"\naddress = "127.0.0.1:{port}"\n'
        script = f'stage "rcpt" {{ if envelope "from" "" {{ expand {way}"table:away"; }} }}'
        async with policed_here(tmp_path, store, script, more) as server:
            await fails_later(server, store, "sales@example.test")
            await eventually(lambda: tried(server) == "451 4.7.1", "the first try")
            assert len(await waiting(server)) == 1
            table = await asyncio.start_server(lookup, "127.0.0.1", port)

            async def arrives() -> None:
                while len(store.delivered) < 2:
                    await flush(server)
                    await asyncio.sleep(0.1)

            await asyncio.wait_for(arrives(), 60)
            assert got(store) == ["ann@example.test", "bob@example.test"]
            table.close()

    run(main)


def test_an_archive_that_is_an_alias(tmp_path: Path) -> None:
    store = MailStore()
    script = WORD + 'stage "data" { journal "archive@example.test"; }'

    async def main() -> None:
        async with policed_here(tmp_path, store, script) as server:
            assert (await send(server, "a@x.test")).startswith("250 2.0.0 kept")
            await eventually(lambda: len(store.delivered) == 3, "the reports")
            assert got(store) == ["bob@example.test", "carol@example.test", "x@example.test"]

    run(main)


def tried(server: Server) -> str:
    """Code and enhanced code of the last try of the only message that waits."""
    queue = server.daemon._queue
    assert queue is not None
    assert queue.queue is not None
    live = queue.queue.live
    replies = [state.reply for handle in live.handles() for state in live.recipients(handle)]
    return replies[0][:9] if len(replies) == 1 else ""


@pytest.mark.parametrize(
    ("word", "senders"),
    [
        ('bcc "archive@example.test"', ["", ""]),
        ('add_recipient "archive@example.test"', ["a@x.test", "a@x.test"]),
        ('add_recipient "sales@example.test"', ["owner-sales@example.test"] * 2),
    ],
)
@pytest.mark.parametrize("is_in_base", [False, True])
def test_a_recipient_that_a_script_adds(
    tmp_path: Path, word: str, senders: list[str], is_in_base: bool
) -> None:
    """It may be an alias as those that clients name, wherever the word for aliases stands."""
    store = MailStore()
    script = ("" if is_in_base else WORD) + f'stage "data" {{ {word}; }}'
    more = f'after = ["after.sieve"]\n{TABLE}' if is_in_base else TABLE
    (tmp_path / "after.sieve").write_text('require ["vnd.tamis.stage", "vnd.tamis.envelope"];\n' + WORD)

    async def main() -> None:
        async with policed_here(tmp_path, store, script, more) as server:
            assert (await send(server, "a@x.test")).startswith("250 2.0.0 kept")
            added = [one for one in store.delivered if one.recipient != "x@example.test"]
            assert sorted(one.sender for one in added) == senders
            people = ["bob", "carol"] if "archive" in word else ["ann", "bob"]
            assert sorted(one.recipient for one in added) == [f"{name}@example.test" for name in people]

    run(main)


@pytest.mark.parametrize(
    ("word", "answer", "number"), [("bcc", "250 2.0.0 kept", 1), ("add_recipient", "451 4.4.6", 0)]
)
def test_an_added_alias_that_leads_nowhere(tmp_path: Path, word: str, answer: str, number: int) -> None:
    store = MailStore()
    script = f'{WORD}stage "data" {{ {word} "ring@example.test"; }}'

    async def main() -> None:
        async with policed_here(tmp_path, store, script) as server:
            assert (await send(server, "a@x.test")).startswith(answer)
            assert len(store.delivered) == number

    run(main)
