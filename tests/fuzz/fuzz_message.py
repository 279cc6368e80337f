"""Invariant: any octets are a message, come out as they went in, and no reading or editing of it raises.

Run ``python -m tests.fuzz.fuzz_message -dict=tests/fuzz/message.dict [-max_total_time=SECONDS] [CORPUS]``.
`check` is also run with generated octets by the unit tests. No exception at all is allowed.
"""

from __future__ import annotations

import sys

from sieve_ext.message import Message, limits, parse_addresses

VALUE = 64
"""Octets of the input that serve as values of edits."""


def check(data: bytes) -> None:
    """Hold the message index to the invariant."""
    message = Message(data)
    _is_sound(message, data)
    _reads_the_same_in_chunks(message, data)
    _edits_are_seen(message, data[:VALUE])
    _is_sound(message, data)


def _is_sound(message: Message, data: bytes) -> None:
    assert b"".join(message.chunks()) == data
    assert message.size == message.original_size == len(data)
    end = message.original_header_size
    assert message.render_header() == data[:end]
    assert data[end : message.body_offset] in (b"", b"\r", b"\n", b"\r\n")
    assert b"".join(message.body_chunks()) == data[message.body_offset :]
    for field in message.fields:
        assert data.startswith(field.raw[:-1], message.offset(field))
        assert not field.name or field in message.all(field.key)
        assert len(field.text) <= max(len(field.raw), 1)
        for mailbox in field.addresses.mailboxes:
            if mailbox.local:
                again = parse_addresses(mailbox.address.encode()).mailboxes
                assert [(one.local, one.domain) for one in again] == [(mailbox.local, mailbox.domain)]
    structure = message.structure
    for count, part in enumerate(structure.root.walk(), 1):
        assert count <= limits.MIME_PARTS
        assert part.depth <= limits.MIME_DEPTH
        assert 0 <= part.start <= part.end <= message.body_size
        assert all(part.start <= child.start <= child.end <= part.end for child in part.parts)
        assert len(part.text(VALUE)) <= VALUE
        assert isinstance(part.filename + part.description + part.charset, str)


def _reads_the_same_in_chunks(message: Message, data: bytes) -> None:
    size = len(data) % 7 + 1
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    other = Message(data[: message.body_offset], len(data), lambda: iter(pieces))
    assert b"".join(other.chunks()) == data
    if not other.is_header_cut:
        places = [(part.start, part.end, part.content_type) for part in message.structure.root.walk()]
        assert places == [(part.start, part.end, part.content_type) for part in other.structure.root.walk()]


def _edits_are_seen(original: Message, value: bytes) -> None:
    message = original.snapshot()
    before = message.field_count
    message.add_raw("X-Top", value, 0)
    message.add_raw("X-End", value)
    message.add("X-Text", value.decode("utf-8", "replace"), 1)
    assert message.field_count == before + 3
    assert message.fields[0].name == "X-Top"
    assert message.fields[1].name == "X-Text"
    assert message.fields[-1].name == "X-End"
    out = b"".join(message.chunks())
    assert len(out) == message.size
    again = Message(out)
    assert [field.raw for field in again.fields] == [field.raw for field in message.fields]
    assert message.remove(message.fields) == sum(1 for field in again.fields if field.name)
    message.replace_body(value)
    assert b"".join(message.body_chunks()) == value
    assert b"".join(message.chunks()).endswith(value)


def main() -> None:
    """Fuzz with atheris."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
