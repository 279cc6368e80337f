"""The examples of docs/queue-format.md, decoded, and what damage does to them."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailqueue import entry
from mailqueue.entry import (
    END,
    HEAD_SIZE,
    CorruptEntry,
    FormatError,
    NeedMore,
    build,
    frame_record,
    parse,
    payload_base,
)
from mailqueue.heartbeat import Beat
from mailqueue.ids import id_octets, id_text
from mailqueue.index import Index, Location
from mailqueue.model import Change, Status
from mailqueue.opening import Announcement, StoreFormat
from mailqueue.payload import Addressee, Meta, pack, unpack
from mailqueue.records import BodyRef, Cancel, Done, Enq, Record, State, decode_record, encode_record
from mailqueue.rows import encode_rows, enter_rows
from mailqueue.seal import decode_seal
from mailqueue.snapshot import CorruptSnapshot, decode_head, encode_snapshot, read_snapshot
from mailqueue.store.base import is_seal
from mailqueue.store.memory import MemoryStore
from tests.simulation.loop import run
from tests.simulation.queues import crash, message, open_queue, until

PAGE = (Path(__file__).parents[2] / "docs" / "queue-format.md").read_text(encoding="utf-8")
STREAM = id_octets("01KB3Q8G00TAM1SSTREAM00000")
MESSAGE = id_octets("01KB3Q8G00MESSAGE000000001")
STATE = State("mx.recipient.test", Status.DEFERRED, 1764300120.0, 1, "451 4.3.0 later", 1764300000.0)


def example(name: str) -> bytes:
    (text,) = re.findall(rf"^```hex {name}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return bytes.fromhex("".join(line.split("  ", 1)[1] for line in text.splitlines()))


# The page


def test_the_entry_of_the_page() -> None:
    data = example("entry")
    entry = parse(data, STREAM, 7, whole=True)
    assert not entry.problems
    assert (entry.nonce, entry.size) == (bytes(range(8)), len(data))
    enq, done = entry.records
    assert isinstance(enq, Enq)
    assert enq == Enq(MESSAGE, 1764300000.0, 1764732000.0, 0, 19, 0, enq.length, None, [STATE])
    assert done == Done(MESSAGE, 1764300121.0)
    assert entry.base + enq.length == len(data)
    payload = unpack(data[entry.base :], MESSAGE)
    assert (payload.header, payload.body) == (b"Subject: x\r\n\r\n", b"Hi.\r\n")
    assert payload.meta.recipients == [Addressee("r@recipient.test", b"NOTIFY=NEVER")]
    assert (payload.meta.sender, payload.meta.envelope) == ("a@sender.test", b"BODY=8BITMIME")
    assert payload.meta.tags == ["bulk"]


def test_the_seal_of_the_page() -> None:
    data = example("seal")
    assert is_seal(data)
    seal = decode_seal(data)
    assert seal is not None
    assert (seal.stream, seal.number, seal.by, seal.at) == (STREAM, 8, STREAM, 1764300200.0)


def test_the_snapshot_of_the_page() -> None:
    index, problems = Index(STREAM), list[str]()
    head = asyncio.run(read_snapshot(example("snapshot"), index, problems.append))
    assert (head.stream, head.number, head.messages, head.blocks) == (STREAM, 7, 1, 1)
    assert not problems
    slot = index.find(MESSAGE)
    assert index.states(slot) == [STATE]
    enq = parse(example("entry"), STREAM, 7, whole=True)
    assert index.location(slot).offset == enq.base


def test_the_small_objects_of_the_page() -> None:
    assert msgspec.msgpack.decode(example("format"), type=StoreFormat).version == 1
    announced = msgspec.msgpack.decode(example("announcement"), type=Announcement)
    assert (announced.node, announced.pid, announced.at) == ("mx1", 812, 1764299990.0)
    beat = msgspec.msgpack.decode(example("heartbeat"), type=Beat)
    assert (beat.count, beat.committed, beat.messages, beat.closed) == (3, 7, 1, False)


# Damage


def entry_of(records: list[Record], payloads: list[bytes]) -> bytes:
    return build(STREAM, 7, b"n" * 8, [frame_record(encode_record(r)) for r in records], payloads)


@pytest.mark.parametrize("bit", range(8))
def test_one_flipped_bit_costs_one_record_or_one_payload(bit: int) -> None:
    ids = [bytes([n] * 16) for n in range(6)]
    records: list[Record] = [Cancel(id) for id in ids]
    payload = pack(Meta(1, MESSAGE, 0.0, 0.0, 0, "", [], b"", [], 0), b"", b"x" * 50)
    data = entry_of(records, [payload])
    base = parse(data, STREAM, 7, whole=True).base
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        try:
            entry = parse(bytes(damaged), STREAM, 7, whole=True)
        except (CorruptEntry, FormatError):
            # Nothing but a head that claims to be something else may do this, and it has a CRC.
            pytest.fail(f"octet {at} took everything with it")
        found = [record.id for record in entry.records if isinstance(record, Cancel)]
        if at < 64:
            assert found == ids
            assert entry.problems
            assert entry.base == base
        elif at < base - len(END):
            assert len(found) == 5
            assert set(found) < set(ids)
            assert entry.problems
        elif at >= base:
            assert found == ids
            # It is seen, or it is a bit of the frame's head that zstd does not use.
            with suppress(ValueError):
                assert unpack(bytes(damaged[base:]), MESSAGE) == unpack(payload, MESSAGE)


def test_the_beginning_says_how_much_is_needed() -> None:
    data = entry_of([Cancel(bytes(16))] * 100, [b"p" * 1000])
    base = payload_base(100 * len(frame_record(encode_record(Cancel(bytes(16))))))
    with pytest.raises(NeedMore) as need:
        parse(data[:200], STREAM, 7, whole=False)
    assert need.value.size == base
    entry = parse(data[:base], STREAM, 7, whole=False)
    assert len(entry.records) == 100
    assert (entry.base, entry.size, entry.problems) == (base, len(data), [])
    assert parse(data[:base], STREAM, 7, whole=True).problems == ["1000 octets are missing at its end"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", CorruptEntry),
        (b"x" * 200, CorruptEntry),
        (build(STREAM, 8, b"n" * 8, [], []), CorruptEntry),
        (build(MESSAGE, 7, b"n" * 8, [], []), CorruptEntry),
    ],
    ids=["empty", "noise", "another number", "another stream"],
)
def test_what_is_no_entry_of_this_place(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse(data, STREAM, 7, whole=True)


def test_newer_versions_are_left_alone() -> None:
    from zlib import crc32

    data = bytearray(entry_of([], []))
    data[4] = 2
    data[60:64] = crc32(bytes(data[:60])).to_bytes(4, "little")
    with pytest.raises(FormatError, match="version 2"):
        parse(bytes(data), STREAM, 7, whole=True)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_noise_raises_nothing_else(data: bytes) -> None:
    for reader in (
        lambda: decode_record(data),
        lambda: parse(data, STREAM, 7, whole=True),
        lambda: unpack(data, MESSAGE),
        lambda: enter_rows(Index(STREAM), data),
        lambda: decode_head(data),
        lambda: decode_seal(b"SEAL\n" + data),
    ):
        with suppress(ValueError, FormatError):
            reader()
    if len(data) < 64:
        with pytest.raises(NeedMore):
            parse(data, STREAM, 7, whole=False)


# Rows and snapshots

states = st.builds(
    State,
    st.sampled_from(["", "a", "b"]),
    st.integers(0, 6),
    st.integers(0, 2**31).map(float),
    st.integers(0, 100),
    st.sampled_from(["", "451 x", "550 y"]),
    st.integers(0, 2**31).map(float),
)
messages = st.lists(
    st.tuples(
        st.binary(min_size=16, max_size=16),
        st.lists(states, min_size=1, max_size=4),
        st.integers(-9, 9),
        st.sampled_from([STREAM, MESSAGE]),
        st.none() | st.builds(BodyRef, st.just("20261127"), st.binary(min_size=32, max_size=32), st.just(9)),
    ),
    max_size=8,
    unique_by=lambda message: message[0],
)


def held_has_no_time(found: list[State]) -> list[State]:
    # Alone, a held recipient's due time is not kept: it is never due.
    if len(found) == 1 and found[0].status == Status.HELD:
        return [State(found[0].site, 2, 0.0, found[0].attempts, found[0].reply, found[0].last)]
    return found


@given(messages)
@settings(max_examples=100, deadline=None)
def test_rows_come_back(rows: list[tuple[bytes, list[State], int, bytes, BodyRef | None]]) -> None:
    index = Index(STREAM)
    for number, (id, found, priority, stream, body) in enumerate(rows):
        index.add(id, 1.0, 2.0, priority, 3, Location(stream, number, 64, 5), body, found)
    back = Index(STREAM)
    slots = enter_rows(back, encode_rows(index, list(index.slots())))
    assert len(slots) == len(rows) == len(back)
    assert back.live_recipients == index.live_recipients
    for id, found, priority, stream, body in rows:
        slot = back.find(id)
        assert back.states(slot) == held_has_no_time(found)
        assert (back.priority[slot], back.size[slot], back.bodies.get(slot)) == (priority, 3, body)
        assert back.location(slot) == index.location(index.find(id))
        assert back.location(slot).stream == stream
    assert enter_rows(back, encode_rows(index, list(index.slots()))) == []


def test_a_damaged_block_of_a_snapshot_costs_that_block() -> None:
    index = Index(STREAM)
    for number in range(20_000):
        id = number.to_bytes(8, "big") * 2
        index.add(id, 1.0, 2.0, 0, 3, Location(STREAM, 0, 64, 5), None, [STATE])
    data = bytearray(asyncio.run(encode_snapshot(index, 5, 6.0)))
    data[200] ^= 1
    problems: list[str] = []
    back = Index(STREAM)
    asyncio.run(read_snapshot(bytes(data), back, problems.append))
    assert len(back) == 20_000 - 4_096
    assert len(problems) == 2
    data[10] ^= 1
    with pytest.raises(CorruptSnapshot):
        asyncio.run(read_snapshot(bytes(data), Index(STREAM), problems.append))


# Ids


@given(st.binary(min_size=16, max_size=16))
def test_ids_come_back_and_sort_like_their_octets(octets: bytes) -> None:
    text = id_text(octets)
    assert len(text) == 26
    assert id_octets(text) == id_octets(text.lower()) == octets
    assert (text < id_text(b"\x80" + bytes(15))) == (octets < b"\x80" + bytes(15))


@pytest.mark.parametrize(
    "text", ["", "x", "0" * 25, "0" * 27, "8" + "0" * 25, "I" + "0" * 25, "0" * 25 + "ä"]
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a queue id"):
        id_octets(text)


# Versions


def test_what_an_older_version_wrote_is_read_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of a next version, whose records have another form, takes over what ours has left: it reads
    each entry by the reader of its version, and a queue of ours leaves alone what it writes itself."""

    def next_records(data: bytes, expected: int) -> tuple[list[Record], int, list[str]]:
        # The next form has the octets of each record inverted.
        at, records = HEAD_SIZE, bytearray(data)
        while (length := int.from_bytes(data[at : at + 4], "little")) != 0:
            body = bytes(octet ^ 255 for octet in data[at + 8 : at + 8 + length])
            records[at : at + 8 + length] = frame_record(body)
            at += 8 + length
        return entry._READERS[1](bytes(records), expected)

    def next_frame(record: bytes) -> bytes:
        return frame_record(bytes(octet ^ 255 for octet in record))

    async def work() -> None:
        store = MemoryStore()
        old = await open_queue(store)
        ids = [await old.enqueue(message(b"old %d" % number)) for number in range(5)]
        deferred = Change(0, Status.DEFERRED, 5e9, "451 later", 1.0)
        await old.settle(ids[0], [deferred], urgent=True)
        await old.settle(ids[4], [Change(0, Status.DELIVERED, attempted=1.0)], urgent=True)
        crash(old)
        with monkeypatch.context() as upgrade:
            upgrade.setattr(entry, "VERSION", 2)
            upgrade.setattr(entry, "_READERS", {**entry._READERS, 2: next_records})
            upgrade.setattr("mailqueue.log.frame_record", next_frame)
            new = await open_queue(store)
            await until(lambda: len(new.live) == 4)
            assert new.live.recipients(new.live.handle_of(ids[0]))[0].reply == "451 later"
            ids[4] = await new.enqueue(message(b"old 4"))
            await new.settle(ids[1], [deferred], urgent=True)
            crash(new)
            newest = await open_queue(store)
            await until(lambda: len(newest.live) == 5)
            for number, id in enumerate(ids):
                found = await newest.load(id)
                assert b"".join((await found.body.fetch()).chunks()) == b"old %d" % number
            crash(newest)
        back = await open_queue(store)
        await asyncio.sleep(30)
        assert len(back.live) == 0
        await back.close()

    run(work())


def test_elements_that_a_later_version_adds_are_skipped() -> None:
    record = Done(MESSAGE, 5.0)
    longer = bytearray(encode_record(record))
    longer[0] += 1  # an array of one element more
    assert decode_record(bytes(longer) + b"\xc0") == record
