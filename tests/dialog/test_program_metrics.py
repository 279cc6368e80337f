"""What is counted of milters, policy servers and scanners."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mailmilter.filter import REJECT
from mta import metrics
from mta.policy.external.tally import failure_class
from tests.dialog.milters import at, puppet, quiet
from tests.dialog.programs import deciding, scanning
from tests.dialog.server import Server, run, serving

MORE = """
[milters.one]
address = "unix:one"
listeners = ["smtp"]
[policy_servers.two]
address = "unix:two"
tries = 1
[scanners.three]
kind = "clamav"
address = "unix:three"
[policy]
scripts = ["policy.sieve"]
"""
SCRIPT = """
require ["vnd.tamis.stage", "vnd.tamis.policy_server", "vnd.tamis.scan"];
stage "rcpt" { policy_server :on_error "ignore" "two"; }
stage "data" { scan :on_error "ignore" "three"; }
"""


def count(server: Server, name: str, *labels: str) -> float:
    return metrics.value(server.daemon.snapshot(), name, *labels)


def test_questions_and_answers_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(SCRIPT)
        async with (
            puppet(tmp_path, "one", at("eom", lambda ctx: REJECT)) as heard,
            deciding(tmp_path / "two", lambda asked: "PREPEND X-Seen: 1"),
            scanning(tmp_path / "three", b"stream: Eicar FOUND\0"),
            serving(tmp_path, more=MORE) as server,
        ):
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@example.test")).startswith("550 5.7.1")
            calls = "program_calls"
            # CONNECT, HELO, MAIL, RCPT, DATA; then the message
            assert count(server, calls, "milter", "one", "continue") == 5
            assert count(server, calls, "milter", "one", "reject") == 1
            assert count(server, calls, "policy_server", "two", "prepend") == 1
            assert count(server, calls, "scanner", "three", "virus") == 1
            assert count(server, "program_seconds", "milter", "one") == 6
            assert count(server, "program_failures") == 0
            assert count(server, "program_connections", "milter", "one") == 1
            assert count(server, "program_connections", "policy_server", "two") == 1
            assert count(server, "program_connections", "scanner", "three") == 0
            for kind, name in (("milter", "one"), ("policy_server", "two"), ("scanner", "three")):
                assert count(server, "program_connects", kind, name) == 1
            client.cut()
            await quiet(heard, "close")
            async with asyncio.timeout(10):
                while count(server, "program_connections", "milter", "one"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    run(main)


def test_failures_are_counted_by_class(tmp_path: Path) -> None:
    async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"what?\n\n")
        writer.close()

    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(SCRIPT)
        more = MORE.replace('listeners = ["smtp"]', 'listeners = ["smtp"]\ndefault_action = "accept"')
        more = more.replace('kind = "clamav"', 'kind = "clamav"\ntimeout = "200ms"')
        liar = await asyncio.start_unix_server(lying, str(tmp_path / "two"))
        async with (
            scanning(tmp_path / "three", b"stream: OK\0", delay=5.0),
            serving(tmp_path, more=more) as server,
        ):
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@example.test")).startswith("250")
            failures = "program_failures"
            assert count(server, failures, "milter", "one", "connect") == 1  # once in the session
            assert count(server, failures, "policy_server", "two", "protocol") == 1
            assert count(server, failures, "scanner", "three", "timeout") == 1
            assert count(server, "program_calls", "milter", "one", "failed") == 1
            assert count(server, "program_calls", "scanner", "three", "failed") == 1
        liar.close()

    run(main)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:/x: down", "down"),
        ("unix:/x: no answer in 10 s", "timeout"),
        ("inet:127.0.0.1:9: no connection in 5 s", "timeout"),
        ("the stage took too long", "timeout"),
        ("protocol error: a packet that is too long", "protocol"),
        ("the filter closed the connection", "closed"),
        ("inet:127.0.0.1:9: Connection refused", "connect"),
        ("unix:/x: No such file or directory", "connect"),
        ("something new", "other"),
    ],
)
def test_classes_of_failures(text: str, expected: str) -> None:
    assert failure_class(text) == expected
