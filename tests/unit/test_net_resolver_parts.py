"""Parts of the resolver without a network: names, messages, the cache, and the table for tests."""

from __future__ import annotations

import asyncio

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.net.resolver import wire
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.cache import Cache, CacheSettings
from mta.net.resolver.fake import FakeResolver
from mta.net.resolver.names import name_text, read_name, wire_name
from tests.peers.cost import processor_seconds

NAMES = [
    "d.test",
    "D.Test.",
    "_25._tcp.mx.d.test",
    "a b.d.test",
    "%x.d.test",
    "x" * 63 + ".test",
    ".",
    "test",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_on_the_wire(name: str) -> None:
    octets = wire_name(name)
    assert octets is not None
    assert octets == dns.name.from_text(name.lower()).to_wire()
    assert read_name(octets, 0) == (octets, len(octets))


def test_text_of_a_name() -> None:
    assert name_text(b"\4mx.x\1a\0") == "mx\\046x.a"
    assert name_text(b"\0") == "."
    assert name_text(b"\2\xff \0") == "\\255\\032"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\3ab",
        b"\xc0",
        b"\xc0\0",
        b"\x01a\xc0\0",
        b"\x40a\0",
        b"\xc0\x09\0\0\0\0\0\0\0\0",
        b"\x3f" * 600,
    ],
)
def test_names_that_cannot_be_read(message: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        read_name(message, 0)


def test_pointers_lead_backwards_only() -> None:
    message = b"\1a\0" + b"\1b\xc0\0" + b"\1c\xc0\3"
    assert read_name(message, 7) == (b"\1c\1b\1a\0", 11)


def asked(name: str = "d.test", rdtype: str = "A") -> bytes:
    octets = wire_name(name)
    assert octets is not None
    return wire.question(octets, wire.type_number(rdtype))


def reply(rdtype: str = "A", *values: str, **others: int) -> bytes:
    query = dns.message.make_query("d.test", rdtype, use_edns=0, payload=1232)
    message = dns.message.make_response(query)
    message.flags |= others.get("flags", 0)
    if values:
        message.answer.append(dns.rrset.from_text("d.test.", others.get("ttl", 60), "IN", rdtype, *values))
    return message.to_wire(max_size=65535)


@pytest.mark.parametrize(
    ("rdtype", "values"),
    [
        ("A", ["192.0.2.1", "192.0.2.2"]),
        ("AAAA", ["2001:db8::1"]),
        ("MX", ["10 mx.d.test.", "20 a.b."]),
        ("TXT", ['"a" "b"', '""']),
        ("PTR", ["host.d.test."]),
        ("TLSA", ["3 1 1 " + "ab" * 32]),
        ("SRV", ["0 1 25 mx.d.test."]),
        ("SVCB", ["1 . port=25"]),
        ("NS", ["ns.d.test."]),
        ("SOA", ["ns.d.test. h.d.test. 1 2 3 4 5"]),
    ],
)
def test_records_as_dnspython_reads_them(rdtype: str, values: list[str]) -> None:
    message = reply(rdtype, *values)
    question = asked(rdtype=rdtype)
    assert wire.is_reply(message, question)
    found = wire.read_reply(message, question)
    expected = dns.message.from_wire(message).answer[0]
    assert set(found.records) == set(expected)
    assert (found.rcode, found.ttl, found.truncated, found.authenticated) == (0, 60, False, False)


def test_records_of_other_classes_do_not_count() -> None:
    octets = reply("A", "192.0.2.1")
    place = octets.index(b"\0\x01\0\0\0\x3c")
    assert len(wire.read_reply(octets, asked()).records) == 1
    other = octets[:place] + b"\0\3" + octets[place + 2 :]
    assert wire.read_reply(other, asked()).records == ()


def test_return_codes_beyond_15() -> None:
    message = dns.message.make_response(dns.message.make_query("d.test", "A", use_edns=0))
    message.set_rcode(dns.rcode.BADVERS)
    found = wire.read_reply(message.to_wire(), asked())
    assert (found.rcode, found.rcode_text) == (16, "BADVERS")


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (6, "", "dnssec bogus"),
        (7, "x\r\ny\0", "signature expired: x  y"),
        (999, "z", "extended error 999: z"),
    ],
)
def test_extended_errors(code: int, text: str, expected: str) -> None:
    message = dns.message.make_response(dns.message.make_query("d.test", "A", use_edns=0))
    option = dns.edns.GenericOption(dns.edns.OptionType.EDE, code.to_bytes(2, "big") + text.encode())
    message.use_edns(0, 0, 1232, options=[option])
    assert wire.read_reply(message.to_wire(), asked()).error == expected


def test_huge_ttl_is_none() -> None:
    octets = reply("A", "192.0.2.1")
    place = octets.index(b"\0\0\0\x3c")
    found = wire.read_reply(octets[:place] + b"\xff\0\0\0" + octets[place + 4 :], asked())
    assert found.ttl == 0


@given(st.binary(max_size=300))
def test_any_octets_can_be_read(octets: bytes) -> None:
    message = b"\0\0\x81\x80\0\1\0\2\0\1\0\1" + asked() + octets
    try:
        found = wire.read_reply(message, asked())
    except wire.WireError:
        return
    assert found.rcode >= 0


@given(st.data())
def test_damaged_replies_can_be_read(data: st.DataObject) -> None:
    octets = bytearray(reply("MX", "10 mx.d.test.", "20 a.b."))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(12 + len(asked()), len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.read_reply(bytes(octets), asked(rdtype="MX"))
    except wire.WireError:
        return


def test_reply_of_pointers_takes_no_time() -> None:
    chain = b"".join(b"\1a" + (0xC000 | max(12, 20 + 4 * n)).to_bytes(2, "big") for n in range(3000))
    message = b"\0\0\x81\x80\0\1\x0f\0\0\0\0\0" + asked() + chain

    def read() -> None:
        with pytest.raises(wire.WireError):
            wire.read_reply(message, asked())

    assert processor_seconds(read, 0.5) < 0.5


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def good(ttl: float = 60.0) -> Answer:
    return Answer(Status.SECURE, tuple(wire.read_reply(reply("A", "192.0.2.1"), asked()).records), ttl)


KEY = (b"\1d\0", 1)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (good(60), 60),
        (good(100_000), 300),
        (Answer(Status.SECURE, ttl=10), 10),
        (Answer(Status.SECURE, ttl=100_000, exists=False), 60),
        (Answer(Status.BOGUS), 1),
        (Answer(Status.FAIL), 1),
    ],
)
def test_how_long_answers_are_kept(answer: Answer, seconds: float) -> None:
    clock = Clock()
    cache = Cache(CacheSettings(), clock)
    cache.put(KEY, answer, 50)
    clock.now += seconds - 0.01
    assert cache.get(KEY) is answer
    clock.now += 0.01
    assert cache.get(KEY) is None
    assert (len(cache), cache.octets) == (0, 0)


def test_answers_without_a_ttl_are_not_kept() -> None:
    cache = Cache(CacheSettings(), Clock())
    cache.put(KEY, good(0), 50)
    assert len(cache) == 0


def test_oldest_answers_go_first() -> None:
    cache = Cache(CacheSettings(entries=3), Clock())
    for n in range(5):
        cache.put((b"%d" % n, 1), good(), 10)
    assert [cache.get((b"%d" % n, 1)) is None for n in range(5)] == [True, True, False, False, False]


def test_size_is_bounded() -> None:
    cache = Cache(CacheSettings(octets=1000), Clock())
    for n in range(100):
        cache.put((b"%02d" % n, 1), good(), 98)
    assert (len(cache), cache.octets) == (10, 1000)
    cache.put(KEY, good(), 2000)
    assert cache.get(KEY) is None
    cache.clear()
    assert (len(cache), cache.octets) == (0, 0)


def test_table_of_the_fake() -> None:
    fake = FakeResolver()
    fake.add("a.d.test", "A", "192.0.2.1")
    fake.add("alias.test", "CNAME", "a.d.test.")
    fake.add("dead.test", "CNAME", "nowhere.test.")
    fake.fail("down.test", "MX", Status.BOGUS, "expired")
    fake.status("d.test", Status.SECURE)
    fake.text("t.test", "x" * 600)

    async def run(name: str, rdtype: str) -> Answer:
        return await fake.query(name, rdtype, asyncio.get_running_loop().time() + 1)

    def answer(name: str, rdtype: str = "A") -> Answer:
        return asyncio.run(run(name, rdtype))

    assert answer("A.d.test.").status is Status.SECURE
    assert (answer("d.test").exists, answer("d.test").records) == (True, ())
    assert not answer("b.d.test").exists
    assert len(answer("alias.test").records) == 1
    assert answer("alias.test").canonical == "a.d.test"
    assert not answer("dead.test").exists
    assert answer("down.test", "MX").status is Status.BOGUS
    assert answer("down.test").usable
    assert answer("t.test", "TXT").texts == (b"x" * 600,)
    assert not answer("..").exists
