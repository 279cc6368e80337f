"""Addresses and domains as values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.address import (
    MAX_ADDRESS,
    MAX_LOCAL_PART,
    NULL,
    Address,
    AddressError,
    check_local,
    domain_key,
    has_controls,
    parse_address,
    quote_local,
    split_subaddress,
)

GOOD = [
    # text, local, domain, relayed text (None: as written)
    ("a@b", "a", "b", None),
    ("User.Name@Mail.Example.COM", "User.Name", "mail.example.com", None),
    ("user+tag=x/y!z#$%&'*-?^_`{|}~@example.org", "user+tag=x/y!z#$%&'*-?^_`{|}~", "example.org", None),
    ("a@example.org.", "a", "example.org", "a@example.org"),
    ("a..b@example.org", "a..b", "example.org", None),
    ("a.@example.org", "a.", "example.org", None),
    ("a@_dmarc_x.example.org", "a", "_dmarc_x.example.org", None),
    ("a@1.example", "a", "1.example", None),
    ("a@4.3.2.1.in-addr.arpa", "a", "4.3.2.1.in-addr.arpa", None),
    ('"a"@example.org', "a", "example.org", None),
    ('"a b"@example.org', "a b", "example.org", None),
    ('"a@b"@example.org', "a@b", "example.org", None),
    ('"a\\"b\\\\c"@example.org', 'a"b\\c', "example.org", None),
    ('"a\\b"@example.org', "ab", "example.org", None),
    ('".a"@example.org', ".a", "example.org", None),
    ('" "@example.org', " ", "example.org", None),
    ("a@[192.0.2.1]", "a", "[192.0.2.1]", None),
    ("a@[IPv6:2001:DB8:0:0::1]", "a", "[IPv6:2001:db8::1]", None),
    ("a@[ipv6:::ffff:192.0.2.1]", "a", "[192.0.2.1]", None),
    ("a@[IPv6:::]", "a", "[IPv6:::]", None),
    ("jörg@example.org", "jörg", "example.org", None),
    ("a@bücher.example", "a", "xn--bcher-kva.example", None),
    ("a@BÜCHER.Example", "a", "xn--bcher-kva.example", None),
    ("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example", None),
    ("a@straße.example", "a", "xn--strae-oqa.example", None),
    ("a@例え。テスト", "a", "xn--r8jz45g.xn--zckzah", None),
    ("a@ex_ample.bücher.example", "a", "ex_ample.xn--bcher-kva.example", None),
    ('"jö rg"@example.org', "jö rg", "example.org", None),
    ("نام\u200cه@example.org", "نام\u200cه", "example.org", None),
    ("x" * MAX_LOCAL_PART + "@example.org", "x" * MAX_LOCAL_PART, "example.org", None),
    ("é" * (MAX_LOCAL_PART // 2) + "@b", "é" * (MAX_LOCAL_PART // 2), "b", None),
    ("a@" + "x" * 63 + ".org", "a", "x" * 63 + ".org", None),
]

BAD = [
    "",
    "a",
    "@",
    "@b",
    "a@",
    "a@.",
    "postmaster",
    "a@b@c",
    ".a@b",
    "a b@c",
    "a,b@c",
    "a;b@c",
    "a:b@c",
    "a<b@c",
    "a>b@c",
    "a(b)@c",
    "a[b@c",
    "a\\b@c",
    'a"b@c',
    'a"b"@c',
    '"a"b@c',
    '"a""b"@c',
    '""@c',
    '"@c',
    '"a@c',
    '"a\\"@c',
    '"a\\é"@c',
    "a\x00@b",
    "a\n@b",
    '"a\rb"@c',
    "a\x7f@b",
    "a\x85@b",
    "a\u2028b@c",
    "a\u202eb@c",
    '"\u2066a"@c',
    "\ud800@c",
    "a@b\x00",
    "a@b c",
    "a@b\n",
    "a@-b.example",
    "a@b-.example",
    "a@b..example",
    "a@.b",
    "a@b..",
    "a@192.0.2.1",
    "a@example.123",
    "a@１.２.３.４",
    "a@b,c",
    "a@b/c",
    "a@℀.example",
    "a@b＠c",
    "a@\u200b",
    "a@ex ample.bücher",
    "a@xn--.bücher-\u0300",
    "a@" + "x" * 64 + ".org",
    "a@" + "ü" * 63 + ".org",
    "a@" + ".".join(["xyz"] * 65),
    "a@\ud800",
    "a@[]",
    "a@[192.0.2.1",
    "a@192.0.2.1]",
    "a@[192.0.2.01]",
    "a@[192.0.2.256]",
    "a@[192.0.2]",
    "a@[192.0.2.1] ",
    "a@[2001:db8::1]",
    "a@[IPv6:192.0.2.1]",
    "a@[IPv6:fe80::1%eth0]",
    "a@[IPv6:2001:db8::1::2]",
    "a@[tag:content]",
    "x" * (MAX_LOCAL_PART + 1) + "@b",
    "é" * (MAX_LOCAL_PART // 2 + 1) + "@b",
    "x" * 100 + "@" + ".".join(["y" * 30] * 5),
]


@pytest.mark.parametrize(("text", "local", "domain", "relayed"), GOOD)
def test_address_is_read(text: str, local: str, domain: str, relayed: str | None) -> None:
    address = parse_address(text)
    assert address == Address(local, domain, text if relayed is None else relayed)
    assert parse_address(address.text) == address


@pytest.mark.parametrize("text", BAD)
def test_bad_address_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    message = str(caught.value)
    assert message.isascii()
    assert message.isprintable()
    assert len(text) < 4 or text not in message


def test_longest_address() -> None:
    domain = ".".join(["d" * 60] * 3)
    room = MAX_ADDRESS - len(domain) - 1
    assert parse_address("x" * room + "@" + domain).domain == domain
    with pytest.raises(AddressError, match="address is too long"):
        parse_address("x" * (room + 1) + "@" + domain)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("User@Example.ORG", "user@example.org"),
        ("JÖRG@example.org", "jörg@example.org"),
        ("jo\u0308rg@example.org", "jörg@example.org"),
        ('"A B"@example.org', "a b@example.org"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@[IPv6:0:0:0:0:0:0:0:1]", "a@[IPv6:::1]"),
    ],
)
def test_key_is_what_local_tables_hold(address: str, key: str) -> None:
    assert parse_address(address).key == key


def test_null_and_bare_postmaster() -> None:
    assert NULL.is_null
    assert NULL.key == ""
    bare = Address("Postmaster", "", "Postmaster")
    assert not bare.is_null
    assert bare.key == "postmaster"
    assert bare.with_local("abuse") == Address("abuse", "", "abuse")


def test_facts_of_an_address() -> None:
    assert parse_address("a@bücher.example").is_utf8
    assert not parse_address("a@b").is_utf8
    assert str(parse_address("A@b.")) == "A@b"


@pytest.mark.parametrize(
    ("address", "local", "text"),
    [
        ("user+x@Example.org", "user", "user@Example.org"),
        ('"a@b"@bücher.example', "c d", '"c d"@bücher.example'),
        ("a@[192.0.2.1]", "b", "b@[192.0.2.1]"),
        ("a@b", 'x"\\', '"x\\"\\\\"@b'),
    ],
)
def test_with_local(address: str, local: str, text: str) -> None:
    before = parse_address(address)
    after = before.with_local(local)
    assert after == Address(local, before.domain, text)


@pytest.mark.parametrize("local", ["", "a\nb", "x" * (MAX_LOCAL_PART + 1), "\u202ea"])
def test_with_local_refuses(local: str) -> None:
    with pytest.raises(AddressError):
        parse_address("a@b").with_local(local)


def test_to_ascii() -> None:
    plain = parse_address("A.b@example.org")
    assert plain.to_ascii() is plain
    assert parse_address('"a b"@bücher.example').to_ascii().text == '"a b"@xn--bcher-kva.example'
    with pytest.raises(AddressError):
        parse_address("jörg@example.org").to_ascii()


@pytest.mark.parametrize(
    ("local", "delimiters", "expected"),
    [
        ("user+detail", "+", ("user", "detail")),
        ("user+", "+", ("user", "")),
        ("user", "+", ("user", None)),
        ("+detail", "+", ("+detail", None)),
        ("user+a+b", "+", ("user", "a+b")),
        ("user-a+b", "+-", ("user", "a+b")),
        ("user-a+b", "+", ("user-a", "b")),
        ("user+detail", "", ("user+detail", None)),
        ("MAILER-DAEMON", "-", ("MAILER-DAEMON", None)),
        ("owner-list", "-", ("owner-list", None)),
        ("list-request", "-", ("list-request", None)),
        ("owner-list+x", "+-", ("owner-list+x", None)),
        ("owner-list+x", "+", ("owner-list", "x")),
    ],
)
def test_split_subaddress(local: str, delimiters: str, expected: tuple[str, str | None]) -> None:
    assert split_subaddress(local, delimiters) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a b", False), ("é\u200d", False), ("\t", True), ("\x9f", True), ("\u2029", True), ("\udc80", True)],
)
def test_has_controls(text: str, expected: bool) -> None:
    assert has_controls(text) is expected


DOMAINS = st.lists(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True), min_size=1, max_size=5
).map(lambda labels: ".".join([*labels, "example"]))


@settings(max_examples=200)
@given(local=st.text(min_size=1, max_size=40), domain=DOMAINS)
def test_every_local_part_survives_quoting(local: str, domain: str) -> None:
    try:
        check_local(local)
    except AddressError:
        return
    address = parse_address(f"{quote_local(local)}@{domain}")
    assert (address.local, address.domain) == (local, domain)
    assert parse_address("x@" + domain).with_local(local) == address
    assert address.key == parse_address(f"{quote_local(local)}@{domain.upper()}").key


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text('aZ9é.-_@"\\[]:v6IP\x00\n例。', max_size=30))
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert not has_controls(address.text)
    assert not has_controls(address.local)
    assert parse_address(address.text) == address
    assert domain_key(address.domain) == address.domain
    assert address.domain.isascii()
