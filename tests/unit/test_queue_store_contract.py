"""Every store that needs no server keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import obstore.store
import pytest

from mailqueue.store.base import Store
from mailqueue.store.file import FileStore
from mailqueue.store.memory import MemoryStore
from mailqueue.store.objects import ObjectsStore
from mailqueue.store.replicated import Member, Replicated
from tests.peers.faultstore import FaultStore
from tests.peers.storecontract import CONTRACT

KINDS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda path: MemoryStore(),
    "file": lambda path: FileStore(path / "queue"),
    "objects": lambda path: ObjectsStore("objects:", [obstore.store.MemoryStore()]),
    "replicated": lambda path: Replicated([Member(MemoryStore("a:")), Member(MemoryStore("b:"))], 2, 0),
    "replicated and private": lambda path: Replicated(
        [Member(FileStore(path / "queue"), private=True), Member(MemoryStore("b:"))], 2, 1
    ),
    "fault": lambda path: FaultStore(MemoryStore()),
}


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: str, check: Callable[[Store], Awaitable[None]], tmp_path: Path) -> None:
    async def main() -> None:
        store = KINDS[kind](tmp_path)
        try:
            await check(store)
        finally:
            await store.close()

    asyncio.run(main())
