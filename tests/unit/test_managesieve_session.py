"""ManageSieve without a network: what is read, what is answered, and that no octets do harm."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.managesieve.answers import Answer, no, ok, string
from mta.managesieve.session import LoggedOut, ManageSieveSession, Request, SessionSettings
from mta.managesieve.syntax import (
    MAX_LINE,
    MAX_SKIPPED,
    Command,
    CommandReader,
    Mistake,
    Number,
    String,
    Word,
)
from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp.state import State
from tests.fuzz.fuzz_managesieve import check

LIMIT = 50


def read(pieces: Iterable[bytes], limit: int = LIMIT) -> list[Command | Mistake]:
    reader, found = CommandReader(limit), []
    for piece in pieces:
        reader.feed(piece)
        while (one := reader.next()) is not None:
            found.append(one)
    return found


COMMANDS = [
    (b"NOOP\r\n", (Word("NOOP"),)),
    (b"\r\n", ()),
    (b'Noop "a\\"\\\\b"\r\n', (Word("Noop"), String(b'a"\\b'))),
    (b'HAVESPACE "\xc3\xbc" 4294967295\r\n', (Word("HAVESPACE"), String("ü".encode()), Number(4294967295))),
    (b'PUTSCRIPT "a" {5+}\r\n\r\n"{x\r\n', (Word("PUTSCRIPT"), String(b"a"), String(b'\r\n"{x'))),
    (b"PUTSCRIPT {1+}\r\na {0+}\r\n\r\n", (Word("PUTSCRIPT"), String(b"a"), String(b""))),
    (b"123abc\t12\r\n", (Word("123abc"), Number(12))),
]


@pytest.mark.parametrize(("octets", "tokens"), COMMANDS)
def test_commands(octets: bytes, tokens: tuple[object, ...]) -> None:
    assert read([octets]) == [Command(tokens)]  # type: ignore[arg-type]
    assert read([bytes([octet]) for octet in octets]) == [Command(tokens)]  # type: ignore[arg-type]


MISTAKES = [
    (b"NOOP\n", "CR LF", False),
    (b'NOOP "a\r\n', "begins here", False),
    (b'NOOP "a"b\r\n', "space is missing", False),
    (b'NOOP "a\0"\r\n', "begins here", False),
    (b"HAVESPACE 4294967296\r\n", "number", False),
    (b"HAVESPACE 99999999999999999\r\n", "number", False),
    (b"a b c d e f g h i\r\n", "too many", False),
    (b"PUTSCRIPT {51+}\r\n" + b"x" * 51 + b"\r\n", "too large", False),
    (b"PUTSCRIPT {5}\r\n", "+ after", True),
    (b"PUTSCRIPT {99999999999+}\r\n", "too large", True),
    (b'PUTSCRIPT "a {5+}\r\n', "begins here", True),
    (b"a b c d e f g h i {3+}\r\n", "too many", True),
    (b"x" * (MAX_LINE + 1), "too long", True),
    (b"x" * MAX_LINE + b"\r\n", "too long", True),
]


@pytest.mark.parametrize(("octets", "text", "fatal"), MISTAKES)
def test_mistakes(octets: bytes, text: str, fatal: bool) -> None:
    more = b"" if fatal else b"NOOP\r\n"
    mistake, *rest = read([octets + more])
    assert isinstance(mistake, Mistake)
    assert text in mistake.text
    assert mistake.fatal is fatal
    assert rest == ([] if fatal else [Command((Word("NOOP"),))])


def test_a_literal_that_is_too_large_takes_no_memory() -> None:
    reader = CommandReader(LIMIT)
    reader.feed(b"PUTSCRIPT {%d+}\r\n" % MAX_SKIPPED)
    for _ in range(64):
        reader.feed(b"x" * 1000)
        assert reader.next() is None
        assert reader.buffered == 0


ANY = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"\r\n", b"\n", b'"', b" ", b"{3+}\r\n", b"{60+}\r\n", b"{3}\r\n", b"NOOP", b"\\", b"LOGOUT\r\n"]
            + [b'AUTHENTICATE "PLAIN"\r\n', b'"*"\r\n', b"STARTTLS\r\n", b"CAPABILITY\r\n", b'"AAAA"\r\n']
            + [octets for octets, _ in COMMANDS]
        ),
    ),
    max_size=12,
).map(b"".join)


@given(ANY, st.data())
def test_pieces_do_not_matter(octets: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=6)))
    pieces = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]

    def until_fatal(found: list[Command | Mistake]) -> list[Command | Mistake]:
        ends = [n for n, one in enumerate(found) if isinstance(one, Mistake) and one.fatal]
        return found[: ends[0] + 1] if ends else found

    assert until_fatal(read(pieces)) == until_fatal(read([octets]))


# --- the session -----------------------------------------------------------------------------------


def session(*, user: str = "", tls: bool = True, **settings: object) -> ManageSieveSession:
    made = ManageSieveSession(SessionSettings(**settings), tls=tls)  # type: ignore[arg-type]
    made.mechanisms = ("SCRAM-SHA-256", "PLAIN")
    made.greet("ready")
    made.data_to_send()
    made.logged_in(user)
    return made


def drive(made: ManageSieveSession, octets: bytes) -> list[object]:
    """Feed octets; events are answered as a receiver would that knows the scripts of nobody."""
    made.receive_data(octets)
    events: list[object] = []
    while (event := made.next_event()) is not None:
        events.append(event)
        match event:
            case Request():
                made.finish(no("none", "NONEXISTENT"))
            case ev.AuthStart():
                made.challenge(b"go on")
            case ev.AuthResponse():
                made.answer(Reply(535, "5.7.8", "no"))
            case ev.StartTls():
                made.answer()
                made.tls_started()
                made.greet("ready")
            case LoggedOut():
                made.logged_in("")
                made.answer()
    return events


@given(st.lists(ANY, max_size=4), st.sampled_from(["", "alice"]), st.booleans())
def test_any_octets_end_in_answers_or_a_close(pieces: list[bytes], user: str, tls: bool) -> None:
    made = session(user=user, tls=tls, starttls=True, script_octets=LIMIT)
    for piece in pieces:
        drive(made, piece)
        assert not made.is_waiting
        assert made.buffered <= MAX_LINE + 64
    out = made.data_to_send()
    assert out == b"" or out.endswith(b"\r\n")
    if made.state is State.CLOSED:
        made.receive_data(b"NOOP\r\n")
        assert made.next_event() is None
        assert made.data_to_send() == b""


ANSWERS = [
    ("", b"NOOP\r\n", b"OK\r\n"),
    ("", b'NOOP "a\\"b"\r\n', b'OK (TAG "a\\"b") "done"\r\n'),
    ("", b"LISTSCRIPTS\r\n", b'NO "log in first"\r\n'),
    ("", b"FOO\r\n", b'NO "there is no such command"\r\n'),
    ("", b'"FOO"\r\n', b'NO "a command begins with its name"\r\n'),
    ("", b"NOOP 1\r\n", b'NO "these are not the arguments of the command"\r\n'),
    ("", b"LOGOUT\r\n", b'OK "goodbye"\r\n'),
    ("", b"STARTTLS\r\n", b'NO "there is TLS already"\r\n'),
    ("", b'AUTHENTICATE "PLAIN" "?"\r\n', b'NO "the initial response is no base64"\r\n'),
    ("", b'AUTHENTICATE "PLAIN"\r\n"*"\r\n', b'"Z28gb24="\r\nNO "the client gave up"\r\n'),
    ("", b'AUTHENTICATE "PLAIN"\r\nNOOP\r\n', b'"Z28gb24="\r\nNO "a response is one string"\r\n'),
    ("", b'AUTHENTICATE "PLAIN" ""\r\n{4+}\r\nAAAA\r\n', b'"Z28gb24="\r\nNO "no"\r\n'),
    ("a", b'AUTHENTICATE "PLAIN"\r\n', b'NO "there is a login already"\r\n'),
    ("a", b'SETACTIVE "a/b"\r\n', b'NO "a script cannot have \\"/\\" in its name"\r\n'),
    ("a", b'GETSCRIPT ""\r\n', b'NO "the name of the script is empty"\r\n'),
    ("a", b'GETSCRIPT "\xff"\r\n', b'NO "the name of the script is no UTF-8"\r\n'),
    ("a", b'GETSCRIPT "a\x07"\r\n', b'NO "a script cannot have control characters in its name"\r\n'),
    ("a", b'GETSCRIPT "a"\r\n', b'NO (NONEXISTENT) "none"\r\n'),
    ("a", b"CHECKSCRIPT {60+}\r\n" + b"x" * 60 + b"\r\n",
     b'NO (QUOTA/MAXSIZE) "the literal is too large"\r\n'),
    ("a", b"CHECKSCRIPT {5}\r\n", b'BYE "a literal of a client has a + after its length"\r\n'),
    ("a", b"UNAUTHENTICATE\r\nLISTSCRIPTS\r\n", b'OK\r\nNO "log in first"\r\n'),
]  # fmt: skip


@pytest.mark.parametrize(("user", "octets", "answer"), ANSWERS)
def test_answers(user: str, octets: bytes, answer: bytes) -> None:
    made = session(user=user, script_octets=LIMIT)
    drive(made, octets)
    assert made.data_to_send() == answer


REQUESTS = [
    (b'HAVESPACE "a" 7\r\n', Request("HAVESPACE", "a", size=7)),
    (b'PUTSCRIPT "u\xcc\x88" {5+}\r\nkeep;\r\n', Request("PUTSCRIPT", "ü", text=b"keep;")),
    (b"LISTSCRIPTS\r\n", Request("LISTSCRIPTS")),
    (b'setactive ""\r\n', Request("SETACTIVE", "")),
    (b'SETACTIVE "a"\r\n', Request("SETACTIVE", "a")),
    (b'GETSCRIPT "a"\r\n', Request("GETSCRIPT", "a")),
    (b'DELETESCRIPT "a"\r\n', Request("DELETESCRIPT", "a")),
    (b'RENAMESCRIPT "a" "b"\r\n', Request("RENAMESCRIPT", "a", "b")),
    (b'CHECKSCRIPT "keep;"\r\n', Request("CHECKSCRIPT", text=b"keep;")),
    (b"UNAUTHENTICATE\r\n", LoggedOut()),
]


@pytest.mark.parametrize(("octets", "request_"), REQUESTS)
def test_requests(octets: bytes, request_: object) -> None:
    assert drive(session(user="a"), octets) == [request_]


def test_nothing_sent_in_clear_survives_starttls() -> None:
    made = session(tls=False, starttls=True)
    assert drive(made, b"STARTTLS\r\nNOOP\r\nLISTSCRIPTS\r\n") == [ev.StartTls()]
    out = made.data_to_send()
    assert out.startswith(b"OK\r\n")
    assert out.count(b"OK") == 2
    assert b"NO" not in out.replace(b"NOTIFY", b"")
    assert b'"STARTTLS"' not in out


def test_tls_can_be_required() -> None:
    made = session(tls=False, starttls=True, require_tls=True)
    drive(made, b'AUTHENTICATE "PLAIN" "AAAA"\r\n')
    assert made.data_to_send() == b'NO (ENCRYPT-NEEDED) "STARTTLS comes first"\r\n'
    drive(made, b"CAPABILITY\r\n")
    assert b'"SASL" ""\r\n' in made.data_to_send()


def test_the_last_word_of_scram_travels_in_the_ok() -> None:
    made = session()
    made.receive_data(b'AUTHENTICATE "SCRAM-SHA-256" "AAAA"\r\n')
    assert made.next_event() == ev.AuthStart("SCRAM-SHA-256", b"\0\0\0")
    made.challenge(b"v=proof")
    assert made.next_event() == ev.AuthResponse(b"")
    assert made.data_to_send() == b""
    made.answer()
    assert made.data_to_send() == b'OK (SASL "' + b64encode(b"v=proof") + b'")\r\n'


def test_a_client_with_too_many_errors_is_sent_away() -> None:
    made = session(max_errors=2)
    drive(made, b"FOO\r\n" * 5)
    assert made.data_to_send().splitlines()[2:] == [b'BYE "too many errors"']
    assert made.state is State.CLOSED


REPLIES = [
    (Reply(421, "4.7.0", "late", close=True), b'BYE (TRYLATER) "late"\r\n'),
    (Reply(454, "4.7.0", "later"), b'NO (TRYLATER) "later"\r\n'),
    (Reply(534, "5.7.9", "weak"), b'NO (AUTH-TOO-WEAK) "weak"\r\n'),
    (Reply(538, "5.7.11", "clear"), b'NO (ENCRYPT-NEEDED) "clear"\r\n'),
    (Reply(535, "5.7.8", "wrong"), b'NO "wrong"\r\n'),
]


@pytest.mark.parametrize(("reply", "octets"), REPLIES)
def test_replies_of_logins(reply: Reply, octets: bytes) -> None:
    made = session()
    made.receive_data(b'AUTHENTICATE "PLAIN" "AAAA"\r\n')
    assert isinstance(made.next_event(), ev.AuthStart)
    made.answer(reply)
    assert made.data_to_send() == octets


def test_strings() -> None:
    assert string(b'a"\\') == b'"a\\"\\\\"'
    assert string(b"a\r\nb") == b"{4}\r\na\r\nb"
    assert string(b"x" * 1025).startswith(b"{1025}\r\n")
    assert Answer("NO", "a\nb", "X").encode() == b"NO (X) {3}\r\na\nb\r\n"
    assert ok().encode() == b"OK\r\n"


@given(st.binary(min_size=1, max_size=1), ANY)
def test_fuzz_target(head: bytes, octets: bytes) -> None:
    check(head + octets)
