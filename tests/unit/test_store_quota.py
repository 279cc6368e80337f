"""Quotas: the count stays right with many deliveries at once, with deletions by others, after damage."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.store import maildir, quota
from mta.store.maildir import Maildir, UniqueNames
from mta.store.quota import Ledger, OverQuota, Quota, Usage

NAMES = UniqueNames("mx")


class Box(NamedTuple):
    path: Path
    opened: Maildir


class Clocks:
    """A clock to turn, and a wall clock that is always long after the last change of a folder."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def ledger(self) -> Ledger:
        return Ledger(clock=self.clock, wall=lambda: 1 << 62, lock_timeout=0.05)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    path = tmp_path / "example.test" / "alice"
    with maildir.opened(path, tmp_path) as opened:
        yield Box(path, opened)


def deliver(ledger: Ledger, box: Box, limit: Quota, size: int) -> Path:
    with ledger.reserve(str(box.path), box.opened, limit, size):
        name = maildir.write(box.opened, NAMES.next(), [b"x" * size], size)
    return box.path / "new" / name


def recorded(box: Box) -> Usage | None:
    return quota.read(box.opened.root)


def test_up_to_the_limit_and_not_over_it(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    deliver(ledger, box, limit, 60)
    deliver(ledger, box, limit, 40)
    with pytest.raises(OverQuota):
        deliver(ledger, box, limit, 1)
    assert recorded(box) == Usage(100, 2)
    assert len(list((box.path / "new").iterdir())) == 2


def test_the_number_of_messages_is_limited_too(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(messages=1)
    deliver(ledger, box, limit, 5)
    with pytest.raises(OverQuota):
        deliver(ledger, box, limit, 5)


def test_without_a_limit_nothing_is_recorded(box: Box) -> None:
    deliver(Clocks().ledger(), box, Quota(), 5)
    assert not (box.path / quota.FILE).exists()


def test_a_failed_write_gives_its_room_back(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    with pytest.raises(RuntimeError), ledger.reserve(str(box.path), box.opened, limit, 90):
        raise RuntimeError
    deliver(ledger, box, limit, 100)
    assert recorded(box) == Usage(100, 1)


def test_a_message_larger_than_the_mailbox_is_refused_unseen(box: Box) -> None:
    with pytest.raises(OverQuota):
        deliver(Clocks().ledger(), box, Quota(octets=10), 11)
    assert not (box.path / quota.FILE).exists()


def test_deletion_by_somebody_else_makes_room(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    first = deliver(ledger, box, limit, 60)
    deliver(ledger, box, limit, 30)
    with pytest.raises(OverQuota):
        deliver(ledger, box, limit, 50)
    first.unlink()
    deliver(ledger, box, limit, 50)
    assert recorded(box) == Usage(80, 2)


def test_deletion_just_before_a_small_message_is_still_seen_by_a_large_one(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    first = deliver(ledger, box, limit, 60)
    first.unlink()
    deliver(ledger, box, limit, 5)  # writes to `maildirsize` after the deletion
    deliver(ledger, box, limit, 90)
    assert recorded(box) == Usage(95, 2)


def test_a_full_mailbox_that_nobody_touches_is_counted_once(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    deliver(ledger, box, limit, 100)
    counts = 0
    real = quota.count

    def count(root: int) -> Usage:
        nonlocal counts
        counts += 1
        return real(root)

    monkeypatch.setattr(quota, "count", count)
    for _ in range(5):
        with pytest.raises(OverQuota):
            ledger.check(str(box.path), box.opened, limit, 10)
        with pytest.raises(OverQuota):
            deliver(ledger, box, limit, 10)
    assert counts == 1


def test_messages_put_there_by_others_count_after_a_while(box: Box) -> None:
    clocks = Clocks()
    ledger, limit = clocks.ledger(), Quota(octets=100)
    deliver(ledger, box, limit, 10)
    (box.path / "cur" / "by-imap:2,S").write_bytes(b"x" * 85)
    clocks.now += quota.RECOUNT_AFTER
    with pytest.raises(OverQuota):
        deliver(ledger, box, limit, 10)
    assert recorded(box) == Usage(95, 2)


def test_messages_that_a_former_process_left_are_counted_first(box: Box) -> None:
    limit = Quota(octets=100)
    deliver(Clocks().ledger(), box, limit, 10)
    (box.path / "cur" / "by-imap:2,S").write_bytes(b"x" * 85)
    with pytest.raises(OverQuota):
        deliver(Clocks().ledger(), box, limit, 10)


def test_folders_count_and_other_files_do_not(box: Box) -> None:
    for folder in (".Sent", ".Lists.python"):
        (box.path / folder / "cur").mkdir(parents=True)
        (box.path / folder / "cur" / "1.x,S=40:2,S").write_bytes(b"")
    (box.path / ".Sent" / "dovecot.index").write_bytes(b"x" * 1000)
    (box.path / "cur" / ".hidden").write_bytes(b"x" * 1000)
    (box.path / "new" / "no-size").write_bytes(b"x" * 7)
    assert quota.count(box.opened.root) == Usage(87, 3)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"100S\n10 1",
        b"nonsense\n10 1\n",
        b"100S\n10 1 7\n",
        b"100S\nx y\n",
        b"\xff\n",
    ],
)
def test_a_damaged_file_is_counted_anew(box: Box, damage: bytes) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    deliver(ledger, box, limit, 60)
    (box.path / quota.FILE).write_bytes(damage)
    with pytest.raises(OverQuota):
        deliver(ledger, box, limit, 50)
    assert recorded(box) == Usage(60, 1)


def test_a_missing_file_is_made_anew(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    deliver(ledger, box, limit, 60)
    (box.path / quota.FILE).unlink()
    deliver(ledger, box, limit, 40)
    assert recorded(box) == Usage(100, 2)


def test_a_changed_quota_takes_effect_at_once(box: Box) -> None:
    ledger = Clocks().ledger()
    deliver(ledger, box, Quota(octets=100), 60)
    deliver(ledger, box, Quota(octets=200, messages=9), 60)
    assert quota.read_with_quota(box.opened.root) == (Quota(octets=200, messages=9), Usage(120, 2))


def test_the_file_does_not_grow_without_end(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=1_000_000)
    (box.path / quota.FILE).unlink(missing_ok=True)
    for _ in range(3):
        deliver(ledger, box, limit, 1)
    with open(box.path / quota.FILE, "ab") as file:
        file.write(b"0 0\n" * (quota.LONGEST_FILE // 4))
    deliver(ledger, box, limit, 1)
    assert (box.path / quota.FILE).stat().st_size < 100
    assert recorded(box) == Usage(4, 4)


def test_a_lock_that_stays_is_a_time_out(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    fd = os.open(box.path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            deliver(ledger, box, limit, 1)
    finally:
        os.close(fd)


def test_check_without_a_size_refuses_only_what_is_full(box: Box) -> None:
    ledger, limit = Clocks().ledger(), Quota(octets=100)
    deliver(ledger, box, limit, 99)
    assert ledger.check(str(box.path), box.opened, limit, 0) == Usage(99, 1)
    with pytest.raises(OverQuota):
        ledger.check(str(box.path), box.opened, limit, 2)
    deliver(ledger, box, limit, 1)
    with pytest.raises(OverQuota):
        ledger.check(str(box.path), box.opened, limit, 0)


def test_roomy_is_known_without_a_look_and_never_when_half_full(box: Box) -> None:
    clocks = Clocks()
    ledger, limit, path = clocks.ledger(), Quota(octets=100), str(box.path)
    assert not ledger.is_roomy(path, limit, 1)
    ledger.check(path, box.opened, limit, 1)
    assert ledger.is_roomy(path, limit, 40)
    assert not ledger.is_roomy(path, limit, 60)
    clocks.now += quota.RECOUNT_AFTER
    assert not ledger.is_roomy(path, limit, 1)


@pytest.mark.parametrize("ledgers", [1, 2])  # 2: two processes, as far as the accounting can tell
def test_deliveries_at_once_fill_the_mailbox_exactly(box: Box, tmp_path: Path, ledgers: int) -> None:
    """Invariant: never over the quota, and nothing is refused while there is room."""
    size, room = 10, 40
    limit = Quota(octets=size * room)
    shared = [Ledger() for _ in range(ledgers)]
    outcomes: list[bool] = []

    def deliver_some(number: int) -> None:
        for _ in range(8):
            try:
                with (
                    maildir.opened(box.path, tmp_path) as opened,
                    shared[number % ledgers].reserve(str(box.path), opened, limit, size),
                ):
                    maildir.write(opened, NAMES.next(), [b"x" * size], size)
                outcomes.append(True)
            except OverQuota:
                outcomes.append(False)

    threads = [threading.Thread(target=deliver_some, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == room
    assert outcomes.count(False) == 64 - room
    assert quota.count(box.opened.root) == Usage(size * room, room)
    assert recorded(box) == Usage(size * room, room)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_octets_in_the_file_are_read_or_refused(data: bytes) -> None:
    found = quota._parse(data)
    assert found is None or (found[1].octets >= 0 and found[1].messages >= 0)
