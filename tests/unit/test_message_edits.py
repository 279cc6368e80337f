"""Edits: where fields go, which are changed, and that octets follow."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sieve_ext.message import Message, make_field, raw_field

HEAD = b"Received: r\r\nFrom: a\r\nX: 1\r\nTo: b\r\nX: 2\r\nX: 3\r\n\r\nbody\r\n"


def names(message: Message) -> str:
    """Short form of a header: "name=value" in order."""
    return " ".join(f"{field.name}={field.text}" for field in message.fields)


def octets(message: Message) -> bytes:
    """The octets, checked against size and head."""
    out = b"".join(message.chunks())
    assert message.size == len(out)
    assert message.head == out
    assert message.render_header() == out[: len(message.render_header())]
    return out


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, "N=n Received=r From=a X=1 To=b X=2 X=3"),
        (-3, "N=n Received=r From=a X=1 To=b X=2 X=3"),
        (1, "Received=r N=n From=a X=1 To=b X=2 X=3"),
        (3, "Received=r From=a X=1 N=n To=b X=2 X=3"),
        (5, "Received=r From=a X=1 To=b X=2 N=n X=3"),
        (6, "Received=r From=a X=1 To=b X=2 X=3 N=n"),
        (2**31, "Received=r From=a X=1 To=b X=2 X=3 N=n"),
        (None, "Received=r From=a X=1 To=b X=2 X=3 N=n"),
    ],
)
def test_insert(position: int | None, expected: str) -> None:
    message = Message(HEAD)
    message.add_raw("N", b"n", position)
    assert names(message) == expected
    assert message.is_edited
    assert b"N: n\r\n" in octets(message)
    assert message.field_count == 7
    field = message.get("n")
    assert field is not None
    assert message.offset(field) == -1


@pytest.mark.parametrize(
    ("name", "number", "skip", "expected"),
    [
        ("X", 1, 0, "Received=r From=a X=new To=b X=2 X=3"),
        ("x", 0, 0, "Received=r From=a x=new To=b X=2 X=3"),
        ("X", 3, 0, "Received=r From=a X=1 To=b X=2 X=new"),
        ("X", 4, 0, None),
        ("Y", 1, 0, None),
        ("Received", 1, 0, "Received=new From=a X=1 To=b X=2 X=3"),
        # Our own Received field is not counted by a milter.
        ("Received", 1, 1, None),
        ("X", 2, 1, "Received=r From=a X=1 To=b X=new X=3"),
        ("X", 1, 3, "Received=r From=a X=1 To=b X=new X=3"),
        ("X", 1, 6, None),
    ],
)
def test_replace(name: str, number: int, skip: int, expected: str | None) -> None:
    message = Message(HEAD)
    assert message.replace(name, number, b"new", skip=skip) is (expected is not None)
    assert names(message) == (expected or "Received=r From=a X=1 To=b X=2 X=3")
    octets(message)


@pytest.mark.parametrize(
    ("name", "number", "skip", "expected"),
    [
        ("X", 1, 0, "Received=r From=a To=b X=2 X=3"),
        ("X", 2, 0, "Received=r From=a X=1 To=b X=3"),
        ("X", 4, 0, None),
        ("RECEIVED", 1, 0, "From=a X=1 To=b X=2 X=3"),
        ("RECEIVED", 1, 1, None),
        ("no name:", 1, 0, None),
    ],
)
def test_delete(name: str, number: int, skip: int, expected: str | None) -> None:
    message = Message(HEAD)
    assert message.delete(name, number, skip=skip) is (expected is not None)
    assert names(message) == (expected or "Received=r From=a X=1 To=b X=2 X=3")
    octets(message)


def test_numbers_count_what_is_left() -> None:
    message = Message(HEAD)
    assert message.delete("X", 1)
    assert message.delete("X", 1)
    assert message.replace("X", 1, b"last")
    assert names(message) == "Received=r From=a To=b X=last"
    message.add_raw("X", b"first", 0)
    message.add_raw("X", b"end")
    message.add_raw("X", b"middle", 2)
    assert names(message) == "X=first Received=r X=middle From=a To=b X=last X=end"
    assert message.replace("X", 2, b"changed")
    assert [field.text for field in message.all("x")] == ["first", "changed", "last", "end"]
    assert message.count("x") == 4
    assert message.delete("X", 1)
    assert message.text("x") == "changed"
    assert octets(message) == (
        b"Received: r\r\nX: changed\r\nFrom: a\r\nTo: b\r\nX: last\r\nX: end\r\n\r\nbody\r\n"
    )


def test_the_first_field_is_skipped_whatever_it_is() -> None:
    # Postfix: once something stands before our Received field, that is an ordinary one.
    message = Message(HEAD)
    message.add_raw("Received", b"top", 0)
    assert message.replace("Received", 1, b"changed", skip=1)
    assert names(message).startswith("Received=top Received=changed")


def test_remove_many() -> None:
    message = Message(HEAD)
    doomed = [*message.all("x")[:2], *message.all("to")]
    assert message.remove(doomed) == 3
    assert message.remove(doomed) == 0
    assert message.remove([]) == 0
    assert names(message) == "Received=r From=a X=3"
    assert "to" not in message
    assert message.keys() == ["received", "from", "x"]


def test_remove_the_last_field_without_line_end() -> None:
    message = Message(b"A: b\r\nC: d")
    assert message.remove([message.fields[0], message.fields[1]]) == 2
    assert octets(message) == b""


def test_prepend_whole_fields() -> None:
    message = Message(HEAD)
    message.prepend(b"Received: x\r\n by y\r\nReturn-Path: <>\r\n")
    assert names(message).startswith("Received=x by y Return-Path=<> Received=r")
    assert octets(message) == b"Received: x\r\n by y\r\nReturn-Path: <>\r\n" + HEAD


@pytest.mark.parametrize("raw", [b"", b"A: b", b"hello\r\n", b"\r\n", b"A: b\r\n\r\n", b" A: b\r\n"])
def test_prepend_refuses_what_is_no_field(raw: bytes) -> None:
    message = Message(HEAD)
    with pytest.raises(ValueError, match="field"):
        message.prepend(raw)
    assert octets(message) == HEAD


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "ä", "a\0", "a\t"])
def test_names_are_checked(name: str) -> None:
    message = Message(HEAD)
    with pytest.raises(ValueError, match="not a header field name"):
        message.add_raw(name, b"x")
    with pytest.raises(ValueError, match="not a header field name"):
        message.add(name, "x")
    with pytest.raises(ValueError, match="not a header field name"):
        message.replace(name, 1, b"x")
    assert not message.is_edited


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (b"x", b"N: x\r\n"),
        (b"", b"N: \r\n"),
        (b"x\r\n", b"N: x\r\n"),
        (b"x\n\ty", b"N: x\r\n\ty\r\n"),
        (b"x\r\n y\r\n\tz", b"N: x\r\n y\r\n\tz\r\n"),
        (b"x\nBcc: evil@example.org", b"N: x\r\n Bcc: evil@example.org\r\n"),
        (b"x\r\n\r\nbody", b"N: x\r\n body\r\n"),
        (b"x\rBcc: y", b"N: x\r\n Bcc: y\r\n"),
        (b"x\n \n \ny", b"N: x\r\n y\r\n"),
        (b"x\n\0\ny", b"N: x\r\n y\r\n"),
        (b"\n x", b"N: \r\n x\r\n"),
        (b"\xff\0", b"N: \xff\r\n"),
    ],
)
def test_a_value_cannot_add_a_field(value: bytes, raw: bytes) -> None:
    assert raw_field("N", value).raw == raw


def test_the_separator_is_the_callers() -> None:
    message = Message(HEAD)
    message.add_raw("N", b"\tx", separator=b"")
    assert message.replace("From", 1, b"  y", separator=b"")
    assert octets(message).endswith(b"\r\nN:\tx\r\n\r\nbody\r\n")
    assert b"\r\nFrom:  y\r\n" in octets(message)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b" ", b"\t"]))
def test_any_value_makes_one_field(value: bytes, separator: bytes) -> None:
    raw = raw_field("N", value, separator).raw
    message = Message(raw + b"To: x\r\n\r\nbody")
    assert [field.name for field in message.fields] == ["N", "To"]
    assert b"".join(message.body_chunks()) == b"body"
    assert b"\n" not in raw.replace(b"\r\n", b"")


@settings(deadline=None)
@given(st.text(max_size=200), st.booleans())
def test_any_text_makes_one_field(text: str, utf8: bool) -> None:
    field = make_field("Subject", text, utf8=utf8)
    message = Message(field.raw + b"To: x\r\n\r\n")
    assert [other.name for other in message.fields] == ["Subject", "To"]
    assert utf8 or field.raw.isascii()


def test_edits_of_a_message_with_bare_line_feeds() -> None:
    message = Message(b"A: b\nC: d\n\nbody\n")
    message.add_raw("X", b"y")
    assert octets(message) == b"A: b\nC: d\nX: y\r\n\nbody\n"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", b"X: y\r\n"),
        (b"\r\nbody", b"X: y\r\n\r\nbody"),
        (b"A: b", b"A: b\r\nX: y\r\n"),
        (b"\r", b"X: y\r\n\r"),
        (b"A: b\r\n\r", b"A: b\r\nX: y\r\n\r"),
        (b"A: b\r", b"A: b\r\nX: y\r\n"),
        (b"A: b\r\n", b"A: b\r\nX: y\r\n"),
        (b"hello\r\nworld\r\n", b"hello\r\nworld\r\nX: y\r\n"),
        (b" A: b\r\n\r\nbody", b"X: y\r\n\r\n A: b\r\n\r\nbody"),
        (b"\tpass", b"X: y\r\n\r\n\tpass"),
    ],
)
def test_add_to_odd_messages(head: bytes, expected: bytes) -> None:
    message = Message(head)
    message.add_raw("X", b"y")
    assert octets(message) == expected


def test_replace_body() -> None:
    message = Message(HEAD)
    message.replace_body(b"other\r\n")
    assert octets(message) == HEAD.replace(b"body", b"other")
    assert message.body_size == 7
    message.replace_body(lambda: iter((b"ab", b"", b"c")), 3)
    assert octets(message).endswith(b"\r\n\r\nabc")
    message.replace_body(b"")
    assert octets(message).endswith(b"X: 3\r\n\r\n")
    with pytest.raises(ValueError, match="size"):
        message.replace_body(lambda: iter(()))


@pytest.mark.parametrize("head", [b"A: b\r\n", b"A: b\r\n\r", b"A: b\r\n\r\n"])
def test_a_body_for_a_message_without_one(head: bytes) -> None:
    message = Message(head)
    message.replace_body(b"body")
    assert octets(message) == b"A: b\r\n\r\nbody"


def test_snapshots_are_independent() -> None:
    message = Message(HEAD)
    before = message.snapshot()
    message.delete("X", 1)
    middle = message.snapshot()
    message.delete("X", 1)
    middle.add_raw("X", b"m", 0)
    message.replace_body(b"new")
    assert names(before) == "Received=r From=a X=1 To=b X=2 X=3"
    assert octets(before) == HEAD
    assert names(middle) == "X=m Received=r From=a To=b X=2 X=3"
    assert octets(middle).endswith(b"body\r\n")
    assert names(message) == "Received=r From=a To=b X=3"


class _Source:
    """A large message that is read in chunks, counting how often."""

    def __init__(self, head: bytes, chunk: bytes, times: int) -> None:
        self.head = head + chunk
        self.chunk = chunk
        self.times = times
        self.reads = 0
        self.size = len(head) + len(chunk) * times

    def chunks(self) -> Iterator[bytes]:
        self.reads += 1
        yield self.head
        for _ in range(self.times - 1):
            yield self.chunk


def test_a_large_body_streams_through_edits() -> None:
    source = _Source(b"From: a\r\nTo: b\r\n\r\n", b"x" * 65534 + b"\r\n", 160)
    message = Message(source.head, source.size, source.chunks, has_8bit=False)
    message.prepend(b"Received: x\r\n")
    assert source.reads == 0
    start = time.process_time()
    for _ in range(5):
        total = 0
        first = b""
        for chunk in message.chunks():
            first = first or chunk
            total += len(chunk)
            assert len(chunk) <= 65536 + 100
        assert total == message.size == source.size + 13
    assert first == b"Received: x\r\nFrom: a\r\nTo: b\r\n\r\n"
    assert source.reads == 5
    assert time.process_time() - start < 2
    assert message.has_8bit is False


def test_head_of_a_large_message_holds_the_header_only_as_edited() -> None:
    source = _Source(b"From: a\r\n\r\n", b"x" * 65536, 20)
    message = Message(source.head, source.size, source.chunks)
    assert message.head is source.head
    message.add("Subject", "ä")
    assert message.head.startswith(b"Subject: =?utf-8?")
    assert message.head.endswith(source.head)
    message.replace_body(source.chunks, source.size)
    assert message.head.endswith(b"From: a\r\n\r\n")


def test_head_is_whole_when_only_the_header_was_given() -> None:
    source = _Source(b"From: a\r\n\r\n", b"x" * 1000, 3)
    message = Message(b"From: a\r\n\r\n", source.size, source.chunks)
    assert message.head == b"From: a\r\n\r\n" + b"x" * 3000


@pytest.mark.parametrize(
    ("head", "edit", "expected"),
    [(b"A: b\r\n\r\nc", b"d", False), (b"A: b\r\n\r\n\xe4", b"d", True), (b"A: b\r\n\r\nc", b"\xe4", True)],
)
def test_has_8bit(head: bytes, edit: bytes, expected: bool) -> None:
    message = Message(head)
    assert message.has_8bit is (b"\xe4" in head)
    message.add_raw("X", edit)
    assert message.has_8bit is expected
    other = Message(head)
    other.replace_body(edit)
    assert other.has_8bit is expected


def test_many_edits_take_linear_time() -> None:
    message = Message(b"".join(b"X: %d\r\n" % number for number in range(100_000)) + b"\r\n")
    start = time.process_time()
    assert message.remove(message.all("x")[1:]) == 99_999
    for number in range(2000):
        message.add_raw("Y", b"%d" % number, 0)
        message.add_raw("Z", b"%d" % number)
        assert message.replace("X", 1, b"%d" % number)
    assert message.count("y") == 2000
    assert len(octets(message)) == message.size
    assert time.process_time() - start < 5


class EditMachine(RuleBasedStateMachine):
    """The message against a plain list of (name, value)."""

    def __init__(self) -> None:
        super().__init__()
        self.message = Message(b"A: 0\r\nB: 1\r\na: 2\r\n\r\nbody")
        self.model = [("A", "0"), ("B", "1"), ("a", "2")]
        self.serial = 2
        self.kept: list[tuple[Message, list[tuple[str, str]]]] = []

    def value(self) -> str:
        self.serial += 1
        return str(self.serial)

    def places(self, name: str, skip: int) -> list[int]:
        return [
            place
            for place, (other, _) in enumerate(self.model)
            if other.lower() == name.lower() and place >= skip
        ]

    @rule(name=st.sampled_from("ABaC"), position=st.one_of(st.none(), st.integers(-1, 8)))
    def insert(self, name: str, position: int | None) -> None:
        value = self.value()
        self.message.add_raw(name, value.encode(), position)
        self.model.insert(len(self.model) if position is None else max(position, 0), (name, value))

    @rule(name=st.sampled_from("ABaC"), number=st.integers(0, 4), skip=st.integers(0, 2))
    def replace(self, name: str, number: int, skip: int) -> None:
        value = self.value()
        places = self.places(name, skip)
        done = self.message.replace(name, number, value.encode(), skip=skip)
        assert done is (max(number, 1) <= len(places))
        if done:
            self.model[places[max(number, 1) - 1]] = (name, value)

    @rule(name=st.sampled_from("ABaC"), number=st.integers(0, 4), skip=st.integers(0, 2))
    def delete(self, name: str, number: int, skip: int) -> None:
        places = self.places(name, skip)
        done = self.message.delete(name, number, skip=skip)
        assert done is (max(number, 1) <= len(places))
        if done:
            del self.model[places[max(number, 1) - 1]]

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        marks = data.draw(st.lists(st.booleans(), min_size=len(self.model), max_size=len(self.model)))
        fields = [field for field, mark in zip(self.message.fields, marks, strict=True) if mark]
        assert self.message.remove(fields) == len(fields)
        self.model = [pair for pair, mark in zip(self.model, marks, strict=True) if not mark]

    @rule()
    def snapshot(self) -> None:
        self.kept.append((self.message, list(self.model)))
        self.message = self.message.snapshot()

    @invariant()
    def agrees(self) -> None:
        for message, model in [*self.kept, (self.message, self.model)]:
            assert [(field.name, field.text) for field in message.fields] == model
            assert message.field_count == len(model)
            for key in "abc":
                expected = [value for name, value in model if name.lower() == key]
                assert [field.text for field in message.all(key)] == expected
                assert message.count(key) == len(expected)
                assert (key in message) is bool(expected)
                assert message.text(key) == (expected[0] if expected else None)
            out = b"".join(message.chunks())
            assert out == "".join(f"{name}: {value}\r\n" for name, value in model).encode() + b"\r\nbody"
            assert message.size == len(out)


TestEditMachine = EditMachine.TestCase
TestEditMachine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
