"""What is left of the policy protocol through the daemon: FILTER, nonsense, TCP, servers that come back.

The usual actions, and how long they hold, are in `test_policy_servers`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mailmilter.policy import serve_policy
from mta import metrics
from tests.dialog.programs import deciding
from tests.dialog.server import run, serving
from tests.dialog.test_content_filters import Filter
from tests.dialog.test_policy_servers import MORE, REQUIRE, session
from tests.peers.ports import free_port

LISTENER = '[[listener]]\nname = "filtered"\naddresses = ["127.0.0.1:2"]\n'
RCPT = 'stage "rcpt" { policy_server "one"; }'


@pytest.mark.parametrize("stage", ["connect", "helo", "mail", "rcpt", "data"])
@pytest.mark.parametrize("spelling", ["filter:amavis", "smtp:[127.0.0.1]:{port}"])
def test_filter_sends_the_message_there(tmp_path: Path, stage: str, spelling: str) -> None:
    """By our name or by the address of the filter, asked for at any stage; the message comes back."""

    async def main() -> None:
        program = Filter()
        listening = await asyncio.start_server(program.serve, "127.0.0.1", 0)
        program.port = listening.sockets[0].getsockname()[1]
        own = 'not environment :is "vnd.tamis.listener" "filtered"'
        (tmp_path / "policy.sieve").write_text(
            REQUIRE.replace("[", '["environment", ')
            + f'stage "{stage}" {{ if {own} {{ policy_server "one"; }} }}'
        )
        more = f'[filters.amavis]\naddresses = ["127.0.0.1:{program.port}"]\nreturns_to = "filtered"\n'
        async with (
            deciding(tmp_path / "one", lambda asked: "FILTER " + spelling.format(port=program.port)),
            serving(tmp_path, listener=LISTENER, more=more + MORE.format("")) as server,
        ):
            program.back = server
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@example.test")).startswith("250 ")
            (kept,) = server.store.delivered
            assert b"\r\nX-Filtered: yes\r\n" in kept.octets
        listening.close()

    run(main)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("HOLD", "451 4.3.0"),  # there is no queue: the message stays with the client
        ("PREPEND no header", "451 4.3.5"),
        ("PREPEND", "451 4.3.5"),
        ("BCC", "451 4.3.5"),
        ("FILTER nothing", "451 4.3.5"),
        ("600 no code", "250 "),
        ("200", "250 "),  # a number that is no refusal permits, as in Postfix's tables
        ("reject Lower Case", "554 5.7.1 Lower Case"),
        ("defer", "450 4.7.1"),
        ("REJECT", "554 5.7.1"),
    ],
)
def test_actions_at_the_end_of_the_message(tmp_path: Path, action: str, expected: str) -> None:
    async def main() -> None:
        async with deciding(tmp_path / "one", lambda asked: action):
            found, server = await session(tmp_path, 'stage "data" { policy_server "one"; }')
        assert found[-1].startswith(expected), found
        assert len(server.store.delivered) == (2 if expected == "250 " else 0)

    run(main)


@pytest.mark.parametrize(
    ("stage", "action", "index", "expected"),
    [
        ("connect", "REJECT", 0, "554 5.7.1"),
        ("connect", "DEFER", 0, "450 4.7.1"),
        ("helo", "REJECT no", 1, "554 5.7.1 no"),
        ("mail", "REJECT no", 2, "554 5.7.1 no"),
        ("mail", "DEFER later", 2, "450 4.7.1 later"),
        ("rcpt", "DEFER later", 3, "450 4.7.1 later"),
        ("data", "421 4.3.2 bye", 6, "421 4.3.2"),
    ],
)
def test_refusals_at_each_stage(tmp_path: Path, stage: str, action: str, index: int, expected: str) -> None:
    async def main() -> None:
        async with deciding(tmp_path / "one", lambda asked: action):
            found, server = await session(tmp_path, f'stage "{stage}" {{ policy_server "one"; }}')
        assert found[index].startswith(expected), found
        assert not server.store.delivered

    run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_servers_over_tcp_keep_their_connection(tmp_path: Path, host: str) -> None:
    async def decide(asked: dict[str, str]) -> str:
        return "PREPEND X-Seen: " + asked["recipient"]

    async def main() -> None:
        port = free_port()
        server = await serve_policy(decide, f"inet:{host}:{port}")
        (tmp_path / "policy.sieve").write_text(REQUIRE + RCPT)
        more = MORE.format("").replace("unix:one", f"inet:{host}:{port}")
        async with serving(tmp_path, more=more) as daemon:
            client = await daemon.connect()
            await client.hello()
            for _ in range(3):
                assert (await client.send("b@example.test", "c@example.test", replies=1)).startswith("250 ")
            assert daemon.store.delivered[0].octets.startswith(
                b"X-Seen: b@example.test\r\nX-Seen: c@example.test\r\nReceived: "
            )
            snapshot = daemon.daemon.snapshot()
            assert metrics.value(snapshot, "program_calls", "policy_server", "one") == 6
            assert metrics.value(snapshot, "program_connects", "policy_server", "one") == 1
        await server.close()

    run(main)


def test_a_server_that_comes_back(tmp_path: Path) -> None:
    """While it is known to be down questions fail at once; after `down_time` it is asked again."""

    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(REQUIRE + RCPT)
        more = MORE.format('tries = 1\ndown_time = "300ms"')
        async with serving(tmp_path, more=more) as daemon:
            client = await daemon.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<b@example.test>")).startswith("451 4.3.5")
            async with deciding(tmp_path / "one", lambda asked: "DUNNO"):
                await asyncio.sleep(0.4)
                assert (await client.say("RCPT TO:<b@example.test>")).startswith("250 ")

    run(main)


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"action=OK\n")  # and no empty line
    writer.close()


async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        while await reader.readuntil(b"\n\n"):
            writer.write(b"action=DUNNO\n\naction=REJECT for the next one\n\n")
    writer.close()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("serve", "expected"), [(half, "451 4.3.5"), (twice, "250 "), (endless, "451 4.3.5")]
)
def test_servers_that_lie(tmp_path: Path, serve: Callable[..., object], expected: str) -> None:
    """An answer that is cut short or without end is none; one that nobody asked for is nobody's."""

    async def main() -> None:
        server = await asyncio.start_unix_server(serve, str(tmp_path / "one"))  # type: ignore[arg-type]
        found, _ = await session(tmp_path, RCPT, more='timeout = "2s"\ntries = 1')
        assert found[3].startswith(expected), found
        assert found[4].startswith(expected), found
        server.close()

    run(main)
