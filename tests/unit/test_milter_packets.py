"""Framing of the milter protocol, and of macros, endpoints and negotiation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmilter import macros
from mailmilter.constants import (
    CHUNK,
    CHUNK_1M,
    CHUNK_256K,
    Action,
    Command,
    Protocol,
    Stage,
    actions_of,
    protocol_of,
)
from mailmilter.endpoint import Endpoint, parse_endpoint
from mailmilter.negotiation import (
    Agreement,
    Offer,
    agree,
    encode_symbols,
    offer,
    parse_offer,
    parse_symbols,
)
from mailmilter.packets import (
    MilterProtocolError,
    PacketReader,
    number,
    packet,
    pairs,
    split_strings,
    strings,
)
from mailmilter.requests import pieces


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300))), st.integers(1, 50))
@settings(max_examples=60)
def test_packets_come_out_as_they_went_in_however_they_are_cut(
    sent: list[tuple[int, bytes]], size: int
) -> None:
    octets = b"".join(packet(code, data) for code, data in sent)
    reader = PacketReader()
    found = []
    for at in range(0, len(octets), size):
        reader.feed(octets[at : at + size])
        while (one := reader.next()) is not None:
            found.append(one)
    assert found == sent
    assert reader.waiting == 0


@given(st.binary(max_size=200))
def test_any_octets_give_packets_or_one_error(octets: bytes) -> None:
    reader = PacketReader(limit=64)
    reader.feed(octets)
    try:
        while (one := reader.next()) is not None:
            assert len(one[1]) < 64
    except MilterProtocolError:
        return
    assert reader.waiting < 4 + 64


@pytest.mark.parametrize("size", [0, 65, 2**31, 2**32 - 1])
def test_a_length_that_cannot_be_is_refused_before_its_data_come(size: int) -> None:
    reader = PacketReader(limit=64)
    reader.feed(size.to_bytes(4, "big"))
    with pytest.raises(MilterProtocolError, match=f"a packet of {size} octets"):
        reader.next()


def test_the_reader_does_not_keep_what_was_read() -> None:
    reader = PacketReader()
    for _ in range(100):
        reader.feed(packet(ord("c"), b"x" * 20_000) * 2 + b"\0\0")
        while reader.next() is not None:
            pass
        reader.feed(b"\0\1c")
        assert reader.next() == (ord("c"), b"")
        assert reader.waiting == 0


@given(st.lists(st.binary(max_size=20)))
def test_strings(words: list[bytes]) -> None:
    assert split_strings(strings(words)) == [word.replace(b"\0", b" ") for word in words]


@pytest.mark.parametrize("data", [b"a", b"a\0b"])
def test_a_string_that_is_not_closed(data: bytes) -> None:
    with pytest.raises(MilterProtocolError, match="not closed"):
        split_strings(data)


def test_numbers_and_pairs_that_are_cut_off() -> None:
    assert number(b"x\0\0\1\2", 1) == 258
    with pytest.raises(MilterProtocolError):
        number(b"\0\0\0")
    with pytest.raises(MilterProtocolError):
        pairs([b"a"])


def test_macros_without_a_value_are_not_sent() -> None:
    values = {"i": "Q1", "mail_addr": "ä@x"}
    sent = macros.encode(Command.MAIL, ("i", "{auth_type}", "mail_addr"), values)
    assert sent == packet(Command.MACRO, b"Mi\0Q1\0{mail_addr}\0\xc3\xa4@x\0")
    assert macros.encode(Command.MAIL, ("{auth_type}",), values) == b""


# Negotiation.


@pytest.mark.parametrize(
    ("version", "actions", "protocol"),
    [(2, 0x3F, 0x7F), (3, 0x3F, 0x17F), (4, 0x3F, 0x3FF), (5, 0x3F, 0x3FF), (6, 0x1FF, 0x1FFFFF)],
)
def test_what_a_version_has(version: int, actions: int, protocol: int) -> None:
    assert offer(version) == Offer(version, Action(actions), Protocol(protocol))
    assert offer(version).encode() == b"".join(one.to_bytes(4, "big") for one in (version, actions, protocol))


@pytest.mark.parametrize("version", [0, 1, 7])
def test_versions_that_do_not_exist(version: int) -> None:
    with pytest.raises(ValueError, match="2 to 6"):
        offer(version)


@pytest.mark.parametrize(
    ("max_data", "flags", "chosen", "chunk"),
    [
        (CHUNK, 0, 0, CHUNK),
        (CHUNK_256K, 0x10000000, 0x10000000, CHUNK_256K),
        (CHUNK_1M, 0x30000000, 0x20000000, CHUNK_1M),
        (CHUNK_1M, 0x30000000, 0, CHUNK),
    ],
)
def test_sizes_of_body_packets(max_data: int, flags: int, chosen: int, chunk: int) -> None:
    offered = offer(6, max_data=max_data)
    assert int(offered.protocol) == 0x1FFFFF | flags
    assert agree(offered, Offer(6, Action(0), Protocol(chosen)).encode()).chunk == chunk


@pytest.mark.parametrize(
    ("version", "actions", "protocol", "words"),
    [
        (7, 0, 0, "speaks version 7"),
        (1, 0, 0, "speaks version 1"),
        (6, 0x200, 0, "actions 0x200"),
        (6, 0, 0x200000, "protocol flags 0x200000"),
        (6, 0, 0x10000000, "protocol flags 0x10000000"),
    ],
)
def test_answers_that_ask_for_more_than_was_offered(
    version: int, actions: int, protocol: int, words: str
) -> None:
    data = b"".join(one.to_bytes(4, "big") for one in (version, actions, protocol))
    with pytest.raises(MilterProtocolError, match=words):
        agree(offer(6), data)


@pytest.mark.parametrize("flag", list(Protocol))
def test_every_protocol_flag_can_be_agreed_on(flag: Protocol) -> None:
    offered = offer(6, max_data=CHUNK_1M)
    assert agree(offered, Offer(6, Action(0), flag).encode()).protocol == flag
    assert parse_offer(Offer(6, Action(0), flag).encode()).protocol == flag


@pytest.mark.parametrize("action", list(Action))
def test_every_action_can_be_agreed_on(action: Action) -> None:
    assert agree(offer(6), Offer(6, action, Protocol(0)).encode()).actions == action
    assert bool(actions_of(4) & action) is (int(action) < 0x40)
    assert action in actions_of(6)


def test_no_reply_flags_belong_to_version_6() -> None:
    assert Protocol.NO_REPLY_MAIL in protocol_of(6)
    assert Protocol.NO_REPLY_MAIL not in protocol_of(5)


SYMBOLS = {stage: ("i", f"{{s{stage}}}") for stage in Stage}


def test_symbol_lists() -> None:
    data = offer(6).encode() + encode_symbols(SYMBOLS)
    assert agree(offer(6), data).symbols == SYMBOLS
    assert parse_symbols(b"\0\0\0\x63i\0\0\0\0\2i, j\0") == {Stage.MAIL: ("i", "j")}
    assert Agreement(6, Action(0), Protocol(0)).symbols == {}


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\1i", b"\0\0\0\1i\0\0", b"\0" * 70_000])
def test_symbol_lists_that_are_cut_off_or_too_long(data: bytes) -> None:
    with pytest.raises(MilterProtocolError):
        parse_symbols(data)


@given(st.binary(max_size=60))
def test_any_answer_agrees_or_is_a_protocol_error(data: bytes) -> None:
    for read in (lambda: agree(offer(6), data), lambda: parse_offer(data)):
        try:
            read()
        except MilterProtocolError:
            continue


# Endpoints and pieces.


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:/run/a.sock", Endpoint(path="/run/a.sock")),
        ("local:/run/a.sock", Endpoint(path="/run/a.sock")),
        (" /run/a.sock", Endpoint(path="/run/a.sock")),
        ("inet:192.0.2.1:8891", Endpoint(host="192.0.2.1", port=8891)),
        ("inet:[::1]:8891", Endpoint(host="::1", port=8891)),
        ("inet:8891", Endpoint(host="127.0.0.1", port=8891)),
        ("inet:8891@host.example", Endpoint(host="host.example", port=8891)),
        ("inet6:8891@::1", Endpoint(host="::1", port=8891, ipv6=True)),
        ("inet6:[2001:db8::1]:1", Endpoint(host="2001:db8::1", port=1, ipv6=True)),
        ("inet6:8891", Endpoint(host="::1", port=8891, ipv6=True)),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        *("", "unix:", "unix:/" + "x" * 107, "tcp:1.2.3.4:5", "inet:", "inet:x", "inet:h:0"),
        *("inet:h:65536", "inet:h:٣", "inet:::1:25", "host:25", "inet:h:-1"),
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint|octets|port|brackets"):
        parse_endpoint(text)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_pieces_are_full_but_the_last(parts: list[bytes], size: int) -> None:
    found = list(pieces(parts, size))
    assert b"".join(found) == b"".join(parts)
    assert all(len(one) == size for one in found[:-1])
    assert all(0 < len(one) <= size for one in found)
