"""Command lines, paths, host names and the arguments of the small commands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.address import NULL, parse_address
from mta.smtp.syntax import (
    EtrnArgument,
    Parameters,
    SyntaxProblem,
    parse_auth_argument,
    parse_auth_response,
    parse_bdat_argument,
    parse_etrn_argument,
    parse_helo_argument,
    parse_lookup_argument,
    parse_mail,
    parse_rcpt,
    split_command,
    split_parameters,
)
from tests.fuzz.fuzz_syntax import check


def code_of(caught: pytest.ExceptionInfo[SyntaxProblem]) -> str:
    return f"{caught.value.reply.code} {caught.value.reply.enhanced}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"NOOP", ("NOOP", b"")),
        (b"noop", ("NOOP", b"")),
        (b"Mail FROM:<>", ("MAIL", b"FROM:<>")),
        (b"MAIL  FROM:<>  \t", ("MAIL", b"FROM:<>")),
        (b"EHLO\texample.org", ("EHLO", b"example.org")),
        (b"NOOP\t", ("NOOP", b"")),
        (b"", ("", b"")),
        (b" NOOP", ("", b" NOOP")),
        (b"NO-OP x", ("", b"NO-OP x")),
        (b"\x16\x03\x01", ("", b"\x16\x03\x01")),
        (b"NOOP\x00 x", ("", b"NOOP\x00 x")),
        ("ÉHLO x".encode(), ("", "ÉHLO x".encode())),
    ],
)
def test_split_command(line: bytes, expected: tuple[str, bytes]) -> None:
    assert split_command(line) == expected


@pytest.mark.parametrize(
    ("argument", "address", "parameters"),
    [
        (b"FROM:<>", "", []),
        (b"from:<>", "", []),
        (b"FROM: <>", "", []),
        (b"FROM:<> SIZE=0", "", [("SIZE", "0")]),
        (b"FROM:<a@b.example>", "a@b.example", []),
        (b"FROM:   <a@b.example>  ", "a@b.example", []),
        (b"FROM:<a@b.example> size=1 Body=8bitmime", "a@b.example", [("SIZE", "1"), ("BODY", "8bitmime")]),
        (b"FROM:<a@b.example>   PRDR   X-Y=z", "a@b.example", [("PRDR", None), ("X-Y", "z")]),
        (b"FROM:<a@b> AUTH=<>", "a@b", [("AUTH", "<>")]),
        (b"FROM:<a@b> ENVID=a=b", "a@b", [("ENVID", "a=b")]),
        (b'FROM:<"a>b"@c> PRDR', '"a>b"@c', [("PRDR", None)]),
        (b'FROM:<"a\\"> b"@c> PRDR', '"a\\"> b"@c', [("PRDR", None)]),
        (b"FROM:<@relay.example:a@b>", "a@b", []),
        (b"FROM:<@a.example,@b.example:a@b> PRDR", "a@b", [("PRDR", None)]),
        (b'FROM:<@a.example:"x:y"@b>', '"x:y"@b', []),
        (b"FROM:a@b.example", "a@b.example", []),
        (b"FROM: a@b.example SIZE=1", "a@b.example", [("SIZE", "1")]),
        (b"FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]", []),
        (b"FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", []),
        (b"FROM:<a@b.example.>", "a@b.example", []),
    ],
)
def test_mail(argument: bytes, address: str, parameters: Parameters) -> None:
    expected = parse_address(address) if address else NULL
    assert parse_mail(argument, smtputf8_ok=False) == (expected, parameters)
    assert parse_mail(argument, smtputf8_ok=True) == (expected, parameters)


BAD_PATHS = [
    (b"", "501 5.5.4"),
    (b"<a@b>", "501 5.5.4"),
    (b"FOR:<a@b>", "501 5.5.4"),
    (b"%s :<a@b>", "501 5.5.4"),
    (b"%s<a@b>", "501 5.5.4"),
    (b"%s:", "path"),
    (b"%s: ", "path"),
    (b"%s:a", "path"),
    (b"%s:a b@c", "path"),
    (b"%s:SIZE=1", "path"),
    (b'%s:"a"@b', "path"),
    (b"%s:@a:b@c", "path"),
    (b"%s:a@b>", "path"),
    (b"%s:<a@b", "path"),
    (b"%s:<a@b PRDR", "path"),
    (b"%s:<a@b>PRDR", "path"),
    (b"%s:<a@b>>", "path"),
    (b"%s:<<a@b>>", "path"),
    (b"%s:<a@b> PRDR=", "501 5.5.4"),
    (b"%s:<a@b> =x", "501 5.5.4"),
    (b"%s:<a@b> -X", "501 5.5.4"),
    (b"%s:<a@b> X_Y=1", "501 5.5.4"),
    (b"%s:<a@b> X=1 x=2", "501 5.5.4"),
    (b"%s:<a@b> <c@d>", "501 5.5.4"),
    (b"%s:<a>", "path"),
    (b"%s:< >", "path"),
    (b"%s:< a@b>", "path"),
    (b"%s:<a@b >", "path"),
    (b"%s:<a@b,c@d>", "path"),
    (b"%s:<@>", "path"),
    (b"%s:<@a>", "path"),
    (b"%s:<@a:>", "path"),
    (b"%s:<@a,b:c@d>", "path"),
    (b"%s:<@a b:c@d>", "path"),
    (b"%s:<@a:@b:c@d>", "path"),
    (b"%s:<" + b",".join([b"@relay.example"] * 18) + b":a@b>", "path"),
    (b'%s:<"a@b>', "path"),
    (b'%s:<"a>"', "path"),
    (b"%s:<a@1.2.3.4>", "path"),
    (b"%s:<" + b"x" * 129 + b"@b>", "path"),
    (b"%s:<a@" + b"x" * 256 + b">", "path"),
    (b"%s:<a\x00@b>", "501 5.5.2"),
    (b"%s:<a@b>\x00", "501 5.5.2"),
    (b"%s:<a@b>\tPRDR", "501 5.5.2"),
    (b"%s:<a@b\r>", "501 5.5.2"),
    (b"%s:<a@b>\n", "501 5.5.2"),
    (b"%s:<a@b\x7f>", "501 5.5.2"),
    ("%s:<é@b>".encode(), "553 5.6.7"),
    ("%s:<a@é.example>".encode(), "553 5.6.7"),
    ("%s:<a@b> X=é".encode(), "553 5.6.7"),
    (b"%s:<\xff@b>", "553 5.6.7"),
]


@pytest.mark.parametrize(("argument", "expected"), BAD_PATHS)
def test_bad_paths_are_refused(argument: bytes, expected: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_mail(argument.replace(b"%s", b"FROM"), smtputf8_ok=False)
    assert code_of(caught) == expected.replace("path", "501 5.1.7")
    with pytest.raises(SyntaxProblem) as caught:
        parse_rcpt(argument.replace(b"%s", b"TO"), smtputf8_ok=False)
    assert code_of(caught) == expected.replace("path", "501 5.1.3")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<é@b>", "553 5.6.7"),
        ("FROM:<a@b> X=é", "553 5.6.7"),
        ("FROM:<é@b> SMTPUTF8=1", "553 5.6.7"),
        ("FROM:<é\u0085@b> SMTPUTF8", "501 5.5.2"),
        ("FROM:<é\u2028@b> SMTPUTF8", "501 5.5.2"),
        ("FROM:<é\n@b> SMTPUTF8", "501 5.5.2"),
        ("FROM:<é\u202e@b> SMTPUTF8", "501 5.1.7"),
        ("FROM:<é@b>\u00a0SMTPUTF8", "501 5.1.7"),
        ("FROM:<é@b> SMTPUTF8\u00a0X", "501 5.5.4"),
        ("FROM:<é@b> SMTPÜTF8", "501 5.5.4"),
    ],
)
def test_mail_with_utf8_is_refused(argument: str, expected: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_mail(argument.encode(), smtputf8_ok=True)
    assert code_of(caught) == expected


@pytest.mark.parametrize("octets", [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_invalid_utf8_is_refused(octets: bytes) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_mail(b"FROM:<a" + octets + b"@b> SMTPUTF8", smtputf8_ok=True)
    assert code_of(caught) == "501 5.5.2"


def test_utf8_addresses() -> None:
    address, parameters = parse_mail("FROM:<jörg@bücher.example> SMTPUTF8".encode(), smtputf8_ok=True)
    assert address == parse_address("jörg@bücher.example")
    assert parameters == [("SMTPUTF8", None)]
    address, _ = parse_rcpt("TO:<用户@例え.テスト>".encode(), smtputf8_ok=True)
    assert address.domain == "xn--r8jz45g.xn--zckzah"


@pytest.mark.parametrize("argument", [b"TO:<Postmaster>", b"to:<Postmaster>", b"TO: Postmaster"])
def test_postmaster_needs_no_domain(argument: bytes) -> None:
    address, _ = parse_rcpt(argument, smtputf8_ok=False)
    assert (address.local, address.domain, address.text) == ("postmaster", "", "Postmaster")


@pytest.mark.parametrize(
    ("path", "address"),
    [
        (b"<scanner>", "scanner@example.org"),
        (b"<a.b+c>", "a.b+c@example.org"),
        (b'<"a b">', '"a b"@example.org'),
        (b"scanner", "scanner@example.org"),
        (b"<a@b>", "a@b"),
    ],
)
def test_an_address_without_a_domain_is_qualified(path: bytes, address: str) -> None:
    for parse, verb in ((parse_mail, b"FROM:"), (parse_rcpt, b"TO:")):
        found, parameters = parse(verb + path + b" X=1", smtputf8_ok=False, qualify_domain="example.org")
        assert (found, parameters) == (parse_address(address), [("X", "1")])


@pytest.mark.parametrize("path", [b"<a b>", b"<.a>", b"<a@>", b"<@>", b"<a@b@>", b"<" + b"a" * 250 + b">"])
def test_more_than_the_domain_is_missing(path: bytes) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_mail(b"FROM:" + path, smtputf8_ok=False, qualify_domain="example.org")
    assert code_of(caught) == "501 5.1.7"
    with pytest.raises(SyntaxProblem) as caught:
        parse_rcpt(b"TO:" + path, smtputf8_ok=False, qualify_domain="example.org")
    assert code_of(caught) == "501 5.1.3"


def test_neither_the_null_path_nor_postmaster_is_qualified() -> None:
    assert parse_mail(b"FROM:<>", smtputf8_ok=False, qualify_domain="example.org")[0].text == ""
    address, _ = parse_rcpt(b"TO:<postmaster>", smtputf8_ok=False, qualify_domain="example.org")
    assert (address.local, address.domain) == ("postmaster", "")
    with pytest.raises(SyntaxProblem):
        parse_rcpt(b"TO:<>", smtputf8_ok=False, qualify_domain="example.org")


def test_rcpt_takes_parameters_but_no_null_path() -> None:
    assert parse_rcpt(b"TO:<a@b> NOTIFY=NEVER", smtputf8_ok=False) == (
        parse_address("a@b"),
        [("NOTIFY", "NEVER")],
    )
    with pytest.raises(SyntaxProblem) as caught:
        parse_rcpt(b"TO:<>", smtputf8_ok=False)
    assert code_of(caught) == "501 5.1.3"


def test_split_parameters_of_nothing() -> None:
    assert split_parameters("   ") == []


@pytest.mark.parametrize(
    "argument",
    [
        "mail.example.org",
        "MAIL.Example.org",
        "[IPv6:2001:db8::1]",
        "a_b",
        "192.0.2.1",
        "-a..b",
        "two words",
        "bücher.example",
        "x" * 255,
        "{%",
    ],
)
def test_helo_argument(argument: str) -> None:
    """Any is taken as it is written: clients say what they like."""
    assert parse_helo_argument(argument.encode()) == argument


def test_a_computer_that_is_named_in_another_code_page() -> None:
    assert parse_helo_argument("Büro-PC".encode("cp1252")) == "B\ufffdro-PC"
    assert parse_helo_argument(b"\xff.example") == "\ufffd.example"


@pytest.mark.parametrize("argument", [b"", b"x" * 256, b"a\x00b", b"a\tb", b"\xff\x00", b"a\x1b[31m"])
def test_bad_helo_argument(argument: bytes) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_helo_argument(argument)
    assert caught.value.reply.code == 501


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"0", (0, False)),
        (b"86400 LAST", (86400, True)),
        (b"1  last", (1, True)),
        (b"9" * 19, (10**19 - 1, False)),
    ],
)
def test_bdat_argument(argument: bytes, expected: tuple[int, bool]) -> None:
    assert parse_bdat_argument(argument) == expected


@pytest.mark.parametrize(
    "argument", [b"", b"x", b"-1", b"+1", b"1.0", b"1 FIRST", b"1 LAST LAST", b"LAST", b"9" * 20, b"\xb2"]
)
def test_bad_bdat_argument(argument: bytes) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_bdat_argument(argument)
    assert code_of(caught) == "501 5.5.4"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"PLAIN", ("PLAIN", None)),
        (b"scram-sha-256-plus", ("SCRAM-SHA-256-PLUS", None)),
        (b"EXTERNAL =", ("EXTERNAL", b"")),
        (b"PLAIN  AGEAYg==", ("PLAIN", b"\x00a\x00b")),
    ],
)
def test_auth_argument(argument: bytes, expected: tuple[str, bytes | None]) -> None:
    assert parse_auth_argument(argument) == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"", "501 5.5.4"),
        (b"PL\x00AIN", "501 5.5.4"),
        (b"PLAIN=", "501 5.5.4"),
        (b"X" * 21, "501 5.5.4"),
        (b"PLAIN ==", "501 5.5.2"),
        (b"PLAIN AGEAYg=", "501 5.5.2"),
        (b"PLAIN AGEAYg", "501 5.5.2"),
        (b"PLAIN AGEA Yg==", "501 5.5.2"),
        (b"PLAIN AGEA!Yg==", "501 5.5.2"),
        (b"PLAIN *", "501 5.5.2"),
    ],
)
def test_bad_auth_argument(argument: bytes, expected: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_auth_argument(argument)
    assert code_of(caught) == expected


def test_auth_response() -> None:
    assert parse_auth_response(b"*") is None
    assert parse_auth_response(b"") == b""
    assert parse_auth_response(b"YWJj ") == b"abc"
    for bad in (b"=", b"YWJj=", b"YW Jj", b"YWJ", b"**", b"\xff", b"YWJj====", b"YQ==YQ=="):
        with pytest.raises(SyntaxProblem) as caught:
            parse_auth_response(bad)
        assert code_of(caught) == "501 5.5.2"


@pytest.mark.parametrize(
    ("argument", "smtputf8_ok", "expected"),
    [
        (b"postmaster", True, ("postmaster", False)),
        (b"Some One <a@b>", True, ("Some One <a@b>", False)),
        ("jörg SMTPUTF8".encode(), True, ("jörg", True)),
        (b"a smtputf8", True, ("a", True)),
        (b"a SMTPUTF8", False, ("a SMTPUTF8", False)),
        (b"SMTPUTF8", True, ("SMTPUTF8", False)),
    ],
)
def test_lookup_argument(argument: bytes, smtputf8_ok: bool, expected: tuple[str, bool]) -> None:
    assert parse_lookup_argument(argument, smtputf8_ok=smtputf8_ok) == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"", "501 5.5.4"),
        (b"x" * 257, "501 5.5.4"),
        ("é".encode(), "553 5.6.7"),
        (b"a\x00", "501 5.5.2"),
        (b"\xff SMTPUTF8", "501 5.5.2"),
    ],
)
def test_bad_lookup_argument(argument: bytes, expected: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_lookup_argument(argument, smtputf8_ok=True)
    assert code_of(caught) == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"Example.org", EtrnArgument("", "example.org")),
        (b"@example.org", EtrnArgument("@", "example.org")),
        (b"#Queue1", EtrnArgument("#", "Queue1")),
    ],
)
def test_etrn_argument(argument: bytes, expected: EtrnArgument) -> None:
    assert parse_etrn_argument(argument) == expected


@pytest.mark.parametrize("argument", [b"", b"@", b"#", b"a b", b"#a b", b"a@b", b"#" + b"x" * 256])
def test_bad_etrn_argument(argument: bytes) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse_etrn_argument(argument)
    assert code_of(caught) == "501 5.5.4"


PIECES = st.sampled_from(
    [
        *(b"MAIL FROM:", b"RCPT TO:", b"FROM:", b"TO:", b"<", b">", b"@", b":", b",", b".", b" ", b"=", b";"),
        *(
            b'"',
            b"\\",
            b"+2B",
            b"+",
            b"\\x{E9}",
            b"[",
            b"]",
            b"IPv6:",
            b"::1",
            b"192.0.2.1",
            b"a",
            b"b.example",
        ),
        *(b" SMTPUTF8", b" SIZE=12", b" BODY=8BITMIME", b" BODY=BINARYMIME", b" AUTH=", b" RET=HDRS"),
        *(b" ENVID=", b" NOTIFY=NEVER", b" NOTIFY=SUCCESS,DELAY", b" ORCPT=rfc822;", b" ORCPT=utf-8;"),
        *(b" BY=-5;NT", b" BY=9;R", b" HOLDFOR=60", b" HOLDUNTIL=2030-01-01T00:00:00Z", b" MT-PRIORITY=-3"),
        *(b" REQUIRETLS", b" PRDR", b"ADDR=", b"NAME=", b"[UNAVAILABLE]", b"IPV6:", b"PORT=25", b"HELO="),
        *(b"\x00", b"\r", b"\n", b"\t", b"\xff", "é".encode(), "\u202e".encode(), "。".encode()),
    ]
)


@settings(max_examples=400)
@given(st.lists(PIECES | st.binary(max_size=4), max_size=14).map(b"".join))
def test_any_octets_give_values_or_a_reply(data: bytes) -> None:
    check(data)


LOCAL = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@settings(max_examples=150)
@given(local=LOCAL, value=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12))
def test_what_is_sent_is_what_was_read(local: str, value: str) -> None:
    address = parse_address("x@b.example").with_local(local)
    parameters: Parameters = [("SMTPUTF8", None)]
    if value:
        parameters.append(("X-TEXT", value))
    tail = "".join(f" {keyword}={v}" if v else f" {keyword}" for keyword, v in parameters)
    assert parse_mail(f"FROM:<{address}>{tail}".encode(), smtputf8_ok=True) == (address, parameters)
    assert parse_rcpt(f"TO:<{address}>{tail}".encode(), smtputf8_ok=True) == (address, parameters)
    assert parse_mail(f"FROM:<@relay.example:{address}>{tail}".encode(), smtputf8_ok=True)[0] == address
