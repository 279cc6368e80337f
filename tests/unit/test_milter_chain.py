"""Several milters over real sockets: order, edits, late joins, time limits, failures, connections."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import uvloop

from mailmilter.chain import MilterChain
from mailmilter.connection import Milter, MilterPool, Timeouts
from mailmilter.constants import CHUNK_1M, Command, Response, Stage
from mailmilter.endpoint import Endpoint, parse_endpoint
from mailmilter.filter import (
    ACCEPT,
    REJECT,
    SHUTDOWN,
    TEMPFAIL,
    Answer,
    Client,
    Context,
    Family,
    Field,
    reply,
    serve,
)
from mailmilter.filter import Milter as Filter
from mailmilter.message import Message, split_fields
from mailmilter.negotiation import offer
from mailmilter.packets import packet
from mailmilter.requests import LOCAL
from mailmilter.values import (
    CONTINUE,
    AddHeader,
    AddRecipient,
    DefaultAction,
    Quarantine,
    ReplaceBody,
    Ruling,
)
from tests.peers.ports import free_port

T = TypeVar("T")
CLIENT = Client("client.example", Family.INET, 4711, "192.0.2.1")
QUICK = Timeouts(connect=20.0, command=1.0, content=1.0, total=2.0)
Log = list[str]


def run(main: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(20):
            return await main

    return asyncio.run(limited())


def recording(log: Log, name: str, answers: dict[str, Answer] | None = None) -> Callable[[], Filter]:
    """A filter that writes down all it hears and answers from a table."""
    table = answers or {}

    class Recording(Filter):
        def note(self, callback: str, *words: object) -> Answer | None:
            log.append(" ".join([name, callback, *(str(one) for one in words)]))
            return table.get(callback)

        async def connect(self, ctx: Context, client: Client) -> Answer | None:
            return self.note("connect", client.address, ctx.macro("j"))

        async def helo(self, ctx: Context, name: str) -> Answer | None:
            return self.note("helo", name)

        async def mail(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
            return self.note("mail", address.decode(), ctx.macro("i", "-"))

        async def rcpt(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
            return self.note("rcpt", address.decode()) or table.get(address.decode())

        async def data(self, ctx: Context) -> Answer | None:
            return self.note("data")

        async def unknown(self, ctx: Context, line: bytes) -> Answer | None:
            return self.note("unknown", line.decode())

        async def header(self, ctx: Context, field: Field) -> Answer | None:
            return self.note("header", field.name.decode(), field.value.decode())

        async def body(self, ctx: Context, piece: bytes) -> Answer | None:
            return self.note("body", len(piece))

        async def end_of_message(self, ctx: Context) -> Answer | None:
            ctx.insert_header(1, f"X-{name}", "seen")
            return self.note("eom")

        async def abort(self, ctx: Context) -> None:
            self.note("abort")

        async def close(self, ctx: Context) -> None:
            self.note("close")

    return Recording


class World:
    """Filters by name, in a folder of sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pool = MilterPool()
        self.log: Log = []
        self.connections = 0
        self.values = {"j": "mx.example", "mail_addr": "a@b"}

    def milter(self, name: str, **options: Any) -> Milter:
        return Milter(name, Endpoint(path=str(self.folder / name)), **options)

    @asynccontextmanager
    async def filters(self, **kinds: dict[str, Answer]) -> AsyncIterator[None]:
        servers = [
            await serve(recording(self.log, name, answers), f"unix:{self.folder / name}")
            for name, answers in kinds.items()
        ]
        try:
            yield
        finally:
            self.pool.close()
            await asyncio.sleep(0)
            for server in servers:
                await server.close()

    @asynccontextmanager
    async def octets(self, name: str, answer: Callable[[int], bytes | None]) -> AsyncIterator[None]:
        """A filter made of octets: `answer` gives them for each packet; None closes the connection."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            try:
                while True:
                    size = int.from_bytes(await reader.readexactly(4), "big")
                    found = answer((await reader.readexactly(size))[0])
                    if found is None:
                        break
                    writer.write(found)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_unix_server(connected, str(self.folder / name))
        try:
            yield
        finally:
            server.close()

    def chain(self, *milters: Milter) -> MilterChain:
        return MilterChain(self.pool, self.macros, milters)

    def macros(self, stage: Stage) -> dict[str, str]:
        return self.values if stage < Stage.RCPT else self.values | {"i": "Q1"}


@pytest.fixture
def world() -> AsyncIterator[World] | Any:
    with tempfile.TemporaryDirectory(prefix="tamis-chain-") as name:
        yield World(Path(name))


def message() -> Message:
    own = Field(b"Received", b" by us", own=True)
    return Message([own, *split_fields(b"From: a\r\nTo: b\r\n")], lambda: (b"x\r\n" * 3,))


async def until_mail(chain: MilterChain, *recipients: bytes) -> None:
    await chain.connect(CLIENT)
    await chain.helo("client.example")
    await chain.mail(b"a@b", (b"SIZE=9",))
    for one in recipients:
        await chain.rcpt(one)


def test_each_sees_the_edits_of_the_ones_before(world: World) -> None:
    async def main() -> Message:
        async with world.filters(a={}, b={}):
            chain = world.chain(world.milter("a"), world.milter("b"))
            await until_mail(chain, b"c@d")
            await chain.data()
            one = message()
            result = await chain.message(one)
            assert result.verdict == CONTINUE
            assert [answer.milter for answer in result.answers] == ["a", "b"]
            chain.abort()
            chain.close()
            return one

    one = run(main())
    assert [field.name for field in one.fields] == [b"Received", b"X-b", b"X-a", b"From", b"To"]
    assert [line for line in world.log if line.startswith(("a header", "b header"))] == [
        *("a header From a", "a header To b"),
        *("b header X-a seen", "b header From a", "b header To b"),
    ]
    assert world.log[:4] == [
        "a connect 192.0.2.1 mx.example",
        "b connect 192.0.2.1 mx.example",
        "a helo client.example",
        "b helo client.example",
    ]


@pytest.mark.parametrize(
    "stage", ["connect", "helo", "mail", "rcpt", "data", "unknown", "header", "body", "eom"]
)
def test_the_first_refusal_ends_the_round(world: World, stage: str) -> None:
    async def main() -> None:
        async with world.filters(a={}, b={stage: reply(554, "5.7.9", "no", "never")}, c={}):
            chain = world.chain(world.milter("a"), world.milter("b"), world.milter("c"))
            results = [await chain.connect(CLIENT), await chain.helo("x"), await chain.unknown(b"FOO")]
            results += [await chain.mail(b"a@b"), await chain.rcpt(b"c@d"), await chain.data()]
            results.append(await chain.message(message()))
            first = next(one for one in results if one.milter)
            assert (first.milter, first.verdict.code) == ("b", 554)
            assert first.verdict.lines == ("no", "never")
            assert [one.milter for one in first.answers] == ["a", "b"]
            chain.close()

    run(main())
    heard = [line.split()[1] for line in world.log if line.startswith("c ")]
    assert stage not in heard


def test_accept_leaves_the_others_to_decide_and_lasts_for_the_message(world: World) -> None:
    async def main() -> None:
        async with world.filters(a={"mail": ACCEPT}, b={}):
            chain = world.chain(world.milter("a"), world.milter("b"))
            await until_mail(chain, b"c@d")
            assert (await chain.message(message())).verdict == CONTINUE
            chain.abort()
            await chain.mail(b"second@b")
            chain.close()

    run(main())
    assert [line for line in world.log if line.startswith("a ")][:4] == [
        "a connect 192.0.2.1 mx.example",
        "a helo client.example",
        "a mail a@b -",
        "a abort",
    ]
    assert "a mail second@b -" in world.log
    assert "b eom" in world.log


def test_a_milter_that_joins_late_hears_the_past_with_its_macros(world: World) -> None:
    async def main() -> None:
        async with world.filters(late={}):
            chain = world.chain()
            await until_mail(chain, b"c@d", b"e@f")
            await chain.data()
            result = await chain.join(world.milter("late"))
            assert (result.verdict, result.refused) == (CONTINUE, ())
            assert await chain.join(world.milter("late")) == type(result)()
            one = message()
            await chain.message(one)
            assert b"X-late" in [field.name for field in one.fields]
            chain.close()

    run(main())
    assert world.log[:6] == [
        "late connect 192.0.2.1 mx.example",
        "late helo client.example",
        "late mail a@b -",
        "late rcpt c@d",
        "late rcpt e@f",
        "late data",
    ]


@pytest.mark.parametrize(
    ("answers", "code", "refused"),
    [
        ({"c@d": REJECT}, 0, [b"c@d"]),
        ({"c@d": REJECT, "e@f": TEMPFAIL}, 451, [b"c@d", b"e@f"]),
        ({"mail": REJECT}, 550, []),
        ({"connect": SHUTDOWN}, 421, []),
        ({"e@f": SHUTDOWN}, 421, []),
        ({"data": TEMPFAIL, "c@d": REJECT}, 451, [b"c@d"]),
    ],
)
def test_what_a_late_milter_refuses(
    world: World, answers: dict[str, Answer], code: int, refused: list[bytes]
) -> None:
    async def main() -> None:
        async with world.filters(late=answers):
            chain = world.chain()
            await until_mail(chain, b"c@d", b"e@f")
            await chain.data()
            result = await chain.join(world.milter("late"))
            assert result.verdict.code == code
            assert [one.address for one in result.refused] == refused
            chain.close()

    run(main())


def test_recipients_that_were_refused_are_not_replayed(world: World) -> None:
    async def main() -> None:
        async with world.filters(first={"c@d": REJECT}, late={}):
            chain = world.chain(world.milter("first"))
            await until_mail(chain, b"c@d", b"e@f")
            await chain.join(world.milter("late"))
            chain.abort()
            assert chain.names == ["first", "late"]
            await chain.mail(b"x@y")
            chain.close()

    run(main())
    late = [line for line in world.log if line.startswith("late")]
    assert "late rcpt c@d" not in late
    assert "late rcpt e@f" in late


class Wanting(Filter):
    rejected_recipients = True
    heard: Log

    async def rcpt(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        self.heard.append(f"{address.decode()} {ctx.macro('rcpt_mailer')}")
        return REJECT


def test_only_those_that_want_it_hear_of_refused_recipients(world: World) -> None:
    async def main() -> None:
        Wanting.heard = world.log
        async with world.filters(other={}):
            server = await serve(Wanting, f"unix:{world.folder}/wanting")
            chain = world.chain(world.milter("wanting"), world.milter("other"))
            await until_mail(chain)
            assert chain.wants_rejected
            world.values["rcpt_mailer"] = "error"
            await chain.rejected_rcpt(b"no@x", ())
            chain.close()
            await server.close()

    run(main())
    assert "no@x error" in world.log
    assert "other rcpt no@x" not in world.log


# What can go wrong.

NEGOTIATED = packet(Command.NEGOTIATE, offer(6).encode()[:4] + b"\0\0\1\xff" + bytes(4))


def answering(**table: bytes | None) -> Callable[[int], bytes | None]:
    """Continue for all but those in the table; macros, abort and quit get nothing."""

    def answer(code: int) -> bytes | None:
        if chr(code) in table:
            return table[chr(code)]
        if chr(code) == "O":
            return NEGOTIATED
        return b"" if chr(code) in "DAKQ" else packet(Response.CONTINUE)

    return answer


SLOW_AND_LYING: list[tuple[dict[str, bytes | None], str]] = [
    ({"O": None}, "the filter closed the connection"),
    ({"O": b""}, "no answer in time"),
    ({"O": packet(Response.CONTINUE)}, "protocol error"),
    ({"C": None}, "the filter closed the connection"),
    ({"M": b""}, "no answer in time"),
    ({"M": b"\0\0\0"}, "no answer in time"),
    ({"M": b"\xff\xff\xff\xff"}, "protocol error"),
    ({"L": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "protocol error"),
    ({"E": b""}, "no answer in time"),
    ({"E": packet(Response.ADD_HEADER, b"A\0b\0")}, "no answer in time"),
]


@pytest.mark.parametrize(
    ("table", "why", "default"),
    [(*case, default) for case, default in zip(SLOW_AND_LYING, cycle(DefaultAction), strict=False)],
)
def test_slow_dead_and_lying_filters_end_in_the_default_action(
    world: World, table: dict[str, bytes | None], why: str, default: DefaultAction
) -> None:
    async def main() -> None:
        async with world.octets("bad", answering(**table)):
            timeouts = QUICK if "no answer" in why else Timeouts()
            chain = world.chain(world.milter("bad", timeouts=timeouts, default=default))
            results = [await chain.connect(CLIENT), await chain.helo("x"), await chain.mail(b"a@b")]
            one = message()
            results.append(await chain.message(one))
            assert why in results[-1].failures[0]
            assert results[-1].verdict.code == {"tempfail": 451, "reject": 550}.get(default.value, 0)
            assert bool(one.quarantine) is (default is DefaultAction.QUARANTINE)
            assert len(one.fields) == 3, "edits before the failure do not count"
            chain.abort()
            assert (await chain.mail(b"again@b")).failures
            chain.close()
        assert world.connections == 1

    run(main())


def test_a_filter_that_is_not_there(world: World) -> None:
    async def main() -> None:
        port = free_port()
        for milter in (world.milter("none"), Milter("none", parse_endpoint(f"inet:127.0.0.1:{port}"))):
            chain = world.chain(milter)
            result = await chain.connect(CLIENT)
            assert result.verdict.ruling is Ruling.TEMPFAIL
            assert str(milter.endpoint) in result.failures[0]
            assert (await chain.helo("x")).failures
            chain.abort()
            chain.close()

    run(main())


def test_progress_keeps_a_filter_alive_but_not_for_ever(world: World) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        writers: list[asyncio.StreamWriter] = []
        end = {"after": 0.3}

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await reader.read(1000)
            writer.write(NEGOTIATED)
            await reader.read(1000)
            until = loop.time() + end["after"]
            while loop.time() < until and not writer.is_closing():
                writer.write(packet(Response.PROGRESS))
                await asyncio.sleep(0.05)
            writer.write(packet(Response.CONTINUE))

        server = await asyncio.start_unix_server(connected, str(world.folder / "slow"))
        # Two seconds without a word are too many, and progress for so long is none.
        for after, total, failures in ((2.5, 60.0, 0), (30.0, 0.6, 1)):
            end["after"] = after
            timeouts = Timeouts(connect=20.0, command=2.0, content=2.0, total=total)
            chain = world.chain(world.milter("slow", timeouts=timeouts))
            begun = loop.time()
            result = await chain.connect(CLIENT)
            assert len(result.failures) == failures
            assert loop.time() - begun < 20
            chain.close()
        assert "took too long" in result.failures[0]
        server.close()
        for writer in writers:
            writer.close()

    run(main())


def test_cancelling_closes_the_connection(world: World) -> None:
    async def main() -> None:
        async with world.octets("slow", answering(M=b"")):
            chain = world.chain(world.milter("slow"))
            await chain.connect(CLIENT)
            task = asyncio.create_task(chain.mail(b"a@b"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await chain.mail(b"a@b")).failures == ["slow: the session was cancelled"]
            chain.close()

    run(main())


def test_a_milter_that_is_given_up_while_it_is_connected_to_hears_no_later_stage(world: World) -> None:
    """It would hear RCPT without CONNECT and MAIL."""

    async def main() -> None:
        heard: list[str] = []

        def answer(code: int) -> bytes | None:
            heard.append(chr(code))
            return b"" if len(heard) == 1 else answering()(code)

        async with world.octets("slow", answer):
            chain = world.chain()
            await until_mail(chain, b"c@d")
            task = asyncio.create_task(chain.join(world.milter("slow")))
            while not heard:  # noqa: ASYNC110 - the filter is told by a socket
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await chain.rcpt(b"e@f")).failures == ["slow: the session was cancelled"]
            assert heard == ["O"]
            chain.close()

    run(main())


@pytest.mark.parametrize(("reuse", "connections"), [(True, 1), (False, 3)])
def test_connections_are_used_again(world: World, reuse: bool, connections: int) -> None:
    async def main() -> None:
        async with world.octets("a", answering()):
            for _ in range(3):
                chain = world.chain(world.milter("a", reuse=reuse))
                await until_mail(chain, b"c@d")
                assert not (await chain.message(message())).failures
                chain.abort()
                chain.close()
            world.pool.close()

    run(main())
    assert world.connections == connections


def test_an_idle_connection_that_the_filter_gave_up_is_replaced(world: World) -> None:
    async def main() -> None:
        gone = {"C": 0}

        def answer(code: int) -> bytes | None:
            if chr(code) == "C":
                gone["C"] += 1
                if gone["C"] == 2:
                    return None
            return answering()(code)

        async with world.octets("a", answer):
            for _ in range(2):
                chain = world.chain(world.milter("a", reuse=True))
                await until_mail(chain, b"c@d")
                assert not (await chain.message(message())).failures
                chain.close()
            world.pool.close()

    run(main())
    assert world.connections == 2


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_every_version(world: World, version: int) -> None:
    async def main() -> Message:
        async with world.filters(a={}):
            chain = world.chain(world.milter("a", version=version))
            await until_mail(chain, b"c@d")
            await chain.unknown(b"FOO")
            await chain.data()
            one = message()
            assert not (await chain.message(one)).failures
            chain.close()
            return one

    one = run(main())
    assert [field.name for field in one.fields][:2] == [b"Received", b"X-a"]
    heard = {line.split()[1] for line in world.log}
    assert ("unknown" in heard, "data" in heard) == (version >= 3, version >= 4)
    assert heard >= {"connect", "helo", "mail", "rcpt", "header", "body", "eom", "close"}


@pytest.mark.parametrize("address", ["inet:127.0.0.1:{}", "inet6:[::1]:{}"])
def test_tcp(world: World, address: str) -> None:
    async def main() -> None:
        endpoint = address.format(free_port())
        server = await serve(recording(world.log, "tcp"), endpoint)
        chain = world.chain(Milter("tcp", parse_endpoint(endpoint)))
        assert not (await chain.connect(CLIENT)).failures
        chain.close()
        await server.close()

    run(main())
    assert world.log[0] == "tcp connect 192.0.2.1 mx.example"


def test_a_large_message_goes_through_with_back_pressure_and_large_packets(world: World) -> None:
    sizes: list[int] = []

    class Large(Filter):
        large_pieces = True

        async def body(self, ctx: Context, piece: bytes) -> Answer | None:
            sizes.append(len(piece))
            return None

        async def end_of_message(self, ctx: Context) -> Answer | None:
            ctx.replace_body(bytes(200_000))
            ctx.add_recipient(b"new@x", b"NOTIFY=NEVER")
            ctx.quarantine("large")
            return None

    async def main() -> Message:
        server = await serve(Large, f"unix:{world.folder}/large")
        chain = world.chain(world.milter("large", max_data=CHUNK_1M))
        await until_mail(chain, b"c@d")
        one = Message(split_fields(b"A: b\r\n"), lambda: (bytes(100_000) for _ in range(100)))
        result = await chain.message(one)
        assert not result.failures
        chain.close()
        await server.close()
        return one

    one = run(main())
    assert sizes == [CHUNK_1M] * 9 + [10_000_000 - 9 * CHUNK_1M]
    assert b"".join(one.body()) == bytes(200_000) + b"\r\n"
    assert one.recipients == [AddRecipient(b"new@x", b"NOTIFY=NEVER")]
    assert one.quarantine == ["large"]


class Store:
    def __init__(self, room: int = 1000) -> None:
        self.pieces: list[bytes] = []
        self.room = room

    def write(self, piece: bytes) -> None:
        if sum(map(len, self.pieces)) + len(piece) > self.room:
            raise OSError(28, "No space left on device")
        self.pieces.append(piece)

    def chunks(self) -> list[bytes]:
        return self.pieces


@pytest.mark.parametrize("room", [1000, 10])
def test_a_new_body_goes_to_a_store(world: World, room: int) -> None:
    seen: list[bytes] = []
    stores: list[Store] = []

    class Changing(Filter):
        async def body(self, ctx: Context, piece: bytes) -> Answer | None:
            seen.append(piece)
            return None

        async def end_of_message(self, ctx: Context) -> Answer | None:
            ctx.replace_body(b"new from here\n")
            return None

    def new_store() -> Store:
        stores.append(Store(room))
        return stores[-1]

    async def main() -> None:
        server = await serve(Changing, f"unix:{world.folder}/changing")
        chain = world.chain(world.milter("changing"), Milter("again", world.milter("changing").endpoint))
        await until_mail(chain)
        one = message()
        result = await chain.message(one, new_store)
        if room < 20:
            assert result.failures == ["changing: the new body could not be kept: No space left on device"]
            assert not one.body_replaced
        else:
            assert result.edits == [ReplaceBody(()), ReplaceBody(())]
            assert [store.pieces for store in stores] == [[b"new from here\n"]] * 2
            assert seen == [b"x\r\n" * 3, b"new from here\r\n"]
            assert list(one.body()) == list(one.body()) == [b"new from here\r\n"]
        chain.close()
        await server.close()

    run(main())


def test_a_body_that_cannot_be_read_is_a_failure(world: World) -> None:
    def body() -> Any:
        yield b"x" * 70_000
        raise OSError(5, "Input/output error")

    async def main() -> None:
        async with world.filters(a={}):
            chain = world.chain(world.milter("a"))
            await until_mail(chain)
            result = await chain.message(Message([], body))
            assert "could not be read: Input/output error" in result.failures[0]
            chain.close()

    run(main())


def test_results_collect_the_edits(world: World) -> None:
    async def main() -> None:
        edit = packet(Response.ADD_HEADER, b"A\0b\0") + packet(Response.CONTINUE)
        early = packet(Response.QUARANTINE, b"early\0") + packet(Response.CONTINUE)
        async with world.octets("a", answering(E=edit, R=early)):
            chain = world.chain(world.milter("a"))
            await until_mail(chain)
            assert (await chain.rcpt(b"c@d")).edits == [Quarantine("early")]
            assert (await chain.message(message())).edits == [AddHeader(b"A", b" b")]
            chain.close()

    run(main())


class Choosy(Filter):
    symbols: ClassVar = {Stage.CONNECT: ("{daemon_name}",), Stage.MAIL: ("auth_authen", "nothing")}
    heard: ClassVar[list[dict[int, dict[str, str]]]] = []

    async def data(self, ctx: Context) -> Answer | None:
        self.heard.append({int(key): dict(value) for key, value in ctx.stage_macros.items()})
        return None


def test_a_filter_chooses_its_macros(world: World) -> None:
    async def main() -> None:
        world.values |= {
            "daemon_name": "d",
            "auth_authen": "alice",
            "rcpt_addr": "c@d",
            "tls_version": "TLSv1.3",
        }
        server = await serve(Choosy, f"unix:{world.folder}/choosy")
        chain = world.chain(world.milter("choosy"))
        await until_mail(chain, b"c@d")
        await chain.data()
        chain.close()
        await server.close()

    run(main())
    assert Choosy.heard == [
        {
            Command.CONNECT: {"daemon_name": "d"},
            Command.HELO: {"tls_version": "TLSv1.3"},
            Command.MAIL: {"auth_authen": "alice"},
            Command.RCPT: {"i": "Q1", "rcpt_addr": "c@d"},
            Command.DATA: {"i": "Q1"},
        }
    ]


def test_uvloop(world: World) -> None:
    async def main() -> None:
        async with world.filters(a={}):
            chain = world.chain(world.milter("a", reuse=True))
            await until_mail(chain, b"c@d")
            assert not (await chain.message(message())).failures
            chain.close()
            missing = world.chain(world.milter("none"))
            assert "none" in (await missing.connect(LOCAL)).failures[0]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
