"""`policy_server` in the daemon: what servers are told, every action, and servers that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mailmilter.policy.request import NAMES
from tests.dialog.programs import deciding
from tests.dialog.server import Server, run, serving

REQUIRE = 'require ["vnd.tamis.stage", "vnd.tamis.policy_server", "vnd.tamis.reply"];\n'
MORE = '[policy_servers.one]\naddress = "unix:one"\n{}\n[policy]\nscripts = ["policy.sieve"]\n'
BODY = "Subject: hi\r\n\r\nhello\r\n"
TRANSACTION = (
    "EHLO c", "MAIL FROM:<a@x.test> SIZE=9", "RCPT TO:<b@example.test>", "RCPT TO:<c@example.test>", "DATA",
    BODY + ".",
)  # fmt: skip


async def session(
    folder: Path, script: str, *, more: str = "", queue: str = "enabled = false"
) -> tuple[list[str], Server]:
    """A message to two recipients; the last lines of the replies."""
    (folder / "policy.sieve").write_text(REQUIRE + script)
    async with serving(folder, more=MORE.format(more), queue=queue) as server:
        client = await server.connect()
        found = [await client.read_reply()]
        for line in TRANSACTION:
            found.append(await client.say(line))
        return [one.rstrip().rpartition("\r\n")[2] for one in found], server


EVERYWHERE = "".join(
    f'stage "{stage}" {{ policy_server "one"; }}' for stage in ("connect", "helo", "mail", "rcpt", "data")
)


def test_servers_are_told_what_postfix_tells(tmp_path: Path) -> None:
    async def main() -> None:
        async with deciding(tmp_path / "one", lambda asked: "DUNNO") as asked:
            await session(tmp_path, EVERYWHERE)
        assert [one["protocol_state"] for one in asked] == [
            "CONNECT", "EHLO", "MAIL", "RCPT", "RCPT", "END-OF-MESSAGE",
        ]  # fmt: skip
        assert all(set(NAMES) <= set(one) for one in asked)
        assert len({one["instance"] for one in asked[2:]}) == 1
        mail, rcpt, _, end = asked[2:]
        assert (mail["sender"], mail["size"], mail["recipient_count"]) == ("a@x.test", "9", "0")
        assert (rcpt["recipient"], rcpt["client_address"], rcpt["helo_name"]) == (
            "b@example.test", "127.0.0.1", "c",
        )  # fmt: skip
        assert (end["recipient"], end["recipient_count"], end["size"]) == ("", "2", str(len(BODY)))
        assert end["queue_id"] == end["instance"]
        assert end["listener"] == "smtp"

    run(main)


@pytest.mark.parametrize(
    ("action", "replies", "delivered"),
    [
        ("OK", {3: "250", 6: "250"}, 2),
        ("DUNNO", {3: "250", 6: "250"}, 2),
        ("REJECT go away", {3: "554 5.7.1 go away"}, 0),
        ("REJECT 5.7.9 go away", {3: "554 5.7.9 go away"}, 0),
        ("DEFER later", {3: "450 4.7.1 later"}, 0),
        ("550 no", {3: "550 5.7.1 no"}, 0),
        ("451 4.3.9 not now", {3: "451 4.3.9 not now"}, 0),
        ("421 4.3.2 bye", {3: "421 4.3.2 bye"}, 0),
        ("521 5.3.2 bye", {3: "521 5.3.2 bye", 4: ""}, 0),
        ("DEFER_IF_PERMIT grey", {3: "450 4.7.1 grey"}, 0),
        ("DEFER_IF_REJECT grey", {3: "250", 6: "250"}, 2),
        ("DISCARD", {3: "250", 6: "250 2.0.0 accepted"}, 0),
        ("WARN look", {6: "250"}, 2),
        ("INFO look", {6: "250"}, 2),
        ("permit_mynetworks", {3: "451 4.3.5 server configuration problem"}, 0),
        ("FILTER smtp:[127.0.0.1]:9", {3: "451 4.3.5"}, 0),
        ("REDIRECT nobody", {3: "451 4.3.5"}, 0),
    ],
)
def test_each_action(tmp_path: Path, action: str, replies: dict[int, str], delivered: int) -> None:
    async def main() -> None:
        async with deciding(tmp_path / "one", lambda asked: action):
            found, server = await session(tmp_path, 'stage "rcpt" { policy_server "one"; }')
        for index, text in replies.items():
            assert found[index].startswith(text), found
        assert len(server.store.delivered) == delivered

    run(main)


def test_prepend_redirect_and_bcc(tmp_path: Path) -> None:
    def decide(asked: dict[str, str]) -> str:
        if asked["protocol_state"] == "MAIL":
            return "PREPEND X-Seen: yes"
        if asked["protocol_state"] == "END-OF-MESSAGE":
            return "BCC copy@example.test"
        return "REDIRECT other@example.test" if asked["recipient"].startswith("b") else "PREPEND X-Seen: yes"

    async def main() -> None:
        async with deciding(tmp_path / "one", decide):
            found, server = await session(tmp_path, EVERYWHERE)
        assert found[-1].startswith("250 ")
        assert [one.recipient for one in server.store.delivered] == [
            "other@example.test",
            "copy@example.test",
        ]
        assert server.store.delivered[0].octets.startswith(b"X-Seen: yes\r\nReceived: ")
        assert server.store.delivered[0].octets.count(b"X-Seen") == 1

    run(main)


def test_hold(tmp_path: Path) -> None:
    async def main() -> None:
        async with deciding(tmp_path / "one", lambda asked: "HOLD for a look"):
            script = 'stage "rcpt" { policy_server "one"; }'
            found, server = await session(tmp_path, script, queue="enabled = true")
        assert found[-1].startswith("250 2.0.0"), found
        assert not server.store.delivered

    run(main)


def test_defer_if_reject_softens_a_later_refusal(tmp_path: Path) -> None:
    async def main() -> None:
        async with deciding(tmp_path / "one", lambda asked: "DEFER_IF_REJECT dns trouble"):
            found, _ = await session(tmp_path, 'stage "rcpt" { policy_server "one"; reply "no"; }')
        assert found[3].startswith("450 4.7.1 dns trouble")

    run(main)


def test_what_is_pending_ends_with_the_message(tmp_path: Path) -> None:
    answers = iter(["DISCARD", "DUNNO"])

    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(REQUIRE + 'stage "mail" { policy_server "one"; }')
        async with (
            deciding(tmp_path / "one", lambda asked: next(answers)) as asked,
            serving(tmp_path, more=MORE.format("")) as server,
        ):
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@x.test>")
            await client.say("RSET")
            assert (await client.send("b@example.test")).startswith("250")
            assert len(server.store.delivered) == 1
            assert asked[0]["instance"] != asked[1]["instance"]

    run(main)


async def two_messages(folder: Path, stage: str, action: str) -> tuple[int, int, int]:
    """What is delivered of two messages in a session, then of one after a second HELO, if asked once."""
    (folder / "policy.sieve").write_text(REQUIRE + f'stage "{stage}" {{ policy_server "one"; }}')
    answers = [action]
    async with (
        deciding(folder / "one", lambda asked: answers.pop() if answers else "DUNNO"),
        serving(folder, more=MORE.format(""), queue="enabled = true") as server,
    ):
        client = await server.connect()
        await client.hello()
        counts = []
        for command in ("NOOP", "RSET", "EHLO again.test"):
            assert (await client.say(command)).startswith("250")
            assert (await client.send("b@example.test")).startswith("250")
            counts.append(len(server.store.delivered))
        return counts[0], counts[1], counts[2]


@pytest.mark.parametrize("action", ["HOLD", "DISCARD"])
@pytest.mark.parametrize(
    ("stage", "delivered"), [("connect", (0, 0, 0)), ("helo", (0, 0, 1)), ("mail", (0, 1, 2))]
)
def test_what_is_wanted_holds_as_long_as_its_stage(
    tmp_path: Path, action: str, stage: str, delivered: tuple[int, int, int]
) -> None:
    async def main() -> None:
        assert await two_messages(tmp_path, stage, action) == delivered

    run(main)


def test_edits_wanted_at_connect_are_made_in_each_message(tmp_path: Path) -> None:
    def decide(asked: dict[str, str]) -> str:
        state = asked["protocol_state"]
        if state == "CONNECT":
            return "PREPEND X-Client: seen"
        if state == "EHLO":
            return "BCC copy@example.test"
        return "REDIRECT other@example.test" if state == "MAIL" and asked["sender"] == "r@x.test" else "DUNNO"

    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(REQUIRE + EVERYWHERE)
        async with (
            deciding(tmp_path / "one", decide),
            serving(tmp_path, more=MORE.format("")) as server,
        ):
            client = await server.connect()
            await client.hello()
            for sender in ("a@x.test", "r@x.test", "a@x.test"):
                await client.envelope("b@example.test", sender=sender)
                await client.say("DATA")
                assert (await client.say(BODY + ".")).startswith("250")
            assert [one.recipient for one in server.store.delivered] == [
                "b@example.test", "copy@example.test", "other@example.test", "copy@example.test",
                "b@example.test", "copy@example.test",
            ]  # fmt: skip
            for one in server.store.delivered:
                assert one.octets.startswith(b"X-Client: seen\r\nReceived: "), one.octets
                assert one.octets.count(b"X-Client") == 1

    run(main)


@pytest.mark.parametrize(
    ("stage", "sent", "later"),
    [
        (
            "connect",
            [("MAIL", "250"), ("RCPT", "450 4.7.1 grey"), ("RCPT", "450 4.7.1 grey")],
            "450 4.7.1 grey",
        ),
        ("helo", [("MAIL", "250"), ("RCPT", "450 4.7.1 grey"), ("RCPT", "450 4.7.1 grey")], "450 4.7.1 grey"),
        ("mail", [("MAIL", "250"), ("RCPT", "450 4.7.1 grey"), ("RCPT", "450 4.7.1 grey")], "250"),
        ("rcpt", [("MAIL", "250"), ("RCPT", "450 4.7.1 grey"), ("RCPT", "250")], "250"),
        (
            "data",
            [("MAIL", "250"), ("RCPT", "250"), ("RCPT", "250"), ("DATA", "354"), ("", "450 4.7.1")],
            "250",
        ),
    ],
)
def test_defer_if_permit_is_the_answer_to_recipients(
    tmp_path: Path, stage: str, sent: list[tuple[str, str]], later: str
) -> None:
    """As in Postfix: asked for before RCPT it holds for all that would be accepted."""
    answers = ["DEFER_IF_PERMIT grey"]
    lines = {
        "MAIL": "MAIL FROM:<a@x.test>",
        "RCPT": "RCPT TO:<b@example.test>",
        "DATA": "DATA",
        "": BODY + ".",
    }

    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(REQUIRE + f'stage "{stage}" {{ policy_server "one"; }}')
        async with (
            deciding(tmp_path / "one", lambda asked: answers.pop() if answers else "DUNNO"),
            serving(tmp_path, more=MORE.format("")) as server,
        ):
            client = await server.connect()
            await client.hello()
            for verb, expected in sent:
                assert (await client.say(lines[verb])).startswith(expected), verb
            await client.say("RSET")
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<b@example.test>")).startswith(later)

    run(main)


def test_a_refusal_is_not_made_softer_by_defer_if_permit(tmp_path: Path) -> None:
    async def main() -> None:
        script = 'stage "helo" { policy_server "one"; } stage "rcpt" { reply "no"; }'
        async with deciding(tmp_path / "one", lambda asked: "DEFER_IF_PERMIT grey"):
            found, _ = await session(tmp_path, script)
        assert found[3].startswith("550 5.7.1 no")

    run(main)


def test_what_was_wanted_at_a_mail_that_was_refused_is_forgotten(tmp_path: Path) -> None:
    answers = ["DUNNO", "DISCARD"]

    async def main() -> None:
        script = """stage "mail" {
            policy_server "one";
            if envelope "from" "bad@x.test" { reply "no"; }
        }"""
        (tmp_path / "policy.sieve").write_text(REQUIRE.replace("[", '["envelope", ') + script)
        async with (
            deciding(tmp_path / "one", lambda asked: answers.pop()),
            serving(tmp_path, more=MORE.format("")) as server,
        ):
            client = await server.connect()
            await client.hello()
            assert (await client.say("MAIL FROM:<bad@x.test>")).startswith("550")
            assert (await client.send("b@example.test")).startswith("250")
            assert len(server.store.delivered) == 1

    run(main)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"no such thing\n\n")
    writer.close()


@pytest.mark.parametrize("serve", [None, silent, lying])
@pytest.mark.parametrize(
    ("more", "tag", "expected"),
    [
        ("", "", "451 4.3.5 Server configuration problem"),
        ('default_action = "DUNNO"', "", "250 "),
        ('default_action = "REJECT down"', "", "554 5.7.1 down"),
        ("", ':on_error "defer" ', "451 4.7.1 a service needed"),
        ("", ':on_error "ignore" ', "250 "),
        ("", ':on_error "reject" ', "554 5.7.1 a service needed"),
    ],
)
def test_servers_that_fail(
    tmp_path: Path, serve: Callable[..., object] | None, more: str, tag: str, expected: str
) -> None:
    async def main() -> None:
        server = None
        if serve is not None:
            server = await asyncio.start_unix_server(serve, str(tmp_path / "one"))  # type: ignore[arg-type]
        script = f'stage "rcpt" {{ policy_server {tag}"one"; }}'
        found, _ = await session(tmp_path, script, more=f'timeout = "200ms"\ntries = 1\n{more}')
        assert found[3].startswith(expected), found
        if server is not None:
            server.close()

    run(main)
