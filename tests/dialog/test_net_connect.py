"""A next hop whose name has several addresses: whichever of them serves us gets the mail."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mta.delivery.fixed import FixedSettings, FixedTransport
from mta.net.connect import ConnectFailure, Endpoint, connect
from mta.net.outbound import Timeouts
from mta.smtp.auth import Credentials
from mta.smtp.authclient import client_mechanism
from mta.smtp.opening import ClientSettings
from tests.dialog.test_delivery_fixed import SHORT, SMALL, deliver, short
from tests.peers.scripted import CLOSE, SILENCE, Script, ScriptedServer

NAME = "two.test"
FIRST, SECOND = "127.0.0.1", "127.0.0.2"


@pytest.fixture(autouse=True)
def _two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NAME` has both addresses, always in this order."""
    ask = socket.getaddrinfo

    def answer(host: Any, port: Any, *rest: Any, **more: Any) -> list[Any]:
        hosts = (FIRST, SECOND) if host == NAME else (host,)
        return [found for one in hosts for found in ask(one, port, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def transport(port: int, client: ClientSettings | None = None, timeouts: Timeouts = SHORT) -> FixedTransport:
    client = client or ClientSettings(lmtp=True, helo_name="mx.test")
    return FixedTransport(FixedSettings("test", (Endpoint(NAME, port),), client, timeouts=timeouts))


@pytest.mark.parametrize(
    "answers",
    [
        {"GREETING": "421 4.3.2 busy"},
        {"GREETING": "554 5.3.2 not here"},
        {"GREETING": CLOSE},
        {"GREETING": SILENCE},
        {"LHLO": "421 4.3.2 busy"},
        {"LHLO": CLOSE},
    ],
)
def test_an_address_that_does_not_serve_us_is_followed_by_the_next(answers: dict[str, str]) -> None:
    async def main() -> None:
        async with (
            ScriptedServer(Script(answers), host=FIRST) as bad,
            ScriptedServer(host=SECOND, port=bad.port) as good,
        ):
            to = transport(bad.port)
            assert short(await deliver(to)) == ["250 2.0.0"]
            await to.close()
            assert bad.messages == []
            assert bad.connections == 1
            assert good.messages == [SMALL]

    asyncio.run(main())


def test_an_address_that_did_not_serve_us_is_tried_last() -> None:
    async def main() -> None:
        async with (
            ScriptedServer(Script({"GREETING": SILENCE}), host=FIRST) as bad,
            ScriptedServer(
                Script({"MAIL": ["250 ok", "421 bye"]}), Script(), host=SECOND, port=bad.port
            ) as good,
        ):
            to = transport(bad.port)
            for _ in range(3):
                assert short(await deliver(to)) == ["250 2.0.0"]
            assert (bad.connections, good.connections) == (1, 2)
            await to.close()

    asyncio.run(main())


def test_what_the_first_one_said_is_told() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"GREETING": "421 4.3.2 busy"}), host=FIRST) as bad:
            to = transport(bad.port)
            outcomes = await deliver(to)
            assert short(outcomes) == ["451 4.3.2"]
            assert outcomes[0].reply.text.endswith("busy")
            await to.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reply", "outcome", "tried"),
    [("535 5.7.8 no", "451 4.7.0", (1, 0)), ("454 4.7.0 not now", "451 4.3.2", (1, 1))],
)
def test_a_password_that_one_address_refuses_is_not_tried_at_the_others(
    reply: str, outcome: str, tried: tuple[int, int]
) -> None:
    def choose(offered: Any, bindings: Any, encrypted: bool) -> Any:
        return client_mechanism(offered, Credentials("u", password="p"), bindings, encrypted=True)

    async def main() -> None:
        refusing = Script({"AUTH": reply}, offers=("AUTH PLAIN",), lmtp=False)
        async with (
            ScriptedServer(refusing, host=FIRST) as first,
            ScriptedServer(refusing, host=SECOND, port=first.port) as second,
        ):
            to = transport(first.port, ClientSettings(authenticate=choose))
            assert short(await deliver(to)) == [outcome]
            assert (first.connections, second.connections) == tried
            await to.close()

    asyncio.run(main())


@pytest.mark.parametrize("code", ["4.7.0", "4.7.4"])
def test_a_server_that_leaves_has_refused_neither_login_nor_starttls(code: str) -> None:
    """421 may have any code of its class, those too by which we tell of a login or of STARTTLS."""

    async def main() -> None:
        leaving = Script({"LHLO": f"250 srv.test\r\n421 {code} too many\r\n"})
        async with (
            ScriptedServer(leaving, host=FIRST) as first,
            ScriptedServer(host=SECOND, port=first.port) as second,
        ):
            to = transport(first.port)
            assert short(await deliver(to)) == ["250 2.0.0"]
            assert second.messages == [SMALL]
            endpoint, client = Endpoint(FIRST, first.port), ClientSettings(lmtp=True, helo_name="mx.test")
            with pytest.raises(ConnectFailure) as failure:
                await connect(endpoint, client, None, SHORT, asyncio.get_running_loop().time() + 5)
            assert failure.value.tls_failure is None
            await to.close()

    asyncio.run(main())


@pytest.fixture
def full() -> Iterator[int]:
    """The port of an address that takes no connection and refuses none: its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((FIRST, 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        time.sleep(0.05)
        yield listening.getsockname()[1]


def test_an_address_that_does_not_answer_costs_no_timeout(full: int) -> None:
    async def main() -> None:
        async with ScriptedServer(host=SECOND, port=full) as good:
            to = transport(full, timeouts=Timeouts(connect=30.0))
            start = time.monotonic()
            assert short(await deliver(to, seconds=20.0)) == ["250 2.0.0"]
            assert time.monotonic() - start < 10
            assert good.messages == [SMALL]
            await to.close()

    asyncio.run(main())
