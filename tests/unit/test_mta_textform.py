"""Binary content in lines: what Python's own parser reads before and after is the same."""

from __future__ import annotations

import asyncio
import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.content import MEMORY_LIMIT, MessageBuffer
from mta.reply import Reply
from mta.textform import NOT_TEXT, in_lines

BINARY = bytes(range(256)) * 3
TEXT = b"From: a@x.test\r\nSubject: hi\r\n\r\nhello\r\n"


def lines(octets: bytes, piece: int = 0) -> tuple[bytes, Reply | None]:
    content = MessageBuffer()
    step = piece or len(octets) or 1
    for start in range(0, len(octets), step):
        content.append(octets[start : start + step])
    made, refusal = asyncio.run(in_lines(content, None))
    if refusal is not None:
        assert made is content
    return b"".join(made.chunks()), refusal


def read(octets: bytes) -> EmailMessage:
    made = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(made, EmailMessage)
    return made


def multipart(*parts: bytes, more: bytes = b"") -> bytes:
    """A multipart message of these parts, each with its header."""
    head = b'MIME-Version: 1.0\r\n%sContent-Type: multipart/mixed; boundary="b"\r\n\r\npreamble\r\n' % more
    return head + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        TEXT,
        b"",
        b"Subject: x\r\n\r\n",
        multipart(b"Content-Transfer-Encoding: binary\r\n\r\ntext"),
        b"\r\n.\r\n",
    ],
)
def test_text_stays_as_it_is(octets: bytes) -> None:
    assert lines(octets) == (octets, None)


def test_a_message_of_one_part() -> None:
    head = (
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding:\r\n binary\r\nSubject: x\r\n"
    )
    made, refusal = lines(head + b"\r\n" + BINARY)
    assert refusal is None
    assert made.startswith(
        b"Content-Type: application/octet-stream\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nAAEC"
    )
    assert made.isascii()
    assert max(len(line) for line in made.split(b"\r\n")) <= 76
    assert read(made).get_content() == BINARY


def test_parts() -> None:
    """Text stays, binary is encoded, what calls itself binary does so no more, signatures of others stay."""
    inner = multipart(b"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + BINARY)
    inner = inner.replace(b'"b"', b'"c"').replace(b"--b", b"--c")
    octets = multipart(
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\nplain text",
        b"Content-Type: image/y\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + BINARY,
        b"\r\nno header \0 at all",
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\n" + inner,
        b"Content-Type: image/z\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC",
        more=b"Content-Transfer-Encoding: binary\r\n",
    )
    for piece in (0, 1, 7):
        made, refusal = lines(octets, piece)
        assert refusal is None
        assert b": binary" not in made
        assert b"\0" not in made
        assert made.count(b"\r\n") == made.count(b"\n") == made.count(b"\r")
        plain, one, bare, message, encoded = read(made).iter_parts()
        assert plain.as_bytes() == (
            b"Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\nplain text"
        )
        assert one.get_content() == BINARY
        assert bare.get_payload(decode=True) == b"no header \0 at all"
        (image,) = message.get_content().iter_parts()
        assert (image.get_content_type(), image.get_content()) == ("image/x", BINARY)
        assert b"Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--" in made
        assert encoded.get_content() == b"\0\1\2"


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: x\nFrom: a@x.test\r\n\r\nhello\r\n",
        b"Subject: \0\r\n\r\nhello\r\n",
        multipart(b"Content-Transfer-Encoding: base64\r\n\r\nAA\nEC"),
        multipart(b"Content-Transfer-Encoding: quoted-printable\r\n\r\na\rb"),
        multipart(b"X: y\r\n\r\ntext").replace(b"preamble", b"pre\0amble"),
        b'Content-Type: multipart/mixed; boundary="none"\r\n\r\n\0\r\n',
        b"Content-Type: message/partial\r\n\r\n\0\r\n",
    ],
)
def test_what_may_not_be_encoded_is_refused(octets: bytes) -> None:
    assert lines(octets) == (octets, NOT_TEXT)


def test_a_large_message() -> None:
    body = BINARY * (2 * MEMORY_LIMIT // len(BINARY))
    made, refusal = lines(multipart(b"Content-Type: a/b\r\n\r\n" + body), 65536)
    assert refusal is None
    (part,) = read(made).iter_parts()
    assert part.get_payload(decode=True) == body


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.integers(0, 30))
def test_what_comes_out_is_text_with_the_same_content(bodies: list[bytes], piece: int) -> None:
    bodies = [body.replace(b"\n--b", b"\n") for body in bodies if not body.startswith(b"--b")]
    octets = multipart(*(b"Content-Type: a/b\r\n\r\n" + body for body in bodies))
    made, refusal = lines(octets, piece)
    assert refusal is None
    assert b"\0" not in made
    assert made.count(b"\r\n") == made.count(b"\n") == made.count(b"\r")
    assert lines(made) == (made, None)
