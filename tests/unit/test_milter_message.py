"""Edits on a message: exact positions, octets that stay, envelope."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmilter.message import Field, Message, crlf, split_fields
from mailmilter.responses import header_value, wire_value
from mailmilter.values import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteHeader,
    DeleteRecipient,
    Edit,
    InsertHeader,
    Quarantine,
    ReplaceBody,
)

HEAD = b"A: 1\r\nB : 2\r\n\tfolded\r\na:3\r\nC:\t4\r\n"


def made(head: bytes = HEAD) -> Message:
    own = Field(b"Received", b" by us", own=True)
    return Message(
        [own, *split_fields(head)], lambda: (b"body\r\n",), b"s@x", recipients=[AddRecipient(b"r@x")]
    )


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        (AddHeader(b"N", b" n"), "Received A B a C N"),
        (InsertHeader(0, b"N", b" n"), "N Received A B a C"),
        (InsertHeader(1, b"N", b" n"), "Received N A B a C"),
        (InsertHeader(4, b"N", b" n"), "Received A B a N C"),
        (InsertHeader(5, b"N", b" n"), "Received A B a C N"),
        (InsertHeader(2**31 - 1, b"N", b" n"), "Received A B a C N"),
        (ChangeHeader(1, b"a", b" n"), "Received a B a C"),
        (ChangeHeader(2, b"A", b" n"), "Received A B A C"),
        (ChangeHeader(3, b"A", b" n"), "Received A B a C A"),
        (DeleteHeader(1, b"a"), "Received B a C"),
        (DeleteHeader(2, b"a"), "Received A B C"),
        (DeleteHeader(3, b"a"), "Received A B a C"),
        (DeleteHeader(1, b"Received"), "Received A B a C"),
        (ChangeHeader(1, b"Received", b" n"), "Received A B a C Received"),
    ],
)
def test_where_headers_go(edit: Edit, names: str) -> None:
    message = made()
    message.apply([edit])
    assert b" ".join(one.name for one in message.fields).decode() == names
    assert message.fields[[one.own for one in message.fields].index(True)].value == b" by us"


def test_what_is_not_edited_keeps_its_octets() -> None:
    message = made()
    message.apply([ChangeHeader(1, b"C", b"n")])
    assert b"".join(message.octets()) == (
        b"Received: by us\r\nA: 1\r\nB : 2\r\n\tfolded\r\na:3\r\nC:n\r\n\r\nbody\r\n"
    )


def test_a_later_milter_sees_what_an_earlier_one_did_but_not_the_mtas_own_field() -> None:
    message = made()
    message.apply([InsertHeader(0, b"Top", b" t"), DeleteHeader(1, b"A"), AddHeader(b"End", b" e")])
    assert [one.name for one in message.shown()] == [b"Top", b"B", b"a", b"C", b"End"]


def test_the_envelope_the_body_and_quarantine() -> None:
    message = made()
    message.apply(
        [
            ChangeSender(b"", b"RET=HDRS"),
            AddRecipient(b"n@x", b"NOTIFY=NEVER"),
            AddRecipient(b"n@x"),
            AddRecipient(b"r@x"),
            DeleteRecipient(b"r@X"),
            DeleteRecipient(b"N@x"),
            DeleteRecipient(b"nobody@x"),
            ReplaceBody((b"a\nb\r", b"\nc\r", b"d")),
            Quarantine("one"),
            Quarantine("two"),
        ]
    )
    assert (message.sender, message.sender_parameters) == (b"", b"RET=HDRS")
    assert message.recipients == [AddRecipient(b"n@x", b"NOTIFY=NEVER")]
    assert b"".join(message.body()) == b"".join(message.body()) == b"a\r\nb\r\nc\r\nd\r\n"
    assert message.body_replaced
    assert message.quarantine == ["one", "two"]


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        (b"", []),
        (b"A:\r\n", [Field(b"A", b"")]),
        (b"A: 1\r\n\r\n", [Field(b"A", b" 1")]),
        (b"A \t: 1\r\n", [Field(b"A", b" 1", b" \t:")]),
        (b" no field\r\nA: 1\r\n", [Field(b"A", b" 1")]),
        (b"A: 1\r\nno colon\r\n", [Field(b"A", b" 1\r\nno colon")]),
        (b"A: 1\r\n: x\r\n", [Field(b"A", b" 1\r\n: x")]),
    ],
)
def test_splitting(head: bytes, fields: list[Field]) -> None:
    assert split_fields(head) == fields


names = st.text("ABCabc-", min_size=1, max_size=3).map(str.encode)
values = st.lists(st.text(" \txyz:", min_size=1).map(str.encode), min_size=1, max_size=3)


@given(st.lists(st.tuples(names, values), max_size=6))
def test_rendering_gives_back_what_was_split(fields: list[tuple[bytes, list[bytes]]]) -> None:
    head = b"".join(name + b":" + b"\r\n\t".join(lines) + b"\r\n" for name, lines in fields)
    assert b"".join(one.render() for one in split_fields(head)) == head


@given(st.binary(max_size=40), st.booleans())
def test_no_value_of_a_filter_can_end_the_field(wire: bytes, leading: bool) -> None:
    value = header_value(wire, leading_space=leading)
    lines = value.split(b"\r\n")
    assert all(line[:1] in (b" ", b"\t") and line.strip(b" \t") for line in lines[1:])
    assert not any(octet in line for line in lines for octet in b"\r\n")


@given(values.filter(lambda lines: all(line.strip() for line in lines)), st.booleans())
def test_a_value_sent_back_unchanged_is_unchanged(lines: list[bytes], leading: bool) -> None:
    value = b"\r\n\t".join(lines)
    back = header_value(wire_value(value, leading_space=leading), leading_space=leading)
    assert back == value or (not leading and back == b" " + value)


@given(st.lists(st.text("a\r\n", max_size=6).map(str.encode), max_size=6))
def test_a_new_body_has_crlf_everywhere_however_it_is_cut(chunks: list[bytes]) -> None:
    body = b"".join(crlf(chunks))
    assert body == b"".join(crlf([b"".join(chunks)]))
    rest = body.replace(b"\r\n", b"")
    assert b"\r" not in rest
    assert b"\n" not in rest
    assert not body or body.endswith(b"\r\n")
    assert b"".join(crlf([body])) == body
    joined = b"".join(chunks).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert body.replace(b"\r\n", b"\n").removesuffix(b"\n") == joined.removesuffix(b"\n")


def test_many_recipients_are_added_and_deleted_in_little_time() -> None:
    """In the event loop, with as many as a milter may name."""
    names = [b"r%d@x.test" % number for number in range(10_000)]
    message = Message([], lambda: ())
    begun = time.process_time()
    message.apply([AddRecipient(name) for name in names])
    message.apply([DeleteRecipient(name) for name in names[1:]])
    assert [one.address for one in message.recipients] == names[:1]
    assert time.process_time() - begun < 2


def test_many_fields_are_changed_and_deleted_in_little_time() -> None:
    names = [b"X-%d" % number for number in range(10_000)]
    message = made()
    begun = time.process_time()
    message.apply([ChangeHeader(1, name, b" new") for name in names])
    message.apply([ChangeHeader(1, name.lower(), b" newer") for name in names])
    message.apply([DeleteHeader(1, name) for name in reversed(names[1:])])
    assert [(one.name, one.value) for one in message.fields[5:]] == [(b"x-0", b" newer")]
    assert time.process_time() - begun < 4
