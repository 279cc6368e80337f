"""Delivery to a scripted server over real sockets: fail-over, the line of `sent`, limits, TLS, checks."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme
import uvloop

from mta.address import NULL, parse_address
from mta.content import MessageBuffer, Rendered
from mta.delivery.fixed import FixedSettings, FixedTransport
from mta.delivery.health import SUSPECT
from mta.delivery.job import INLINE_LIMIT
from mta.delivery.outcome import Outcome
from mta.envelope import Envelope, Recipient
from mta.net.connect import ClientTls, Endpoint
from mta.net.outbound import Timeouts
from mta.smtp.auth import Credentials
from mta.smtp.authclient import client_mechanism
from mta.smtp.opening import ClientSettings
from tests.peers.ports import free_port
from tests.peers.scripted import CLOSE, RESET, SILENCE, Script, ScriptedServer

T = TypeVar("T")
SHORT = Timeouts(connect=2.0, greeting=1.0, command=1.0, block=1.0, final=1.0)
SMALL = b"Subject: x\r\n\r\n.body\r\n"
CHUNK = ("PIPELINING", "CHUNKING")


def run(main: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(main)


def content(octets: bytes = SMALL) -> MessageBuffer:
    buffer = MessageBuffer()
    buffer.append(octets)
    return buffer


def big(size: int) -> bytes:
    line = b".0123456789abcdef" * 4 + b"\r\n"
    return b"Subject: big\r\n\r\n" + line * (size // len(line))


def transport(*ports: int, lmtp: bool = True, timeouts: Timeouts = SHORT, **rest: Any) -> FixedTransport:
    endpoints = tuple(Endpoint("127.0.0.1", port) for port in ports)
    client = rest.pop("client", ClientSettings(lmtp=lmtp, helo_name="mx.test"))
    return FixedTransport(FixedSettings("test", endpoints, client, timeouts=timeouts, **rest))


async def deliver(
    to: FixedTransport,
    names: Sequence[str] = ("a@x.test",),
    octets: bytes = SMALL,
    seconds: float = 5.0,
    client: Mapping[str, str] | None = None,
) -> list[Outcome]:
    recipients = [Recipient(parse_address(name)) for name in names]
    message = content(octets)
    try:
        deadline = asyncio.get_running_loop().time() + seconds
        return await to.deliver(Envelope(parse_address("s@y.test")), recipients, message, deadline, client)
    finally:
        message.close()


def short(outcomes: list[Outcome]) -> list[str]:
    return [f"{o.reply.code} {o.reply.enhanced}{' sent' if o.sent else ''}" for o in outcomes]


async def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        await asyncio.sleep(0.005)


# The usual.


@pytest.mark.parametrize("offers", [("PIPELINING",), (), CHUNK, ("CHUNKING",)])
@pytest.mark.parametrize("octets", [SMALL, big(300_000), b"", b"no line end"])
def test_delivers_and_reuses(offers: tuple[str, ...], octets: bytes) -> None:
    async def main() -> None:
        async with ScriptedServer(Script(offers=offers, split=True)) as server:
            to = transport(server.port)
            for _ in range(3):
                outcomes = await deliver(to, ["a@x.test", "b@x.test"], octets)
                assert short(outcomes) == ["250 2.0.0"] * 2
                assert outcomes[0].peer == f"127.0.0.1:{server.port}"
            await to.close()
            assert server.connections == 1
            assert "RSET" not in server.commands
            assert server.commands[-1] == "QUIT"
            bdat = "CHUNKING" in offers
            wanted = octets if bdat or not octets or octets.endswith(b"\n") else octets + b"\r\n"
            assert server.messages == [wanted] * 3

    run(main())


@pytest.mark.parametrize("tail", [b"", b"\r\nbody\r\n"])
def test_header_fields_in_utf8_stop_at_a_relay_without_smtputf8(tail: bytes) -> None:
    async def main() -> None:
        async with ScriptedServer(Script(lmtp=False)) as server:
            to = transport(server.port, lmtp=False)
            message = content("Subject: gr\u00fc\u00dfe\r\n".encode() + tail)
            envelope = Envelope(parse_address("s@y.test"), smtputf8=True)
            deadline = asyncio.get_running_loop().time() + 5
            outcomes = await to.deliver(envelope, [Recipient(parse_address("a@x.test"))], message, deadline)
            assert short(outcomes) == ["554 5.6.9"]
            await to.close()

    run(main())


def test_unix_socket(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "lmtp")
        async with ScriptedServer(path=path) as server:
            settings = FixedSettings("test", (Endpoint(path=path),), ClientSettings(lmtp=True))
            to = FixedTransport(settings)
            outcomes = await deliver(to)
            assert short(outcomes) == ["250 2.0.0"]
            assert outcomes[0].peer == path
            await to.close()
            assert server.messages == [SMALL]

    run(main())


def test_host_name() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            endpoint = Endpoint("localhost", server.port)
            to = FixedTransport(FixedSettings("test", (endpoint,), ClientSettings(lmtp=True)))
            assert short(await deliver(to)) == ["250 2.0.0"]
            await to.close()

    run(main())


def test_replies_pass_unchanged_in_the_order_of_recipients() -> None:
    async def main() -> None:
        answers = {
            "RCPT": ["250 ok", "550 5.1.1 unknown", "250 ok", "452 4.2.2 full"],
            "FINAL": ["552-5.2.2 over\r\n552 5.2.2 quota\r\n", "250 thanks"],
        }
        async with ScriptedServer(Script(answers)) as server:
            to = transport(server.port)
            outcomes = await deliver(to, [f"{n}@x.test" for n in "abcd"])
            assert [str(o.reply) for o in outcomes] == [
                "552 5.2.2 over / quota",
                "550 5.1.1 unknown",
                "250 2.0.0 thanks",
                "452 4.2.2 full",
            ]
            assert not any(o.sent for o in outcomes)
            await to.close()

    run(main())


# Trouble before the line: the next server gets it.

BEFORE = ["GREETING", "LHLO", "MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize("place", BEFORE)
@pytest.mark.parametrize(
    "trouble", ["421 4.3.2 bye", CLOSE, RESET, SILENCE, "nonsense", "250-" + "x" * 70_000]
)
def test_fails_over_before_the_line(place: str, trouble: str) -> None:
    async def main() -> None:
        async with ScriptedServer(Script({place: trouble})) as bad, ScriptedServer() as good:
            to = transport(bad.port, good.port)
            assert short(await deliver(to)) == ["250 2.0.0"]
            assert good.messages == [SMALL]
            assert bad.messages == []
            assert short(await deliver(to)) == ["250 2.0.0"]
            assert bad.connections == 1, "a server that failed is passed over"
            await to.close()

    run(main())


@pytest.mark.parametrize("place", BEFORE)
@pytest.mark.parametrize(
    ("trouble", "enhanced"),
    [("421 4.3.2 bye", "4.3.2"), (CLOSE, "4.4.2"), (SILENCE, "4.4.2"), ("nonsense", "4.5.0")],
)
def test_alone_it_is_temporary_and_says_nothing_of_us(place: str, trouble: str, enhanced: str) -> None:
    async def main() -> None:
        async with ScriptedServer(Script({place: trouble})) as bad:
            to = transport(bad.port)
            outcomes = await deliver(to)
            assert short(outcomes) == [f"451 {enhanced}"]
            assert "127.0.0.1" not in outcomes[0].reply.text
            assert outcomes[0].reply.cause
            await to.close()

    run(main())


def test_who_had_an_answer_keeps_it() -> None:
    async def main() -> None:
        bad = Script({"RCPT": ["550 5.1.1 no", "250 ok"], "DATA": CLOSE})
        async with ScriptedServer(bad) as first, ScriptedServer() as second:
            to = transport(first.port, second.port)
            assert short(await deliver(to, ["a@x.test", "b@x.test"])) == ["550 5.1.1", "250 2.0.0"]
            assert [c for c in second.commands if c.startswith("RCPT")] == ["RCPT TO:<b@x.test>"]
            await to.close()

    run(main())


def test_refused_connection_fails_over() -> None:
    async def main() -> None:
        async with ScriptedServer() as good:
            to = transport(free_port(), good.port)
            assert short(await deliver(to)) == ["250 2.0.0"]
            await to.close()
        to = transport(free_port())
        for _ in range(5):
            outcomes = await deliver(to)
            assert short(outcomes) == ["451 4.4.1"]
            assert outcomes[0].peer == ""
        await to.close()

    run(main())


def test_a_server_that_came_back_gets_mail_again() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"GREETING": "421 busy"}), Script()) as server:
            to = transport(server.port, failure_delay=0.05)
            assert short(await deliver(to)) == ["451 4.3.2"]
            assert short(await deliver(to)) == ["250 2.0.0"]
            await to.close()

    run(main())


def test_no_such_host() -> None:
    async def main() -> None:
        settings = FixedSettings("test", (Endpoint("no-such-host.invalid", 25),), ClientSettings())
        to = FixedTransport(settings)
        assert short(await deliver(to, seconds=2)) == ["451 4.4.3"]
        await to.close()

    run(main())


# Beyond the line: never again, never elsewhere.


@pytest.mark.parametrize("offers", [("PIPELINING",), CHUNK])
@pytest.mark.parametrize("trouble", [CLOSE, SILENCE, "nonsense"])
@pytest.mark.parametrize("octets", [SMALL, big(200_000)])
def test_lost_reply_is_sent(offers: tuple[str, ...], trouble: str, octets: bytes) -> None:
    async def main() -> None:
        script = Script({"FINAL": ["250 2.0.0 saved", trouble]}, offers=offers)
        async with ScriptedServer(script) as bad, ScriptedServer() as other:
            to = transport(bad.port, other.port)
            outcomes = await deliver(to, ["a@x.test", "b@x.test"], octets)
            assert outcomes[0].reply.code == 250
            assert not outcomes[0].sent
            assert outcomes[1].reply.code == 451
            assert outcomes[1].sent
            assert other.connections == 0
            assert len(bad.messages) == 1
            await to.close()

    run(main())


def test_who_does_not_answer_the_content_is_given_up_before_the_deadline() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"FINAL": SILENCE})) as server:
            to = transport(server.port, timeouts=Timeouts(final=0.2))
            begin = time.monotonic()
            (outcome,) = await deliver(to, seconds=30)
            assert time.monotonic() - begin < 10
            assert short([outcome]) == ["451 4.4.2 sent"]
            assert outcome.late is None, "nobody listens any more"
            assert sum(pool.size for pool in to.pools.values()) == 0
            await to.close()

    run(main())


def test_one_delivery_at_a_time_finds_out_whether_a_server_is_back() -> None:
    """The others would all wait for the same timeout."""

    async def main() -> None:
        async with ScriptedServer(Script({"GREETING": SILENCE})) as server:
            to = transport(server.port, timeouts=Timeouts(greeting=0.2))
            for _ in range(SUSPECT):
                assert short(await deliver(to)) == ["451 4.4.2"]
            outcomes = await asyncio.gather(*(deliver(to) for _ in range(5)))
            assert [short(one) for one in outcomes] == [["451 4.4.2"]] * 5
            assert server.connections == SUSPECT + 1
            await to.close()

    run(main())


def test_a_server_that_answers_is_trusted_again() -> None:
    async def main() -> None:
        bad = Script({"GREETING": "421 busy"})
        async with ScriptedServer(*[bad] * SUSPECT, Script()) as server:
            to = transport(server.port)
            for _ in range(SUSPECT):
                assert short(await deliver(to)) == ["451 4.3.2"]
            assert short(await deliver(to)) == ["250 2.0.0"]
            outcomes = await asyncio.gather(*(deliver(to) for _ in range(5)))
            assert [short(one) for one in outcomes] == [["250 2.0.0"]] * 5
            await to.close()

    run(main())


def test_421_after_the_line_is_an_answer() -> None:
    async def main() -> None:
        script = Script({"FINAL": "421 4.3.2 shutting down"})
        async with ScriptedServer(script) as bad, ScriptedServer() as other:
            to = transport(bad.port, other.port)
            outcomes = await deliver(to)
            assert short(outcomes) == ["451 4.3.2"]
            assert other.connections == 0
            await to.close()

    run(main())


def test_deadline_ends_all() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"FINAL": SILENCE})) as bad, ScriptedServer() as other:
            to = transport(bad.port, other.port, timeouts=Timeouts())
            start = time.monotonic()
            outcomes = await deliver(to, seconds=0.3)
            assert 0.25 < time.monotonic() - start < 5
            assert short(outcomes) == ["451 4.4.2 sent"]
            assert "deadline" in outcomes[0].reply.cause
            await to.close()

    run(main())


# Stale connections.


@pytest.mark.parametrize(
    ("offers", "trouble"),
    [
        *((offers, trouble) for offers in (("PIPELINING",), ()) for trouble in (CLOSE, RESET)),
        # The server's good-bye crosses our command: it restarts, or the connection was idle too long.
        *((offers, "421 4.3.2 bye") for offers in (("PIPELINING",), (), CHUNK)),
    ],
)
def test_stale_connection_is_repeated_once_on_a_fresh_one(offers: tuple[str, ...], trouble: str) -> None:
    async def main() -> None:
        first = Script({"MAIL": ["250 ok", trouble]}, offers=offers)
        async with ScriptedServer(first, Script(offers=offers)) as server:
            to = transport(server.port)
            assert short(await deliver(to)) == ["250 2.0.0"]
            assert short(await deliver(to)) == ["250 2.0.0"]
            assert server.connections == 2
            assert server.messages == [SMALL] * 2
            await to.close()

    run(main())


@pytest.mark.parametrize(
    ("idle", "expected"),
    [
        pytest.param(0.0, "250 2.0.0", id="idle for long: nothing is sent before the server has said a word"),
        pytest.param(60.0, "451 4.4.2 sent", id="used just now: sent at once, so it may have been delivered"),
    ],
)
def test_a_message_is_sent_ahead_only_where_the_server_was_just_heard(
    monkeypatch: pytest.MonkeyPatch, idle: float, expected: str
) -> None:
    monkeypatch.setattr("mta.delivery.transact.EAGER_IDLE", idle)

    async def main() -> None:
        first = Script({"MAIL": ["250 ok", CLOSE]}, offers=CHUNK)
        async with ScriptedServer(first, Script(offers=CHUNK)) as server:
            to = transport(server.port)
            assert short(await deliver(to)) == ["250 2.0.0"]
            assert short(await deliver(to)) == [expected]
            await to.close()

    run(main())


def test_stale_twice_is_a_failure() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"MAIL": ["250 ok", CLOSE]}), Script({"MAIL": CLOSE})) as server:
            to = transport(server.port)
            assert short(await deliver(to)) == ["250 2.0.0"]
            assert short(await deliver(to)) == ["451 4.4.2"]
            assert server.connections == 2
            await to.close()

    run(main())


def test_a_connection_that_answered_is_not_stale() -> None:
    async def main() -> None:
        async with ScriptedServer(Script({"RCPT": ["250 ok", CLOSE]})) as server:
            to = transport(server.port)
            await deliver(to)
            assert short(await deliver(to)) == ["451 4.4.2"]
            assert server.connections == 1
            await to.close()

    run(main())


# Large content.


@pytest.mark.parametrize("offers", [("PIPELINING",), CHUNK])
def test_large_message_to_a_slow_reader_is_not_buffered(offers: tuple[str, ...]) -> None:
    octets = big(12_000_000)

    async def main() -> None:
        async with ScriptedServer(Script(offers=offers, read_limit=100_000)) as server:
            to = transport(server.port, timeouts=Timeouts())
            most = 0
            delivery = asyncio.ensure_future(deliver(to, octets=octets, seconds=30))
            while not delivery.done():
                await asyncio.sleep(0.002)
                for pool in to.pools.values():
                    for connection in pool.connections:
                        most = max(most, connection.transport.get_write_buffer_size())
            assert short(await delivery) == ["250 2.0.0"]
            assert server.messages == [octets]
            assert 0 < most <= 256 * 1024
            await to.close()

    run(main())


@pytest.mark.parametrize("offers", [("PIPELINING",), CHUNK])
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("552 5.3.4 too big", "552 5.3.4"),
        ("421 4.3.1 disk", "451 4.3.1"),
        ("250 2.0.0 fine", "451 4.5.0"),
        (CLOSE, "451 4.4.2"),
    ],
)
@pytest.mark.parametrize("close", [True, False])
def test_early_reply_stops_the_content(
    offers: tuple[str, ...], answer: str, outcome: str, close: bool
) -> None:
    async def main() -> None:
        script = Script({"FINAL": answer}, offers=offers, early=100_000, early_close=close, read_limit=50_000)
        async with ScriptedServer(script) as server:
            to = transport(server.port, timeouts=Timeouts())
            start = time.monotonic()
            outcomes = await deliver(to, octets=big(20_000_000), seconds=20)
            assert time.monotonic() - start < 5
            assert short(outcomes) == [outcome]
            assert server.octets < 5_000_000
            await to.close()

    run(main())


def test_the_loop_keeps_turning_while_a_large_message_goes_out() -> None:
    octets = big(20_000_000)

    async def main() -> None:
        async with ScriptedServer(Script(offers=CHUNK)) as server:
            to = transport(server.port, timeouts=Timeouts())
            delivery = asyncio.ensure_future(deliver(to, octets=octets, seconds=30))
            turns = 0
            while not delivery.done():
                turns += 1
                await asyncio.sleep(0)
            assert short(await delivery) == ["250 2.0.0"]
            assert turns > len(octets) // (512 * 1024)
            await to.close()

    run(main())


def test_bare_line_end_in_streamed_content_is_refused() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            to = transport(server.port)
            outcomes = await deliver(to, octets=big(2 * INLINE_LIMIT) + b"\n.\r\nMAIL FROM:<>\r\n")
            assert short(outcomes) == ["554 5.6.0"]
            assert server.messages == []
            assert short(await deliver(to)) == ["250 2.0.0"]
            await to.close()

    run(main())


# Limits.


@pytest.mark.parametrize("lmtp", [True, False])
@pytest.mark.parametrize("verb", ["FINAL", "DATA"])
def test_too_many_is_the_answer_for_who_was_accepted(verb: str, lmtp: bool) -> None:
    """RCPT had taken them: to send the message again at once would not end."""

    async def main() -> None:
        script = Script({verb: "452 4.5.3 too many recipients for this message"}, lmtp=lmtp)
        async with ScriptedServer(script) as server:
            to = transport(server.port, lmtp=lmtp)
            assert short(await deliver(to, ["a@x.test", "b@x.test"])) == ["452 4.5.3"] * 2
            assert server.commands.count("DATA") == 1
            await to.close()

    run(main())


class Leaving(Rendered):
    """A message whose client goes away when all of it is on its way."""

    gone: bool = False

    def is_wanted(self) -> bool:
        return not self.gone

    def chunks(self) -> Iterator[bytes]:
        yield from super().chunks()
        self.gone = True


def test_a_message_that_nobody_waits_for_is_not_ended() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            to = transport(server.port)
            recipients = [Recipient(parse_address("a@x.test"))]
            message = Leaving(b"", content(big(300_000)))
            deadline = asyncio.get_running_loop().time() + 5
            found = await to.deliver(Envelope(parse_address("s@y.test")), recipients, message, deadline)
            assert short(found) == ["451 4.3.0"]
            await to.close()
        assert server.messages == []

    run(main())


@pytest.mark.parametrize(
    ("answer", "connections"),
    [("450 4.3.2 Service currently unavailable", 2), ("450 4.2.0 Greylisted", 1)],
)
def test_a_host_that_takes_no_mail_in_this_session_is_asked_in_another(answer: str, connections: int) -> None:
    """Postfix' postscreen lets a client in once the session ends in which it looked at it."""

    async def main() -> None:
        async with ScriptedServer(Script({"RCPT": answer})) as server:
            to = transport(server.port)
            for name in "ab":
                assert short(await deliver(to, [f"{name}@x.test"])) == [answer[:9]]
            assert server.connections == connections
            await to.close()

    run(main())


def test_rcptmax_and_452_split_the_recipients() -> None:
    names = [f"r{n}@x.test" for n in range(5)]

    async def main() -> None:
        async with ScriptedServer(Script(offers=("PIPELINING", "LIMITS RCPTMAX=2"))) as server:
            to = transport(server.port)
            assert short(await deliver(to, names)) == ["250 2.0.0"] * 5
            assert (server.connections, len(server.messages)) == (1, 3)
            await to.close()
        answers = {
            "RCPT": ["250 ok", "250 ok", "452 4.5.3 too many", "452 4.5.3 too many", "452 4.5.3 x", "250 ok"]
        }
        async with ScriptedServer(Script(answers)) as server:
            to = transport(server.port)
            assert short(await deliver(to, names)) == ["250 2.0.0"] * 5
            assert len(server.messages) == 2
            await to.close()
        async with ScriptedServer(Script({"RCPT": "452 4.5.3 never"})) as server:
            to = transport(server.port)
            assert short(await deliver(to, names)) == ["452 4.5.3"] * 5
            await to.close()
        async with ScriptedServer() as server:
            to = transport(server.port, recipient_limit=1)
            assert short(await deliver(to, names)) == ["250 2.0.0"] * 5
            assert len(server.messages) == 5
            await to.close()

    run(main())


def test_mailmax_and_rcptdomainmax_open_new_connections() -> None:
    async def main() -> None:
        async with ScriptedServer(Script(offers=("PIPELINING", "LIMITS MAILMAX=2"))) as server:
            to = transport(server.port)
            for _ in range(5):
                assert short(await deliver(to)) == ["250 2.0.0"]
            assert server.connections == 3
            await to.close()
        async with ScriptedServer(Script(offers=("PIPELINING", "LIMITS RCPTDOMAINMAX=1"))) as server:
            to = transport(server.port)
            assert short(await deliver(to, ["a@x.test", "b@y.test", "c@x.test"])) == ["250 2.0.0"] * 3
            assert (server.connections, len(server.messages)) == (2, 2)
            await to.close()

    run(main())


# Recipient checks.


def test_verify() -> None:
    async def main() -> None:
        script = Script({"RCPT": ["250 2.1.5 ok", "550 5.1.1 no"]})
        async with ScriptedServer(script) as server:
            to = transport(server.port)
            assert str(await to.verify(NULL, parse_address("a@x.test"))) == "250 2.1.5 ok"
            assert str(await to.verify(NULL, parse_address("b@x.test"))) == "550 5.1.1 no"
            assert server.connections == 1
            assert server.messages == []
            await to.close()
        async with ScriptedServer(Script({"MAIL": ["250 ok", CLOSE]}), Script()) as server:
            to = transport(server.port)
            for _ in range(2):
                assert (await to.verify(NULL, parse_address("a@x.test"))).code == 250
            assert server.connections == 2
            await to.close()
        async with ScriptedServer(Script({"MAIL": "501 5.1.7 I do not like <>"})) as server:
            to = transport(server.port)
            answer = await to.verify(NULL, parse_address("a@x.test"))
            assert (answer.code, "I do not like" in answer.cause) == (451, True)  # says nothing of a@x.test
            await to.close()
        to = transport(free_port())
        assert (await to.verify(NULL, parse_address("a@x.test"))).code == 451
        await to.close()
        async with ScriptedServer(Script({"RCPT": SILENCE})) as bad, ScriptedServer() as good:
            to = transport(bad.port, good.port)
            assert (await to.verify(NULL, parse_address("a@x.test"))).code == 250
            await to.close()

    run(main())


def test_a_session_that_stands_for_one_client_serves_no_other() -> None:
    """Postfix takes XCLIENT once in a session; whom it has been told of is not who asks about a recipient."""

    async def main() -> None:
        hello = ["250-srv.test\r\n250 XCLIENT ADDR", "250 srv.test"]
        async with ScriptedServer(Script({"LHLO": hello, "XCLIENT": "220 again"})) as server:
            to = transport(server.port, client=ClientSettings(lmtp=True, helo_name="mx.test", xclient=True))
            for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
                assert short(await deliver(to, client={"ADDR": address})) == ["250 2.0.0"]
            told = [command for command in server.commands if command.startswith("XCLIENT")]
            assert told == ["XCLIENT ADDR=192.0.2.1", "XCLIENT ADDR=192.0.2.2"]
            assert server.connections == 2
            server.commands.clear()
            assert (await to.verify(NULL, parse_address("a@x.test"))).code == 250
            assert server.connections == 3
            assert not [command for command in server.commands if command.startswith("XCLIENT")]
            await to.close()

    run(main())


# Cancelling.


@pytest.mark.parametrize("place", ["GREETING", "MAIL", "FINAL"])
def test_a_cancelled_delivery_closes_its_connection(place: str) -> None:
    async def main() -> None:
        async with ScriptedServer(Script({place: SILENCE})) as server:
            to = transport(server.port, timeouts=Timeouts())
            task = asyncio.ensure_future(deliver(to))
            await until(lambda: server.connections == 1)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sum(pool.size for pool in to.pools.values()) == 0
            await to.close()

    run(main())


# TLS and AUTH.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.test").configure_cert(context)
    return context


def client_tls(authority: trustme.CA | None, **rest: Any) -> ClientTls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        authority.configure_trust(context)
    return ClientTls(context, **{"name": "mail.test", **rest})


TLS = ("PIPELINING", "STARTTLS", "AUTH PLAIN")


@pytest.fixture(scope="module")
def tls_cases(authority: trustme.CA) -> dict[str, ClientTls]:
    return {
        "verify": client_tls(authority),
        "encrypt": client_tls(None),
        "may": client_tls(None, required=False),
        "wrong name": client_tls(authority, name="other.test"),
        "wrong name, may": client_tls(authority, name="other.test", required=False),
        "unknown authority": client_tls(trustme.CA()),
    }


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("case", "outcome", "in_clear"),
    [
        ("verify", "250 2.0.0", False),
        ("encrypt", "250 2.0.0", False),
        ("may", "250 2.0.0", False),
        ("wrong name", "451 4.7.5", False),
        ("unknown authority", "451 4.7.5", False),
        ("wrong name, may", "250 2.0.0", True),
    ],
)
def test_tls(
    tls_cases: dict[str, ClientTls],
    server_tls: ssl.SSLContext,
    case: str,
    outcome: str,
    in_clear: bool,
    implicit: bool,
) -> None:
    if implicit and in_clear:
        outcome = "451 4.4.2"  # a port with implicit TLS has nothing to say in the clear

    async def main() -> None:
        tls = tls_cases[case]
        tls = ClientTls(tls.context, tls.required, implicit, tls.name)
        script = Script(offers=TLS, tls=server_tls)
        async with ScriptedServer(script, implicit_tls=server_tls if implicit else None) as server:
            to = transport(server.port, tls=tls)
            assert short(await deliver(to)) == [outcome]
            assert short(await deliver(to)) == [outcome]
            assert len(server.messages) == (2 if outcome.startswith("250") else 0)
            if outcome.startswith("250") and not in_clear:
                assert server.connections == 1
            await to.close()

    run(main())


def test_large_message_over_tls(tls_cases: dict[str, ClientTls], server_tls: ssl.SSLContext) -> None:
    octets = big(3_000_000)

    async def main() -> None:
        script = Script(offers=TLS, tls=server_tls, read_limit=300_000)
        async with ScriptedServer(script) as server:
            to = transport(server.port, tls=tls_cases["verify"], timeouts=Timeouts())
            assert short(await deliver(to, octets=octets, seconds=20)) == ["250 2.0.0"]
            assert server.messages == [octets]
            await to.close()

    run(main())


def test_tls_required_but_not_offered(tls_cases: dict[str, ClientTls]) -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            to = transport(server.port, tls=tls_cases["encrypt"])
            assert short(await deliver(to)) == ["451 4.7.4"]
            assert not any(command.startswith("MAIL") for command in server.commands)
            await to.close()
            to = transport(server.port, tls=tls_cases["may"])
            assert short(await deliver(to)) == ["250 2.0.0"]
            await to.close()

    run(main())


def test_a_server_that_hangs_in_the_handshake(tls_cases: dict[str, ClientTls]) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n")
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        timeouts = Timeouts(connect=0.3, greeting=0.3, command=0.3)
        to = transport(server.sockets[0].getsockname()[1], tls=tls_cases["encrypt"], timeouts=timeouts)
        start = time.monotonic()
        assert short(await deliver(to)) == ["451 4.7.5"]
        assert time.monotonic() - start < 5
        await to.close()
        server.close()

    run(main())


def test_auth_over_tls(tls_cases: dict[str, ClientTls], server_tls: ssl.SSLContext) -> None:
    credentials = Credentials("u", password="p")

    def choose(offered: Any, bindings: Any, encrypted: bool) -> Any:
        return client_mechanism(offered, credentials, bindings, encrypted=encrypted)

    async def main() -> None:
        client = ClientSettings(authenticate=choose)
        script = Script(offers=TLS, tls=server_tls, lmtp=False)
        async with ScriptedServer(script) as server:
            to = transport(server.port, tls=tls_cases["verify"], client=client)
            assert short(await deliver(to)) == ["250 2.0.0"]
            assert "AUTH PLAIN AHUAcA==" in server.commands
            await to.close()
        refusing = Script({"AUTH": "535 5.7.8 no"}, offers=TLS, tls=server_tls, lmtp=False)
        async with ScriptedServer(refusing) as server:
            to = transport(server.port, tls=tls_cases["verify"], client=client)
            assert short(await deliver(to)) == ["451 4.7.0"]
            await to.close()
        clear = Script(offers=("AUTH PLAIN",), lmtp=False)
        async with ScriptedServer(clear) as server:
            to = transport(server.port, client=client)
            assert short(await deliver(to)) == ["451 4.7.0"]
            assert not any("AHUAcA" in command for command in server.commands)
            await to.close()

    run(main())
