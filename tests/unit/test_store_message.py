"""What is put in front of a stored message, and what is taken out."""

from __future__ import annotations

import pytest

from mta.address import NULL, parse_address
from mta.content import MEMORY_LIMIT, MessageBuffer
from mta.store.message import for_delivery, without_return_path

SENDER = parse_address("sender@example.org")


def content(*chunks: bytes) -> MessageBuffer:
    buffer = MessageBuffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (b"Subject: x\n", b"Subject: x\n"),
        (b"Return-Path: <a@b>\nSubject: x\n", b"Subject: x\n"),
        (b"Subject: x\nRETURN-path : <a@b>\n folded\n\tagain\nTo: y\n", b"Subject: x\nTo: y\n"),
        (b"Return-Path: <1>\nReturn-Path: <2>\nTo: y\n", b"To: y\n"),
        (b"X-Return-Path: <a@b>\n", b"X-Return-Path: <a@b>\n"),
        (b"Subject: x\n Return-Path: y\n", b"Subject: x\n Return-Path: y\n"),
        (b"Subject: x\rReturn-Path: y\n", b"Subject: x\rReturn-Path: y\n"),
        (b"Return-Path\nTo: y\n", b"Return-Path\nTo: y\n"),
        (b"", b""),
    ],
)
def test_return_path_fields_are_removed(header: bytes, kept: bytes) -> None:
    assert without_return_path(header) == kept


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (b"Subject: x\n\nReturn-Path: in the body\n", b"Subject: x\n\nReturn-Path: in the body\n"),
        (b"Return-Path: <a@b>\nTo: y\n\nbody\n", b"To: y\n\nbody\n"),
        (b"\nbody without header\n", b"\nbody without header\n"),
        (b"Return-Path: <a@b>\n", b""),
        (b"Return-Path: <a@b>\n\nbody\n", b"\nbody\n"),
        (b"", b""),
    ],
)
def test_stored_text(text: bytes, stored: bytes) -> None:
    message = for_delivery(content(text), SENDER, "alice@example.test")
    got = b"".join(message.parts())
    assert got == b"Return-Path: <sender@example.org>\nDelivered-To: alice@example.test\n" + stored
    assert message.size == len(got)


def test_the_null_sender_and_no_recipient() -> None:
    assert b"".join(for_delivery(content(b"\n"), NULL, "").parts()) == b"Return-Path: <>\n\n"


@pytest.mark.parametrize("header", [b"Subject: x\n\n", b"Return-Path: <a@b>\nSubject: x\n\n"])
def test_a_message_in_a_temporary_file_is_stored_whole(header: bytes) -> None:
    line = b"0123456789abcde\n"
    body = line * (2 * MEMORY_LIMIT // len(line))
    buffer = content(header, *(body[at : at + 50_000] for at in range(0, len(body), 50_000)))
    assert buffer.spilled
    message = for_delivery(buffer, SENDER, "")
    stored = b"".join(message.parts())
    buffer.close()
    assert stored == b"Return-Path: <sender@example.org>\nSubject: x\n\n" + body
    assert message.size == len(stored)
