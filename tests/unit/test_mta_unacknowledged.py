"""The memory of deliveries whose answer did not arrive, over two workers with one clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mta.address import parse_address
from mta.content import MessageBuffer
from mta.unacknowledged import Unacknowledged, digest

BOB, EVE = parse_address("bob@x.test"), parse_address("eve@x.test")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Node:
    """All workers hear what one publishes, but not the one itself."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[dict[str, Any]], None]] = []

    def link(self) -> Link:
        return Link(self)


class Link:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.own: Callable[[dict[str, Any]], None] | None = None

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        assert topic == "unacknowledged"
        for callback in self.node.callbacks:
            if callback is not self.own:
                callback(data)

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        if topic == "unacknowledged":
            self.own = callback
            self.node.callbacks.append(callback)


def buffer(octets: bytes) -> MessageBuffer:
    content = MessageBuffer()
    content.append(octets)
    return content


def test_what_one_worker_remembers_all_know_until_it_expires() -> None:
    node, clock = Node(), Clock()
    first, second = (Unacknowledged(node.link(), clock, ttl=60) for _ in range(2))
    assert not first
    assert not second
    first.remember("m", [BOB])
    for memory in (first, second):
        assert memory
        assert memory.knows("m", BOB)
        assert not memory.knows("m", EVE)
        assert not memory.knows("n", BOB)
    clock.now += 61
    assert not first.knows("m", BOB)
    second.remember("n", [EVE])
    assert len(second) == 1, "what has expired makes room"


def test_local_parts_that_differ_in_case_may_be_two_people() -> None:
    memory = Unacknowledged(Node().link(), Clock())
    memory.remember("m", [parse_address("BOB@x.test")])
    assert memory.knows("m", parse_address('"BOB"@X.test'))
    assert not memory.knows("m", BOB)


def test_it_is_bounded_and_may_be_switched_off() -> None:
    node, clock = Node(), Clock()
    memory = Unacknowledged(node.link(), clock, entries=3)
    for number in range(5):
        memory.remember(str(number), [BOB])
    assert [memory.knows(str(number), BOB) for number in range(5)] == [False, False, True, True, True]
    off = Unacknowledged(Node().link(), clock, ttl=0)
    off.remember("m", [BOB])
    assert not off


def test_a_digest_is_of_sender_and_octets() -> None:
    a, b = parse_address("a@x.test"), parse_address("b@x.test")
    assert digest(a, buffer(b"x")) == digest(a, buffer(b"x"))
    assert len({digest(a, buffer(b"x")), digest(b, buffer(b"x")), digest(a, buffer(b"y"))}) == 3
    big = b"z" * 3_000_000
    cut = MessageBuffer()
    for start in range(0, len(big), 70_000):
        cut.append(big[start : start + 70_000])
    whole = buffer(big)
    assert cut.spilled
    assert whole.spilled
    assert digest(a, cut) == digest(a, whole)
    cut.close()
    whole.close()
