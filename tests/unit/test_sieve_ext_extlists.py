"""External lists (RFC 6134): what is asked of the host, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from sieve_ext import Envelope, InvalidScript, Request, Result, compile, execute, standard_dialect
from sieve_ext.extensions.extlists import ListKnown, ListLookup, ListMembers, full_name


class Lists:
    """A host with one list."""

    def __init__(self, *members: str) -> None:
        self.members = list(members)
        self.asked: list[Request] = []

    def answer(self, request: Request) -> Any:
        self.asked.append(request)
        match request:
            case ListLookup(lists, values):
                if "table:vip" not in lists:
                    return None
                return next((value for value in values if value in self.members), None)
            case ListKnown(name):
                return name == "table:vip"
            case ListMembers(name):
                return self.members if name == "table:vip" else None
        return request.unanswered()


MESSAGE = b"From: a@example.com\r\nTo: b@example.com, c@example.net\r\n\r\n"


def run(text: str, host: Lists) -> Result:
    script = compile(f'require ["extlists", "variables", "fileinto", "copy"]; {text}', standard_dialect())
    return execute(script, MESSAGE, Envelope(), host)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("tag:example.com,2026:X", "tag:example.com,2026:X"),
        ("TAG:example.com,2026:X", "tag:example.com,2026:X"),
        (":addrbook:default", "urn:ietf:params:sieve:addrbook:default"),
        ("URN:ietf:params:sieve:AddrBook:default", "urn:ietf:params:sieve:addrbook:default"),
        ("table:vip", "table:vip"),
        ("vip", None),
        ("", None),
        ("a b:c", None),
        (":", None),
    ],
)
def test_names(name: str, full: str | None) -> None:
    assert full_name(name) == full


def test_the_values_of_a_test_are_asked_for_at_once_and_only_once() -> None:
    host = Lists("c@example.net")
    result = run('if address :list "to" "table:vip" { fileinto "${0}"; }' * 3, host)
    assert host.asked == [ListLookup(("table:vip",), ("b@example.com", "c@example.net"))]
    assert [one.describe() for one in result.actions] == ["store into 'c@example.net'"]


def test_a_list_that_cannot_be_asked_keeps_the_message() -> None:
    class Broken(Lists):
        def answer(self, request: Request) -> Any:
            raise OSError("down")

    result = run('discard; if address :list "to" "table:vip" { discard; }', Broken())
    assert result.failed
    assert result.implicit_keep is not None


def test_valid_ext_list() -> None:
    host = Lists()
    assert run('if valid_ext_list ["table:vip"] { discard; }', host).actions
    assert not run('if valid_ext_list ["table:vip", "table:x"] { discard; }', host).actions
    assert run('if not valid_ext_list "no name" { discard; }', host).actions


def test_redirect_to_a_list() -> None:
    result = run(
        'redirect :copy :list "table:vip";', Lists("x@example.com", "not an address", "y@example.com")
    )
    assert [one.describe() for one in result.actions] == [
        "redirect to <x@example.com>",
        "redirect to <y@example.com>",
    ]
    assert result.implicit_keep is not None
    assert "not an address" in result.notes[0].text


def test_redirect_to_an_unknown_list_is_an_error() -> None:
    result = run('redirect :list "table:x";', Lists())
    assert result.errors[0].text == "redirect action: 'table:x' is not a known list"


def test_redirect_to_a_list_counts_as_redirects() -> None:
    result = run('redirect :list "table:vip";', Lists(*(f"a{number}@example.com" for number in range(9))))
    assert result.failed
    assert "redirect" in result.errors[0].text


@pytest.mark.parametrize(
    "text",
    [
        'if header :list "x" "vip" { stop; }',
        'redirect :list "vip";',
        'if header :list "x" ["a:b", ""] { stop; }',
    ],
)
def test_names_are_checked(text: str) -> None:
    with pytest.raises(InvalidScript) as caught:
        run(text, Lists())
    assert [one.code for one in caught.value.errors] == ["bad-list", "validation-failed"]
