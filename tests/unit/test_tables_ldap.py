"""LDAP without a server: octets of messages, filters, URLs, and servers that lie."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.tables import ldapwire as wire
from mta.tables.ldap import LdapTable, parse_directory
from mta.tables.ldapfilter import FilterError, in_name, parse_filter
from mta.tables.table import VALUE_MOST, TableUnavailable
from mta.tables.wrap import Guarded
from tests.peers.answering import answering


def entry(number: int, *attributes: tuple[str, tuple[bytes, ...]]) -> bytes:
    """As a server writes it (RFC 4511 section 4.5.2)."""
    listed = b"".join(
        wire.element(0x30, wire.octets(name.encode()), wire.element(0x31, *map(wire.octets, values)))
        for name, values in attributes
    )
    return wire.element(
        0x30, wire.integer(number), wire.element(0x64, wire.octets(b"cn=x"), wire.element(0x30, listed))
    )


def result(number: int, code: int = 0, text: str = "", kind: int = 0x65) -> bytes:
    content = wire.integer(code, 0x0A) + wire.octets(b"") + wire.octets(text.encode())
    return wire.element(0x30, wire.integer(number), wire.element(kind, content))


def test_octets_of_messages() -> None:
    """Against the encodings in the RFC's own terms, written by hand."""
    assert wire.bind(1, "cn=a", "b") == b"\x30\x11\x02\x01\x01\x60\x0c\x02\x01\x03\x04\x04cn=a\x80\x01b"
    assert wire.start_tls(2) == b"\x30\x1d\x02\x01\x02\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
    sought = wire.search(3, b"dc=x", "sub", parse_filter("(a=*)").fill("") or b"", (), 0, 5)
    assert sought == (
        b"\x30\x24\x02\x01\x03\x63\x1f\x04\x04dc=x\x0a\x01\x02\x0a\x01\x00\x02\x01\x00\x02\x01\x05\x01\x01\x00"
        b"\x87\x01a\x30\x05\x04\x031.1"
    )
    assert [wire.integer(n) for n in (0, 127, 128, 256)] == [
        b"\x02\x01\x00", b"\x02\x01\x7f", b"\x02\x02\x00\x80", b"\x02\x02\x01\x00",
    ]  # fmt: skip
    assert wire.element(4, bytes(300))[:4] == b"\x04\x82\x01\x2c"


@given(
    st.integers(1, 2**31 - 1),
    st.lists(
        st.tuples(st.text(max_size=9), st.lists(st.binary(max_size=300), max_size=4).map(tuple)), max_size=4
    ),
)
def test_entries_are_read_as_they_were_written(
    number: int, attributes: list[tuple[str, tuple[bytes, ...]]]
) -> None:
    assert wire.read(entry(number, *attributes)) == wire.Entry(number, tuple(attributes))


WHOLE = entry(5, ("mail", (b"a", b"b")))


@given(st.binary(max_size=60) | st.builds(lambda cut, to: WHOLE[:cut] + to, st.integers(0, 40), st.binary()))
def test_any_octets_are_a_message_or_an_error(octets: bytes) -> None:
    try:
        wire.read(octets)
    except wire.WireError:
        return


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("(cn=x)", b"\xa3\x07\x04\x02cn\x04\x01x"),
        ("(cn>={key})", b"\xa5\x0a\x04\x02cn\x04\x04K)(*"),
        ("(cn<=x)", b"\xa6\x07\x04\x02cn\x04\x01x"),
        ("(cn~=x)", b"\xa8\x07\x04\x02cn\x04\x01x"),
        (r"(cn=\28\2a\5C)", b"\xa3\x09\x04\x02cn\x04\x03(*\\"),
        ("(cn=a*{key}*c)", b"\xa4\x12\x04\x02cn\x30\x0c\x80\x01a\x81\x04K)(*\x82\x01c"),
        ("(cn=*a)", b"\xa4\x09\x04\x02cn\x30\x03\x82\x01a"),
        ("(!(cn=*))", b"\xa2\x04\x87\x02cn"),
        ("(|(a=*)(b=*))", b"\xa1\x06\x87\x01a\x87\x01b"),
        ("(a:dn:2.5:=x)", b"\xa9\x0e\x81\x032.5\x82\x01a\x83\x01x\x84\x01\xff"),
        ("(mail={domain})", None),
    ],
)
def test_filters(text: str, octets: bytes | None) -> None:
    assert parse_filter(text).fill("K)(*") == octets


@pytest.mark.parametrize(
    "text",
    ["", "mail=x", "(mail=x", "(mail=x))", "()", "(=x)", "(&)", "(!(a=b)(c=d))", "(a=b)(c=d)", "({key}=x)",
     r"(a=\2)", r"(a=\zz)", "(a=(b))", "(a:>=x)", "(:=x)", "(!" * 60 + "(a=b)" + ")" * 60, "(&(a=b)x)"],
)  # fmt: skip
def test_filters_that_are_none(text: str) -> None:
    with pytest.raises(FilterError, match=r".+"):
        parse_filter(text)


def test_names() -> None:
    cases = {"a": "a", "a,b+c": "a\\,b\\+c", "#a": "\\#a", " a ": "\\ a\\ ", "\0": "\\00", "": "", " ": "\\ "}
    assert {value: in_name(value) for value in cases} == cases


@pytest.mark.parametrize(
    "url",
    ["http://x/", "ldap:///dc=x", "ldap://u@x/", "ldap://x:0/", "ldap://x:99999/", "ldap://x/dc=x?a?all",
     "ldap://x/dc=x?a?sub?(b=c)", "ldapi://path/", "ldap://x/#y"],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_directory(url)


def test_urls() -> None:
    here = parse_directory("ldaps://x.test/ou=a%20b,dc=x?mail,cn?one")
    assert (here.host, here.port, here.secure, here.scope) == ("x.test", 636, True, "one")
    assert (here.base.literals, here.attributes) == (("ou=a b,dc=x",), ("mail", "cn"))
    assert parse_directory("ldap://[::1]").scope == "sub"
    assert parse_directory("ldapi://%2Frun%2Fldapi/dc=x").socket == "/run/ldapi"


async def request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    return head + await reader.readexactly(head[1])


def table(port: int) -> LdapTable:
    return LdapTable(
        parse_directory(f"ldap://127.0.0.1:{port}/dc=x?a"), parse_filter("(a={key})"), "", "", 5, 1
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x30\x84\x7f\xff\xff\xff", "a message of"), (b"\x30\x85", "a length of 5 octets"),
        (b"HTTP/1.1 400 no\r\n\r\n", "the answer makes no sense"),
        (b"\x30\x00", "the answer makes no sense"),
        (result(7), "an answer to another question"), (result(0, 52, "going down"), "going down"),
        (result(1, 11, "too much"), r"LDAP: result 11 \(adminLimitExceeded\) too much"),
        (result(1, 51), "LDAP: result 51"), (result(1, 99), "LDAP: result 99$"),
        (entry(1, ("a", (b"x" * VALUE_MOST, b"y"))) + result(1), "a value of more than"),
        (entry(1, ("a", (b"\xff",))) + result(1), "is no text"),
    ],
)  # fmt: skip
def test_lies(answer: bytes, said: str) -> None:
    async def main() -> None:
        async with answering(request, lambda _: answer) as server:
            here = table(server.port)
            with pytest.raises(TableUnavailable, match=said):
                async with asyncio.timeout(10):
                    await here.get("k")
            await here.close()

    asyncio.run(main())


def test_slow_dead_and_lying() -> None:
    async def main() -> None:
        async with answering(request, lambda asked: result(asked[4])) as server:
            loop = asyncio.get_running_loop()
            here = Guarded("t", table(server.port), 0.1, loop.time)
            for behaviour in ("slow", "dies", "lies"):
                server.behaviour = behaviour
                found = here.get("k")
                assert found is not None
                assert not isinstance(found, str)
                with pytest.raises(TableUnavailable, match="table t: "):
                    await found
            await here.close()

    asyncio.run(main())


def test_references_and_other_attributes_are_passed_over() -> None:
    reference = wire.element(0x30, wire.integer(1), wire.element(0x73, wire.octets(b"ldap://y/")))
    answer = entry(1, ("b", (b"no",)), ("A;lang-de", (b"yes",))) + reference + entry(1, ("a", ())) + result(1)

    async def main() -> None:
        async with answering(request, lambda _: answer) as server:
            here = table(server.port)
            assert await here.get("k") == "yes"
            await here.close()

    asyncio.run(main())
