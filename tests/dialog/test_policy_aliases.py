"""Aliases with a real daemon: who gets the mail, what the client reads, and what is remembered and
reported."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mta.spool.record import decode_recipient
from tests.dialog.policies import STRANGERS, greeted, policed
from tests.dialog.queueing import QUEUED, MailStore, eventually, flush, queue_of, statuses, waiting
from tests.dialog.server import Server, run
from tests.peers.load import RESET

ALIASES = """
sales: ann, bob
boss: ann
all: sales, carol, ghost
lost: ghost, ghost2
ring: ring2
ring2: bob, ring
far: friend@far.test
mixed: ann, friend@far.test
catcher: ann, bob
postmaster: boss
"""
WORD = 'stage "rcpt" { expand "table:aliases"; }'
PEOPLE = "ann@example.test\nbob@example.test\ncarol@example.test\n"


@asynccontextmanager
async def aliased(
    folder: Path,
    script: str = WORD,
    *,
    policy: str = STRANGERS,
    more: str = "",
    aliases: str = "",
    **options: Any,
) -> AsyncIterator[Server]:
    """A daemon with the table "aliases" and three people."""
    (folder / "aliases").write_text(ALIASES + aliases)
    (folder / "people").write_text(PEOPLE)
    more = f'[tables.aliases]\ntype = "aliases"\nfile = "aliases"\n{more}'
    options.setdefault("recipients", f"table:{folder}/people")
    async with policed(folder, script, policy=policy, more=more, **options) as server:
        yield server


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the policy has to say to the log."""
    texts: list[str] = []
    monkeypatch.setattr("mta.daemon_policy.tell", lambda what, session, text: texts.append(text))
    return texts


def got(server: Server) -> list[str]:
    """Local parts of those who got mail."""
    return sorted(one.recipient.partition("@")[0] for one in server.store.delivered)


def test_one_and_several(tmp_path: Path) -> None:
    async def main() -> None:
        async with aliased(tmp_path) as server:
            client = await greeted(server)
            assert (await client.send("boss@example.test")).startswith("250 2.0.0 kept")
            assert got(server) == ["ann"]
            assert (await client.send("SALES@example.test")).startswith("250 2.0.0")
            assert got(server) == ["ann", "ann", "bob"]
            assert (await client.send("ann@example.test")).startswith("250 2.0.0")

    run(main)


def test_everybody_gets_one_copy(tmp_path: Path) -> None:
    async def main() -> None:
        async with aliased(tmp_path) as server:
            client = await greeted(server)
            said = await client.send("bob@example.test", "sales@example.test", "all@example.test")
            assert said.startswith("250 2.0.0")
            assert got(server) == ["ann", "bob", "carol"]

    run(main)


def test_who_does_not_exist(tmp_path: Path, told: list[str]) -> None:
    """Is left out; when nobody is left the alias is refused."""

    async def main() -> None:
        async with aliased(tmp_path) as server:
            client = await greeted(server)
            assert (await client.send("all@example.test")).startswith("250 2.0.0")
            assert got(server) == ["ann", "bob", "carol"]
            await client.say("MAIL FROM:<a@x.test>")
            assert await client.say("RCPT TO:<lost@example.test>") == "550 5.1.1 no such user\r\n"
            assert await client.say("RCPT TO:<nobody@example.test>") == "550 5.1.1 no such user\r\n"

    run(main)
    assert "all@example.test: ghost@example.test is left out" in told[0]


def test_loop(tmp_path: Path, told: list[str]) -> None:
    async def main() -> None:
        async with aliased(tmp_path) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            said = await client.say("RCPT TO:<ring@example.test>")
            assert said == "451 4.4.6 the aliases of this address lead in a circle, try again later\r\n"

    run(main)
    (log,) = told
    assert "ring@example.test -> ring2@example.test -> ring@example.test" in log
    assert "policy.sieve:4" in log


def test_no_open_relay(tmp_path: Path) -> None:
    """A stranger reaches another domain by our aliases, and only so."""
    outside = MailStore()

    async def main() -> None:
        await outside.start()
        more = f'[relays.out]\nhost = "127.0.0.1"\nport = {outside.port}\ntls = "none"\n'
        try:
            async with aliased(tmp_path, policy=f'{STRANGERS}\nrelay = "out"', more=more) as server:
                client = await greeted(server)
                assert (await client.send("far@example.test")).startswith("250 2.0.0")
                assert (await client.send("mixed@example.test")).startswith("250 2.0.0")
                assert [one.recipient for one in outside.delivered] == ["friend@far.test"] * 2
                assert got(server) == ["ann"]
                await client.say("MAIL FROM:<a@x.test>")
                said = await client.say("RCPT TO:<friend@far.test>")
                assert said == "550 5.7.1 relaying denied\r\n"
                said = await client.say("RCPT TO:<far@far.test>")
                assert said == "550 5.7.1 relaying denied\r\n"
        finally:
            await outside.stop()

    run(main)


def test_catch_all_may_be_an_alias(tmp_path: Path) -> None:
    async def main() -> None:
        domain = 'catch_all = "catcher@example.test"'
        async with aliased(tmp_path, domain=domain) as server:
            client = await greeted(server)
            assert (await client.send("who@example.test")).startswith("250 2.0.0")
            assert got(server) == ["ann", "bob"]

    run(main)


def test_the_postmaster_without_a_domain_may_be_an_alias(tmp_path: Path) -> None:
    base = 'require ["vnd.tamis.stage", "vnd.tamis.site", "vnd.tamis.envelope"];\n' + (
        'stage "rcpt" { expand "table:aliases"; check_recipient; }'
    )

    async def main() -> None:
        async with aliased(tmp_path) as server:
            client = await greeted(server)
            assert (await client.send("Postmaster")).startswith("250 2.0.0")
            assert got(server) == ["ann"]
            assert (await client.send("postmaster", "ann@example.test", "bob@example.test")).startswith("250")
            assert got(server) == ["ann", "ann", "bob"]
        (tmp_path / "base.sieve").write_text(base)
        async with aliased(tmp_path, "", policy=f'{STRANGERS}\nbase = "base.sieve"') as server:
            client = await greeted(server)
            assert (await client.send("postmaster")).startswith("250 2.0.0")
            assert got(server) == ["ann"]

    run(main)


def test_in_a_base_policy(tmp_path: Path) -> None:
    """`check_recipient` knows what the script has expanded."""
    base = 'require ["vnd.tamis.stage", "vnd.tamis.site", "vnd.tamis.envelope"];\n' + (
        'stage "rcpt" { expand "table:aliases"; check_recipient; }'
    )

    async def main() -> None:
        (tmp_path / "base.sieve").write_text(base)
        policy = f'{STRANGERS}\nbase = "base.sieve"'
        domain = 'catch_all = "catcher@example.test"'
        async with aliased(tmp_path, "", policy=policy) as server:
            client = await greeted(server)
            assert (await client.send("all@example.test")).startswith("250 2.0.0")
            assert got(server) == ["ann", "bob", "carol"]
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<lost@example.test>")).startswith("550 5.1.1")
        async with aliased(tmp_path, "", policy=policy, domain=domain) as server:
            client = await greeted(server)
            assert (await client.send("who@example.test")).startswith("250 2.0.0")
            assert got(server) == ["ann", "bob"]

    run(main)


def test_at_the_end_of_the_data(tmp_path: Path) -> None:
    script = """
stage "data" {
    if header :contains "subject" "hi" { expand "table:aliases"; }
    if envelope "to" "sales@example.test" { addheader "X-To" "sales"; }
}
"""

    async def main() -> None:
        async with aliased(tmp_path, script, recipients="all") as server:
            client = await greeted(server)
            said = await client.send("sales@example.test", "carol@example.test")
            assert said.startswith("250 2.0.0")
            assert got(server) == ["ann", "bob", "carol"]
            server.store.delivered.clear()
            said = await client.send("sales@example.test", body="Subject: no\r\n\r\n")
            assert said.startswith("250 2.0.0")
            assert got(server) == ["sales"]

    run(main)


def test_scripts_see_who_is_behind(tmp_path: Path) -> None:
    script = (
        WORD
        + """
stage "data" {
    if envelope "to" "bob@example.test" { remove_recipient "bob@example.test"; }
    if envelope "orig_to" "sales@example.test" { addheader "X-Was" "sales"; }
}
"""
    )

    async def main() -> None:
        async with aliased(tmp_path, script) as server:
            client = await greeted(server)
            assert (await client.send("sales@example.test")).startswith("250 2.0.0")
            assert got(server) == ["ann"]
            assert b"X-Was: sales\r\n" in server.store.delivered[0].octets

    run(main)


def test_one_of_several_refuses(tmp_path: Path) -> None:
    """The client hears of it: nobody else would tell the sender."""
    store = MailStore(bob="552 5.2.2 full")

    async def main() -> None:
        async with aliased(tmp_path, store=store) as server:
            client = await greeted(server)
            said = await client.send("sales@example.test")
            assert said.startswith("552 5.2.2 not delivered to <bob@example.test>: full (other")
            assert got(server) == ["ann"]

    run(main)


def test_one_of_several_is_busy_without_a_queue(tmp_path: Path) -> None:
    """The client tries again, and nobody gets it twice."""
    store = MailStore(bob="451 4.2.0 busy")

    async def main() -> None:
        async with aliased(tmp_path, store=store) as server:
            client = await greeted(server)
            assert (await client.send("sales@example.test")).startswith("451 4.2.0 not delivered yet to <bob")
            assert got(server) == ["ann"]
            assert (await client.send("sales@example.test")).startswith("451 4.2.0")
            store.heal()
            assert (await client.send("sales@example.test")).startswith("250 2.0.0")
            assert got(server) == ["ann", "bob"]

    run(main)


def test_one_of_several_waits_in_the_queue(tmp_path: Path) -> None:
    store = MailStore(bob="451 4.2.0 busy")

    async def main() -> None:
        async with aliased(tmp_path, store=store, queue="enabled = true") as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            await client.say("RCPT TO:<sales@example.test> NOTIFY=FAILURE")
            await client.say("DATA")
            said = await client.say("Subject: hi\r\n\r\nhello\r\n.")
            assert said.startswith("250 2.0.0 delivered to 1 of 2 recipients, queued for 1 as ")
            (message,) = await waiting(server)
            assert set(statuses(message)) == {"ann", "bob"}
            (bob,) = [one for one in message.recipients if one.address.startswith("bob")]
            kept = decode_recipient(bob.address, bob.data)
            assert kept.notify == frozenset({"FAILURE"})
            assert kept.original is not None
            assert kept.original.address == "sales@example.test"
            store.heal()
            await flush(server)
            await eventually(lambda: store.got("bob"), "the second try")
            assert len(store.got("ann")) == 1

    run(main)


def test_all_of_several_wait(tmp_path: Path) -> None:
    store = MailStore(ann="451 4.2.0 busy", bob="451 4.2.0 busy")

    async def main() -> None:
        async with aliased(tmp_path, store=store, queue="enabled = true") as server:
            client = await greeted(server)
            assert QUEUED.match(await client.send("sales@example.test"))

    run(main)


def test_reports(tmp_path: Path) -> None:
    """SUCCESS is answered with "expanded", once; a refusal names the address that the client named."""
    store = MailStore(bob="552 5.2.2 full")

    async def main() -> None:
        async with aliased(tmp_path, store=store, queue="enabled = true", policy="") as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<ann@example.test>")
            await client.say("RCPT TO:<sales@example.test> NOTIFY=SUCCESS,FAILURE")
            await client.say("DATA")
            said = await client.say("Subject: hi\r\n\r\nhello\r\n.")
            assert said.startswith("250 2.0.0 delivered to 1 of 2")
            await eventually(lambda: len(store.got("ann")) == 2, "the report")
            report = store.got("ann")[1]
            assert report.count(b"\r\nAction: ") == 2
            assert b"\r\nAction: expanded\r\n" in report
            assert b"\r\nAction: failed\r\n" in report
            assert report.count(b"\r\nOriginal-Recipient: rfc822; sales@example.test\r\n") == 2

    run(main)


@pytest.mark.parametrize(
    ("notify", "said", "actions"),
    [
        ("never", " NOTIFY=SUCCESS", []),
        ("success", "", [b"expanded"]),
        ("success", " NOTIFY=NEVER", [b"expanded"]),
    ],
)
def test_what_the_policy_wants_reported_is_about_the_alias(
    tmp_path: Path, notify: str, said: str, actions: list[bytes]
) -> None:
    store = MailStore()
    script = WORD + f' stage "data" {{ dsn :notify "{notify}"; }}'

    async def main() -> None:
        async with aliased(tmp_path, script, store=store, queue="enabled = true", policy="") as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<carol@example.test>")
            await client.say(f"RCPT TO:<sales@example.test>{said}")
            await client.say("DATA")
            assert (await client.say("Subject: hi\r\n\r\nhello\r\n.")).startswith("250 2.0.0")
            await asyncio.sleep(0.5)
            await eventually(lambda: not len(queue_of(server).live), "the report")
            found = [line for report in store.got("carol") for line in report.splitlines()]
            assert [line[8:] for line in found if line.startswith(b"Action: ")] == actions

    run(main)


def test_aliases_beyond_ascii_in_any_spelling(tmp_path: Path) -> None:
    """Who writes the file knows of U-labels; mail comes with A-labels, composed and decomposed."""
    domain = '[domains."bücher.test"]\nrecipients = "all"\n'

    async def main() -> None:
        more = "info@bücher.test: ann@example.test\ngro\u0308ße: bob\n@bücher.test: @example.test\n"
        async with aliased(tmp_path, aliases=more, more=domain) as server:
            client = await greeted(server)
            for name in ("info@bücher.test", "info@xn--bcher-kva.test", "GRÖßE@example.test"):
                await client.envelope(name, parameters=" SMTPUTF8")
                await client.say("DATA")
                assert (await client.say("Subject: hi\r\n\r\nhello\r\n.")).startswith("250"), name
            assert got(server) == ["ann", "ann", "bob"]
            await client.say("MAIL FROM:<a@x.test> SMTPUTF8")
            assert (await client.say("RCPT TO:<jürgen@bücher.test>")).startswith("550 5.1.1 ")

    run(main)


def test_prdr_has_a_reply_for_the_alias(tmp_path: Path) -> None:
    store = MailStore(bob="451 4.2.0 busy")

    async def main() -> None:
        async with aliased(tmp_path, store=store) as server:
            client = await greeted(server)
            await client.envelope("sales@example.test", "carol@example.test", parameters=" PRDR")
            await client.say("DATA")
            replies = await client.say("Subject: hi\r\n\r\nhello\r\n.", 4)
            codes = [line[:9] for line in replies.splitlines()]
            assert codes[1:3] == ["451 4.2.0", "250 2.0.0"]
            assert got(server) == ["ann", "carol"]
            store.heal()
            await client.send("sales@example.test")
            assert got(server) == ["ann", "bob", "carol"]

    run(main)


def test_held_for_all(tmp_path: Path) -> None:
    script = WORD + '\nstage "data" { hold "look"; }'

    async def main() -> None:
        async with aliased(tmp_path, script, queue="enabled = true") as server:
            client = await greeted(server)
            assert QUEUED.match(await client.send("sales@example.test"))
            (message,) = await waiting(server)
            assert set(statuses(message)) == {"ann", "bob"}
            assert got(server) == []

    run(main)


def test_the_client_goes_before_the_answer(tmp_path: Path) -> None:
    """Its retry brings nobody behind the alias a second copy."""
    body = "Message-ID: <1@x.test>\r\nDate: Sat, 28 Nov 2026 07:00:00 +0000\r\n\r\nhello\r\n"

    async def main() -> None:
        store = MailStore(bob="451 4.2.0 busy")
        async with aliased(tmp_path, store=store) as server:
            client = await greeted(server)
            await client.envelope("sales@example.test", "carol@example.test")
            await client.say("DATA")
            assert (await client.say(body + ".")).startswith("451 4.2.0")
            store.heal()
            again = await greeted(server)
            said = await again.send("sales@example.test", "carol@example.test", body=body)
            assert said.startswith("250 2.0.0")
            assert got(server) == ["ann", "bob", "carol"]

    run(main)


def test_a_script_of_one_member(tmp_path: Path) -> None:
    """Refuses this one's copy."""
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "bob.sieve").write_text(
        'require ["vnd.tamis.stage"];\nstage "data" { if header "subject" "hi" { discard; } }\n'
    )
    policy = f'{STRANGERS}\nuser_scripts = "users/%u.sieve"'

    async def main() -> None:
        async with aliased(tmp_path, policy=policy) as server:
            client = await greeted(server)
            assert (await client.send("sales@example.test")).startswith("250 2.0.0")
            assert got(server) == ["ann"]
            said = await client.send("sales@example.test", body="Subject: other\r\n\r\n")
            assert said.startswith("250 2.0.0")
            assert got(server) == ["ann", "ann", "bob"]

    run(main)


def test_a_table_that_is_away(tmp_path: Path) -> None:
    more = '[tables.away]\ntype = "tcp"\naddress = "127.0.0.1:1"\n'

    async def main() -> None:
        async with aliased(tmp_path, 'stage "rcpt" { expand "table:away"; }', more=more) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            said = await client.say("RCPT TO:<ann@example.test>")
            assert said.startswith("451 4.7.1 a service needed")
        script = 'stage "rcpt" { expand :on_error "ignore" ["table:away", "table:aliases"]; }'
        async with aliased(tmp_path, script, more=more) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250")

    run(main)


def test_a_list_that_is_named_again_and_again_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mta.policy.sieve.expanding.MEMBERS_MOST", 6)

    async def main() -> None:
        async with aliased(tmp_path) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            for _ in range(3):
                assert (await client.say("RCPT TO:<sales@example.test>")).startswith("250")
            assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250")
            assert (await client.say("RCPT TO:<sales@example.test>")).startswith("452 4.5.3")
            await client.say("DATA")
            assert (await client.say("Subject: hi\r\n\r\nhello\r\n.")).startswith("250")
            assert got(server) == ["ann", "bob"]

    run(main)


def test_a_client_that_has_not_read_a_refusal_brings_members_no_second_copy(tmp_path: Path) -> None:
    """One of two has refused, of which no stranger may be told but by the answer; the client sends again."""
    store = MailStore(bob="552 5.2.2 full")

    async def main() -> None:
        async with aliased(tmp_path, store=store) as server:
            body = "Message-ID: <1@x.test>\r\nSubject: hi\r\n\r\nhello\r\n"
            for _ in range(2):
                client = await greeted(server)
                assert (await client.send("sales@example.test", body=body)).startswith("552 5.2.2 not")
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.cut()
                await eventually(lambda: len(server.daemon._unacknowledged), "what is remembered")
            assert got(server) == ["ann"]

    run(main)
