"""Authentication-Results (RFC 8601): written so that strangers' words stay inside, and forged ones found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.authn.authresults import FIELD, claimed_id, claims, forged, render
from mta.authn.results import MethodResult, Result
from sieve_ext.message import HeaderIndex
from sieve_ext.message.header import Header
from tests.fuzz import fuzz_authn
from tests.peers.cost import processor_seconds

ID = "mx.example.org"


def header(*lines: str | bytes) -> Header:
    octets = b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines)
    return Header(HeaderIndex(octets + b"\r\n"))


def test_no_results() -> None:
    assert render(ID, []) == "mx.example.org; none"


def test_one_result_a_line() -> None:
    text = render(
        ID,
        [
            MethodResult("spf", Result.PASS, "192.0.2.1 matches mx", {"smtp.mailfrom": "a@d.test"}),
            MethodResult("dmarc", Result.FAIL, "", {"header.from": "d.test", "policy.dmarc": "reject"}),
        ],
    )
    assert text == (
        "mx.example.org;\r\n"
        "\tspf=pass (192.0.2.1 matches mx) smtp.mailfrom=a@d.test;\r\n"
        "\tdmarc=fail header.from=d.test policy.dmarc=reject"
    )


EVIL = [
    "x) smtp.mailfrom=evil@e.test (",
    "x; dkim=pass header.d=bank.test",
    "x\r\nX-Injected: yes",
    'a"b; dmarc=pass',
    "back\\slash\\",
    "nul\0and\x7f",
    "ünïcode\u2028\u202e",
    "(((",
    "long " * 1000,
]


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("utf8", [False, True])
def test_strangers_words_stay_inside(text: str, utf8: bool) -> None:
    results = [MethodResult("spf", Result.FAIL, text, {"smtp.mailfrom": text, "smtp.helo": "h.test"})]
    value = render(ID, results, utf8=utf8)
    assert utf8 or value.isascii()
    for line in value.split("\r\n\t"):
        assert line.isprintable()
    assert _outline(value) == ["mx.example.org", "spf=fail smtp.mailfrom=Q smtp.helo=h.test"]


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_words_stay_inside(reason: str, text: str) -> None:
    value = render(ID, [MethodResult("dkim", Result.PASS, reason, {"header.d": "x " + text})])
    assert _outline(value) == ["mx.example.org", "dkim=pass header.d=Q"]


def test_property_with_a_wrong_name_is_left_out() -> None:
    value = render(ID, [MethodResult("spf", Result.PASS, "", {"smtp mail": "x", "a.b": "y", "c": "z"})])
    assert value == "mx.example.org;\r\n\tspf=pass a.b=y"


def test_long_results_are_folded() -> None:
    properties = {f"policy.p{n}": "v" * 40 for n in range(6)}
    lines = render(ID, [MethodResult("x", Result.PASS, "", properties)]).split("\r\n\t")
    assert len(lines) > 3
    assert all(len(line) <= 78 for line in lines)


@pytest.mark.parametrize("name", ["mx example", "mx;x", 'mx"x'])
def test_strange_id_is_quoted(name: str) -> None:
    assert claimed_id(render(name, []).encode()) == name


OURS = [
    "mx.example.org; spf=pass",
    " mx.example.org ; spf=pass",
    "MX.Example.ORG; spf=pass",
    "mx.example.org.; spf=pass",
    "mx.example.org 1; spf=pass",
    "mx.example.org(x); spf=pass",
    "(c) mx.example.org; spf=pass",
    "(c (d) \\) e) mx.example.org; spf=pass",
    '"mx.example.org"; spf=pass',
    '"mx.ex\\ample.org"; spf=pass',
    "mx.example.org",
    "",
    ";",
    "; spf=pass",
    "(never closed mx.example.org; spf=pass",
    '"never closed; spf=pass',
    "=?utf-8?q?mx=2Eexample=2Eorg?=; spf=pass",
    "spf=pass smtp.mailfrom=x.test; dkim=pass",
    "mx.exa\0mple.org; spf=pass",
    'mx."example".org; spf=pass',
    "mx\uff0eexample.org; spf=pass",
]
THEIRS = [
    "other.example; spf=pass",
    "mx.example.org.evil.test; spf=pass",
    "xmx.example.org; spf=pass",
    "mx-example-org; none",
    "(mx.example.org) other.example; spf=pass (mx.example.org)",
    '"other example"; spf=pass',
    "other.example 1; spf=pass",
    "bücher.example; spf=pass",
]


@pytest.mark.parametrize("value", OURS)
def test_claims_to_be_ours(value: str) -> None:
    assert claims(value.encode(), [ID])


@pytest.mark.parametrize("value", THEIRS)
def test_claims_of_others_stay(value: str) -> None:
    assert not claims(value.encode(), [ID])


def test_raw_octets_are_not_trusted() -> None:
    assert claims(b"mx.example.org\xff; spf=pass", [ID])


def test_u_label_is_its_a_label() -> None:
    assert claims("bücher.example; spf=pass".encode(), ["xn--bcher-kva.example"])


def test_forged_fields_are_found_under_all_spellings() -> None:
    lines = [
        "Authentication-Results: mx.example.org; spf=pass",
        "authentication-RESULTS :\tmx.example.org; spf=pass",
        "X-Authentication-Results: mx.example.org; spf=pass",
        "Authentication-Results: other.example; spf=pass",
        "ARC-Authentication-Results: i=1; mx.example.org; spf=pass",
        "Authentication-Results:\r\n mx.example.org;\r\n\tspf=pass",
        "Authentication-Results\0: mx.example.org; spf=pass",
        "Subject: Authentication-Results: mx.example.org",
        "Authentication-Results: old.example.org; spf=pass",
    ]
    found = forged(header(*lines), [ID, "old.example.org"])
    assert sorted(field.index for field in found) == [0, 1, 2, 5, 6, 8]


def test_name_of_the_field() -> None:
    assert FIELD == "Authentication-Results"


@pytest.mark.parametrize(
    "value",
    ["(" * 500_000, "()" * 250_000, " " * 500_000, '"' + "\\" * 500_000, "a" * 500_000, "(\\" * 250_000],
)
def test_large_fields_take_no_time(value: str) -> None:
    # 0.3 s at most here; what grows with the square takes hours.
    assert processor_seconds(lambda: claims(value.encode(), [ID]), 3.0) < 3.0


@given(st.binary(max_size=200))
def test_any_octets_can_be_asked(octets: bytes) -> None:
    assert claims(octets, [ID]) in (True, False)


def _outline(value: str) -> list[str]:
    """The results of a value: comments left out, quoted strings as Q; an own reading of the grammar."""
    out: list[str] = [""]
    depth = 0
    quoted = False
    escaped = False
    for character in value.replace("\r\n", ""):
        if escaped:
            escaped = False
        elif character == "\\" and (quoted or depth):
            escaped = True
        elif quoted:
            quoted = character != '"'
        elif depth:
            depth += {"(": 1, ")": -1}.get(character, 0)
        elif character == "(":
            depth = 1
        elif character == '"':
            quoted = True
            out[-1] += "Q"
        elif character == ";":
            out.append("")
        else:
            out[-1] += character
    assert not depth
    assert not quoted
    return [" ".join(part.split()) for part in out]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120))
def test_fuzz_target(octets: bytes) -> None:
    fuzz_authn.check(octets)
