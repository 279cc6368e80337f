"""A queued message goes out in many transactions, the last of which hangs, or in one whose last answers do
not come, and the server ends: after it is back everybody has one copy."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mailqueue.inspect import Inspection
from mailqueue.store.file import FileStore
from tests.dialog.backend import ScriptedStore
from tests.peers.load import Session, message, run, sink_backend, sinking
from tests.peers.queuesite import NEVER, QUICK, flush, queue_site, waiting
from tests.peers.running import until
from tests.peers.site import Site

pytestmark = pytest.mark.scenario

PEOPLE = [f"u{number}@example.test" for number in range(250)]
EACH = 50
HANG = 3600.0


def hang_at_the_last(sink: ScriptedStore) -> None:
    """Several transactions; in the last one no answer comes."""

    def rcpt(address: str) -> str:
        sink.final_delay = HANG if address == PEOPLE[-1] else 0.0
        return "250 2.1.5 ok"

    sink.rcpt_reply = rcpt
    sink.keywords = (*sink.keywords, f"LIMITS RCPTMAX={EACH}")


def hang_within_the_last(sink: ScriptedStore) -> None:
    """One transaction, in which the last answers do not come."""
    sink.reply_delay = lambda address: HANG if address == PEOPLE[-EACH] else 0.0


def heal(sink: ScriptedStore) -> None:
    sink.final_delay = 0.0
    sink.rcpt_reply = lambda address: "250 2.1.5 ok"
    sink.reply_delay = lambda address: 0.0


def copies(sink: ScriptedStore) -> Counter[str]:
    return Counter(one.recipient for one in sink.delivered)


async def send(port: int) -> None:
    """One message for all; the mail store is away, so that it is queued."""
    session = Session(port)
    await session.open()
    assert (await session.say("MAIL FROM:<load@example.org>", "commands")).startswith("250")
    for person in PEOPLE:
        assert (await session.say(f"RCPT TO:<{person}>", "commands")).startswith("250")
    assert (await session.say("DATA", "commands")).startswith("354")
    assert "queued" in await session.say(message("list").decode() + ".", "answer")
    await session.quit()


def delivered_on_disk(server: Site) -> int:
    """The recipients who have it, for whoever comes after a process that ends now."""

    async def look() -> int:
        store = FileStore(str(server.directory / "state" / "queue"))
        try:
            inspection = await Inspection.open(store)
            rows = [row.id for _, row in inspection.messages()]
            loaded = [await inspection.load(name) for name in rows]
        finally:
            await store.close()
        return sum(not person.status.is_live for one in loaded for person in one.recipients)

    return asyncio.run(look())


async def hung(server: Site, sink: ScriptedStore) -> None:
    """All but the last ones have answers, which are written down, and the next hop hangs."""

    def reached() -> bool:
        flush(server)
        return len(sink.delivered) == len(PEOPLE) - EACH

    await asyncio.to_thread(until, reached, "the last answers")
    known = len(PEOPLE) - EACH
    await asyncio.to_thread(until, lambda: delivered_on_disk(server) == known, "what is written down")


async def ends(server: Site, sink: ScriptedStore) -> None:
    """Nobody of the first transactions gets a second copy, and everybody one."""
    heal(sink)

    def over() -> bool:
        flush(server)
        return waiting(server) == 0 and len(sink.delivered) >= len(PEOPLE)

    await asyncio.to_thread(until, over, lambda: f"the end; log: {server.log()[-3000:]}")
    assert copies(sink) == dict.fromkeys(PEOPLE, 1)


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("hang", [hang_at_the_last, hang_within_the_last])
def test_everybody_gets_one_copy(tmp_path: Path, how: str, hang: Callable[[ScriptedStore], None]) -> None:
    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            queue, backend = QUICK + NEVER, sink_backend(sink) + 'data_timeout = "10m"\n'
            with queue_site(tmp_path, queue=queue, backend=backend, recipients="all", workers=1) as server:
                await sink.stop()
                await send(server.smtp)
                hang(sink)
                await sink.start(port)
                await hung(server, sink)
                if how == "stop":
                    await asyncio.to_thread(server.stop)
                    await asyncio.to_thread(server.start)
                else:
                    (pid,) = server.wait_ready(1).values()
                    os.kill(pid, signal.SIGKILL)
                await ends(server, sink)
                await asyncio.to_thread(server.stop)

    run(main)
