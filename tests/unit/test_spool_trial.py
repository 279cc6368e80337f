"""The trial of stores: what is away at the start is tried when it answers, and what lies closes the queue."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mailqueue.store.base import Blob, StoreUnavailable
from mailqueue.store.memory import MemoryStore
from mta.log import Logger
from mta.spool import trial
from mta.spool.trial import Trial
from tests.peers.faultstore import FaultStore, ScriptedFaults


class Overwriter(MemoryStore):
    """As a server that ignores If-None-Match."""

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        assert isinstance(data, bytes)
        await self.put(key, data)
        return True


class Several(MemoryStore):
    """As far as the trial looks at several stores."""

    __slots__ = ("members",)

    def __init__(self, *members: FaultStore) -> None:
        super().__init__("several:")
        self.members = members


class Told:
    """A log."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.end = asyncio.Event()

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append(f"warning {event} {fields['reason'].partition(':')[0]}")

    def error(self, event: str, **fields: Any) -> None:
        self.events.append(f"error {event} {fields['reason'].partition(':')[0]}")
        self.end.set()

    def info(self, event: str) -> None:
        self.events.append(f"info {event}")
        self.end.set()


def faulty(store: MemoryStore) -> FaultStore:
    return FaultStore(store, ScriptedFaults())


@pytest.mark.parametrize(
    ("late", "told", "refused"),
    [
        (MemoryStore("late"), "info the rest was tried", 0),
        (Overwriter("late"), "error the queue cannot be kept late", 1),
    ],
)
def test_what_was_away_is_tried_later(
    monkeypatch: pytest.MonkeyPatch, late: MemoryStore, told: str, refused: int
) -> None:
    monkeypatch.setattr(trial, "UNTRIED", 0.01)

    async def main() -> None:
        log, count, there = Told(), 0, faulty(late)

        def refuse() -> None:
            nonlocal count
            count += 1

        tried = Trial(cast("Logger", log), refuse)
        there.down = True
        await tried.begin(Several(faulty(MemoryStore("good")), there))
        assert log.events == ["warning not tried, for it does not answer late"]
        await asyncio.sleep(0.1)
        assert len(log.events) == 1
        there.down = False
        await asyncio.wait_for(log.end.wait(), 10)
        await asyncio.sleep(0)
        assert log.events[1] == told
        assert count == refused
        await tried.end()

    asyncio.run(main())


def test_nothing_answers_or_all_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "UNTRIED", 0.01)

    async def main() -> None:
        log, store = Told(), faulty(MemoryStore("only"))
        tried = Trial(cast("Logger", log), lambda: None)
        store.down = True
        with pytest.raises(StoreUnavailable):
            await tried.begin(Several(store))
        store.down = False
        await tried.begin(Several(store))
        await asyncio.sleep(0.05)
        assert log.events == []
        other = faulty(MemoryStore("other"))
        other.down = True
        await tried.begin(Several(store, other))
        await tried.end()
        other.down = False
        await asyncio.sleep(0.05)
        assert log.events == ["warning not tried, for it does not answer other"]

    asyncio.run(main())
