"""Frames whole and in pieces, bounds, and what happens when the other end is gone."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config import parse, to_json
from mta.config.loading import MAX_FILE
from mta.supervisor.channel import MAX_FRAME, MAX_UNSENT, Channel, FrameError, FrameReader, frame
from mta.supervisor.generation import MAX_KEPT
from mta.supervisor.memory import LIMIT
from mta.supervisor.messages import (
    Drain,
    Fault,
    Hello,
    Keep,
    LogLevel,
    Ready,
    Snapshot,
    Start,
    Topic,
    ToSupervisor,
    ToWorker,
)

START = Start(
    name="worker-1.1",
    slot=3,
    slots=32,
    configuration=b"{}",
    sockets={"smtp": [4, 5]},
    shared_memory_fd=6,
    drain_timeout=60.0,
    remembered=[Topic("unacknowledged", {"key": "k", "expires_in": 10.5})],
)


@pytest.mark.parametrize("message", [START, Drain(1.5), LogLevel("debug"), Topic("t", {"a": [1, None, "é"]})])
def test_message_to_worker_survives(message: msgspec.Struct) -> None:
    (body,) = FrameReader().feed(frame(message))
    assert msgspec.msgpack.decode(body, type=ToWorker) == message


@pytest.mark.parametrize("message", [Hello(1, "0.1"), Ready(), Fault("why"), Snapshot(7, {"c": {"x": 1}})])
def test_message_to_supervisor_survives(message: msgspec.Struct) -> None:
    (body,) = FrameReader().feed(frame(message))
    assert msgspec.msgpack.decode(body, type=ToSupervisor) == message


def test_message_of_a_newer_version_is_read_without_its_new_field() -> None:
    body = msgspec.msgpack.encode({"type": "Drain", "seconds": 2.0, "invented_later": True})
    assert msgspec.msgpack.decode(body, type=ToWorker) == Drain(2.0)


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 64))
@settings(max_examples=60)
def test_frames_are_the_same_however_they_arrive(texts: list[bytes], step: int) -> None:
    stream = b"".join(frame(Fault(text.hex())) for text in texts)
    whole = FrameReader().feed(stream)
    reader = FrameReader()
    pieces = [body for i in range(0, len(stream), step) for body in reader.feed(stream[i : i + step])]
    assert pieces == whole
    assert [msgspec.msgpack.decode(body, type=ToSupervisor) for body in whole] == [
        Fault(t.hex()) for t in texts
    ]


def test_length_beyond_the_limit_ends_reading() -> None:
    with pytest.raises(FrameError):
        FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "big"))


def test_message_beyond_the_limit_is_not_sent() -> None:
    with pytest.raises(ValueError, match="longer than"):
        frame(Fault("x" * (MAX_FRAME + 1)))


def test_the_largest_configuration_reaches_a_worker() -> None:
    """The shortest lines of a file are a hundred octets more when all defaults are in them."""
    lines = [f'"d{number}.test"={{}}\n' for number in range(100)]
    few = parse('[backends.b]\naddresses=["127.0.0.1:24"]\n[domains]\n' + "".join(lines))
    configuration = to_json(few) * (MAX_FILE // sum(map(len, lines)))
    remembered = [Topic("unacknowledged", {"key": "x" * 350, "expires": 1.0})] * LIMIT
    kept = [Keep("one", {"text": "x" * MAX_KEPT})]
    message = Start("worker-1.1", 0, 8, configuration, {}, 3, 60.0, remembered, kept)
    assert FrameReader().feed(frame(message))


class End:
    """One end of a channel that notes what it is told."""

    def __init__(self) -> None:
        self.messages: list[msgspec.Struct] = []
        self.faults: list[str] = []
        self.closed = asyncio.Event()
        self.got = asyncio.Event()
        self.channel: Channel[msgspec.Struct] = Channel(
            ToWorker, self.take, self.closed.set, self.faults.append
        )

    def take(self, message: msgspec.Struct) -> None:
        self.messages.append(message)
        self.got.set()


def test_unreadable_message_is_reported_and_skipped() -> None:
    async def scenario() -> None:
        end = End()
        ours, theirs = socket.socketpair()
        await end.channel.connect(ours)
        with theirs:
            nonsense = b"\xc1\xc1"
            theirs.sendall(len(nonsense).to_bytes(4, "big") + nonsense + frame(Ready()) + frame(Drain(1.0)))
            await asyncio.wait_for(end.got.wait(), 5)
        await asyncio.wait_for(end.closed.wait(), 5)
        assert end.messages == [Drain(1.0)]
        assert len(end.faults) == 2

    asyncio.run(scenario())


def test_lost_place_ends_the_channel() -> None:
    async def scenario() -> None:
        end = End()
        ours, theirs = socket.socketpair()
        await end.channel.connect(ours)
        with theirs:
            theirs.sendall(b"\xff\xff\xff\xff")
            await asyncio.wait_for(end.closed.wait(), 5)
        assert "announced" in end.faults[0]
        assert end.channel.closed
        assert end.channel.send(Drain(1.0)) is False

    asyncio.run(scenario())


def test_sender_is_refused_when_the_other_end_does_not_read() -> None:
    async def scenario() -> None:
        end = End()
        ours, theirs = socket.socketpair()
        await end.channel.connect(ours)
        with theirs:
            record = Topic("t", {"text": "x" * 1_000_000})
            sent = 0
            while end.channel.send(record):
                sent += 1
                assert sent < 50
            assert sent * 1_000_000 >= MAX_UNSENT
            end.channel.abort()
            await asyncio.wait_for(end.closed.wait(), 5)

    asyncio.run(scenario())
