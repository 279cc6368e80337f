"""The index: where fields begin and end, whatever the octets are."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sieve_ext.message import HeaderIndex, Message
from tests.fuzz.fuzz_message import check

CASES = [
    # head, [(name, unfolded value)], body
    (b"", [], b""),
    (b"\r\n", [], b""),
    (b"\n", [], b""),
    (b"\r\nbody\r\n", [], b"body\r\n"),
    (b"\n\nbody", [], b"\nbody"),
    (b"A: b\r\n\r\nbody\r\n", [("A", b"b")], b"body\r\n"),
    (b"A: b\n\nbody\n", [("A", b"b")], b"body\n"),
    (b"A: b\r\n\nbody\n", [("A", b"b")], b"body\n"),
    (b"A: b\n\r\nbody\n", [("A", b"b")], b"body\n"),
    (b"A: b\r\n", [("A", b"b")], b""),
    (b"A: b", [("A", b"b")], b""),
    (b"A: b\r\n\r", [("A", b"b")], b""),
    (b"A: b\r", [("A", b"b")], b""),
    (b"\r", [], b""),
    (b"\r\r", [("", b"")], b""),
    (b"A:\r\nB:\r\n\r\n", [("A", b""), ("B", b"")], b""),
    (b"A: b\r\n c\r\n\td\r\nE: f\r\n\r\n", [("A", b"b c\td"), ("E", b"f")], b""),
    (b"A: b\n c\nE: f\n\n", [("A", b"b c"), ("E", b"f")], b""),
    (b"A:\r\n b\r\n\r\n", [("A", b"b")], b""),
    # A line of blanks continues the field, it does not end the header (RFC 5322 section 4.2).
    (b"A: b\r\n \r\nC: d\r\n\r\nbody", [("A", b"b"), ("C", b"d")], b"body"),
    (b"A: b\r\n\t\r\n \r\n c\r\n\r\nbody", [("A", b"b\t  c")], b"body"),
    # Blanks before the colon (RFC 5322 section 4.5), none after it, several.
    (b"A : b\r\nC\t :d\r\nE:  f  \r\n\r\n", [("A", b"b"), ("C", b"d"), ("E", b"f")], b""),
    # Lines that are no field stay in their place and do not end the header.
    (
        b"From alice Sat Nov 22\r\nA: b\r\nhello\r\nC: d\r\n\r\nx",
        [("", b""), ("A", b"b"), ("", b""), ("C", b"d")],
        b"x",
    ),
    (b"hello world\r\n\r\nbody", [("", b"")], b"body"),
    # A first line with a blank before it would continue whatever is put in front: there is no header.
    (b" A: b\r\nC: d\r\n\r\nx", [], b" A: b\r\nC: d\r\n\r\nx"),
    (b"\t", [], b"\t"),
    (b"\rA: b\r\n\r\nx", [("\rA", b"b")], b"x"),
    (b": no name\r\nA: b\r\n\r\n", [("", b"no name"), ("A", b"b")], b""),
    (b"A: b: c\r\n\r\n", [("A", b"b: c")], b""),
    # NUL, bare CR and octets over 127 are octets.
    (b"A: \0\r\nB: \xff\xfe\r\n\r\n", [("A", b"\0"), ("B", b"\xff\xfe")], b""),
    (b"A: b\rC: d\r\n\r\n", [("A", b"b\rC: d")], b""),
    (b"A: b\r\r\nC: d\r\n\r\n", [("A", b"b"), ("C", b"d")], b""),
    (b"A: b\r\n\r\r\nC: d\r\n\r\nx", [("A", b"b"), ("", b""), ("C", b"d")], b"x"),
    (b"\xc3\x84: b\r\n\xa0: c\r\n\r\n", [("\xc3\x84", b"b"), ("\xa0", b"c")], b""),
    (b"A:b\r\n\r\n\r\n\r\nbody", [("A", b"b")], b"\r\n\r\nbody"),
]


@pytest.mark.parametrize(("head", "fields", "body"), CASES)
def test_fields_and_body(head: bytes, fields: list[tuple[str, bytes]], body: bytes) -> None:
    message = Message(head)
    assert [(field.name, field.unfolded) for field in message.fields] == fields
    assert b"".join(message.body_chunks()) == body
    assert b"".join(message.chunks()) == head
    assert head[message.body_offset :] == body
    for field in message.fields:
        assert head.startswith(field.raw.rstrip(b"\r\n"), message.offset(field))


def test_lookup() -> None:
    message = Message(b"Received: 1\r\nX-A: 2\r\nreceived : 3\r\nRECEIVED: 4\r\n\r\n")
    assert message.count("received") == 3
    assert [field.text for field in message.all("received")] == ["1", "3", "4"]
    first = message.get("received")
    assert first is not None
    assert first is message.fields[0]
    assert (first.index, first.value, first.raw) == (0, b" 1", b"Received: 1\r\n")
    assert "x-a" in message
    assert "x-b" not in message
    assert 7 not in message
    assert message.get("x-b") is None
    assert message.all("x-b") == []
    assert message.count("x-b") == 0
    assert message.text("x-a") == "2"
    assert message.text("x-b") is None
    assert message.keys() == ["received", "x-a"]
    assert [message.offset(field) for field in message.fields] == [0, 13, 21, 35]


def test_a_word_without_colon_is_no_field() -> None:
    message = Message(b"From\nTo: x\n\n")
    assert "from" not in message
    assert message.malformed_fields == 1
    assert message.keys() == ["to"]


@pytest.mark.parametrize(
    ("head", "count"),
    [(b"A: b\r\n\r\n", 0), (b"", 0), (b": x\r\nhello\r\nA: b\r\n\r\n", 2), (b"x\r\n", 1)],
)
def test_malformed_lines_are_counted(head: bytes, count: int) -> None:
    assert Message(head).malformed_fields == count


@pytest.mark.parametrize(
    ("head", "longest"),
    [
        (b"", 0),
        (b"A: b\r\n\r\n", 4),
        (b"A: b\r\n 12345\r\n\r\nlong body line", 6),
        (b"A: b\n", 4),
        (b"A: b", 4),
    ],
)
def test_longest_line(head: bytes, longest: int) -> None:
    assert Message(head).longest_line == longest


def test_limits_are_reported() -> None:
    small = Message(b"A: b\r\n\r\n")
    assert not small.has_long_header
    assert not small.has_many_fields
    assert not small.has_long_line
    assert not small.is_header_cut
    assert small.has_header_end
    large = Message(b"A: " + b"b" * 999 + b"\r\n" + b"B: c\r\n" * 50_000 + b"\r\n")
    assert large.has_long_header
    assert large.has_many_fields
    assert large.has_long_line
    assert not Message(b"A: b\r\n").has_header_end


def test_a_header_that_goes_on_beyond_the_head() -> None:
    whole = b"A: b\r\nC: d\r\n e\r\nF: g\r\n\r\nbody"
    message = Message(whole[:14], len(whole), lambda: iter((whole[:9], whole[9:])))
    assert message.is_header_cut
    assert message.has_long_header
    assert not message.has_header_end
    # The last field that begins in the head may go on: it stays with what follows.
    assert [field.name for field in message.fields] == ["A"]
    assert b"".join(message.chunks()) == whole
    message.add_raw("X", b"y")
    assert b"".join(message.chunks()) == b"A: b\r\nX: y\r\n" + whole[6:]
    assert message.size == len(b"".join(message.chunks()))


def test_one_endless_field() -> None:
    whole = b"A: " + b"b" * 100
    message = Message(whole[:50], len(whole), lambda: iter((whole,)))
    assert message.fields == []
    assert message.has_long_header
    message.add_raw("X", b"y")
    assert b"".join(message.chunks()) == b"X: y\r\n" + whole


def test_many_fields_take_linear_time() -> None:
    head = b"".join(b"X-%d: value %d\r\n" % (number % 1000, number) for number in range(100_000)) + b"\r\n"
    start = time.process_time()
    message = Message(head)
    assert message.field_count == 100_000
    assert message.count("x-7") == 100
    assert [field.text for field in message.all("x-999")][-1] == "value 99999"
    assert message.offset(message.all("x-999")[-1]) == len(head) - 2 - len(b"X-999: value 99999\r\n")
    assert len(message.fields) == 100_000
    # About 0.15 s here; a quadratic index would need minutes.
    assert time.process_time() - start < 5


def test_one_field_of_many_lines_takes_linear_time() -> None:
    head = b"A: b\r\n" + b" c\r\n" * 200_000 + b"\r\n"
    start = time.process_time()
    field = Message(head).get("a")
    assert field is not None
    assert field.text == "b" + " c" * 200_000
    assert time.process_time() - start < 5


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_octets_come_out_as_they_went_in(octets: bytes) -> None:
    message = Message(octets)
    assert b"".join(message.chunks()) == octets
    assert message.head == octets
    separator = octets[message.original_header_size : message.body_offset]
    assert separator in (b"", b"\r", b"\n", b"\r\n")
    assert message.render_header() + separator + b"".join(message.body_chunks()) == octets
    assert message.size == len(octets)


lines = st.sampled_from(
    [b"A: b", b"a:c", b" d", b"\te", b"", b" ", b"no colon", b":", b"=?utf-8?q?=C3=A4?=: =?x", b"\xff"]
)
ends = st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\r\n", b""])
headers = st.lists(st.tuples(lines, ends), max_size=12).map(lambda pairs: b"".join(a + b for a, b in pairs))


@settings(deadline=None)
@given(headers)
def test_fields_tile_the_header(octets: bytes) -> None:
    index = HeaderIndex(octets)
    assert len(index.offsets) == len(index.lines)
    text = "\n".join(index.lines).encode("latin-1")
    header = octets[: index.header_end]
    assert text + b"\n" == header if header.endswith(b"\n") else text == header
    for key, places in index.by_name.items():
        assert key == key.lower()
        assert places == sorted(places)
    message = Message(octets)
    assert message.malformed_fields == sum(not field.name for field in message.fields)
    for field in message.fields:
        assert octets.startswith(field.raw[:-1], message.offset(field))
        assert field.name == "" or field in message.all(field.key)


@settings(deadline=None)
@given(headers, st.integers(0, 60))
def test_a_head_cut_anywhere_loses_nothing(octets: bytes, cut: int) -> None:
    message = Message(octets[:cut], len(octets), lambda: iter((octets[: cut // 2], octets[cut // 2 :])))
    assert b"".join(message.chunks()) == octets
    edited = message.snapshot()
    edited.prepend(b"X: 1\r\n")
    assert b"".join(edited.chunks()).startswith(b"X: 1\r\n")
    assert b"".join(message.chunks()) == octets


fragments = st.sampled_from(
    [
        *(
            b"From: ",
            b"Subject: ",
            b"Content-Type: ",
            b"multipart/mixed; boundary=a",
            b"message/rfc822",
            b"text/html",
        ),
        *(
            b"Content-Transfer-Encoding: ",
            b"base64",
            b"quoted-printable",
            b"; charset=utf-8",
            b"; name*0*=''%41",
        ),
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b"--a",
            b"--a--",
            b" ",
            b"\t",
            b"x",
            b"\0",
            b"\xc3\xa4",
            b"\xff",
            b":",
        ),
        *(
            b"=?utf-8?q?=C3=A4?=",
            b"=?",
            b"?=",
            b"a@b",
            b"<a@b>",
            b'"',
            b"(",
            b"\\",
            b",",
            b";",
            b"YWJj",
            b"=41",
            b"=",
        ),
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.lists(fragments, max_size=30).map(b"".join)))
def test_the_invariant_of_the_fuzzer(octets: bytes) -> None:
    check(octets)
