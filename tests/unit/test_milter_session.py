"""The MTA's side of the milter protocol, against a filter made of octets."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmilter import requests
from mailmilter.constants import LEFT_OUT, UNANSWERED, Action, Command, Protocol, Response, Stage
from mailmilter.message import Field, Message, split_fields
from mailmilter.negotiation import Offer, offer
from mailmilter.packets import PacketReader, packet, strings
from mailmilter.requests import Client, Family
from mailmilter.session import Bounds, MilterSession, Request
from mailmilter.values import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DefaultAction,
    DeleteHeader,
    DeleteRecipient,
    Edit,
    InsertHeader,
    Outcome,
    Quarantine,
    ReplaceBody,
    Ruling,
    Verdict,
)

CONTINUE = packet(Response.CONTINUE)
FIELDS = split_fields(b"A: 1\r\nB:  2\r\n\tfolded\r\n")
BODY = b"body\r\n"
Feed = Callable[[MilterSession, bytes], None]


def whole(session: MilterSession, data: bytes) -> None:
    session.receive(data)


def byte_by_byte(session: MilterSession, data: bytes) -> None:
    for at in range(len(data)):
        session.receive(data[at : at + 1])


feeds = pytest.mark.parametrize("feed", [whole, byte_by_byte])


def opened(
    protocol: int = 0,
    actions: int = 0x1FF,
    version: int = 6,
    default: DefaultAction = DefaultAction.TEMPFAIL,
    bounds: Bounds | None = None,
) -> MilterSession:
    """A session that is negotiated."""
    session = MilterSession(offer(version), default, bounds)
    session.negotiate()
    assert session.bytes_to_send() == packet(Command.NEGOTIATE, offer(version).encode())
    answer = Offer(version, Action(actions) & offer(version).actions, Protocol(protocol))
    session.receive(packet(Command.NEGOTIATE, answer.encode()))
    assert session.outcome == Outcome()
    return session


def sent(session: MilterSession) -> list[tuple[str, bytes]]:
    """The packets that go out now."""
    reader = PacketReader()
    while data := session.bytes_to_send():
        reader.feed(data)
    found = []
    while (one := reader.next()) is not None:
        found.append((chr(one[0]), one[1]))
    return found


def content(session: MilterSession, body: Iterable[bytes] = (BODY,)) -> Iterable[Request]:
    assert session.agreement is not None
    return requests.content(
        session.agreement,
        FIELDS,
        body,
        {Stage.END_OF_HEADERS: packet(Command.MACRO, b"Ni\0Q\0")},
    )


def at_end(session: MilterSession) -> None:
    """Ask for the content and bring it to the end of message."""
    session.begin(content(session))
    while True:
        codes = [code for code, _ in sent(session)]
        if "E" in codes:
            return
        session.receive(CONTINUE)


# Commands.

INET = Client("h.example", Family.INET, 25, "192.0.2.1")
INET6 = Client("", Family.INET6, 25, "2001:db8::1")
SIZE = (b"SIZE=1", b"BODY=8BITMIME")
STAGES = [
    (requests.connect(INET, b""), b"h.example\x004\0\x19192.0.2.1\0"),
    (requests.connect(INET6, b""), b"[2001:db8::1]\x006\0\x192001:db8::1\0"),
    (requests.connect(Client("localhost", Family.UNIX, 0, "/run/s"), b""), b"localhost\0L\0\0/run/s\0"),
    (requests.connect(Client("localhost"), b""), b"localhost\0U"),
    (requests.helo("client.example", b""), b"client.example\0"),
    (requests.envelope(Command.MAIL, b"a@b", SIZE, b""), b"<a@b>\0SIZE=1\0BODY=8BITMIME\0"),
    (requests.envelope(Command.MAIL, b"", (), b""), b"<>\0"),
    (requests.envelope(Command.RCPT, b"c@d", (b"NOTIFY=NEVER",), b""), b"<c@d>\0NOTIFY=NEVER\0"),
    (requests.data(b""), b""),
    (requests.unknown(b"FOO bar", b""), b"FOO bar\0"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "data"), STAGES)
def test_every_command_and_its_octets(request_: Request, data: bytes) -> None:
    session = opened()
    session.begin([request_])
    assert sent(session) == [(chr(request_.command), data)]
    assert session.outcome is None
    session.receive(CONTINUE)
    assert session.outcome == Outcome()


@pytest.mark.parametrize("command", list(LEFT_OUT))
def test_what_the_filter_does_not_want_is_not_sent_but_its_macros_are(command: int) -> None:
    session = opened(LEFT_OUT[command])
    macro = packet(Command.MACRO, bytes((command,)) + b"i\0Q\0")
    session.begin([Request(command, b"x", macro)])
    assert [code for code, _ in sent(session)] == ["D"]
    assert session.outcome == Outcome()


@pytest.mark.parametrize("command", list(UNANSWERED))
def test_what_the_filter_does_not_answer_is_not_waited_for(command: int) -> None:
    session = opened(UNANSWERED[command])
    session.begin([Request(command, b"x"), Request(Command.END_OF_MESSAGE)])
    assert [code for code, _ in sent(session)] == [chr(command), "E"]
    assert session.outcome is None
    session.receive(CONTINUE)
    assert session.outcome == Outcome()


@pytest.mark.parametrize(
    ("version", "command", "exists"),
    [
        *((2, Command.UNKNOWN, False), (3, Command.UNKNOWN, True)),
        *((3, Command.DATA, False), (4, Command.DATA, True)),
    ],
)
def test_commands_come_with_their_version(version: int, command: Command, exists: bool) -> None:
    session = opened(version=version)
    session.begin([Request(command)])
    assert bool(sent(session)) is exists


@feeds
def test_the_content_goes_out_in_order(feed: Feed) -> None:
    session = opened()
    session.begin(content(session))
    found = []
    while session.outcome is None:
        found += sent(session)
        feed(session, CONTINUE)
    macro = ("D", b"Ni\0Q\0")
    assert found == [
        *(macro, ("L", b"A\x001\0")),
        *(macro, ("L", b"B\0 2\n\tfolded\0")),
        *(macro, ("N", b"")),
        *(("B", BODY), ("E", b"")),
    ]
    assert session.outcome == Outcome()


def test_header_values_keep_their_leading_space_when_agreed() -> None:
    session = opened(Protocol.LEADING_SPACE | Protocol.NO_REPLY_HEADER)
    session.begin(content(session))
    assert [data for code, data in sent(session) if code == "L"] == [b"A\0 1\0", b"B\0  2\n\tfolded\0"]


def test_the_body_goes_in_pieces_of_64k() -> None:
    session = opened(Protocol.NO_HEADERS | Protocol.NO_END_OF_HEADERS | Protocol.NO_REPLY_BODY)
    session.begin(content(session, [b"x" * 50_000] * 4))
    assert [len(data) for code, data in sent(session) if code == "B"] == [65535, 65535, 65535, 3395]


def test_the_body_is_read_no_faster_than_the_filter_takes_it() -> None:
    session = opened(Protocol.NO_HEADERS | Protocol.NO_END_OF_HEADERS)
    read = 0

    def body() -> Iterable[bytes]:
        nonlocal read
        for _ in range(100):
            read += 65535
            yield bytes(65535)

    session.begin(content(session, body()))
    sent(session)
    assert read == 65535
    session.receive(CONTINUE)
    assert read <= 2 * 65535


def test_without_replies_octets_are_made_in_batches() -> None:
    session = opened(Protocol.NO_HEADERS | Protocol.NO_END_OF_HEADERS | Protocol.NO_REPLY_BODY)
    session.begin(content(session, [bytes(65535)] * 100))
    assert len(session.bytes_to_send()) < 512 * 1024
    assert session.outcome is None


def test_skip_ends_the_body() -> None:
    session = opened(Protocol.SKIP | Protocol.NO_HEADERS | Protocol.NO_END_OF_HEADERS)
    session.begin(content(session, [bytes(65535)] * 9))
    assert [code for code, _ in sent(session)] == ["D", "B"]
    session.receive(packet(Response.SKIP))
    assert [code for code, _ in sent(session)] == ["E"]


# Verdicts.

RULINGS = [
    (packet(Response.ACCEPT), Ruling.ACCEPT, 0),
    (packet(Response.DISCARD), Ruling.DISCARD, 0),
    (packet(Response.REJECT), Ruling.REJECT, 550),
    (packet(Response.TEMPFAIL), Ruling.TEMPFAIL, 451),
    (packet(Response.REPLY, b"554 5.7.9 no\0"), Ruling.REPLY, 554),
    (packet(Response.SHUTDOWN), Ruling.SHUTDOWN, 421),
    (packet(Response.CONNECTION_FAILURE), Ruling.CONNECTION_FAILURE, 421),
]
ALL = [Command.CONNECT, Command.HELO, Command.MAIL, Command.RCPT, Command.DATA, Command.UNKNOWN]
ALL += [Command.HEADER, Command.END_OF_HEADERS, Command.BODY, Command.END_OF_MESSAGE]


@feeds
@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize(("answer", "ruling", "code"), RULINGS)
def test_every_verdict_at_every_command(
    feed: Feed, command: Command, answer: bytes, ruling: Ruling, code: int
) -> None:
    session = opened()
    session.begin([Request(command), Request(Command.DATA)])
    sent(session)
    feed(session, answer)
    in_session = command in (Command.CONNECT, Command.HELO)
    if ruling is Ruling.DISCARD and in_session:
        ruling = Ruling.CONTINUE
    assert session.outcome is not None
    assert (session.outcome.verdict.ruling, session.outcome.verdict.code) == (ruling, code)
    assert session.outcome.failure == ""
    # What lasts: to the end of the session, of the message, or not at all.
    closing = ruling in (Ruling.SHUTDOWN, Ruling.CONNECTION_FAILURE)
    single = command in (Command.RCPT, Command.UNKNOWN) and code != 0
    lasts = closing or (
        ruling is not Ruling.CONTINUE and command is not Command.END_OF_MESSAGE and not single
    )
    assert session.settled is lasts
    session.begin([Request(Command.MAIL)])
    assert bool(sent(session)) is not lasts
    if lasts:
        session.abort()
        assert session.settled is (closing or in_session)


@pytest.mark.parametrize(
    ("text", "code", "enhanced", "lines"),
    [
        (b"550 5.7.1 no\0", 550, "5.7.1", ("no",)),
        (b"450 later\0", 450, "", ("later",)),
        (b"451\0", 451, "", ("",)),
        (b"550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\0", 550, "5.7.1", ("one", "two", "three")),
        (b"550-one\n550 two\0", 550, "", ("one", "two")),
        (b"554 5.7.1 100%% sure, %s\0", 554, "5.7.1", ("100% sure, s",)),
        (b"550 5.7.1 bell\x07 \xff\0", 550, "5.7.1", ("bell? ?",)),
        (b"550 5.7.1\0", 550, "5.7.1", ("",)),
        (b"421 4.7.0 bye\0", 421, "4.7.0", ("bye",)),
    ],
)
def test_replies(text: bytes, code: int, enhanced: str, lines: tuple[str, ...]) -> None:
    session = opened()
    session.begin([Request(Command.RCPT)])
    session.receive(packet(Response.REPLY, text))
    assert session.outcome == Outcome(Verdict(Ruling.REPLY, code, enhanced, lines))
    assert session.settled is (code == 421)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"250 ok\0", b"350 go\0", b"55 x\0", b"5500 x\0", b"x\0", b"550 4.7.1 other class\0"),
        *(b"550-a\r\n450 b\0", b"550-a\r\nnothing\0", b"550 a\r\n" * 40),
    ],
)
def test_replies_that_are_malformed_are_failures(text: bytes) -> None:
    session = opened()
    session.begin([Request(Command.RCPT)])
    session.receive(packet(Response.REPLY, text))
    assert session.outcome is not None
    assert session.outcome.failure.startswith("protocol error")
    assert session.outcome.verdict.ruling is Ruling.TEMPFAIL


@pytest.mark.parametrize(
    ("default", "ruling", "code", "edits"),
    [
        (DefaultAction.TEMPFAIL, Ruling.TEMPFAIL, 451, ()),
        (DefaultAction.REJECT, Ruling.REJECT, 550, ()),
        (DefaultAction.ACCEPT, Ruling.ACCEPT, 0, ()),
        (DefaultAction.QUARANTINE, Ruling.ACCEPT, 0, (Quarantine("filter failed: gone"),)),
    ],
)
def test_default_actions(default: DefaultAction, ruling: Ruling, code: int, edits: tuple[Edit, ...]) -> None:
    session = opened(default=default)
    session.begin([Request(Command.MAIL)])
    session.fail("gone")
    assert session.outcome is not None
    assert (session.outcome.verdict.ruling, session.outcome.verdict.code) == (ruling, code)
    assert session.outcome.edits == edits
    session.abort()
    session.begin([Request(Command.MAIL)])
    assert session.outcome.failure == "gone"
    assert sent(session) == []


# Edits.

EDITS: list[tuple[Response, bytes, Action, Edit]] = [
    (Response.ADD_HEADER, b"X-A\0v\0", Action.ADD_HEADERS, AddHeader(b"X-A", b" v")),
    (Response.ADD_HEADER, b"X-A\0a\n\tb\nc\0", Action.ADD_HEADERS, AddHeader(b"X-A", b" a\r\n\tb\r\n\tc")),
    (Response.ADD_HEADER, b"X-A\0a\r\n\r\nb\r\n\0", Action.ADD_HEADERS, AddHeader(b"X-A", b" a\r\n\tb")),
    (Response.ADD_HEADER, b"X-A\0\0", Action.ADD_HEADERS, AddHeader(b"X-A", b" ")),
    (Response.INSERT_HEADER, b"\0\0\0\0X-A\0v\0", Action.ADD_HEADERS, InsertHeader(0, b"X-A", b" v")),
    (Response.INSERT_HEADER, b"\0\0\1\0X-A\0v\0", Action.ADD_HEADERS, InsertHeader(256, b"X-A", b" v")),
    (Response.CHANGE_HEADER, b"\0\0\0\2X-A\0v\0", Action.CHANGE_HEADERS, ChangeHeader(2, b"X-A", b" v")),
    (Response.CHANGE_HEADER, b"\0\0\0\0X-A\0v\0", Action.CHANGE_HEADERS, ChangeHeader(1, b"X-A", b" v")),
    (Response.CHANGE_HEADER, b"\0\0\0\1X-A\0\0", Action.CHANGE_HEADERS, DeleteHeader(1, b"X-A")),
    (Response.ADD_RECIPIENT, b"<a@b>\0", Action.ADD_RECIPIENTS, AddRecipient(b"a@b")),
    (Response.ADD_RECIPIENT_PARAMETERS, b"a@b\0NOTIFY=NEVER X=1\0", Action.ADD_RECIPIENTS_PARAMETERS,
     AddRecipient(b"a@b", b"NOTIFY=NEVER X=1")),
    (Response.ADD_RECIPIENT_PARAMETERS, b"a@b\0", Action.ADD_RECIPIENTS_PARAMETERS, AddRecipient(b"a@b")),
    (Response.DELETE_RECIPIENT, b"<a@b>\0", Action.DELETE_RECIPIENTS, DeleteRecipient(b"a@b")),
    (Response.CHANGE_SENDER, b"<a@b>\0", Action.CHANGE_SENDER, ChangeSender(b"a@b")),
    (Response.CHANGE_SENDER, b"<>\0RET=HDRS\0", Action.CHANGE_SENDER, ChangeSender(b"", b"RET=HDRS")),
    (Response.QUARANTINE, b"why\0", Action.QUARANTINE, Quarantine("why")),
    (Response.REPLACE_BODY, b"new", Action.CHANGE_BODY, ReplaceBody((b"new",))),
]  # fmt: skip


@feeds
@pytest.mark.parametrize(("code", "data", "action", "edit"), EDITS)
def test_every_edit(feed: Feed, code: Response, data: bytes, action: Action, edit: Edit) -> None:
    session = opened(actions=action)
    at_end(session)
    feed(session, packet(Response.PROGRESS) + packet(code, data) + CONTINUE)
    assert session.outcome == Outcome(edits=(edit,))


@pytest.mark.parametrize(("code", "data", "action", "edit"), EDITS)
def test_an_edit_that_was_not_agreed_on_is_a_failure(
    code: Response, data: bytes, action: Action, edit: Edit
) -> None:
    session = opened(actions=0x1FF & ~action)
    at_end(session)
    session.receive(packet(code, data) + CONTINUE)
    assert session.outcome is not None
    assert "did not negotiate" in session.outcome.failure
    assert session.outcome.edits == ()


@pytest.mark.parametrize(("code", "data", "action", "edit"), EDITS)
def test_edits_belong_to_the_end_of_the_message_but_quarantine_may_come_early(
    code: Response, data: bytes, action: Action, edit: Edit
) -> None:
    session = opened()
    session.begin([Request(Command.MAIL)])
    session.receive(packet(code, data) + CONTINUE)
    assert session.outcome is not None
    early = isinstance(edit, Quarantine)
    assert bool(session.outcome.failure) is not early
    assert session.outcome.edits == ((edit,) if early else ())


def test_leading_space_leaves_the_value_as_it_is() -> None:
    session = opened(Protocol.LEADING_SPACE)
    at_end(session)
    session.receive(
        packet(Response.ADD_HEADER, b"A\0\tv\0") + packet(Response.ADD_HEADER, b"B\0v\0") + CONTINUE
    )
    assert session.outcome == Outcome(edits=(AddHeader(b"A", b"\tv"), AddHeader(b"B", b"v")))


def test_a_new_body_in_pieces_is_joined_or_handed_on() -> None:
    answer = b"".join(packet(Response.REPLACE_BODY, one) for one in (b"a", b"", b"b")) + CONTINUE
    session = opened()
    at_end(session)
    session.receive(answer)
    assert session.outcome == Outcome(edits=(ReplaceBody((b"a", b"b")),))
    session = opened()
    got: list[bytes] = []
    session.begin([Request(Command.END_OF_MESSAGE)], got.append)
    session.receive(answer)
    assert session.outcome == Outcome(edits=(ReplaceBody(()),))
    assert b"".join(got) == b"ab"


BROKEN = [
    packet(ord("?")),
    packet(Response.CONTINUE, b"x"),
    packet(Response.ACCEPT, b"x"),
    packet(Response.PROGRESS, b"x"),
    packet(Response.SKIP),
    packet(Response.ADD_HEADER, b"X\0v"),
    packet(Response.ADD_HEADER, b"X\0"),
    packet(Response.ADD_HEADER, b"X\0v\0w\0"),
    packet(Response.ADD_HEADER, b"\0v\0"),
    packet(Response.ADD_HEADER, b"X:Y\0v\0"),
    packet(Response.ADD_HEADER, b"X Y\0v\0"),
    packet(Response.INSERT_HEADER, b"\0\0"),
    packet(Response.INSERT_HEADER, b"\xff\xff\xff\xffX\0v\0"),
    packet(Response.ADD_RECIPIENT, b""),
    packet(Response.ADD_RECIPIENT, b"a@b\r\nc\0"),
    packet(Response.CHANGE_SENDER, b"a\0b\0c\0"),
    packet(Command.NEGOTIATE, offer(6).encode()),
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
]


@feeds
@pytest.mark.parametrize("answer", BROKEN)
def test_what_is_malformed_is_a_failure_with_the_default_action(feed: Feed, answer: bytes) -> None:
    session = opened(default=DefaultAction.REJECT)
    at_end(session)
    feed(session, answer + CONTINUE)
    assert session.outcome is not None
    assert session.outcome.failure.startswith("protocol error: ")
    assert session.outcome.verdict.ruling is Ruling.REJECT
    assert session.failed


@pytest.mark.parametrize(
    ("bounds", "answer"),
    [
        (Bounds(edits=3), packet(Response.ADD_HEADER, b"A\0b\0") * 4),
        (Bounds(edit_octets=20), packet(Response.ADD_HEADER, b"A\0bbbbbbb\0") * 3),
        (Bounds(body_octets=20), packet(Response.REPLACE_BODY, b"0123456789") * 3),
        (Bounds(progress=3), packet(Response.PROGRESS) * 4),
    ],
)
def test_bounds(bounds: Bounds, answer: bytes) -> None:
    session = opened(bounds=bounds)
    at_end(session)
    session.receive(answer)
    assert session.failed


def test_an_answer_to_nothing_is_a_failure_from_then_on() -> None:
    session = opened()
    session.receive(CONTINUE)
    session.begin([Request(Command.MAIL)])
    assert session.outcome is not None
    assert "although nothing was asked" in session.outcome.failure


@pytest.mark.parametrize("asked", [True, False])
def test_a_filter_that_closes(asked: bool) -> None:
    session = opened()
    if asked:
        session.begin([Request(Command.MAIL)])
    session.receive(b"")
    if not asked:
        assert session.outcome == Outcome()
        session.begin([Request(Command.MAIL)])
    assert session.outcome is not None
    assert session.outcome.failure == "the filter closed the connection"


def test_misuse_is_an_error_of_the_program() -> None:
    session = MilterSession()
    with pytest.raises(RuntimeError):
        session.begin([])
    session = opened()
    session.begin([Request(Command.MAIL)])
    with pytest.raises(RuntimeError):
        session.begin([])
    with pytest.raises(RuntimeError):
        session.abort()


@pytest.mark.parametrize(
    ("answer", "version", "flags", "reusable"),
    [
        (CONTINUE, 6, 0, True),
        (CONTINUE, 4, 0, False),
        (CONTINUE, 6, Protocol.NO_CONNECT, False),
        (packet(Response.ACCEPT), 6, 0, False),
    ],
)
def test_quit_and_reuse(answer: bytes, version: int, flags: int, reusable: bool) -> None:
    session = opened(flags, version=version)
    before = session.reusable
    at_end(session)
    session.receive(answer)
    session.abort()
    assert (before, session.reusable) == (False, reusable)
    sent(session)
    session.quit(reuse=reusable)
    assert [code for code, _ in sent(session)] == ["K" if reusable else "Q"]
    if reusable:
        session.begin([STAGES[0][0]])
        assert [code for code, _ in sent(session)] == ["C"]


def test_abort_goes_out_before_the_next_message() -> None:
    session = opened()
    at_end(session)
    session.receive(CONTINUE)
    session.abort()
    session.begin([Request(Command.MAIL)])
    assert [code for code, _ in sent(session)] == ["A", "M"]
    session.receive(CONTINUE)
    session.abort()
    assert [code for code, _ in sent(session)] == ["A"]


# Any octets.

answers = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from([CONTINUE, packet(Response.PROGRESS), *(one for one, _, _ in RULINGS), *BROKEN]),
        st.sampled_from([packet(code, data) for code, data, _, _ in EDITS]),
        st.builds(packet, st.sampled_from(list(Response)), st.binary(max_size=20)),
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@given(answers, st.integers(0, 0x1FFFFF))
@settings(max_examples=200, deadline=None)
def test_any_octets_end_in_the_same_outcome_whole_and_byte_by_byte(octets: bytes, flags: int) -> None:
    found = []
    for feed in (whole, byte_by_byte):
        session = opened(flags)
        session.begin([Request(Command.MAIL)])
        sent(session)
        feed(session, octets)
        session.receive(b"")
        assert session.outcome is not None
        found.append(session.outcome)
        assert session.failed
    assert found[0].verdict == found[1].verdict
    assert found[0].edits == found[1].edits


@given(st.binary(max_size=60))
def test_any_answer_to_the_negotiation_ends(octets: bytes) -> None:
    session = MilterSession()
    session.negotiate()
    session.receive(octets)
    session.receive(b"")
    assert session.failed


def test_strings_with_nul_cannot_make_another_string() -> None:
    request_ = requests.envelope(Command.MAIL, b"a\0b", (b"X\0Y",), b"")
    assert request_.data == strings((b"<a b>", b"X Y"))
    message = Message([Field(b"A", b" x\0y")], lambda: ())
    session = opened(Protocol.NO_REPLY_HEADER)
    assert session.agreement is not None
    session.begin(requests.content(session.agreement, message.shown(), (), {}))
    assert sent(session)[0] == ("L", b"A\0x y\0")


@pytest.mark.parametrize(("data", "good"), [(b"\0\0\0\1i\0", True), (b"\0\0\0\1i", False)])
def test_a_symbol_list_after_the_negotiation_is_read_and_changes_nothing(data: bytes, good: bool) -> None:
    session = opened()
    session.begin([Request(Command.MAIL)])
    session.receive(packet(Response.SET_SYMBOLS, data) + CONTINUE)
    assert session.failed is not good
    assert session.agreement is not None
    assert session.agreement.symbols == {}
