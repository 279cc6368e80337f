"""Scripts of domains and users in a server: each speaks for its own recipients, and none for the site."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mailqueue.model import Status
from mta.policy.sieve.recipients import RecipientScripts
from mta.policy.sieve.turns import AT_ONCE
from tests.dialog.milters import at, puppet
from tests.dialog.queueing import MailStore, queue_of, waiting
from tests.dialog.server import Client, run, serving

HEAD = 'require ["vnd.tamis.stage", "vnd.tamis.reply", "envelope", "vnd.tamis.envelope", "environment"];\n'
OWN = HEAD.replace(', "vnd.tamis.envelope"', "")
CONFIG = """
[policy]
scripts = ["site.sieve"]
user_scripts = "users/%d/%u.sieve"
after = ["after.sieve"]
"""
SITE = HEAD + 'stage "rcpt" { if envelope "to" "no@example.test" { reply "the site"; } }'
AFTER = HEAD + 'stage "rcpt" { if envelope "to" "late@example.test" { reply "after"; } }'
DOMAIN = OWN + 'stage "rcpt" { if envelope :localpart "to" ["no", "late", "dom"] { reply "the domain"; } }'
BOB = (
    OWN
    + """
stage "rcpt" { if envelope "from" "eve@x.test" { defer "bob is busy"; } }
stage "data" {
    if header :contains "subject" "drop" { discard; }
    if header :contains "subject" "refuse" { reply :code 554 "bob does not want it"; }
}
"""
)


async def send(client: Client, *recipients: str, subject: str = "hi", sender: str = "a@x.test") -> str:
    await client.envelope(*recipients, sender=sender)
    await client.say("DATA")
    return (await client.say(f"From: a@x.test\r\nSubject: {subject}\r\n\r\nhello\r\n.")).rstrip()


def files(folder: Path) -> str:
    (folder / "site.sieve").write_text(SITE)
    (folder / "after.sieve").write_text(AFTER)
    (folder / "domain.sieve").write_text(DOMAIN)
    users = folder / "users" / "example.test"
    users.mkdir(parents=True)
    (users / "bob.sieve").write_text(BOB)
    (users / "bad.sieve").write_text('stage "rcpt" { reply')
    (users / "site.sieve").write_text(OWN + 'stage "rcpt" { accept; } stage "data" { accept; }')
    return CONFIG


def test_each_script_speaks_for_its_recipients(tmp_path: Path) -> None:
    store = MailStore()
    more = files(tmp_path)

    async def main() -> None:
        async with serving(
            tmp_path, more=more, domain='script = "domain.sieve"', queue="enabled = true", store=store
        ) as server:
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<eve@x.test>")
            for name, reply in (
                ("no", "550 5.7.1 the site"),
                ("late", "550 5.7.1 the domain"),
                ("dom", "550 5.7.1 the domain"),
                ("bob+tag", "451 4.7.1 bob is busy"),
                ("bad", "250"),
                ("site", "250"),
            ):
                said = await client.say(f"RCPT TO:<{name}@example.test>")
                assert said.startswith(reply), (name, said)
            await client.say("RSET")
            assert (
                await send(client, "Bob@example.test", subject="refuse me")
            ) == "554 5.7.1 bob does not want it"
            assert (await send(client, "bob@example.test", "ann@example.test", subject="drop")).startswith(
                "250"
            )
            assert store.got("bob") == []
            assert len(store.got("ann")) == 1
            said = await send(client, "bob@example.test", "ann@example.test", subject="refuse")
            assert said.startswith(("250", "554")), said
            assert store.got("bob") == []
            assert len(store.got("ann")) == 2
            assert (await send(client, "bob@example.test")).startswith("250")
            assert len(store.got("bob")) == 1

    run(main)


def test_a_message_on_hold_is_refused_for_who_refuses_it(tmp_path: Path) -> None:
    """Neither hold nor a stage "route" of the site takes a refusal back."""
    more = files(tmp_path)
    (tmp_path / "site.sieve").write_text(
        HEAD.replace("]", ', "vnd.tamis.queue"]')
        + """
stage "data" { if header "subject" "refuse, hold" { hold "look"; } }
stage "route" { if envelope "to" "other@example.test" { reply "no way"; } }
"""
    )

    async def main() -> None:
        async with serving(
            tmp_path, more=more, domain='script = "domain.sieve"', queue="enabled = true"
        ) as server:
            client = await server.connect()
            await client.hello()
            for subject in ("refuse", "refuse, hold"):
                said = await send(client, "bob@example.test", subject=subject)
                assert said == "554 5.7.1 bob does not want it"
            assert list(queue_of(server).live.handles()) == []
            said = await send(client, "bob@example.test", "ann@example.test", subject="refuse, hold")
            assert said.startswith("250 2.0.0 queued for 1 ")
            waits = {
                one.address: one.status for message in await waiting(server) for one in message.recipients
            }
            assert waits.pop("ann@example.test") is Status.HELD
            assert waits.pop("bob@example.test") is Status.FAILED
            assert list(waits) in ([], ["a@x.test"])  # the report about bob, as long as it is not delivered

    run(main)


GUESTS = """
stage "data" {
    if header :contains "subject" "to all" { add_recipient ["bob@example.test", "ann@example.test"]; }
}
"""


def test_scripts_are_asked_about_recipients_that_others_add(tmp_path: Path) -> None:
    """The site's scripts and milters bring nobody mail that its own script refuses."""
    store = MailStore()
    more = files(tmp_path)
    (tmp_path / "site.sieve").write_text(HEAD + GUESTS)
    more += '[milters.one]\naddress = "unix:one"\nlisteners = ["smtp"]\n'
    adds = at("eom", lambda ctx: ctx.add_recipient(b"bob@example.test"))

    async def main() -> None:
        async with puppet(tmp_path, "one", adds), serving(tmp_path, more=more, store=store) as server:
            client = await server.connect()
            await client.hello()
            for subject in ("refuse", "drop", "to all, refuse", "to all, drop"):
                said = await send(client, "carl@example.test", subject=subject)
                assert said.startswith("250"), subject
                assert store.got("bob") == [], subject
            assert len(store.got("carl")) == 4
            assert len(store.got("ann")) == 2
            assert (await send(client, "carl@example.test", sender="eve@x.test")).startswith("250")
            assert len(store.got("bob")) == 1  # "for now" is not for somebody whom the client does not know
            assert (await send(client, "carl@example.test", subject="to all")).startswith("250")
            assert len(store.got("bob")) == 2

    run(main)


def test_the_script_of_who_stands_in_is_asked(tmp_path: Path) -> None:
    """Mail to nobody comes to bob, who may refuse it at RCPT as if it were his."""
    more = files(tmp_path)
    bob = tmp_path / "users" / "example.test" / "bob.sieve"
    bob.write_text(OWN + 'stage "rcpt" { if envelope "from" "eve@x.test" { reply "not from eve"; } }')
    (tmp_path / "known").write_text("bob\n")
    catch_all = 'catch_all = "bob@example.test"'
    known = f"table:{tmp_path}/known"

    async def main() -> None:
        async with serving(tmp_path, more=more, recipients=known, domain=catch_all) as server:
            client = await server.connect()
            await client.hello()
            for sender, answer in (("eve@x.test", "550 5.7.1 not from eve"), ("a@x.test", "250")):
                await client.say(f"MAIL FROM:<{sender}>")
                for name in ("bob", "nobody"):
                    said = await client.say(f"RCPT TO:<{name}@example.test>")
                    assert said.startswith(answer), (sender, name)
                await client.say("RSET")

    run(main)


ALIASES = 'require ["vnd.tamis.stage", "vnd.tamis.envelope", "vnd.tamis.tables", "extlists"];\n'
ERIC = """
stage "rcpt" { if envelope "from" "eve@x.test" { reply "not from eve"; } }
stage "data" {
    if header "subject" "refuse" { reply "eric does not want it"; }
    if header "subject" "drop" { discard; }
}
"""


@pytest.mark.parametrize("stage", ["rcpt", "data"])
def test_aliases_of_files_behind_take_no_refusal_back(tmp_path: Path, stage: str) -> None:
    """Those behind an alias are asked wherever it is expanded, and who is refused stays refused."""
    store = MailStore()
    more = files(tmp_path) + f'[tables.aliases]\ntype = "aliases"\nfile = "{tmp_path}/aliases"\n'
    (tmp_path / "users" / "example.test" / "eric.sieve").write_text(OWN + ERIC)
    (tmp_path / "aliases").write_text("team: eric, carl\nbob: dave\nonly: eric\n")
    (tmp_path / "after.sieve").write_text(ALIASES + f'stage "{stage}" {{ expand "table:aliases"; }}')

    async def main() -> None:
        async with serving(tmp_path, more=more, store=store, queue="enabled = true") as server:
            client = await server.connect()
            await client.hello()
            if stage == "data":
                said = await send(client, "bob@example.test", subject="refuse")
                assert said == "554 5.7.1 bob does not want it"
                assert store.got("dave") == []
            for subject, sender in (("refuse", "a@x.test"), ("hi", "eve@x.test")):
                carl = len(store.got("carl"))
                await send(client, "team@example.test", subject=subject, sender=sender)
                assert len(store.got("carl")) == carl + 1
                await client.envelope(sender=sender)
                said = await client.say("RCPT TO:<only@example.test>")
                if said.startswith("250"):
                    await client.say("DATA")
                    said = await client.say(f"From: a@x.test\r\nSubject: {subject}\r\n\r\nhello\r\n.")
                assert said.startswith("550")
                await client.say("RSET")
            assert store.got("eric") == []
            if stage == "data":  # a report would say that eric has it
                await client.envelope(sender="zoe@example.test")
                assert (await client.say("RCPT TO:<only@example.test> NOTIFY=SUCCESS")).startswith("250")
                await client.say("DATA")
                assert (await client.say("From: a@x.test\r\nSubject: drop\r\n\r\nhi\r\n.")).startswith("250")
                waits = [each.address for one in await waiting(server) for each in one.recipients]
                assert "zoe@example.test" not in waits
                assert store.got("zoe") == []
            await send(client, "team@example.test")
            assert len(store.got("eric")) == 1

    run(main)


def test_many_members_of_an_alias_hold_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts of a thousand users are read and compiled: other sessions would wait for a second."""
    members = 10 * AT_ONCE
    users = tmp_path / "users" / "example.test"
    users.mkdir(parents=True)
    (users / "u0.sieve").write_text(OWN + 'stage "rcpt" { reply "no"; }')
    (users / "u1.sieve").write_text(OWN + 'stage "data" { discard; }')
    (tmp_path / "aliases").write_text("all: " + ", ".join(f"u{number}" for number in range(members)))
    (tmp_path / "site.sieve").write_text(HEAD + 'stage "rcpt" { expand "table:aliases"; }')
    more = '[policy]\nscripts = ["site.sieve"]\nuser_scripts = "users/%d/%u.sieve"\n'
    more += '[tables.aliases]\ntype = "aliases"\nfile = "aliases"\n'
    store, turns, asked = MailStore(), 0, []
    decide = RecipientScripts._decide

    def noted(self: RecipientScripts, stage: str, *rest: Any) -> Any:
        asked.append((stage, turns))
        return decide(self, stage, *rest)

    monkeypatch.setattr(RecipientScripts, "_decide", noted)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        async with serving(tmp_path, more=more, store=store) as server:
            client = await server.connect()
            await client.hello()
            other = asyncio.create_task(others())
            assert (await send(client, "all@example.test")).startswith("250")
            other.cancel()
        assert [len(store.got(f"u{number}")) for number in (0, 1, 2, members - 1)] == [0, 0, 1, 1]
        for stage in ("rcpt", "data"):
            moments = [moment for what, moment in asked if what == stage]
            assert len(moments) >= members - 1
            assert len(set(moments[-members + 1 :])) >= 9

    run(main)
