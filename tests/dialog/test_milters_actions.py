"""What is left of the milter protocol through the daemon: versions, transports, macros, progress, parameters.

The usual actions are in `test_milters`, joining late in `test_milters_scripts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from mailmilter.constants import Action, Stage
from mailmilter.filter import CONTINUE, Answer, Context, serve
from mailmilter.packets import packet, strings
from tests.dialog.milters import Puppet, at, puppet, quiet
from tests.dialog.server import run, serving
from tests.dialog.test_milters import ALWAYS, BODY, TRANSACTION, session
from tests.peers.ports import free_port


class Wanting(Puppet):
    """Chooses its macros, and sees values with their blanks."""

    symbols: ClassVar[Mapping[Stage, tuple[str, ...]]] = {
        Stage.CONNECT: ("{client_addr}", "{client_port}"),
        Stage.MAIL: ("{mail_addr}",),
        Stage.END_OF_MESSAGE: ("{daemon_name}", "i"),
    }
    leading_space = True


class Modest(Puppet):
    """Asks for nothing but adding fields."""

    actions = Action.ADD_HEADERS


def test_a_filter_chooses_its_macros_and_sees_leading_blanks(tmp_path: Path) -> None:
    """SETSYMLIST, and SMFIP_HDR_LEADSPC in both directions."""
    macros: dict[str, str] = {}
    values: list[bytes] = []

    def behave(milter: Puppet, ctx: Context, name: str) -> None:
        for one in ("j", "client_addr", "mail_addr", "mail_host", "daemon_name", "i"):
            if value := ctx.macro(one):
                macros[one] = value
        if name == "eom":
            values.extend(one.value for one in ctx.fields)
            ctx.add_header("X-None", "close")
            ctx.add_header("X-Two", "  far")

    async def main() -> None:
        heard: list[str] = []
        server = await serve(lambda: Wanting(heard, behave), f"unix:{tmp_path}/one")
        async with serving(tmp_path, more=ALWAYS) as daemon:
            client = await daemon.connect()
            await client.hello()
            await client.envelope("b@example.test")
            await client.say("DATA")
            assert (await client.say("A:none\r\nB:   three\r\n\r\nx\r\n.")).startswith("250 ")
            client.cut()
            await quiet(heard, "close")
            assert macros.keys() == {"client_addr", "mail_addr", "daemon_name", "i"}
            assert macros["client_addr"] == "127.0.0.1"
            assert values == [b"none", b"   three"]
            assert daemon.store.delivered[0].octets.endswith(
                b"\r\nA:none\r\nB:   three\r\nX-None:close\r\nX-Two:  far\r\n\r\nx\r\n"
            )
        await server.close()

    run(main)


@pytest.mark.parametrize("version", [2, 3, 4, 6])
def test_older_versions_of_the_protocol(tmp_path: Path, version: int) -> None:
    """What a version does not have is not said: DATA before 4, unknown commands before 3."""

    async def main() -> None:
        mark = at("eom", lambda ctx: ctx.add_header("X-Seen", "1"))
        more = ALWAYS + f"version = {version}\n"
        replies, heard, server = await session(tmp_path, mark, "FROB", *TRANSACTION, more=more)
        assert replies[-1].startswith("250 "), replies
        assert ("data" in heard) is (version >= 4)
        assert ("unknown FROB" in heard) is (version >= 3)
        assert b"\r\nX-Seen: 1\r\n" in server.store.delivered[0].octets

    run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_milters_and_their_clients_over_tcp(tmp_path: Path, host: str) -> None:
    async def main() -> None:
        port = free_port()
        heard: list[str] = []
        mark = at("eom", lambda ctx: ctx.add_header("X-Seen", "1"))
        server = await serve(lambda: Puppet(heard, mark), f"inet:{host}:{port}")
        more = f'[milters.one]\naddress = "inet:{host}:{port}"\nlisteners = ["smtp"]\n'
        async with serving(tmp_path, more=more) as daemon:
            client = await daemon.connect()
            await client.hello()
            assert (await client.send("b@example.test")).startswith("250 ")
            assert b"\r\nX-Seen: 1\r\n" in daemon.store.delivered[0].octets
            client.cut()
            await quiet(heard, "close")
        await server.close()

    run(main)


def test_progress_keeps_a_slow_filter_alive(tmp_path: Path) -> None:
    """It answers after twice the time of silence that it is allowed, and says so meanwhile."""

    async def slowly(ctx: Context) -> None:
        for _ in range(8):
            await asyncio.sleep(0.25)
            ctx.progress()

    async def main() -> None:
        more = ALWAYS + 'content_timeout = "1s"\n'
        replies, _, server = await session(tmp_path, at("eom", slowly), *TRANSACTION, more=more)
        assert replies[-1].startswith("250 "), replies
        assert len(server.store.delivered) == 1

    run(main)


def test_progress_does_not_prolong_the_stage(tmp_path: Path) -> None:
    async def for_ever(ctx: Context) -> None:
        for _ in range(20):
            await asyncio.sleep(0.1)
            ctx.progress()

    async def main() -> None:
        times = 'command_timeout = "500ms"\ncontent_timeout = "500ms"\ntotal_timeout = "500ms"\n'
        replies, _, server = await session(tmp_path, at("eom", for_ever), *TRANSACTION, more=ALWAYS + times)
        assert replies[-1].startswith("451 4.7.1"), replies
        assert not server.store.delivered

    run(main)


def test_recipients_with_and_without_parameters(tmp_path: Path) -> None:
    def edit(ctx: Context) -> None:
        ctx.add_recipient(b"plain@example.test")
        ctx.add_recipient(b"plain@example.test")  # once is enough
        ctx.add_recipient(b"dsn@example.test", b"NOTIFY=FAILURE ORCPT=rfc822;old@x.test")
        ctx.add_recipient(b"gone@example.test")
        ctx.delete_recipient(b"gone@example.test")
        ctx.delete_recipient(b"nobody@example.test")

    async def main() -> None:
        replies, _, server = await session(tmp_path, at("eom", edit), *TRANSACTION)
        assert replies[-1].startswith("250 "), replies
        assert sorted(one.recipient for one in server.store.delivered) == [
            "b@example.test", "dsn@example.test", "plain@example.test",
        ]  # fmt: skip

    run(main)


@pytest.mark.parametrize(
    "edit",
    [
        lambda ctx: ctx.add_recipient(b"no address"),
        lambda ctx: ctx.add_recipient(b"c@example.test", b"NOTIFY=WHENEVER"),
        lambda ctx: ctx.change_sender(b"a@@x.test"),
        lambda ctx: ctx.change_sender(b"a@x.test", b"RET=ALL"),
    ],
)
def test_an_edit_that_cannot_be_done_keeps_the_message_with_the_client(tmp_path: Path, edit: object) -> None:
    async def main() -> None:
        replies, _, server = await session(tmp_path, at("eom", edit), *TRANSACTION)  # type: ignore[arg-type]
        assert replies[-1].startswith("451 4.7.1"), replies
        assert not server.store.delivered

    run(main)


def test_a_body_that_becomes_empty_and_a_change_of_a_field_that_is_not_there(tmp_path: Path) -> None:
    def edit(ctx: Context) -> None:
        ctx.replace_body(b"")
        ctx.change_header("X-New", "is added", 3)
        ctx.delete_header("X-Missing")

    async def main() -> None:
        replies, _, server = await session(tmp_path, at("eom", edit), *TRANSACTION)
        assert replies[-1].startswith("250 "), replies
        head, _, body = server.store.delivered[0].octets.partition(b"\r\n\r\n")
        assert body == b""
        assert head.endswith(b"\r\nX-New: is added")

    run(main)


@pytest.mark.parametrize("trouble", ["dead", "slow", "lying"])
def test_quarantine_as_the_default_action(tmp_path: Path, trouble: str) -> None:
    """The queue holds what a milter that is away has not seen."""

    async def never(ctx: Context) -> None:
        await asyncio.sleep(1)

    async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\0\0\0\1Z")
        writer.close()

    async def main() -> None:
        more = ALWAYS + 'default_action = "quarantine"\ncontent_timeout = "200ms"\n'
        if trouble == "slow":
            replies, _, server = await session(
                tmp_path, at("eom", never), *TRANSACTION, more=more, queue="enabled = true"
            )
            assert replies[-1].startswith("250 2.0.0"), replies
            assert not server.store.delivered
            return
        liar = None
        if trouble == "lying":
            liar = await asyncio.start_unix_server(lying, str(tmp_path / "one"))
        async with serving(tmp_path, more=more, queue="enabled = true") as server:
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@example.test")).startswith("250 2.0.0")
            assert not server.store.delivered
        if liar is not None:
            liar.close()

    run(main)


@pytest.mark.parametrize("stage", ["connect", "helo", "mail", "rcpt", "data"])
def test_a_filter_that_is_silent_at_a_stage(tmp_path: Path, stage: str) -> None:
    async def never(ctx: Context) -> None:
        await asyncio.sleep(1.2)

    async def main() -> None:
        more = ALWAYS + 'command_timeout = "500ms"\n'
        index = ["connect", "helo", "mail", "rcpt", "data"].index(stage)
        replies, _, server = await session(tmp_path, at(stage, never), *TRANSACTION[:index], more=more)
        assert replies[index].startswith("451 4.7.1"), replies
        assert not server.store.delivered

    run(main)


def test_edits_that_were_not_agreed_upon_are_a_fault_of_the_filter(tmp_path: Path) -> None:
    """A filter that offers to add fields only, and changes the sender."""

    async def lie(ctx: Context) -> Answer:
        ctx.write(packet(ord("e"), strings((b"<evil@x.test>",))))
        return CONTINUE

    async def main() -> None:
        heard: list[str] = []
        server = await serve(lambda: Modest(heard, at("eom", lie)), f"unix:{tmp_path}/one")
        async with serving(tmp_path, more=ALWAYS) as daemon:
            client = await daemon.connect()
            await client.hello()
            assert (await client.send("b@example.test", body=BODY)).startswith("451 4.7.1")
            assert not daemon.store.delivered
            client.cut()
            await quiet(heard, "close")
        await server.close()

    run(main)


def test_two_milters_where_the_first_is_away(tmp_path: Path) -> None:
    """The one behind an absent one that counts for nothing is asked all the same."""

    async def main() -> None:
        more = ALWAYS.replace("listeners", 'default_action = "accept"\nlisteners')
        more += '[milters.two]\naddress = "unix:two"\nlisteners = ["smtp"]\n'
        mark = at("eom", lambda ctx: ctx.add_header("X-Two", "1"))
        async with puppet(tmp_path, "two", mark) as heard, serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@example.test")).startswith("250 ")
            assert b"\r\nX-Two: 1\r\n" in server.store.delivered[0].octets
            client.cut()
            await quiet(heard, "close")

    run(main)
