"""A transaction that ends with a refused MAIL or DATA: milters hear of its end, and nothing of it stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailmilter.filter import ACCEPT, REJECT, TEMPFAIL
from tests.dialog.milters import at, puppet, quiet
from tests.dialog.server import run, serving
from tests.dialog.test_milters import ALWAYS, session

BODY = "Subject: hi\r\n\r\nhello\r\n."
FIRST = ("EHLO c", "MAIL FROM:<a@x.test>", "RCPT TO:<b@example.test>", "DATA")
SECOND = ("MAIL FROM:<d@x.test>", "RCPT TO:<e@example.test>", "DATA", BODY)
HEARD = ["mail d@x.test", "rcpt e@example.test", "data", "header Subject", "eoh", "body 7", "eom", "close"]


def once(stage: str, answer: Any) -> Any:
    """Answers so at the first callback of a name."""
    left = [answer]
    return at(stage, lambda ctx: left.pop() if left else None)


@pytest.mark.parametrize("answer", [REJECT, TEMPFAIL])
@pytest.mark.parametrize(("stage", "last"), [("mail", 2), ("data", 4)])
def test_a_refused_message_is_over_for_the_milter_that_refused_it(
    tmp_path: Path, stage: str, last: int, answer: Any
) -> None:
    async def main() -> None:
        replies, heard, server = await session(
            tmp_path, once(stage, answer), *FIRST[:last], *SECOND, recipients="all"
        )
        assert [one[:3] for one in replies[-4:]] == ["250", "250", "354", "250"], replies
        assert heard[-9:] == ["abort", *HEARD]
        assert [one.recipient for one in server.store.delivered] == ["e@example.test"]

    run(main)


@pytest.mark.parametrize(("stage", "last"), [("mail", 2), ("data", 4)])
def test_a_refused_message_is_over_for_the_others_too(tmp_path: Path, stage: str, last: int) -> None:
    """Who accepted or discarded the first message is asked about the second one."""
    more = ALWAYS + ALWAYS.replace("one", "two")

    async def main() -> None:
        first = once("mail", ACCEPT)
        async with (
            puppet(tmp_path, "one", first) as heard,
            puppet(tmp_path, "two", once(stage, REJECT)),
            serving(tmp_path, more=more, recipients="all") as server,
        ):
            client = await server.connect()
            await client.read_reply()
            replies = [await client.say(line) for line in (*FIRST[:last], *SECOND)]
            assert [one[:3] for one in replies[-4:]] == ["250", "250", "354", "250"], replies
            client.cut()
            await quiet(heard, "close")
            assert heard[-9:] == ["abort", *HEARD]
            assert [one.recipient for one in server.store.delivered] == ["e@example.test"]

    run(main)


def test_a_refused_ehlo_ends_the_message(tmp_path: Path) -> None:
    """Milters have been told that it is over, so no recipient may follow."""

    async def main() -> None:
        helo = iter((None, REJECT, None))
        replies, heard, _ = await session(
            tmp_path,
            at("helo", lambda ctx: next(helo)),
            *FIRST[:3],
            "EHLO c",
            "RCPT TO:<f@example.test>",
            recipients="all",
        )
        assert [one[:3] for one in replies[-2:]] == ["550", "503"]
        assert "rcpt f@example.test" not in heard

    run(main)
