"""A delivery in several transactions tells what is settled while it goes on, and when it is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
import uvloop

from mta.address import parse_address
from mta.content import MessageBuffer
from mta.delivery.fixed import FixedSettings, FixedTransport
from mta.delivery.outcome import Outcome, Transport
from mta.envelope import Envelope, Recipient
from mta.net.connect import Endpoint
from mta.net.outbound import Timeouts
from mta.smtp.opening import ClientSettings
from tests.dialog.world import SMALL, short, world
from tests.peers.scripted import CLOSE, SILENCE, Script, ScriptedServer

TWO_EACH = ("PIPELINING", "LIMITS RCPTMAX=2")
OK = "250 2.0.0 saved"
AWAY = Script(answers={"GREETING": "421 4.3.2 no"}, lmtp=False)
"""A server that serves nobody any more."""
TIMES = Timeouts(connect=5.0, greeting=60.0, command=60.0, block=60.0, final=60.0)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main

    uvloop.run(bounded())


class Heard:
    """What was told of one delivery: for each call, places and codes."""

    def __init__(self) -> None:
        self.calls: list[dict[int, int]] = []
        self.news = asyncio.Event()

    def __call__(self, known: Sequence[tuple[int, Outcome]]) -> None:
        self.calls.append({place: outcome.reply.code for place, outcome in known})
        self.news.set()


async def deliver(to: Transport, names: str, heard: Heard, domain: str = "x.test") -> list[Outcome]:
    """To a, b, c of "abc" at one domain, or to whole addresses."""
    addresses = names.split() if "@" in names else [f"{name}@{domain}" for name in names]
    recipients = [Recipient(parse_address(address)) for address in addresses]
    message = MessageBuffer()
    message.append(SMALL)
    deadline = asyncio.get_running_loop().time() + 50
    try:
        return await to.deliver(
            Envelope(parse_address("s@y.test")), recipients, message, deadline, told=heard
        )
    finally:
        message.close()


def fixed(*ports: int, lmtp: bool = True) -> FixedTransport:
    endpoints = tuple(Endpoint("127.0.0.1", port) for port in ports)
    client = ClientSettings(lmtp=lmtp, helo_name="mx.test")
    return FixedTransport(FixedSettings("test", endpoints, client, timeouts=TIMES))


TABLE = [
    pytest.param(Script(), "a", [], id="one recipient"),
    pytest.param(Script(), "abcde", [], id="one transaction"),
    pytest.param(Script(offers=TWO_EACH), "abcde", [{0: 250, 1: 250}, {2: 250, 3: 250}], id="three"),
    pytest.param(
        Script(offers=TWO_EACH, answers={"RCPT": ["550 5.1.1 no", "250 ok"]}),
        "abc",
        [{0: 550, 1: 250}],
        id="each its own",
    ),
    pytest.param(
        Script(answers={"RCPT": ["250 ok", "452 4.5.3 too many", "250 ok"]}, offers=()),
        "ab",
        [{0: 250}],
        id="too many for the server",
    ),
    pytest.param(
        Script(offers=TWO_EACH, lmtp=False, answers={"FINAL": ["451 4.3.0 not now", OK]}),
        "abc",
        [{0: 451, 1: 451}],
        id="temporary",
    ),
]


@pytest.mark.parametrize(("script", "names", "wanted"), TABLE)
def test_after_each_transaction_but_the_last(
    script: Script, names: str, wanted: list[dict[int, int]]
) -> None:
    async def main() -> None:
        async with ScriptedServer(script) as server:
            to, heard = fixed(server.port, lmtp=script.lmtp), Heard()
            outcomes = await deliver(to, names, heard)
            assert heard.calls == wanted
            for call in heard.calls:
                assert all(outcomes[place].reply.code == code for place, code in call.items())
            await to.close()

    run(main())


def test_what_a_server_took_before_it_failed() -> None:
    """The next one gets the others, and nobody else."""

    async def main() -> None:
        first = Script(offers=TWO_EACH, answers={"MAIL": ["250 ok", CLOSE]})
        async with ScriptedServer(first, AWAY) as server, ScriptedServer() as other:
            to, heard = fixed(server.port, other.port), Heard()
            outcomes = await deliver(to, "abcde", heard)
            assert short(outcomes) == ["250 2.0.0"] * 5
            assert heard.calls == [{0: 250, 1: 250}]
            assert [line for line in other.commands if line.startswith("RCPT")] == [
                f"RCPT TO:<{name}@x.test>" for name in "cde"
            ]
            await to.close()

    run(main())


def test_who_has_an_answer_of_a_slow_server_before_the_others() -> None:
    async def main() -> None:
        script = Script(answers={"FINAL": [OK, "550 5.7.1 no", OK, SILENCE]})
        async with ScriptedServer(script) as server:
            to, heard = fixed(server.port), Heard()
            task = asyncio.create_task(deliver(to, "abcde", heard))
            await heard.news.wait()
            assert heard.calls == [{0: 250, 2: 250}]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert heard.calls[1:] == [{1: 550}]
            await to.close()

    run(main())


CUT = [
    pytest.param(Script(answers={"FINAL": [OK, OK, SILENCE]}), "abcd", {0: 250, 1: 250}, id="LMTP"),
    pytest.param(
        Script(answers={"FINAL": [OK, "550 5.7.1 no", SILENCE]}),
        "abcd",
        {0: 250, 1: 550},
        id="LMTP, one refuses",
    ),
    pytest.param(Script(answers={"FINAL": SILENCE}, lmtp=False), "ab", {}, id="one reply for all"),
    pytest.param(
        Script(answers={"FINAL": SILENCE, "RCPT": ["550 5.1.1 no", "250 ok"]}, lmtp=False),
        "ab",
        {0: 550},
        id="refused at RCPT",
    ),
    pytest.param(
        Script(offers=TWO_EACH, answers={"FINAL": [OK, OK, OK, SILENCE]}),
        "abcde",
        {0: 250, 1: 250, 2: 250},
        id="in the second of three",
    ),
    pytest.param(
        Script(offers=TWO_EACH, answers={"MAIL": ["250 ok", SILENCE]}),
        "abcde",
        {0: 250, 1: 250},
        id="at its MAIL",
    ),
    pytest.param(
        Script(
            offers=("PIPELINING", "PRDR"),
            lmtp=False,
            answers={"FINAL": "353 each\r\n250 2.0.0 yes\r\n550 5.7.1 no\r\n"},
        ),
        "ab",
        {1: 550},
        id="PRDR: the last word is missing",
    ),
]


@pytest.mark.parametrize(("script", "names", "wanted"), CUT)
def test_what_is_answered_when_it_is_cut_off(script: Script, names: str, wanted: dict[int, int]) -> None:
    async def main() -> None:
        async with ScriptedServer(script) as server:
            to, heard = fixed(server.port, lmtp=script.lmtp), Heard()
            task = asyncio.create_task(deliver(to, names, heard))
            while not server.messages:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            told: dict[int, int] = {}
            for call in heard.calls:
                assert not told.keys() & call.keys()  # each is told of once
                told |= call
            assert told == wanted
            await to.close()

    run(main())


def test_the_domains_of_a_site() -> None:
    """They go one after the other, and places are those among all recipients."""

    async def main() -> None:
        async with world() as w:
            for domain in ("d.test", "e.test"):
                w.domain(domain, "10 mx.test")
            await w.server("mx.test", "127.0.2.1", Script(lmtp=False, offers=TWO_EACH))
            heard = Heard()
            await deliver(w.transport(), "a@d.test b@e.test c@d.test d@d.test", heard)
            assert heard.calls == [{0: 250, 2: 250}, {0: 250, 2: 250, 3: 250}]

    run(main())


def test_the_hosts_of_a_site() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            leaves = Script(lmtp=False, offers=TWO_EACH, answers={"MAIL": ["250 ok", "421 4.3.2 bye"]})
            await w.server("mx1.test", "127.0.2.1", leaves, AWAY)
            second = await w.server("mx2.test", "127.0.2.2")
            heard = Heard()
            outcomes = await deliver(w.transport(), "abc", heard, "d.test")
            assert short(outcomes) == ["250 2.0.0"] * 3
            assert heard.calls == [{0: 250, 1: 250}]
            assert len(second.messages) == 1

    run(main())


def test_a_fallback() -> None:
    """Who was answered by the first way is told of before the other way is gone."""

    async def main() -> None:
        async with world() as w:
            relay = await w.server("relay.test", "127.0.2.9", Script(lmtp=False, answers={"FINAL": SILENCE}))
            w.domain("d.test", "10 mx.test")
            leaves = Script(lmtp=False, offers=TWO_EACH, answers={"MAIL": ["250 ok", CLOSE]})
            await w.server("mx.test", "127.0.2.1", leaves, AWAY)
            heard = Heard()
            to = w.transport(timeouts=TIMES)
            route = f"mx;fallback=smtp:[127.0.2.9]:{w.port}"
            recipients = [Recipient(parse_address(f"{name}@d.test"), route=route) for name in "abc"]
            message = MessageBuffer()
            message.append(SMALL)
            deadline = asyncio.get_running_loop().time() + 50
            envelope = Envelope(parse_address("s@y.test"))
            task = asyncio.create_task(to.deliver(envelope, recipients, message, deadline, told=heard))
            while not relay.messages:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert heard.calls == [{0: 250, 1: 250}, {0: 250, 1: 250}]

    run(main())
