"""Milters in the daemon: what they hear, and that all they answer takes effect."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mailmilter.filter import (
    ACCEPT,
    CONNECTION_FAILURE,
    DISCARD,
    REJECT,
    SHUTDOWN,
    SKIP,
    TEMPFAIL,
    Context,
    reply,
)
from mta.delivery.outcome import Outcome
from mta.firsttry import FirstTries
from tests.dialog.milters import Behaviour, Puppet, at, puppet, quiet
from tests.dialog.queueing import MailStore
from tests.dialog.server import Client, Server, run, serving

ALWAYS = """
[milters.one]
address = "unix:one"
listeners = ["smtp"]
"""
BODY = "Subject: hi\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Gone: x\r\n\r\nhello\r\n"


async def greeted(server: Server) -> Client:
    client = await server.connect()
    await client.hello()
    return client


async def session(
    folder: Path, behave: Behaviour, *lines: str, more: str = ALWAYS, **options: Any
) -> tuple[list[str], list[str], Server]:
    """Say lines to a daemon with one milter: the last lines of the replies, what the milter heard."""
    async with puppet(folder, "one", behave) as heard, serving(folder, more=more, **options) as server:
        client = await server.connect()
        found = [await client.read_reply()]
        for line in lines:
            found.append(await client.say(line))
        client.cut()
        if heard:
            await quiet(heard, "close")
        return [one.rstrip().rpartition("\r\n")[2] for one in found], heard, server


TRANSACTION = ("EHLO c", "MAIL FROM:<a@x.test> SIZE=9", "RCPT TO:<b@example.test>", "DATA", BODY + ".")


def test_a_session_as_a_milter_hears_it(tmp_path: Path) -> None:
    async def main() -> None:
        replies, heard, server = await session(
            tmp_path,
            lambda milter, ctx, name: None,
            *TRANSACTION,
            "FROB",
            "MAIL FROM:<>",
            "RSET",
            recipients="all",
        )
        assert [one[:3] for one in replies] == ["220", "250", "250", "250", "354", "250", "500", "250", "250"]
        assert heard == [
            "connect [127.0.0.1] 127.0.0.1", "helo c", "mail a@x.test SIZE=9", "rcpt b@example.test", "data",
            "header Subject", "header X-Twice", "header X-Twice", "header X-Gone", "eoh", "body 7", "eom",
            "unknown FROB", "mail ", "abort", "close",
        ]  # fmt: skip
        assert server.store.delivered[0].octets.endswith(BODY.encode())

    run(main)


def test_a_client_whose_address_nobody_knows(tmp_path: Path) -> None:
    """A milter that reads addresses would take the word "unknown" for a fault of ours."""

    async def main() -> None:
        said = "XCLIENT ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE]"
        trusting = 'xclient_from = ["127.0.0.1"]'
        _, heard, _ = await session(
            tmp_path, lambda milter, ctx, name: None, "EHLO c", said, *TRANSACTION[:2], listener=trusting
        )
        assert heard[:5] == ["connect [127.0.0.1] 127.0.0.1", "helo c", "close", "connect unknown ", "helo c"]

    run(main)


@pytest.mark.parametrize(
    ("stage", "answer", "expected"),
    [
        ("connect", REJECT, {0: "550 5.7.1 Command rejected"}),
        ("helo", TEMPFAIL, {1: "451 4.7.1 Service unavailable - try again later"}),
        ("mail", reply(554, "5.7.9", "one", "two"), {2: "554 5.7.9 two"}),
        ("rcpt", REJECT, {3: "550 5.7.1 Command rejected", 4: "554 5.5.1"}),
        ("data", TEMPFAIL, {4: "451 4.7.1 Service unavailable - try again later"}),
        ("header", REJECT, {5: "550 5.7.1 Command rejected"}),
        ("body", SKIP, {5: "250 2.0.0 kept"}),
        ("eom", ACCEPT, {5: "250 2.0.0 kept"}),
        ("mail", ACCEPT, {5: "250 2.0.0 kept"}),
        ("eom", reply(450, "4.7.0", "grey"), {5: "450 4.7.0 grey"}),
        ("eom", DISCARD, {5: "250 2.0.0 accepted"}),
        ("mail", DISCARD, {5: "250 2.0.0 accepted"}),
        ("rcpt", SHUTDOWN, {3: "421 4.7.0 Closing the connection"}),
        ("eom", CONNECTION_FAILURE, {5: "421 4.7.0 Closing the connection"}),
        ("unknown", reply(502, "5.5.1", "no such thing"), {6: "502 5.5.1 no such thing"}),
    ],
)
def test_each_answer_at_its_stage(tmp_path: Path, stage: str, answer: Any, expected: dict[int, str]) -> None:
    async def main() -> None:
        lines = (*TRANSACTION, "FROB")[: max(expected)]
        replies, _, server = await session(tmp_path, at(stage, lambda ctx: answer), *lines)
        for index, text in expected.items():
            assert replies[index].startswith(text), replies
        is_kept = "kept" in expected.get(5, "") or stage == "unknown"
        assert len(server.store.delivered) == (1 if is_kept else 0)

    run(main)


def edit(ctx: Context) -> None:
    ctx.add_header("X-Last", "appended")
    ctx.insert_header(0, "X-Top", "above Received")
    ctx.insert_header(2, "X-Second", "below it")
    ctx.change_header("X-Twice", "changed\r\n\tand folded", 2)
    ctx.delete_header("X-Gone")
    ctx.change_sender(b"new@x.test")
    ctx.add_recipient(b"added@example.test", b"NOTIFY=NEVER")
    ctx.delete_recipient(b"b@example.test")
    ctx.replace_body(b"new\n.dot\n")
    ctx.replace_body(b"end")


def test_all_edits_take_effect(tmp_path: Path) -> None:
    async def main() -> None:
        replies, _, server = await session(tmp_path, at("eom", edit), *TRANSACTION)
        assert replies[-1].startswith("250 ")
        (kept,) = server.store.delivered
        assert (kept.sender, kept.recipient) == ("new@x.test", "added@example.test")
        head, _, body = kept.octets.partition(b"\r\n\r\n")
        assert body == b"new\r\n.dot\r\nend\r\n"
        fields = head.split(b"\r\n")
        assert fields[0] == b"X-Top: above Received"
        assert fields[1].startswith(b"Received: from c")
        assert fields[-6:] == [
            b"X-Second: below it", b"Subject: hi", b"X-Twice: 1", b"X-Twice: changed", b"\tand folded",
            b"X-Last: appended",
        ]  # fmt: skip

    run(main)


def test_a_new_body_over_the_limit_of_memory(tmp_path: Path) -> None:
    line = b"0123456789" * 9 + b"\n"

    def behave(ctx: Context) -> None:
        for _ in range(40):
            ctx.replace_body(line * 400)

    async def main() -> None:
        replies, _, server = await session(tmp_path, at("eom", behave), *TRANSACTION)
        assert replies[-1].startswith("250 ")
        body = server.store.delivered[0].octets.partition(b"\r\n\r\n")[2]
        assert body == line.replace(b"\n", b"\r\n") * 16000

    run(main)


def test_each_milter_sees_the_edits_of_those_before(tmp_path: Path) -> None:
    seen: list[str] = []

    def second(ctx: Context) -> None:
        seen.extend(one.name.decode() for one in ctx.fields)
        ctx.insert_header(0, "X-B", "2")

    async def main() -> None:
        more = ALWAYS + '[milters.two]\naddress = "local:two"\nlisteners = ["*"]\n'
        first = at("eom", lambda ctx: ctx.insert_header(0, "X-A", "1"))
        async with puppet(tmp_path, "two", at("eom", second)) as heard:
            await session(tmp_path, first, *TRANSACTION, more=more)
            await quiet(heard, "close")
        assert seen == ["X-A", "Subject", "X-Twice", "X-Twice", "X-Gone"]

    run(main)


def test_quarantine_holds_the_message(tmp_path: Path) -> None:
    async def main() -> None:
        behave = at("eom", lambda ctx: ctx.quarantine("for a look"))
        replies, _, server = await session(tmp_path, behave, *TRANSACTION, queue="enabled = true")
        assert replies[-1].startswith("250 2.0.0"), replies
        assert not server.store.delivered

    run(main)


def test_quarantine_without_a_queue_leaves_the_message_with_the_client(tmp_path: Path) -> None:
    async def main() -> None:
        behave = at("eom", lambda ctx: ctx.quarantine("for a look"))
        replies, _, _ = await session(tmp_path, behave, *TRANSACTION)
        assert replies[-1].startswith("451 4.3.0"), replies

    run(main)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("tempfail", "451 4.7.1 Service unavailable"),
        ("reject", "550 5.5.0 Service unavailable"),
        ("accept", "250 2.0.0 kept"),
    ],
)
@pytest.mark.parametrize("trouble", ["dead", "slow", "lying", "gone"])
def test_the_default_action(tmp_path: Path, action: str, expected: str, trouble: str) -> None:
    async def never(ctx: Context) -> None:
        await asyncio.sleep(1)

    async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\0\0\0\1Z" if trouble == "lying" else b"")
        writer.close()

    async def main() -> None:
        more = ALWAYS + f'default_action = "{action}"\n'
        if trouble == "slow":
            more += 'command_timeout = "200ms"\ncontent_timeout = "200ms"\n'
            replies, _, server = await session(tmp_path, at("eom", never), *TRANSACTION, more=more)
        else:
            other = None
            if trouble != "dead":
                other = await asyncio.start_unix_server(gone, str(tmp_path / "one"))
            async with serving(tmp_path, more=more) as server:
                client = await server.connect()
                replies = [await client.read_reply()]
                for line in TRANSACTION:
                    if replies[-1].startswith(("2", "3")):
                        replies.append(await client.say(line))
            if other is not None:
                other.close()
        assert replies[-1].startswith(expected), replies
        assert len(server.store.delivered) == (1 if action == "accept" else 0)

    run(main)


def test_macros(tmp_path: Path) -> None:
    found: dict[str, str | None] = {}

    def behave(milter: Puppet, ctx: Context, name: str) -> None:
        if name in ("connect", "mail", "rcpt", "eom"):
            for one in ("j", "daemon_name", "_", "v", "i", "mail_addr", "rcpt_addr", "rcpt_mailer"):
                found[f"{name} {one}"] = ctx.macro(one)

    async def main() -> None:
        await session(tmp_path, behave, *TRANSACTION, more=ALWAYS + 'daemon_name = "ORIGINATING"')
        assert found["connect j"] == "mx.test"
        assert found["connect daemon_name"] == "ORIGINATING"
        assert found["connect _"] == "unknown [127.0.0.1]"
        assert str(found["connect v"]).startswith("Tamis ")
        assert found["mail mail_addr"] == "a@x.test"
        assert found["mail i"] == found["eom i"]
        assert str(found["eom i"]).endswith(".1")
        assert (found["rcpt rcpt_addr"], found["rcpt rcpt_mailer"]) == ("b@example.test", "lmtp")

    run(main)


def test_recipients_that_we_refuse_are_told(tmp_path: Path) -> None:
    said: list[tuple[str | None, ...]] = []

    def behave(milter: Puppet, ctx: Context, name: str) -> None:
        if name == "rcpt":
            said.append(tuple(ctx.macro(one) for one in ("rcpt_mailer", "rcpt_host", "rcpt_addr")))

    async def main() -> None:
        more = ALWAYS + "[policy]\ntrusted_networks = []\n"
        replies, heard, _ = await session(
            tmp_path, behave, *TRANSACTION[:2], "RCPT TO:<b@other.test>", more=more
        )
        assert replies[-1].startswith("550 5.7.1")
        assert "rcpt b@other.test" in heard
        assert said[0][:2] == ("error", "5.7.1")

    run(main)


def test_a_client_that_leaves_while_a_milter_thinks(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def wait(ctx: Context) -> None:
        await release.wait()

    async def main() -> None:
        async with (
            puppet(tmp_path, "one", at("eom", wait)) as heard,
            serving(tmp_path, more=ALWAYS) as server,
        ):
            client = await greeted(server)
            await client.envelope("b@example.test")
            await client.say("DATA")
            client.writer.write((BODY + ".\r\n").encode())
            await quiet(heard, "eom")
            client.cut()
            await asyncio.sleep(0.1)
            release.set()
            await quiet(heard, "close")
            await asyncio.sleep(0.1)
            assert not server.store.delivered

    run(main)


def test_clients_that_leave_while_the_greeting_waits_leave_no_connection_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            puppet(tmp_path, "one") as heard,
            serving(tmp_path, more=ALWAYS, listener='greet_delay = "300ms"') as server,
        ):
            for _ in range(3):
                (await server.connect()).cut()
            patient = await server.connect()  # whose delay is over after that of the others
            assert (await patient.read_reply()).startswith("220 ")
            assert len([one for one in heard if one.startswith("connect")]) == 1
            patient.cut()
            await quiet(heard, "close")

    run(main)


def test_connections_are_used_again(tmp_path: Path) -> None:
    async def main() -> None:
        made: list[str] = []

        def behave(milter: Puppet, ctx: Context, name: str) -> None:
            if name == "connect":
                made.append(str(id(milter)))

        async with (
            puppet(tmp_path, "one", behave) as heard,
            serving(tmp_path, more=ALWAYS + "reuse = true") as server,
        ):
            for number in range(3):
                client = await greeted(server)
                assert (await client.send("b@example.test")).startswith("250")
                await client.say("QUIT")
                await quiet(heard, "close")
                assert heard.count("eom") == number + 1
        assert len(made) == 3

    run(main)


def test_nothing_of_a_message_is_left_after_a_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a milter wanted of it is not done with the next one, about which it is asked anew."""
    real = FirstTries.make
    tried: list[int] = []

    async def first_fails(self: FirstTries, *rest: Any) -> list[Outcome]:
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError("a bug")
        return await real(self, *rest)

    def adds(ctx: Context) -> None:
        if not tried:
            ctx.add_recipient(b"other@example.test")

    async def main() -> None:
        store = MailStore()
        async with (
            puppet(tmp_path, "one", at("eom", adds)) as heard,
            serving(tmp_path, more=ALWAYS, store=store) as server,
        ):
            client = await greeted(server)
            for answer in ("451 4.3.0 internal error", "250 "):
                await client.envelope("b@example.test")
                await client.say("DATA")
                assert (await client.say(BODY + ".")).startswith(answer)
            assert heard.count("eom") == 2
            assert len(store.got("b")) == 1
            assert store.got("other") == []

    monkeypatch.setattr(FirstTries, "make", first_fails)
    run(main)
