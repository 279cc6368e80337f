"""Limits: their arithmetic under simulated time, several workers on one memory, a worker that dies."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta.net import limits as module
from mta.net.counters import MAX_SLOTS, Counters, create, size
from mta.net.descriptors import raise_fd_limit
from mta.net.limits import (
    ClientLimits,
    Limits,
    LimitSettings,
    Networks,
    mask,
    pack,
)
from mta.net.overload import Level, OverloadSettings
from mta.reply import Reply

SECONDS = {"sessions": 60.0, "auth_failures": 600.0, "messages": 3600.0, "recipients": 3600.0}


class Clock:
    def __init__(self, now: float = 1000.0 * 3600) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Node:
    """A node's shared memory and its workers."""

    def __init__(self, slots: int = 8) -> None:
        self.fd = create(slots)
        self.clock = Clock()
        self.workers: list[Limits] = []

    def worker(self, slot: int, sessions: int = 10000, **settings: object) -> Limits:
        settings.setdefault("exempt", ())
        worker = Limits(
            LimitSettings(**settings),  # type: ignore[arg-type]
            OverloadSettings(sessions=sessions),
            self.fd,
            slot,
            clock=self.clock,
        )
        self.workers.append(worker)
        return worker


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    os.close(made.fd)


def connect(worker: Limits, address: str, times: int = 1) -> Reply | None:
    for _ in range(times):
        refusal = worker.enter(worker.client(address))
        if refusal is not None:
            return refusal
    return None


def test_open_sessions_of_an_address_are_those_of_all_workers(node: Node) -> None:
    clients = ClientLimits(sessions_per_client=5, sessions_per_prefix=0, session_rate_per_client=0)
    one, two = (node.worker(slot, clients=clients) for slot in (0, 1))
    assert connect(one, "192.0.2.1", 3) is None
    assert connect(two, "192.0.2.1", 2) is None
    for worker in (one, two):
        assert connect(worker, "192.0.2.1") is module.TOO_MANY_SESSIONS
    assert connect(one, "192.0.2.2") is None
    assert one.sessions == two.sessions == 6
    two.leave(two.client("192.0.2.1"))
    assert connect(one, "192.0.2.1") is None
    assert connect(one, "192.0.2.1") is module.TOO_MANY_SESSIONS


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (["192.0.2.1", "192.0.2.2", "192.0.2.255"], "192.0.3.1"),
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"], "2001:db8:0:1::1"),
    ],
)
def test_open_sessions_of_a_network(node: Node, inside: list[str], outside: str) -> None:
    worker = node.worker(0, clients=ClientLimits(sessions_per_client=50, sessions_per_prefix=3))
    for address in inside:
        assert connect(worker, address) is None
    assert connect(worker, inside[0]) is module.TOO_MANY_IN_NETWORK
    assert connect(worker, outside) is None


def test_new_sessions_slide_through_the_minute(node: Node) -> None:
    clients = ClientLimits(session_rate_per_client=60, session_rate_per_prefix=0, sessions_per_client=0)
    one, two = (node.worker(slot, clients=clients) for slot in (0, 1))
    assert connect(one, "192.0.2.1", 30) is None
    assert connect(two, "192.0.2.1", 30) is None
    assert connect(one, "192.0.2.1") is module.TOO_FAST
    node.clock.now += 60  # all sixty are exactly in the previous minute and still count in full
    assert connect(one, "192.0.2.1") is module.TOO_FAST
    node.clock.now += 15  # a quarter of them is out of the window
    assert connect(one, "192.0.2.1", 15) is None
    assert connect(two, "192.0.2.1") is module.TOO_FAST
    node.clock.now += 45 + 60
    assert connect(two, "192.0.2.1", 59) is None


def test_refused_sessions_are_not_counted(node: Node) -> None:
    worker = node.worker(0, clients=ClientLimits(session_rate_per_client=10))
    assert connect(worker, "192.0.2.1", 10) is None
    for _ in range(100):
        assert connect(worker, "192.0.2.1") is module.TOO_FAST
    node.clock.now += 120
    assert connect(worker, "192.0.2.1", 10) is None


def test_a_fast_network_is_slowed(node: Node) -> None:
    worker = node.worker(0, clients=ClientLimits(session_rate_per_prefix=20, sessions_per_prefix=0))
    for number in range(20):
        assert connect(worker, f"192.0.2.{number}") is None
    assert connect(worker, "192.0.2.99") is module.TOO_FAST_IN_NETWORK


def test_a_listener_may_have_its_own_limits(node: Node) -> None:
    worker = node.worker(0, clients=ClientLimits(sessions_per_client=2))
    client = worker.client("192.0.2.1")
    assert worker.enter(client) is None
    assert worker.enter(client) is None
    assert worker.enter(client) is module.TOO_MANY_SESSIONS
    assert worker.enter(client, ClientLimits(sessions_per_client=3)) is None
    assert worker.enter(client, ClientLimits(sessions_per_client=3)) is module.TOO_MANY_SESSIONS


def test_zero_means_no_limit(node: Node) -> None:
    worker = node.worker(0, clients=ClientLimits(0, 0, 0, 0))
    assert connect(worker, "192.0.2.1", 3000) is None
    client = worker.client("192.0.2.1")
    for _ in range(100):
        worker.auth_failed(client)
        assert worker.refuse_message(client) is None
        assert worker.refuse_recipient(client) is None


def test_exempt_networks_and_unix_sockets_count_for_the_node_only(node: Node) -> None:
    worker = node.worker(
        0,
        sessions=60,
        exempt=("127.0.0.0/8", "2001:db8:5::/48"),
        clients=ClientLimits(1, 1, 1, 1),
        messages=1,
        recipients=1,
    )
    for address in ("127.3.2.1", "2001:db8:5:ffff::1", "unix"):
        assert connect(worker, address, 20) is None
        client = worker.client(address)
        for _ in range(5):
            worker.auth_failed(client)
            assert worker.auth_failures(client) == 0
            assert worker.refuse_message(client) is None
            assert worker.refuse_recipient(client) is None
    assert worker.sessions == 60
    assert connect(worker, "unix") is module.OVERLOADED
    worker.leave(worker.client("unix"))
    assert connect(worker, "unix") is None


def test_failed_logins_of_one_address_over_all_workers(node: Node) -> None:
    one, two = (node.worker(slot, auth_window=600.0) for slot in (0, 1))
    for worker in (one, two, one, two):
        worker.auth_failed(worker.client("192.0.2.1"))
    for worker in (one, two):
        assert worker.auth_failures(worker.client("192.0.2.1")) == 4
        assert worker.auth_failures(worker.client("192.0.2.2")) == 0
    node.clock.now += 1200
    assert one.auth_failures(one.client("192.0.2.1")) == 0


@pytest.mark.parametrize(
    ("ask", "settings"), [("refuse_message", {"messages": 3}), ("refuse_recipient", {"recipients": 3})]
)
def test_messages_and_recipients_in_a_window(node: Node, ask: str, settings: dict[str, int]) -> None:
    one, two = (node.worker(slot, **settings) for slot in (0, 1))
    questions: list[Callable[[], Reply | None]] = [
        lambda worker=worker: getattr(worker, ask)(worker.client("192.0.2.1"))  # type: ignore[misc]
        for worker in (one, two)
    ]
    assert [question() for question in (*questions, questions[0])] == [None] * 3
    refusal = questions[1]()
    assert refusal is not None
    assert (refusal.code, refusal.enhanced) == (450, "4.7.1")
    node.clock.now += 7200
    assert questions[1]() is None


def test_the_whole_node_has_a_limit(node: Node) -> None:
    one, two = (node.worker(slot, sessions=5) for slot in (0, 1))
    assert connect(one, "192.0.2.1", 3) is None
    assert connect(two, "198.51.100.1", 2) is None
    for worker in (one, two):
        assert connect(worker, "203.0.113.1") is module.OVERLOADED
    assert module.OVERLOADED.code == 421
    assert module.OVERLOADED.close


def test_an_overloaded_worker_lets_nobody_in(node: Node) -> None:
    worker = node.worker(0)
    worker.overload.level = Level.OVERLOADED
    assert connect(worker, "192.0.2.1") is module.OVERLOADED
    worker.overload.level = Level.STRESSED
    assert connect(worker, "192.0.2.1") is None


def test_leaving_twice_does_not_go_below_zero(node: Node) -> None:
    worker = node.worker(0)
    client = worker.client("192.0.2.1")
    worker.leave(client)
    assert worker.sessions == 0
    assert connect(worker, "192.0.2.1") is None
    assert worker.sessions == 1


def test_whoever_takes_the_slot_of_a_dead_worker_clears_its_sessions(node: Node) -> None:
    clients = ClientLimits(sessions_per_client=4, session_rate_per_client=6)
    survivor = node.worker(0, clients=clients)
    assert connect(survivor, "192.0.2.1") is None
    program = (
        "import os, signal, sys\n"
        "from mta.net.limits import *\n"
        "from mta.net.overload import OverloadSettings\n"
        f"clock = lambda: {node.clock.now}\n"
        "limits = Limits(LimitSettings(exempt=()), OverloadSettings(), int(sys.argv[1]), 1, clock=clock)\n"
        "for _ in range(3): assert limits.enter(limits.client('192.0.2.1')) is None\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).parents[2])
    died = subprocess.run(
        [sys.executable, "-c", program, str(node.fd)], pass_fds=[node.fd], cwd=root, check=False, timeout=30
    )
    assert died.returncode == -9
    # Until somebody takes its slot, the dead worker's sessions count.
    assert survivor.sessions == 4
    assert connect(survivor, "192.0.2.1") is module.TOO_MANY_SESSIONS
    heir = node.worker(1, clients=clients)
    assert survivor.sessions == heir.sessions == 1
    assert connect(heir, "192.0.2.1", 2) is None
    # What happened did happen: the rate remembers the dead worker's three sessions.
    assert connect(survivor, "192.0.2.1") is module.TOO_FAST


def test_an_orderly_end_leaves_no_sessions_behind(node: Node) -> None:
    one, two = node.worker(0), node.worker(1)
    assert connect(two, "192.0.2.1", 7) is None
    two.close()
    assert one.sessions == 0
    two.leave(two.client("192.0.2.1"))  # the last words of a session that is cut off
    assert one.sessions == 0
    assert one.counters.open_sessions.count(one.client("192.0.2.1").cells) == 0


def test_a_worker_in_a_higher_slot_is_seen_by_those_before_it(node: Node) -> None:
    clients = ClientLimits(sessions_per_client=2)
    first = node.worker(0, clients=clients)
    assert first.sessions == 0
    last = node.worker(7, clients=clients)
    assert connect(last, "192.0.2.1", 2) is None
    assert connect(first, "192.0.2.1") is module.TOO_MANY_SESSIONS


def test_a_lost_mark_of_the_highest_slot_is_put_right(node: Node) -> None:
    first, last = node.worker(0), node.worker(7)
    first.counters.numbers[3] = 1  # what two workers that start at the same moment can leave
    assert connect(last, "192.0.2.1") is None
    assert first.sessions == last.sessions == 1


def test_a_window_forgets_after_a_long_silence(node: Node) -> None:
    for interval in range(1, 8):
        worker = node.worker(0, auth_window=600.0)
        client = worker.client(f"192.0.2.{interval}")
        worker.auth_failed(client)
        assert worker.auth_failures(client) == 1
        node.clock.now += 600 * interval + 600
        assert worker.auth_failures(client) == 0


def test_a_window_agrees_with_an_exact_count(node: Node) -> None:
    """The estimate lies between the events of the last window and those of the last two."""
    counters = Counters(node.fd, 0, clock=node.clock, seconds=SECONDS)
    window = counters.windows["sessions"]
    cells = counters.locate(b"key")
    events: list[float] = []
    for step in range(400):
        node.clock.now += (step * 7919 % 17) / 3
        window.add(cells)
        events.append(node.clock.now)
        recent = sum(1 for event in events if event > node.clock.now - 60)
        wide = sum(1 for event in events if event > node.clock.now - 120)
        assert recent * 0.5 <= window.count(cells) <= wide
        assert window.bound(cells) >= window.count(cells)


def test_the_hash_is_keyed_with_a_secret_of_the_memory() -> None:
    fds = [create(2), create(2)]
    try:
        one, two = (Counters(fd, 0, clock=Clock(), seconds=SECONDS) for fd in fds)
        again = Counters(fds[0], 1, clock=Clock(), seconds=SECONDS)
        keys = [bytes([i]) for i in range(50)]
        assert [one.locate(key) for key in keys] == [again.locate(key) for key in keys]
        assert sum(one.locate(key) == two.locate(key) for key in keys) == 0
    finally:
        for fd in fds:
            os.close(fd)


def test_many_addresses_rarely_hurt_an_innocent_one(node: Node) -> None:
    worker = node.worker(0, clients=ClientLimits(0, 0, 0, 0))
    for number in range(1000):
        assert connect(worker, f"10.{number // 250}.{number % 250}.1", 3) is None
    innocent = [f"203.0.{number // 250}.{number % 250}" for number in range(1000)]
    counts = [worker.counters.open_sessions.count(worker.client(address).cells) for address in innocent]
    assert sum(count >= 3 for count in counts) < 20  # expected: 3.7


def test_a_forgotten_address_finds_its_counters_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    worker = node.worker(0, clients=ClientLimits(sessions_per_client=1))
    for address in ("192.0.2.1", "198.51.100.1", "203.0.113.1"):
        assert connect(worker, address) is None
    assert connect(worker, "192.0.2.1") is module.TOO_MANY_SESSIONS


@pytest.mark.parametrize("slots", [0, -1, MAX_SLOTS + 1])
def test_a_memory_of_impossible_size_is_refused(slots: int) -> None:
    with pytest.raises(ValueError, match="slots"):
        create(slots)


def test_a_wrong_descriptor_or_slot_is_refused(node: Node) -> None:
    for slot in (-1, 8):
        with pytest.raises(ValueError, match="slot"):
            Counters(node.fd, slot, clock=node.clock, seconds=SECONDS)
    empty = os.memfd_create("empty")
    try:
        with pytest.raises(ValueError, match="not the shared memory"):
            Counters(empty, 0, clock=node.clock, seconds=SECONDS)
        os.ftruncate(empty, size(8))
        with pytest.raises(ValueError, match="not the shared memory"):
            Counters(empty, 0, clock=node.clock, seconds=SECONDS)
    finally:
        os.close(empty)


def test_unused_memory_takes_none() -> None:
    fd = create(32)
    try:
        counters = Counters(fd, 0, clock=Clock(), seconds=SECONDS)
        counters.open_sessions.add(counters.locate(b"key"))
        assert os.fstat(fd).st_blocks * 512 < 64 * 1024 < size(32)
    finally:
        os.close(fd)


def test_networks() -> None:
    networks = Networks(("192.0.2.0/24", "198.51.100.7", "2001:db8::/33"))
    assert networks
    assert not Networks(())
    for address in ("192.0.2.0", "192.0.2.255", "198.51.100.7", "2001:db8:7fff::1"):
        assert networks.contain_text(address), address
    for address in ("192.0.3.0", "198.51.100.8", "2001:db8:8000::1", "unix", "", "::c000:201"):
        assert not networks.contain_text(address), address
    assert Networks(("0.0.0.0/0",)).contain_text("8.8.8.8")
    assert not Networks(("0.0.0.0/0",)).contain_text("::1")
    assert Networks(("127.0.0.0/8",)).contain_text("::ffff:127.0.0.1")  # the kernel connects to 127.0.0.1
    assert Networks(("127.0.0.0/8",)).contain_text("::ffff:7f00:1")
    assert Networks(("::ffff:192.0.2.0/120",)).contain_text("192.0.2.9")
    assert not Networks(("::ffff:192.0.2.0/120",)).contain_text("192.0.3.9")
    with pytest.raises(ValueError, match="example"):
        Networks(("example.org",))


@pytest.mark.parametrize(
    ("address", "bits", "expected"),
    [
        ("255.255.255.255", 0, "0.0.0.0"),
        ("255.255.255.255", 9, "255.128.0.0"),
        ("255.255.255.255", 32, "255.255.255.255"),
        ("ffff::ffff", 127, "ffff::fffe"),
        ("ffff::ffff", 128, "ffff::ffff"),
    ],
)
def test_mask(address: str, bits: int, expected: str) -> None:
    packed = pack(address)
    assert packed is not None
    assert mask(packed, bits) == pack(expected)


def test_the_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        assert raise_fd_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        assert raise_fd_limit(1) == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
