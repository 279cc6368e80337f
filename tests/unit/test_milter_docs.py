"""The programs of docs/milter-library.md: they run as they stand there."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mailmilter.filter import Milter, serve
from mailmilter.policy import PolicyClient, PolicyRequest, PolicyService
from tests.peers.running import until

PAGE = Path(__file__).parents[2] / "docs" / "milter-library.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def invoices() -> str:
    """The whole milter of the page."""
    return next(str(one) for one in PROGRAMS if "class Invoices" in one)


def defined(word: str) -> dict[str, Any]:
    """What the program with that word defines."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(next(one for one in PROGRAMS if word in one), str(PAGE), "exec"), names)
    return names


def listens(path: Path) -> bool:
    """Whether somebody listens at a socket, whose file is there a moment before that."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(path))
        return True
    return False


def test_the_whole_milter_is_as_short_as_promised() -> None:
    tree = ast.parse(invoices())
    kind = next(one for one in tree.body if isinstance(one, ast.ClassDef))
    assert kind.end_lineno is not None
    assert kind.end_lineno - kind.lineno < 20


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"Subject: hello\r\n", b"Subject: hello\r\n\r\nx\r\n"),
        (
            b"From: a\r\nSubject: Your\r\n invoice\r\n",
            b"From: a\r\nX-Invoices: 1 recipients, 4bFq\r\nSubject: [check this] Your invoice\r\n\r\nx\r\n",
        ),
    ],
)
def test_the_milter_under_the_chain_of_the_page(head: bytes, expected: bytes) -> None:
    check = defined("async def check")["check"]
    with tempfile.TemporaryDirectory() as name:
        program = Path(name) / "invoices.py"
        program.write_text(invoices())
        path = Path(name) / "socket"
        paths = os.pathsep.join(one for one in sys.path if one)
        process = subprocess.Popen(
            [sys.executable, str(program), f"unix:{path}"], env={**os.environ, "PYTHONPATH": paths}
        )
        try:
            until(lambda: listens(path), "the milter listens")
            assert asyncio.run(check(f"unix:{path}", head, b"x\r\n")) == expected
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert not path.exists()


def test_the_listener_of_the_page() -> None:
    kind: type[Milter] = defined("class Counter")["Counter"]
    check = defined("async def check")["check"]
    objects: list[Any] = []

    def made() -> Milter:
        objects.append(kind())
        return objects[-1]  # type: ignore[no-any-return]

    async def main(path: str) -> None:
        server = await serve(made, f"unix:{path}")
        await check(f"unix:{path}", b"A: b\r\n", b"12345\r\n" * 20_000)
        await server.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(f"{name}/socket"))
    assert [one.octets for one in objects] == [140_000]


def test_the_policy_server_of_the_page() -> None:
    start = defined("def decide")["start"]

    async def main(path: str) -> list[str]:
        server = await start(f"unix:{path}")
        client = PolicyClient(PolicyService("p", server.endpoint))
        replies = [await client.ask(PolicyRequest("RCPT", sender=one)) for one in ("a@bad.example", "a@b")]
        client.close()
        await server.close()
        return [f"{one.decision.kind.value} {one.decision.text}" for one in replies]

    with tempfile.TemporaryDirectory() as name:
        assert asyncio.run(main(f"{name}/socket")) == ["reject not from there", "dunno "]
