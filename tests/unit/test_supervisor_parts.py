"""The small parts of the supervisor: back-off, memory, slots, notification, link, command line."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mta.cli import plain_serve
from mta.config import Log
from mta.net.counters import WINDOWS, Counters
from mta.supervisor.backoff import STABLE, Backoff
from mta.supervisor.generation import not_run
from mta.supervisor.link import Link
from mta.supervisor.memory import EXPIRY, FILE_NAME, LIMIT, LONGEST, Memory
from mta.supervisor.messages import Start, Topic
from mta.supervisor.notify import Notifier
from mta.supervisor.plan import Plan, fixed_differences
from mta.supervisor.privileges import UnknownAccount, find_account
from mta.supervisor.slots import GENERATIONS, LEAST, NoSlotFree, Slots
from mta.supervisor.whereabouts import moved_state


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_first_restart_is_at_once_then_pauses_double_to_the_limit() -> None:
    backoff = Backoff(longest=3.0)
    assert [backoff.delay(0.1) for _ in range(7)] == [0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_long_life_forgives_earlier_crashes() -> None:
    backoff = Backoff(longest=30.0)
    for _ in range(5):
        backoff.delay(0.1)
    assert backoff.delay(STABLE) == 0.0
    assert backoff.delay(0.1) == 0.25


def test_years_of_crashes_do_not_overflow() -> None:
    backoff = Backoff(longest=30.0)
    backoff.crashes = 10**6
    assert backoff.delay(0.0) == 30.0


def test_memory_tells_what_still_counts() -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.remember("unacknowledged", {"key": "short", EXPIRY: clock.now + 10})
    memory.remember("unacknowledged", {"key": "long", EXPIRY: clock.now + 100})
    memory.remember("other", {"key": "not kept"})
    clock.now += 20
    assert memory.records() == [("unacknowledged", {"key": "long", EXPIRY: 1100.0})]


@pytest.mark.parametrize("expiry", [None, "soon", 1e12])
def test_record_without_a_sane_expiry_is_kept_for_the_longest_time(expiry: object) -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.remember("unacknowledged", {EXPIRY: expiry})
    clock.now += LONGEST - 1
    assert memory.records() == [("unacknowledged", {EXPIRY: expiry})]
    clock.now += 1
    assert memory.records() == []


@pytest.mark.parametrize("expiry", [0, 1000.0])
def test_record_that_is_over_is_not_told(expiry: float) -> None:
    memory = Memory(Clock())
    memory.remember("unacknowledged", {EXPIRY: expiry})
    assert memory.records() == []


def test_memory_is_bounded_and_loses_the_oldest() -> None:
    memory = Memory(Clock())
    for number in range(LIMIT + 5):
        memory.remember("unacknowledged", {"number": number})
    assert len(memory) == LIMIT
    assert memory.records()[0][1]["number"] == 5


def test_memory_survives_a_restart_and_time_goes_on_meanwhile(tmp_path: Path) -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.remember("unacknowledged", {"key": "a", EXPIRY: clock.now + 50})
    memory.remember("unacknowledged", {"key": "b", EXPIRY: clock.now + 500})
    memory.save(str(tmp_path))
    clock.now += 100
    later = Memory(clock)
    later.load(str(tmp_path))
    assert later.records() == [("unacknowledged", {"key": "b", EXPIRY: 1500.0})]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_memory_begins_anew_without_a_file_and_with_a_damaged_one(tmp_path: Path) -> None:
    memory = Memory(Clock())
    memory.load(str(tmp_path))
    (tmp_path / FILE_NAME).write_bytes(b"[{")
    with pytest.raises(ValueError, match="damaged"):
        memory.load(str(tmp_path))
    assert memory.records() == []


def test_memory_that_cannot_be_written_leaves_no_half_file(tmp_path: Path) -> None:
    memory = Memory(Clock())
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(OSError, match="directory"):
        memory.save(str(tmp_path))
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_slots_are_taken_lowest_first_and_come_back() -> None:
    slots = Slots(2)
    try:
        assert [slots.take(), slots.take(), slots.take()] == [0, 1, 2]
        slots.release(1)
        slots.release(0)
        assert [slots.take(), slots.take(), slots.take()] == [0, 1, 3]
        assert slots.count == LEAST
    finally:
        slots.close()


def test_sessions_of_a_worker_that_died_are_counted_no_more() -> None:
    slots = Slots(1)
    seconds = dict.fromkeys(WINDOWS, 60.0)
    old, killed, other = (
        Counters(slots.memory_fd, slots.take(), clock=time.monotonic, seconds=seconds) for _ in range(3)
    )
    client = other.locate(b"client")
    for one in (old, killed, other):
        one.add_session()
        one.open_sessions.add(client)
        one.windows["sessions"].add(client)
    old.close()
    slots.release(old.slot)
    slots.release(killed.slot)
    assert slots.take() == old.slot, "the row of the other is not that of the next worker"
    assert (other.total_sessions(), other.open_sessions.count(client)) == (1, 1)
    assert other.windows["sessions"].count(client) > 2.9, "they were there"
    slots.close()


def test_slots_have_room_for_several_generations_and_no_more() -> None:
    slots = Slots(10)
    try:
        assert slots.count == 10 * GENERATIONS
        for _ in range(slots.count):
            slots.take()
        with pytest.raises(NoSlotFree, match="too many"):
            slots.take()
    finally:
        slots.close()


def test_more_workers_than_there_will_ever_be_slots_need_a_restart() -> None:
    slots = Slots(1)
    try:
        slots.require(LEAST - 1, beside=1)
        with pytest.raises(
            NoSlotFree, match=r"process\.workers: 8 in place of 1 needs a restart.* room for 8"
        ):
            slots.require(LEAST, beside=1)
    finally:
        slots.close()


def test_notifier_speaks_the_protocol(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        environment = {
            "NOTIFY_SOCKET": path,
            "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": str(os.getpid()),
            "A": "b",
        }
        notifier = Notifier.from_environment(environment)
        assert environment == {"A": "b"}
        assert notifier.watchdog_seconds == 3.0
        notifier.reloading(lambda: 5_000_000)
        notifier.ready("serving")
        notifier.watchdog()
        notifier.stopping()
        notifier.status("waiting")
        notifier.close()
        notifier.watchdog()
        received = [manager.recv(1000).decode() for _ in range(5)]
    assert received == [
        "RELOADING=1\nMONOTONIC_USEC=5000\nSTATUS=reloading",
        f"READY=1\nSTATUS=serving\nMAINPID={os.getpid()}",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=stopping",
        "STATUS=waiting",
    ]


def test_notifier_uses_the_abstract_name_space() -> None:
    name = f"tamis-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        notifier = Notifier("@" + name)
        notifier.watchdog()
        notifier.close()
        assert manager.recv(100) == b"WATCHDOG=1"


def test_notifier_without_a_manager_or_with_a_dead_one_does_no_harm(tmp_path: Path) -> None:
    Notifier.from_environment({}).ready("nobody listens")
    dead = Notifier(str(tmp_path / "nothing"))
    dead.ready("x")
    dead.close()
    assert dead.failed == 1


def test_what_a_busy_manager_does_not_take_reaches_it_later(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier(path)
    notifier.ready("serving")  # nobody is there yet
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(60)
        notifier.watchdog()
        assert manager.recv(1000).startswith(b"READY=1\n")
        assert manager.recv(1000) == b"WATCHDOG=1"
        while not notifier.failed > 1:
            notifier.status("full")  # its queue has an end
        for _ in range(100):
            notifier.watchdog()
        notifier.stopping()
        last = b""
        while not last.startswith(b"STOPPING=1"):
            last = manager.recv(1000)
            notifier.watchdog()
    notifier.close()


def test_a_status_is_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        notifier = Notifier(path)
        notifier.status("reload refused: one\nSTOPPING=1")
        notifier.close()
        assert manager.recv(1000) == b"STATUS=reload refused: one STOPPING=1"


@pytest.mark.parametrize(("pid", "seconds"), [("1", 0.0), ("", 2.0)])
def test_watchdog_of_another_process_is_not_ours(pid: str, seconds: float) -> None:
    environment = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": pid}
    assert Notifier.from_environment(environment).watchdog_seconds == seconds
    environment = {"WATCHDOG_USEC": "²"}
    assert Notifier.from_environment(environment).watchdog_seconds == 0.0


def test_link_hands_early_records_to_late_subscribers_once() -> None:
    sent: list[object] = []

    def send(message: object) -> bool:
        sent.append(message)
        return True

    start = Start("w", 4, 32, b"", {}, 7, 60.0, [Topic("a", {"n": 1}), Topic("b", {"n": 2})])
    link = Link(start, send)
    link.deliver(Topic("a", {"n": 3}))
    heard: list[dict[str, int]] = []
    link.subscribe("a", heard.append)
    link.settle()
    link.deliver(Topic("a", {"n": 4}))
    link.deliver(Topic("b", {"n": 5}))
    link.publish("a", {"n": 6})
    assert heard == [{"n": 1}, {"n": 3}, {"n": 4}]
    assert sent == [Topic("a", {"n": 6})]
    assert (link.slot, link.slots, link.shared_memory_fd) == (4, 32, 7)


def test_account_is_looked_up_with_its_groups() -> None:
    account = find_account("nobody")
    assert (account.uid, account.gid) == (65534, 65534)
    assert account.gid in account.groups
    with pytest.raises(UnknownAccount, match="user 'no-such-user'"):
        find_account("no-such-user")
    with pytest.raises(UnknownAccount, match="group 'no-such-group'"):
        find_account("nobody", "no-such-group")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve"], {"configuration": "/etc/tamis/tamis.toml"}),
        (["serve", "-c", "a.toml", "--pid-file", "p"], {"configuration": "a.toml", "pid_file": "p"}),
        (["serve", "--daemon", "m:C"], {"configuration": "/etc/tamis/tamis.toml", "daemon": "m:C"}),
        (["serve", "--help"], None),
        (["serve", "-c"], None),
        (["serve", "-c", "--help"], None),
        (["serve", "--unknown", "x"], None),
        (["status"], None),
        ([], None),
    ],
)
def test_plain_serve_is_told_from_what_the_library_must_read(
    arguments: list[str], expected: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAMIS_CONFIG", raising=False)
    assert plain_serve(arguments) == expected


def test_slots_differences_are_named() -> None:
    plan = Plan(b"", (), (), 60.0, 30.0, Log())
    assert fixed_differences(plan, plan) == []
    other = replace(plan, account=find_account("nobody"), state_directory="/var/lib/other")
    assert fixed_differences(plan, other) == ["process.user, process.group"]
    assert moved_state(plan, plan) == ""
    assert moved_state(plan, other).startswith("process.state_directory: /var/lib/other in place of ")


def test_a_program_that_the_user_may_not_run_is_named_with_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to("/closed/python3.11")
    problem = PermissionError(13, "Permission denied", str(tmp_path / "python3"))
    assert not_run(problem) == (
        f"the user of the server may not run {tmp_path}/python3, which is /closed/python3.11, "
        "or not enter a folder above it"
    )
    assert not_run(OSError(12, "Cannot allocate memory")) == "[Errno 12] Cannot allocate memory"
