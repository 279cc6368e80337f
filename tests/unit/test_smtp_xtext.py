"""xtext, utf-8-addr-xtext and utf-8-addr-unitext."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import has_controls
from mta.smtp.xtext import XtextError, encode_utf8_address, encode_xtext, parse_utf8_address, parse_xtext


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a+2Bb+3Dc+20d", "a+b=c d"),
        ("j+C3+B6rg", "jörg"),
        ("\\x{41}", "\\x{41}"),
        ("+2B2B", "+2B"),
    ],
)
def test_xtext(encoded: str, decoded: str) -> None:
    assert parse_xtext(encoded) == decoded
    assert encode_xtext(decoded) == encoded


@pytest.mark.parametrize(("encoded", "decoded"), [("a+3db", "a=b"), ("a=b", "a=b"), ("é+2B", "é+")])
def test_xtext_that_clients_send(encoded: str, decoded: str) -> None:
    assert parse_xtext(encoded) == decoded


@pytest.mark.parametrize(
    "encoded", ["+", "a+", "+2", "+G0", "+ 1", "+2+B", "+00", "+0A", "+7F", "+C2+85", "+FF"]
)
def test_bad_xtext(encoded: str) -> None:
    with pytest.raises(XtextError):
        parse_xtext(encoded)


@pytest.mark.parametrize(
    ("decoded", "xtext", "unitext"),
    [
        ("jörg@b", "j\\x{F6}rg@b", "jörg@b"),
        ("a+b=c\\d e", "a\\x{2B}b\\x{3D}c\\x{5C}d\\x{20}e", "a\\x{2B}b\\x{3D}c\\x{5C}d\\x{20}e"),
        ("😀", "\\x{1F600}", "😀"),
        ("", "", ""),
    ],
)
def test_utf8_address(decoded: str, xtext: str, unitext: str) -> None:
    assert encode_utf8_address(decoded, unitext=False) == xtext
    assert encode_utf8_address(decoded, unitext=True) == unitext
    assert parse_utf8_address(xtext) == decoded
    assert parse_utf8_address(unitext) == decoded


@pytest.mark.parametrize(
    ("encoded", "decoded"), [("user+tag=x", "user+tag=x"), ("\\x{e9}", "é"), ("\\x{0041}", "A")]
)
def test_utf8_address_that_clients_send(encoded: str, decoded: str) -> None:
    assert parse_utf8_address(encoded) == decoded


@pytest.mark.parametrize(
    "encoded",
    [
        *("\\", "\\x", "\\x{", "\\x{}", "\\x{E9", "\\y{E9}", "\\X{E9}", "\\x{-1}", "\\x{ E9}", "\\x{0x9}"),
        *(
            "\\x{D800}",
            "\\x{110000}",
            "\\x{0000041}",
            "\\x{0}",
            "\\x{A}",
            "\\x{85}",
            "\\x{2028}",
            "\\\\x{41}",
        ),
    ],
)
def test_bad_utf8_address(encoded: str) -> None:
    with pytest.raises(XtextError):
        parse_utf8_address(encoded)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_round_trips(text: str) -> None:
    xtext = encode_xtext(text)
    forms = [encode_utf8_address(text, unitext=unitext) for unitext in (False, True)]
    assert xtext.isascii()
    assert forms[0].isascii()
    for written in (xtext, *forms):
        assert not any(c in written for c in " =\r\n")
    if has_controls(text):
        with pytest.raises(XtextError):
            parse_xtext(xtext)
        with pytest.raises(XtextError):
            parse_utf8_address(forms[0])
    else:
        assert parse_xtext(xtext) == text
        assert [parse_utf8_address(form) for form in forms] == [text, text]
