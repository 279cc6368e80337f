"""`milter` in policy files: joining late, edits that later lines see; submission and the command line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mailmilter.filter import DISCARD, REJECT, TEMPFAIL, Context
from mailmilter.policy import serve_policy
from tests.dialog.milters import Behaviour, Puppet, at, puppet, quiet
from tests.dialog.queueing import MailStore
from tests.dialog.server import Server, run, serving

REQUIRE = (
    'require ["vnd.tamis.stage", "vnd.tamis.milter", "vnd.tamis.reply", "editheader", "body", "variables"];\n'
)
MILTER = '[milters.one]\naddress = "unix:one"\n[policy]\nscripts = ["policy.sieve"]\n'
BODY = "Subject: hi\r\n\r\nhello\r\n"
TRANSACTION = (
    "EHLO c", "MAIL FROM:<a@x.test>", "RCPT TO:<b@example.test>", "RCPT TO:<c@example.test>", "DATA",
    BODY + ".",
)  # fmt: skip
BEFORE = [
    "connect [127.0.0.1] 127.0.0.1",
    "helo c",
    "mail a@x.test",
    "rcpt b@example.test",
    "rcpt c@example.test",
]
CONTENT = ["header Subject", "eoh", "body 7", "eom"]


def nothing(milter: Puppet, ctx: Context, name: str) -> None:
    return None


async def session(
    folder: Path, script: str, behave: Behaviour = nothing, *, more: str = MILTER, **options: Any
) -> tuple[list[str], list[str], Server]:
    """A message to two recipients: the last lines of the replies, what the milter heard."""
    (folder / "policy.sieve").write_text(REQUIRE + script)
    async with puppet(folder, "one", behave) as heard, serving(folder, more=more, **options) as server:
        client = await server.connect()
        found = [await client.read_reply()]
        for line in TRANSACTION:
            found.append(await client.say(line))
        client.cut()
        if heard:
            await quiet(heard, "close")
        return [one.rstrip().rpartition("\r\n")[2] for one in found], heard, server


@pytest.mark.parametrize("stage", ["connect", "helo", "mail", "rcpt", "data"])
def test_the_stages_that_are_over_are_told_first(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        replies, heard, server = await session(tmp_path, f'stage "{stage}" {{ milter "one"; }}')
        assert replies[-1].startswith("250 "), replies
        assert [one for one in heard if one != "abort"] == [*BEFORE, "data", *CONTENT, "close"]
        assert len(server.store.delivered) == 2

    run(main)


def test_in_stage_data_the_lines_after_see_the_edits(tmp_path: Path) -> None:
    def edit(ctx: Context) -> None:
        ctx.change_header("Subject", "spam")
        ctx.insert_header(0, "X-Top", "1")
        ctx.replace_body(b"gone\r\n")

    async def main() -> None:
        script = """stage "data" {
            addheader "X-Before" "1";
            milter "one";
            if allof (header "Subject" "spam", body :contains "gone") { addheader "X-After" "1"; }
        }"""
        _, heard, server = await session(tmp_path, script, at("eom", edit))
        assert heard[6:8] == ["header X-Before", "header Subject"]
        fields = server.store.delivered[0].octets.split(b"\r\n")
        assert fields[0] == b"X-Top: 1"
        assert fields[1].startswith(b"Received:")
        assert fields[-6:] == [b"X-After: 1", b"X-Before: 1", b"Subject: spam", b"", b"gone", b""]
        assert heard.count("eom") == 1

    run(main)


@pytest.mark.parametrize(
    ("script", "callback", "answer", "expected"),
    [
        ('stage "rcpt" { milter "one"; }', "mail", REJECT, "550 5.7.1 Command rejected"),
        ('stage "rcpt" { milter "one"; }', "connect", TEMPFAIL, "451 4.7.1 Service unavailable"),
        ('stage "data" { milter "one"; reply "never"; }', "eom", REJECT, "550 5.7.1 Command rejected"),
        ('stage "data" { milter "one"; }', "rcpt", REJECT, "550 5.7.1 Command rejected"),
    ],
)
def test_a_refusal_of_what_is_over_counts_now(
    tmp_path: Path, script: str, callback: str, answer: Any, expected: str
) -> None:
    async def main() -> None:
        replies, _, server = await session(tmp_path, script, at(callback, lambda ctx: answer))
        assert replies[3 if "rcpt" in script else 6].startswith(expected), replies
        assert not server.store.delivered

    run(main)


def test_a_recipient_that_is_refused_late(tmp_path: Path) -> None:
    def behave(milter: Puppet, ctx: Context, name: str) -> Any:
        return REJECT if name == "rcpt" and milter.heard[-1] == "rcpt b@example.test" else None

    async def main() -> None:
        replies, _, server = await session(tmp_path, 'stage "data" { milter "one"; }', behave)
        assert replies[-1].startswith("550 5.7.1 not delivered to <b@example.test>"), replies
        assert [one.recipient for one in server.store.delivered] == ["c@example.test"]

    run(main)


@pytest.mark.parametrize("action", ["HOLD", "DUNNO"])
def test_a_client_that_leaves_while_a_script_waits(tmp_path: Path, action: str) -> None:
    """What the script asks for later is of no effect: nobody would end it."""
    release = asyncio.Event()

    async def decide(asked: dict[str, str]) -> str:
        await release.wait()
        return action

    async def main() -> None:
        more = '[policy_servers.two]\naddress = "unix:two"\n' + MILTER
        script = 'stage "helo" { policy_server "two"; milter "one"; }'
        require = REQUIRE.replace('"body"', '"body", "vnd.tamis.policy_server"')
        (tmp_path / "policy.sieve").write_text(require + script)
        asked = asyncio.Event()

        async def answer(request: dict[str, str]) -> str:
            asked.set()
            return await decide(request)

        policy_server = await serve_policy(answer, f"unix:{tmp_path}/two")
        async with puppet(tmp_path, "one") as heard, serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.read_reply()
            client.writer.write(b"EHLO c\r\n")
            await asked.wait()
            client.cut()
            while any(server.daemon.snapshot()["sessions_open"].values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            release.set()
            other = await server.connect()
            await other.hello()
            assert [one for one in heard if one.startswith("helo")] == ["helo client.test"]
            other.cut()
            await quiet(heard, "close")
        await policy_server.close()

    run(main)


def test_discard_at_the_end_of_data(tmp_path: Path) -> None:
    async def main() -> None:
        replies, _, server = await session(
            tmp_path, 'stage "data" { milter "one"; }', at("eom", lambda ctx: DISCARD)
        )
        assert replies[-1].startswith("250 ")
        assert not server.store.delivered

    run(main)


def test_mail_from_the_command_line_and_of_submission(tmp_path: Path) -> None:
    """`tamis sendmail` comes in by a listener; missing fields are there when the milter sees the message."""

    async def main() -> None:
        more = '[milters.one]\naddress = "unix:one"\nlisteners = ["local"]\n'
        listener = f'[[listener]]\nname = "local"\naddresses = ["unix:{tmp_path}/local"]\n'
        listener += 'protocol = "submission"\nauth = "none"\ntls = "none"\n'
        sign = at("eom", lambda ctx: ctx.add_header("X-Signed", str(len(ctx.fields))))
        async with (
            puppet(tmp_path, "one", sign) as heard,
            serving(tmp_path, listener=listener, more=more) as server,
        ):
            client = await server.connect("local")
            await client.hello()
            assert (await client.send("b@example.test", body="From: a@x.test\r\n\r\nhi\r\n"))[:3] == "250"
            await client.say("QUIT")
            await quiet(heard, "close")
            assert [one for one in heard if one.startswith("header")] == [
                "header From", "header Date", "header Message-ID",
            ]  # fmt: skip
            fields = server.store.delivered[0].octets.split(b"\r\n")
            assert fields[-4] == b"X-Signed: 3", fields
            heard.clear()
            text = (tmp_path / "tamis.toml").read_text().replace("127.0.0.1:1", "unix:nobody")
            text = text.replace(f"unix:{tmp_path}/local", f"127.0.0.1:{server.ports['local']}")
            (tmp_path / "client.toml").write_text(text)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mta.cli", "sendmail", "-C", str(tmp_path / "client.toml"),
                "b@example.test", stdin=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            _, errors = await process.communicate(b"Subject: from a script\n\nhi\n")
            assert process.returncode == 0, errors
            await quiet(heard, "close")
            assert "eom" in heard
            assert b"X-Signed: " in server.store.delivered[1].octets

    run(main)


def test_nobody_behind_an_alias_gets_what_is_refused_late(tmp_path: Path) -> None:
    """The milter hears of the alias, as the client named it, and its refusal is for all behind it."""
    (tmp_path / "aliases").write_text("list: ann, ben\n")
    more = MILTER + f'[tables.aliases]\ntype = "aliases"\nfile = "{tmp_path}/aliases"\n'
    (tmp_path / "policy.sieve").write_text(
        REQUIRE.replace("]", ', "vnd.tamis.envelope", "vnd.tamis.tables", "extlists"]')
        + 'stage "rcpt" { expand "table:aliases"; } stage "data" { milter "one"; }'
    )
    reject = at("rcpt", lambda ctx: REJECT if heard[-1] == "rcpt list@example.test" else None)
    heard: list[str] = []

    async def main() -> None:
        nonlocal heard
        store = MailStore()
        async with (
            puppet(tmp_path, "one", reject) as heard,
            serving(tmp_path, more=more, store=store) as server,
        ):
            for recipients in (["list@example.test", "cat@example.test"], ["list@example.test"]):
                client = await server.connect()
                await client.hello()
                await client.envelope(*recipients)
                await client.say("DATA")
                assert (await client.say(BODY + ".")).startswith("550")
                assert [one.recipient for one in store.delivered] == ["cat@example.test"]
                client.cut()

    run(main)


REWRITING = """
[tables.aliases]
type = "aliases"
file = "{folder}/aliases"
"""


@pytest.mark.parametrize("when", ["connect", "data"])
def test_a_recipient_that_was_rewritten_is_deleted_by_the_name_that_was_told(
    tmp_path: Path, when: str
) -> None:
    (tmp_path / "aliases").write_text("info: ann\n")
    more = MILTER + REWRITING.format(folder=tmp_path)
    (tmp_path / "policy.sieve").write_text(
        REQUIRE.replace("]", ', "vnd.tamis.envelope", "vnd.tamis.tables", "extlists"]')
        + f'stage "{when}" {{ milter "one"; }} stage "rcpt" {{ expand "table:aliases"; }}'
    )

    def delete(ctx: Context) -> None:
        ctx.delete_recipient(next(one for one in ctx.recipients if not one.startswith(b"cat")))

    async def main() -> None:
        store = MailStore()
        async with (
            puppet(tmp_path, "one", at("eom", delete)) as heard,
            serving(tmp_path, more=more, store=store) as server,
        ):
            client = await server.connect()
            await client.hello()
            await client.envelope("info@example.test", "cat@example.test")
            await client.say("DATA")
            assert (await client.say(BODY + ".")).startswith("250")
            told = "info" if when == "connect" else "ann"
            assert any(one.startswith(f"rcpt {told}@example.test") for one in heard)
            assert [one.recipient for one in store.delivered] == ["cat@example.test"]

    run(main)


def test_a_recipient_that_was_rewritten_is_refused_late(tmp_path: Path) -> None:
    """One milter has heard of it as the client named it, and so does the one that joins."""
    (tmp_path / "aliases").write_text("info: ann\n")
    more = MILTER + '[milters.two]\naddress = "unix:two"\n' + REWRITING.format(folder=tmp_path)
    (tmp_path / "policy.sieve").write_text(
        REQUIRE.replace("]", ', "vnd.tamis.envelope", "vnd.tamis.tables", "extlists"]')
        + 'stage "connect" { milter "one"; } stage "rcpt" { expand "table:aliases"; }'
        + 'stage "data" { milter "two"; }'
    )
    heard: list[str] = []
    reject = at("rcpt", lambda ctx: REJECT if heard[-1] == "rcpt info@example.test" else None)

    async def main() -> None:
        nonlocal heard
        store = MailStore()
        async with (
            puppet(tmp_path, "one"),
            puppet(tmp_path, "two", reject) as heard,
            serving(tmp_path, more=more, store=store) as server,
        ):
            client = await server.connect()
            await client.hello()
            await client.envelope("info@example.test", "cat@example.test")
            await client.say("DATA")
            await client.say(BODY + ".")
            assert [one.recipient for one in store.delivered] == ["cat@example.test"]

    run(main)


def test_a_milter_adds_nobody_who_is_behind_an_alias(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("list: ann, ben\n")
    more = MILTER + f'[tables.aliases]\ntype = "aliases"\nfile = "{tmp_path}/aliases"\n'
    (tmp_path / "policy.sieve").write_text(
        REQUIRE.replace("]", ', "vnd.tamis.envelope", "vnd.tamis.tables", "extlists"]')
        + 'stage "connect" { milter "one"; } stage "rcpt" { expand "table:aliases"; }'
    )

    def add(ctx: Context) -> None:
        ctx.add_recipient(b"ann@example.test")
        ctx.add_recipient(b"cat@example.test")

    async def main() -> None:
        store = MailStore()
        async with (
            puppet(tmp_path, "one", at("eom", add)),
            serving(tmp_path, more=more, store=store) as server,
        ):
            client = await server.connect()
            await client.hello()
            assert (await client.send("list@example.test")).startswith("250")
            assert sorted(one.recipient.partition("@")[0] for one in store.delivered) == ["ann", "ben", "cat"]

    run(main)
