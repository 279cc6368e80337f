"""A message is freed with the last use of it: the collector comes late, and memory and files wait for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from sieve_ext.message import Message

OCTETS = (
    b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\nhello\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>you\r\n--b--\r\n"
)


class File:
    """Where the octets are."""

    def chunks(self) -> Iterator[bytes]:
        yield OCTETS

    def read(self, offset: int, count: int) -> bytes:
        return OCTETS[offset : offset + count]


def texts(message: Message) -> list[str]:
    return [part.text().strip() for part in message.structure.leaves()]


def look(message: Message) -> None:
    assert texts(message) == ["hello", "<p>you"]


def edit_and_look(message: Message) -> None:
    message.add("X-Seen", "yes")
    look(message)
    message.delete("subject", 1)
    look(message)
    assert message.structure.root.content_type == "multipart/mixed"
    message.replace("Content-Type", 1, b"text/plain")
    assert message.structure.root.content_type == "text/plain"


def replace_and_look(message: Message) -> None:
    message.replace_body(b"--b\r\n\r\nother\r\n--b--\r\n")
    assert texts(message) == ["other"]
    look(message.original())


def copy_and_look(message: Message) -> None:
    look(message)
    copy = message.snapshot()
    copy.add("X-Seen", "yes")
    look(copy)
    look(copy.original())


@pytest.mark.parametrize("use", [look, edit_and_look, replace_and_look, copy_and_look])
def test_a_message_whose_parts_were_looked_at_is_freed_at_once(use: Callable[[Message], None]) -> None:
    file = File()
    known = weakref.ref(file)
    message = Message(OCTETS[:100], len(OCTETS), file.chunks, read=file.read)
    del file
    use(message)
    gc.disable()
    try:
        del message
        assert known() is None
    finally:
        gc.enable()
