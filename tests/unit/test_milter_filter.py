"""The filter's side: what is negotiated from what is overridden, and dialogs in octets."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmilter.constants import CHUNK, CHUNK_1M, CHUNK_256K, Action, Command, Protocol, Response, Stage
from mailmilter.filter import (
    ACCEPT,
    REJECT,
    TEMPFAIL,
    Answer,
    Client,
    Context,
    Family,
    Field,
    Milter,
    NotNegotiated,
    listens,
    reply,
)
from mailmilter.filter.base import answer_to
from mailmilter.filter.dialog import FilterDialog
from mailmilter.negotiation import Offer, agree, encode_symbols, offer
from mailmilter.packets import MilterProtocolError, PacketReader, packet
from mailmilter.responses import parse_reply
from mailmilter.values import Ruling, Verdict

NOTHING = Protocol(0x370) | Protocol(0xF000) | Protocol.SKIP
"""Only the envelope, without answers: what a filter that overrides nothing hears of."""

AGREED = agree(offer(6), offer(6).encode())


class Nothing(Milter):
    pass


class Rcpt(Milter):
    async def rcpt(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        return REJECT if address.startswith(b"bad") else None


class Listener(Milter):
    leading_space = True
    rejected_recipients = True
    symbols: ClassVar = {Stage.MAIL: ("i",)}
    actions = Action.ADD_HEADERS
    required = Action.ADD_HEADERS

    def __init__(self) -> None:
        self.heard: list[str] = []

    @listens
    async def body(self, ctx: Context, piece: bytes) -> Answer | None:
        self.heard.append("body")
        return None

    async def end_of_message(self, ctx: Context) -> Answer | None:
        ctx.add_header("X-Heard", f"{len(self.heard)} {ctx.header('subject')} {ctx.macro('i')}")
        return None


@pytest.mark.parametrize(
    ("kind", "version", "protocol", "actions"),
    [
        (Nothing, 6, NOTHING, 0x1FF),
        (Nothing, 2, Protocol(0x70), 0x3F),
        (Rcpt, 6, NOTHING & ~Protocol.NO_REPLY_RCPT, 0x1FF),
        (
            Listener,
            6,
            (NOTHING & ~Protocol.NO_BODY & ~Protocol.NO_HEADERS)
            | Protocol.NO_REPLY_HEADER
            | Protocol.NO_REPLY_BODY
            | Protocol.LEADING_SPACE
            | Protocol.REJECTED_RCPT,
            0x1,
        ),
        (Listener, 2, Protocol.NO_END_OF_HEADERS, 0x1),
    ],
)
def test_what_is_overridden_decides(
    kind: type[Milter], version: int, protocol: Protocol, actions: int
) -> None:
    agreement = answer_to(kind, offer(version))
    assert agreement is not None
    assert agreement.protocol == protocol
    assert agreement.actions == Action(actions)
    assert agreement.version == version
    assert agreement.symbols == ({Stage.MAIL: ("i",)} if kind is Listener and version == 6 else {})


@pytest.mark.parametrize(
    ("max_data", "size"),
    [(CHUNK, Protocol(0)), (CHUNK_256K, Protocol.SIZE_256K), (CHUNK_1M, Protocol.SIZE_1M)],
)
def test_large_pieces(max_data: int, size: Protocol) -> None:
    class Kind(Milter):
        large_pieces = True

    agreement = answer_to(Kind, offer(6, max_data=max_data))
    assert agreement is not None
    assert agreement.protocol & (Protocol.SIZE_256K | Protocol.SIZE_1M) == size
    assert agreement.chunk == max_data


def test_an_mta_that_lacks_what_is_required() -> None:
    assert answer_to(Listener, Offer(6, Action(0), Protocol(0))) is None


class Wire:
    """A dialog and what it wrote."""

    def __init__(self, kind: type[Milter], offered: Offer | None = None) -> None:
        self.reader = PacketReader()
        self.dialog = FilterDialog(kind, self.reader.feed)
        self.offered = offered or offer(6)
        self.say(Command.NEGOTIATE, self.offered.encode())

    def say(self, command: int, data: bytes = b"") -> list[tuple[str, bytes]]:
        asyncio.run(self.dialog.handle(command, data))
        found = []
        while (one := self.reader.next()) is not None:
            found.append((chr(one[0]), one[1]))
        return found


def test_a_dialog() -> None:
    wire = Wire(Listener)
    assert wire.say(Command.MACRO, b"Mi\0Q1\0") == []
    assert wire.say(Command.MAIL, b"<a@b>\0SIZE=1\0") == []
    assert wire.say(Command.RCPT, b"<c@d>\0") == []
    assert wire.say(Command.HEADER, b"Subject\0 hello\n\tworld\0") == []
    assert wire.say(Command.BODY, b"xx\r\n") == []
    assert wire.say(Command.END_OF_MESSAGE, b"last") == [("h", b"X-Heard\x002 hello\tworld Q1\0"), ("c", b"")]
    wire.say(Command.MAIL, b"<a@b>\0")
    assert wire.say(Command.END_OF_MESSAGE) == [("h", b"X-Heard\x002 None \0"), ("c", b"")]


def test_a_message_whose_end_is_not_told_leaves_nothing() -> None:
    """Not every MTA says ABORT when it refuses MAIL or DATA."""
    seen: list[object] = []

    class Kind(Milter):
        async def header(self, ctx: Context, field: Field) -> Answer | None:
            ctx.add_header("X-Seen", "1")
            return None

        async def end_of_message(self, ctx: Context) -> Answer | None:
            seen.extend((ctx.sender, ctx.recipients, ctx.fields))
            return None

    wire = Wire(Kind)
    for command, data in (
        (Command.MAIL, b"<a@b>\0"),
        (Command.RCPT, b"<c@d>\0"),
        (Command.HEADER, b"A\0b\0"),
        (Command.MAIL, b"<e@f>\0"),
        (Command.RCPT, b"<g@h>\0"),
    ):
        wire.say(command, data)
    assert wire.say(Command.END_OF_MESSAGE) == [("c", b"")]
    assert seen == [b"e@f", [b"g@h"], []]


def test_macros_of_a_message_do_not_outlive_it() -> None:
    context = Context(AGREED)
    context.set_macros(Command.CONNECT, {"j": "host", "i": "old"})
    context.set_macros(Command.MAIL, {"i": "Q1"})
    assert (context.macro("{i}"), context.macro("j"), context.macro("k", "-")) == ("Q1", "host", "-")
    context.end_message()
    assert context.macro("i") == "old"


def test_recipients_that_the_filter_refuses_are_not_in_the_context() -> None:
    seen: list[list[bytes]] = []

    class Kind(Rcpt):
        async def data(self, ctx: Context) -> Answer | None:
            seen.append(list(ctx.recipients))
            return None

    wire = Wire(Kind)
    wire.say(Command.MAIL, b"<a@b>\0")
    assert wire.say(Command.RCPT, b"<bad@d>\0") == [("r", b"")]
    assert wire.say(Command.RCPT, b"<good@d>\0N=1\0") == [("c", b"")]
    wire.say(Command.MACRO, b"R{rcpt_mailer}\0error\0")
    assert wire.say(Command.RCPT, b"<refused-by-the-mta@d>\0") == [("c", b"")]
    wire.say(Command.DATA)
    assert seen == [[b"good@d"]]


EDITS = [
    (lambda ctx: ctx.add_header("A", "b"), Action.ADD_HEADERS, "h", b"A\0b\0"),
    (lambda ctx: ctx.insert_header(1, "A", "b"), Action.ADD_HEADERS, "i", b"\0\0\0\1A\0b\0"),
    (lambda ctx: ctx.change_header("A", "b", 2), Action.CHANGE_HEADERS, "m", b"\0\0\0\2A\0b\0"),
    (lambda ctx: ctx.delete_header("A"), Action.CHANGE_HEADERS, "m", b"\0\0\0\1A\0\0"),
    (lambda ctx: ctx.add_recipient(b"a@b"), Action.ADD_RECIPIENTS, "+", b"<a@b>\0"),
    (lambda ctx: ctx.add_recipient(b"a@b", b"X=1"), Action.ADD_RECIPIENTS_PARAMETERS, "2", b"<a@b>\0X=1\0"),
    (lambda ctx: ctx.delete_recipient(b"a@b"), Action.DELETE_RECIPIENTS, "-", b"<a@b>\0"),
    (lambda ctx: ctx.change_sender(b""), Action.CHANGE_SENDER, "e", b"<>\0"),
    (lambda ctx: ctx.change_sender(b"a@b", b"X=1"), Action.CHANGE_SENDER, "e", b"<a@b>\0X=1\0"),
    (lambda ctx: ctx.replace_body(b"new"), Action.CHANGE_BODY, "b", b"new"),
    (lambda ctx: ctx.replace_body(b""), Action.CHANGE_BODY, "b", b""),
    (lambda ctx: ctx.quarantine("why"), Action.QUARANTINE, "q", b"why\0"),
]


@pytest.mark.parametrize(("edit", "action", "code", "data"), EDITS)
def test_every_edit(edit: object, action: Action, code: str, data: bytes) -> None:
    class Kind(Milter):
        actions = action

        async def end_of_message(self, ctx: Context) -> Answer | None:
            assert callable(edit)
            edit(ctx)
            return None

    wire = Wire(Kind)
    assert wire.say(Command.END_OF_MESSAGE) == [(code, data), ("c", b"")]
    without = Context(agree(offer(6), Offer(6, Action(0x1FF) & ~action, Protocol(0)).encode()))
    assert callable(edit)
    with pytest.raises(NotNegotiated):
        edit(without)


def test_edits_of_a_message_that_is_refused_or_aborted_are_dropped() -> None:
    class Kind(Milter):
        async def mail(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
            ctx.add_header("A", address.decode())
            return None

        async def end_of_message(self, ctx: Context) -> Answer | None:
            return ACCEPT if ctx.sender == b"ok" else REJECT

    wire = Wire(Kind)
    wire.say(Command.MAIL, b"<no>\0")
    assert wire.say(Command.END_OF_MESSAGE) == [("r", b"")]
    wire.say(Command.MAIL, b"<gone>\0")
    wire.say(Command.ABORT)
    wire.say(Command.MAIL, b"<ok>\0")
    assert wire.say(Command.END_OF_MESSAGE) == [("h", b"A\0ok\0"), ("a", b"")]


def test_plain_callbacks_and_ones_that_fail(caplog: pytest.LogCaptureFixture) -> None:
    class Kind(Milter):
        def helo(self, ctx: Context, name: str) -> Answer | None:  # type: ignore[override]
            if name == "bad":
                raise KeyError(name)
            return ACCEPT

    wire = Wire(Kind)
    assert wire.say(Command.HELO, b"good\0") == [("a", b"")]
    with caplog.at_level(logging.ERROR, "mailmilter"):
        assert wire.say(Command.HELO, b"bad\0") == [("t", b"")]
    assert "a callback of Kind failed" in caplog.text


def test_each_session_has_its_own_object_and_its_close() -> None:
    log: list[str] = []

    class Kind(Milter):
        async def connect(self, ctx: Context, client: Client) -> Answer | None:
            log.append(f"connect {id(self)} {client.address} {client.port}")
            return None

        async def abort(self, ctx: Context) -> None:
            log.append("abort")

        async def close(self, ctx: Context) -> None:
            log.append(f"close {id(self)}")

    wire = Wire(Kind)
    kept = wire.dialog._milter
    wire.say(Command.CONNECT, b"h\x006\0\x19IPv6:::1\0")
    wire.say(Command.MAIL, b"<a>\0")
    wire.say(Command.QUIT_REUSE)
    wire.say(Command.CONNECT, b"h\0U")
    wire.say(Command.QUIT)
    assert wire.dialog.finished
    asyncio.run(wire.dialog.end())
    assert [line.split()[0] for line in log] == ["connect", "abort", "close", "connect", "close"]
    assert log[0] == f"connect {id(kept)} ::1 25"
    assert log[2] != f"{log[4]}"


@pytest.mark.parametrize(
    ("data", "client"),
    [
        (b"h\0U", Client("h")),
        (b"h\0L\0\0/run/s\0", Client("h", Family.UNIX, 0, "/run/s")),
        (b"h\x004\1\0" + b"192.0.2.1\0", Client("h", Family.INET, 256, "192.0.2.1")),
    ],
)
def test_clients(data: bytes, client: Client) -> None:
    seen: list[Client] = []

    class Kind(Milter):
        async def connect(self, ctx: Context, client: Client) -> Answer | None:
            seen.append(client)
            return None

    Wire(Kind).say(Command.CONNECT, data)
    assert seen == [client]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (reply(550, "5.7.1", "no"), Verdict(Ruling.REPLY, 550, "5.7.1", ("no",))),
        (reply(451, "", "one", "", "100% %s"), Verdict(Ruling.REPLY, 451, "", ("one", "", "100% %s"))),
    ],
)
def test_replies(answer: Answer, verdict: Verdict) -> None:
    assert parse_reply(answer.data) == verdict


@pytest.mark.parametrize(
    ("code", "enhanced", "lines"),
    [
        *((250, "", ("x",)), (550, "4.7.1", ("x",)), (550, "x", ("x",)), (550, "", ())),
        *((550, "", ("a\r\nb",)), (550, "", ("x" * 981,)), (550, "", ("x",) * 33)),
    ],
)
def test_replies_that_cannot_be(code: int, enhanced: str, lines: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"code|lines|line"):
        reply(code, enhanced, *lines)


BROKEN = [
    (ord("?"), b""),
    (Command.NEGOTIATE, b"\0\0\0\6"),
    (Command.CONNECT, b""),
    (Command.CONNECT, b"h\0X"),
    (Command.CONNECT, b"h\x004\0"),
    (Command.MAIL, b""),
    (Command.MAIL, b"<a>"),
    (Command.HEADER, b"A\0"),
    (Command.MACRO, b""),
    (Command.MACRO, b"Mi\0"),
]


@pytest.mark.parametrize(("command", "data"), BROKEN)
def test_what_is_malformed_is_a_protocol_error(command: int, data: bytes) -> None:
    wire = Wire(Rcpt)
    with pytest.raises(MilterProtocolError):
        wire.say(command, data)


def test_nothing_comes_before_the_negotiation() -> None:
    dialog = FilterDialog(Rcpt, lambda _data: None)
    with pytest.raises(MilterProtocolError, match="before the negotiation"):
        asyncio.run(dialog.handle(Command.MAIL, b"<a>\0"))


@given(st.lists(st.tuples(st.sampled_from([*Command, 1]), st.binary(max_size=12)), max_size=6))
@settings(max_examples=100, deadline=None)
def test_any_packets_are_handled_or_are_a_protocol_error(packets: list[tuple[int, bytes]]) -> None:
    written: list[bytes] = []

    async def feed() -> None:
        dialog = FilterDialog(Listener, written.append)
        await dialog.handle(Command.NEGOTIATE, offer(6).encode())
        try:
            for command, data in packets:
                await dialog.handle(command, data)
        except MilterProtocolError:
            pass
        await dialog.end()

    asyncio.run(feed())
    reader = PacketReader()
    reader.feed(b"".join(written))
    codes = set(Response) | {Command.NEGOTIATE}
    while (one := reader.next()) is not None:
        assert one[0] in {int(code) for code in codes}
    assert reader.waiting == 0


def test_symbols_are_sent_as_they_are_read() -> None:
    wire = PacketReader()
    dialog = FilterDialog(Listener, wire.feed)
    asyncio.run(dialog.handle(Command.NEGOTIATE, offer(6).encode()))
    found = wire.next()
    assert found is not None
    assert found[1].endswith(encode_symbols({Stage.MAIL: ("i",)}))
    assert agree(offer(6), found[1]).symbols == {Stage.MAIL: ("i",)}
    assert packet(found[0]) == packet(Command.NEGOTIATE)


def test_progress_and_fields() -> None:
    written: list[bytes] = []
    context = Context(AGREED, write=written.append)
    context.progress()
    context.fields.append(Field(b"X", b" a\r\n\tb "))
    assert written == [packet(Response.PROGRESS)]
    assert context.header("x") == "a\tb"
    assert context.header("y") is None
    assert TEMPFAIL.encode() == packet(Response.TEMPFAIL)
