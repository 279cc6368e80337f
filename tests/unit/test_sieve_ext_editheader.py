"""Editing headers (RFC 5293): what svtests cannot say."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sieve_ext import Envelope, InvalidScript, Result, Settings, compile, execute, standard_dialect
from sieve_ext.extensions.editheader import is_forbidden


def run(text: str, message: bytes, configured: dict[str, str] | None = None) -> Result:
    script = compile(f'require ["editheader", "variables", "fileinto", "copy"]; {text}', standard_dialect())
    return execute(script, message, Envelope(), settings=Settings(configured))


def octets(result: Result) -> bytes:
    assert result.message is not None
    return b"".join(result.message.chunks())


def test_what_is_not_edited_stays_octet_for_octet() -> None:
    message = b"A : odd  \r\nB:\tfolded\r\n  more\r\nno field\r\nC: \xff\r\n\r\nbody\n\xff"
    result = run('addheader "X" "1"; addheader :last "Y" "2"; deleteheader "A";', message)
    assert octets(result) == b"X: 1\r\nB:\tfolded\r\n  more\r\nno field\r\nC: \xff\r\nY: 2\r\n\r\nbody\n\xff"


def test_a_failed_script_leaves_the_message_alone() -> None:
    message = b"A: 1\r\n\r\n"
    result = run('addheader "X" "1"; set "n" "a b"; addheader "${n}" "2";', message)
    assert result.errors[0].text == "addheader action: specified field name 'a b' is invalid"
    assert octets(result) == message


@pytest.mark.parametrize("octet", ["00", "01", "0A", "0B", "0D", "1B", "7F"])
def test_control_characters_out_of_the_message_become_blanks(octet: str) -> None:
    message = f"Subject: =?utf-8?q?one={octet}two?=\r\n\r\nbody".encode()
    result = run('if header :matches "subject" "*" { addheader "X-Subject" "${1}"; }', message)
    assert not result.errors
    assert octets(result) == b"X-Subject: one two\r\n" + message


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters='"\\$', exclude_categories=["Cs"]), max_size=200))
def test_any_value_makes_one_field_or_an_error(value: str) -> None:
    try:
        result = run(f'addheader "X-New" "{value}";', b"A: 1\r\n\r\nbody")
    except InvalidScript:
        return
    if not result.errors:
        assert result.message is not None
        assert [field.key for field in result.message.fields] == ["x-new", "a"]
        assert octets(result).endswith(b"\r\nA: 1\r\n\r\nbody")


@pytest.mark.parametrize(
    ("configured", "name", "what", "forbidden"),
    [
        ({}, "Received", "delete", True),
        ({}, "auto-submitted", "delete", True),
        ({}, "Received", "add", False),
        ({}, "Subject", "delete", False),
        ({}, "X-Sieve-Redirected-From", "add", True),
        ({"sieve_editheader_header": "x", "sieve_editheader_header/x/forbid_add": "yes"}, "X", "add", True),
        ({"sieve_editheader_header": "x", "sieve_editheader_header/x/forbid_add": "y"}, "X", "delete", False),
        ({"sieve_editheader_header": "a b", "sieve_editheader_header/b/name": "X-Y",
          "sieve_editheader_header/b/forbid_delete": "yes"}, "x-y", "delete", True),
        ({"sieve_editheader_header/x/forbid_add": "yes"}, "X", "add", False),
        ({"sieve_editheader_forbid_add": "X-A X-B"}, "x-b", "add", True),
    ],
)  # fmt: skip
def test_protected_fields(configured: dict[str, str], name: str, what: str, forbidden: bool) -> None:
    assert is_forbidden(Settings(configured), name, what) is forbidden


def test_many_fields_and_many_edits_take_linear_time() -> None:
    message = b"".join(b"X-%d: a\r\nX-Same: %d\r\n" % (number, number) for number in range(50_000)) + b"\r\n"
    text = "".join(f'addheader "X-N{number}" "v"; deleteheader "X-{number}";' for number in range(500))
    before = time.process_time()
    result = run(text + 'deleteheader :contains "X-Same" "7";', message)
    assert not result.errors
    assert time.process_time() - before < 5.0
