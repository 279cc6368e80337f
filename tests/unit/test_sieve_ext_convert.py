"""Conversions (RFC 6558): what the engine does itself, what it asks for, what a failure leaves."""

from __future__ import annotations

from typing import Any

import pytest

from sieve_ext import Envelope, InvalidScript, Request, Result, compile, execute, standard_dialect
from sieve_ext.extensions.convert import Conversion

MESSAGE = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"
    b"--a\r\nContent-Type: image/tiff\r\nContent-Transfer-Encoding: base64\r\n\r\nb25l\r\n"
    b"--a\r\nContent-Type: text/html\r\n\r\n<p>text</p>\r\n"
    b"--a\r\nContent-Type: IMAGE/TIFF\r\n\r\ntwo\r\n"
    b"--a--\r\n"
)


class Converter:
    """A host that converts everything but what it is told not to."""

    def __init__(self, *refused: bytes) -> None:
        self.refused = refused
        self.asked: list[Conversion] = []

    def answer(self, request: Request) -> Any:
        if not isinstance(request, Conversion):
            return request.unanswered()
        self.asked.append(request)
        if request.content in self.refused:
            return None
        return b"Content-Type: " + request.target.encode() + b"\r\n\r\n" + request.content.upper()


def run(text: str, host: Converter) -> Result:
    script = compile(f'require ["convert", "foreverypart", "mime", "fileinto"]; {text}', standard_dialect())
    return execute(script, MESSAGE, Envelope(), host)


def parts(result: Result) -> list[tuple[str, bytes]]:
    assert result.message is not None
    return [(part.content_type, part.content()) for part in result.message.structure.leaves()]


def test_all_parts_of_the_type_are_asked_for() -> None:
    host = Converter()
    result = run('if convert "Image/Tiff" "image/png" ["pix-x=10"] { fileinto "yes"; }', host)
    assert host.asked == [
        Conversion(b"one", "image/tiff", "image/png", ("pix-x=10",)),
        Conversion(b"two", "image/tiff", "image/png", ("pix-x=10",)),
    ]
    assert parts(result) == [("image/png", b"ONE"), ("text/html", b"<p>text</p>"), ("image/png", b"TWO")]
    assert [one.name for one in result.actions] == ["store"]


def test_one_failure_leaves_all_of_them() -> None:
    result = run('if not convert "image/tiff" "image/png" "a=b" { fileinto "no"; }', Converter(b"two"))
    assert parts(result) == [("image/tiff", b"one"), ("text/html", b"<p>text</p>"), ("image/tiff", b"two")]
    assert [one.name for one in result.actions] == ["store"]
    assert result.notes[0].text == "convert action: cannot convert image/tiff to image/png"


def test_in_a_loop_each_part_for_itself() -> None:
    host = Converter(b"one")
    result = run('foreverypart { convert "image/tiff" "image/png" "a=b"; }', host)
    assert parts(result) == [("image/tiff", b"one"), ("text/html", b"<p>text</p>"), ("image/png", b"TWO")]


def test_text_is_converted_without_asking() -> None:
    host = Converter()
    result = run('convert "text/html" "text/plain" "charset=UTF-8";', host)
    assert not host.asked
    assert parts(result)[1] == ("text/plain", b"text ")


def test_text_with_other_parameters_is_asked_for() -> None:
    host = Converter()
    run('convert "text/html" "text/plain" ["charset=utf-8", "x=y"];', host)
    assert [one.parameters for one in host.asked] == [("charset=utf-8", "x=y")]


@pytest.mark.parametrize(
    "text",
    [
        'convert "text" "text/plain" "a=b";',
        'convert "text/html" "text/" "a=b";',
        'convert "text/html" "text/plain" "a";',
        'convert "text/html" "text/plain" ["a=b", "=c"];',
    ],
)
def test_what_is_wrong_is_reported(text: str) -> None:
    with pytest.raises(InvalidScript) as caught:
        run(text, Converter())
    assert [one.code for one in caught.value.errors] == ["bad-value", "validation-failed"]
