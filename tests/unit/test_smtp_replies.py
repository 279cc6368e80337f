"""The reply parser and the capability table: what real and hostile servers send."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.reply import Reply
from mta.smtp.capabilities import Limits, parse_capabilities, parse_limits, size_limit
from mta.smtp.replies import MAX_LINE, MAX_LINES, MAX_SIZE, ReplyError, ReplyParser, split_enhanced


def read(data: bytes, step: int = 0) -> list[Reply]:
    parser = ReplyParser()
    replies = []
    for start in range(0, len(data), step or len(data) or 1):
        parser.feed(data[start : start + step] if step else data)
        while (reply := parser.next_reply()) is not None:
            replies.append(reply)
    return replies


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"250 2.1.5 OK\r\n", Reply(250, "2.1.5", "OK")),
        (b"250 OK\r\n", Reply(250, "", "OK")),
        (b"250\r\n", Reply(250, "", "")),
        (b"250 \r\n", Reply(250, "", "")),
        (b"250 2.0.0\r\n", Reply(250, "2.0.0", "")),
        (b"550 5.1.1 <a@b> unknown\n", Reply(550, "5.1.1", "<a@b> unknown")),
        (b"552 5.2.2 <full@x> Quota\r\n", Reply(552, "5.2.2", "<full@x> Quota")),
        (b"250-a\r\n250 b\r\n", Reply(250, "", "a\nb")),
        (b"550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n", Reply(550, "5.7.1", "one\ntwo\nthree")),
        (b"550-5.7.1 one\r\n550 two\r\n", Reply(550, "5.7.1", "one\ntwo")),
        (b"550-5.7.1 one\r\n550 5.1.1 two\r\n", Reply(550, "5.7.1", "one\n5.1.1 two")),
        (b"550-\r\n550 5.7.1 two\r\n", Reply(550, "", "\n5.7.1 two")),
        (b"550 4.1.1 wrong class\r\n", Reply(550, "", "4.1.1 wrong class")),
        (b"550 5.1 short\r\n", Reply(550, "", "5.1 short")),
        (b"550 5.1.1000 long\r\n", Reply(550, "", "5.1.1000 long")),
        (b"550 5.x.1 no\r\n", Reply(550, "", "5.x.1 no")),
        (b"250 a\x07b\x00c\td\r\n", Reply(250, "", "a b c d")),
        (b"250 gr\xc3\xbc\xc3\x9fe\r\n", Reply(250, "", "grüße")),
        (b"250 \xff\r\n", Reply(250, "", "\ufffd")),
        (b"250 a\rb\r\n", Reply(250, "", "a b")),
        (b"250 5.5 dB\r\n", Reply(250, "", "5.5 dB")),
        # No RFC has such codes; the first digit says what is meant.
        (b"571 5.7.1 blocked\r\n", Reply(550, "5.7.1", "blocked")),
        (b"571-5.7.1 blocked\r\n571 5.7.1 ask us\r\n", Reply(550, "5.7.1", "blocked\nask us")),
        (b"599\r\n", Reply(550, "", "")),
        (b"471 later\r\n", Reply(450, "", "later")),
        (b"260 x\r\n", Reply(250, "", "x")),
    ],
)
def test_one_reply(octets: bytes, expected: Reply, step: int) -> None:
    assert read(octets, step) == [expected]
    assert read(octets + b"354 go\r\n", step) == [expected, Reply(354, "", "go")]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"hello\r\n",
        b"25 x\r\n",
        b"2500 x\r\n",
        b"250x\r\n",
        b"250\tx\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"571-x\r\n572 y\r\n",
        b"999 x\r\n",
        b"+50 x\r\n",
        "٢٥٠ x\r\n".encode(),
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\nb\r\n",
        b"x" * (MAX_LINE + 2),
        b"250 " + b"x" * (MAX_LINE + 2) + b"\r\n",
        b"250-x\r\n" * (MAX_LINES + 1),
        (b"250-" + b"x" * 2000 + b"\r\n") * (MAX_SIZE // 2000 + 1),
    ],
)
def test_garbage(octets: bytes, step: int) -> None:
    with pytest.raises(ReplyError):
        read(octets, step)


def test_what_came_before_garbage_is_read() -> None:
    parser = ReplyParser()
    parser.feed(b"250 ok\r\ngarbage\r\n")
    assert parser.next_reply() == Reply(250, "", "ok")
    with pytest.raises(ReplyError):
        parser.next_reply()


def test_is_empty_tells_what_waits() -> None:
    parser = ReplyParser()
    seen = [parser.is_empty]
    for data in (b"220 go\r\n", b"2", b"20-x\r\n", b"220 y\r\n", b"220 z\r\n220 ", b"a\r\n"):
        parser.feed(data)
        seen.append(parser.is_empty)
        while parser.next_reply() is not None:
            pass
        seen.append(parser.is_empty)
    # Before and after reading; half a reply waits, be it half a line or lines without the last one.
    assert seen == [True, False, True, False, False, False, False, False, True, False, False, False, True]


_PIECES = st.sampled_from(
    [b"250 a", b"250-a", b"\r\n", b"\n", b"\r", b"550 5.1.1 x\r\n", b"250-", b"250 ", b"x"]
)


@given(
    data=st.one_of(st.binary(max_size=200), st.lists(_PIECES, max_size=20).map(b"".join)),
    cut=st.integers(0, 200),
)
@settings(max_examples=400, deadline=None)
def test_anything_parses_or_raises_and_cuts_do_not_matter(data: bytes, cut: int) -> None:
    def outcome(parts: list[bytes]) -> tuple[list[Reply], bool]:
        parser = ReplyParser()
        replies: list[Reply] = []
        try:
            for part in parts:
                parser.feed(part)
                while (reply := parser.next_reply()) is not None:
                    replies.append(reply)
        except ReplyError:
            return replies, True
        return replies, False

    def at_once(parts: list[bytes]) -> tuple[list[Reply], bool]:
        parser = ReplyParser()
        replies: list[Reply] = []
        try:
            for part in parts:
                for reply in parser.read(part):
                    replies.append(reply)
        except ReplyError:
            return replies, True
        return replies, False

    whole = outcome([data])
    assert outcome([data[:cut], data[cut:]]) == whole
    assert at_once([data]) == whole
    assert at_once([data[:cut], data[cut:]]) == whole


@given(
    code=st.integers(200, 559).filter(lambda code: code // 10 % 10 < 6),
    lines=st.lists(
        st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=60), min_size=1, max_size=5
    ),
)
@settings(max_examples=100, deadline=None)
def test_our_own_replies_come_back(code: int, lines: list[str]) -> None:
    enhanced = f"{code // 100}.7.1" if code // 100 in (2, 4, 5) else ""
    if not enhanced and split_enhanced(code, lines[0])[0]:
        return
    reply = Reply(code, enhanced, "\n".join(lines))
    assert read(reply.encode(), 1) == [reply]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("mx.example", {}),
        (
            "mx.example hi\nPIPELINING\nsize 1000\nAuth PLAIN LOGIN",
            {"PIPELINING": "", "SIZE": "1000", "AUTH": "PLAIN LOGIN"},
        ),
        ("mx\nAUTH PLAIN\nAUTH=PLAIN LOGIN", {"AUTH": "PLAIN PLAIN LOGIN"}),
        ("mx\nAUTH=LOGIN", {"AUTH": "LOGIN"}),
        ("mx\nX-FOO  a  b ", {"X-FOO": "a  b"}),
        ("mx\n\n???\nÄ x\n8BITMIME", {"8BITMIME": ""}),
    ],
)
def test_capabilities(text: str, offered: dict[str, str]) -> None:
    assert parse_capabilities(Reply(250, "", text)) == offered


@pytest.mark.parametrize(
    ("argument", "limits"),
    [
        ("RCPTMAX=100 MAILMAX=5 RCPTDOMAINMAX=1", Limits(5, 100, 1)),
        ("rcptmax=7", Limits(0, 7, 0)),
        ("RCPTMAX=0 MAILMAX=x OTHER=1 RCPTDOMAINMAX", Limits()),
        ("RCPTMAX=1234567", Limits()),
        ("", Limits()),
    ],
)
def test_limits(argument: str, limits: Limits) -> None:
    assert parse_limits({"LIMITS": argument}) == limits


@pytest.mark.parametrize(
    ("argument", "limit"), [("1000", 1000), ("", 0), ("0", 0), ("x", 0), ("-1", 0), ("9" * 21, 0)]
)
def test_size_limit(argument: str, limit: int) -> None:
    assert size_limit({"SIZE": argument}) == limit
    assert size_limit({}) == 0
