"""Rates, greylists and the ledger that keeps them: by the clock, over a restart, between workers, broken."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mta.policy.counting import Greylist, bucket, passes, triplet, window
from mta.policy.ledger import Change, LedgerUnavailable, State
from mta.policy.ledgerfile import SWEEP_EVERY, FileLedger


class Kept:
    """A ledger of one key, without a clock."""

    def __init__(self) -> None:
        self.state: State | None = None

    def do(self, change: Change) -> Any:
        entry = change(self.state)
        self.state = entry.state or self.state
        return entry.answer


def test_a_bucket_is_filled_again_evenly() -> None:
    kept = Kept()
    assert [kept.do(bucket(3, 60, 1, 0.0)) for _ in range(5)] == [False, False, False, True, True]
    assert kept.do(bucket(3, 60, 1, 19.9))
    assert not kept.do(bucket(3, 60, 1, 20.0))
    assert kept.do(bucket(3, 60, 1, 20.0))
    assert kept.do(bucket(3, 60, 3, 79.9))
    assert not kept.do(bucket(3, 60, 1, 79.9, peek=True))
    assert not kept.do(bucket(3, 60, 3, 80.0))
    assert kept.do(bucket(3, 60, 1, 80.0, peek=True))


def test_a_window_counts_what_is_refused_too() -> None:
    kept = Kept()
    assert [kept.do(window(2, 60, 1, 10.0)) for _ in range(4)] == [False, False, True, True]
    assert kept.do(window(2, 60, 1, 69.9))
    assert not kept.do(window(2, 60, 1, 70.0))
    assert [kept.do(window(2, 60, 2, 71.0, peek=True)) for _ in range(2)] == [True, True]
    assert not kept.do(window(2, 60, 1, 71.0))


def test_a_triplet_waits_once() -> None:
    kept, rules = Kept(), Greylist(delay=300)
    assert kept.do(triplet(rules, 0.0)) == (300, False)
    assert kept.do(triplet(rules, 100.0)) == (200, False)
    assert kept.do(triplet(rules, 300.0)) == (0, True)
    assert kept.do(triplet(rules, 301.0)) == (0, False)
    assert triplet(rules, 400.0)(kept.state).expires == 400.0 + rules.lifetime
    network = Kept()
    rules = Greylist(clients=2)
    assert [network.do(passes(rules, 0.0, more=more)) for more in (0, 1, 0, 1, 0)] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert not Kept().do(passes(Greylist(clients=0), 0.0, more=0))


def test_the_ledger_lives_on_and_forgets(tmp_path: Path) -> None:
    now = [1000.0]

    def made(**options: Any) -> FileLedger:
        return FileLedger(str(tmp_path / "ledger"), lambda: now[0], **options)

    async def main() -> None:
        first = made()
        assert not await first.update("a", bucket(1, 60, 1, now[0]))
        await first.close()
        second, third = made(), made(most=10)  # two workers after a restart
        assert await second.update("a", bucket(1, 60, 1, now[0]))
        assert await third.update("a", bucket(1, 60, 1, now[0]))
        now[0] += 100
        assert not await third.update("a", window(1, 60, 1, now[0]))  # what was there has expired
        for number in range(SWEEP_EVERY):
            await third.update(f"key {number}", window(1, 60, 1, now[0]))
        connection = third._opened()
        (count,) = connection.execute("SELECT count(*) FROM entries").fetchone()
        assert count <= 20
        await second.close()
        await third.close()

    asyncio.run(main())


def test_workers_count_together(tmp_path: Path) -> None:
    program = f"""
import asyncio
from mta.policy.counting import window
from mta.policy.ledgerfile import FileLedger
async def main():
    ledger = FileLedger({str(tmp_path / "ledger")!r}, lambda: 5.0)
    refused = [await ledger.update("k", window(150, 60, 1, 5.0)) for _ in range(100)]
    await ledger.close()
    print(sum(refused))
asyncio.run(main())
"""
    workers = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert sum(int(worker.communicate()[0]) for worker in workers) == 50


def test_a_ledger_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("this is no database, and long enough to be looked at" * 100)

    async def main() -> None:
        for path in (tmp_path / "none", tmp_path / "nowhere" / "x"):
            ledger = FileLedger(str(path), lambda: 0.0)
            with pytest.raises(LedgerUnavailable, match=str(path)) as raised:
                await ledger.update("a", window(1, 60, 1, 0.0))
            assert ("stop the server and delete it" in str(raised.value)) == path.exists()
            await ledger.close()

    asyncio.run(main())
