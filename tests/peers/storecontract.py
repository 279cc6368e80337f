"""What every store must do: unit tests and scenarios run these against each kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import pytest

from mailqueue.store.base import SEAL_MARK, MissingKey, Store


class Pieces:
    """A Blob of these octets, `times` over."""

    def __init__(self, octets: bytes, times: int = 1) -> None:
        self.octets = octets
        self.times = times
        self.size = len(octets) * times

    def chunks(self) -> Iterator[bytes]:
        for _ in range(self.times):
            yield self.octets


async def creates_once(store: Store) -> None:
    assert await store.put_new("log/s1/0001", b"one")
    assert await store.put_new("log/s1/0001", b"one")
    assert not await store.put_new("log/s1/0001", b"two")
    assert not await store.put_new("log/s1/0001", b"on")
    assert not await store.put_new("log/s1/0001", b"one more")
    assert await store.get("log/s1/0001") == b"one"
    assert await store.put_new("log/s1/0002", b"")
    assert await store.put_new("log/s1/0002", b"")
    assert not await store.put_new("log/s1/0002", b"x")
    assert await store.get("log/s1/0002") == b""


async def races_have_one_winner(store: Store) -> None:
    for round in range(3):
        key = f"lease/s/{round:08}"
        values = [b"%d" % racer for racer in range(8)]
        won = await asyncio.gather(*(store.put_new(key, value) for value in values))
        assert sum(won) == 1
        assert await store.get(key) == values[won.index(True)]


async def blobs_are_streamed(store: Store) -> None:
    blob = Pieces(b"0123456789abcdef" * 4096, 40)  # 2.5 MiB
    assert await store.put_new("body/20260101/aa", blob)
    assert await store.put_new("body/20260101/aa", blob)
    assert not await store.put_new("body/20260101/aa", Pieces(blob.octets, 39))
    assert not await store.put_new("body/20260101/aa", Pieces(blob.octets, 41))
    assert not await store.put_new("body/20260101/aa", Pieces(b"x" * len(blob.octets), 40))
    assert not await store.put_new("body/20260101/aa", b"small")
    assert await store.get("body/20260101/aa", blob.size - 5, blob.size) == b"bcdef"
    assert await store.get("body/20260101/aa", 16, 32) == b"0123456789abcdef"
    assert await store.get("body/20260101/aa") == blob.octets * 40
    assert await store.put_new("body/20260101/empty", Pieces(b"", 0))
    assert await store.get("body/20260101/empty") == b""


async def ranges_end_where_the_object_ends(store: Store) -> None:
    await store.put_new("log/s/1", b"0123456789")
    table: Mapping[tuple[int, int | None], bytes] = {
        (0, None): b"0123456789",
        (3, None): b"3456789",
        (0, 4): b"0123",
        (3, 5): b"34",
        (8, 99): b"89",
        (10, None): b"",
        (10, 12): b"",
        (99, None): b"",
        (99, 100): b"",
        (3, 3): b"",
        (5, 3): b"",
        (0, 0): b"",
    }
    for (start, end), expected in table.items():
        assert await store.get("log/s/1", start, end) == expected, (start, end)


async def overwrites(store: Store) -> None:
    await store.put("hb/s", b"1")
    await store.put("hb/s", b"22")
    assert await store.get("hb/s") == b"22"
    await store.put("hb/s", b"")
    assert await store.get("hb/s") == b""


async def lists_sorted(store: Store) -> None:
    keys = ["log/a/1", "log/a/2", "log/a/10", "log/Ab/1", "log/ab/1", "logs/x", "body/20260101/f", "format"]
    for key in keys:
        await store.put_new(key, b"x")
    assert await store.list_after("") == sorted(keys)
    assert await store.list_after("log/") == ["log/Ab/1", "log/a/1", "log/a/10", "log/a/2", "log/ab/1"]
    assert await store.list_after("log/a/") == ["log/a/1", "log/a/10", "log/a/2"]
    assert await store.list_after("log/a/", "log/a/1") == ["log/a/10", "log/a/2"]
    assert await store.list_after("log/a/", "log/a/11") == ["log/a/2"]
    assert await store.list_after("log/a/", "log/a/2") == []
    assert await store.list_after("log/", "log/a/1", 2) == ["log/a/10", "log/a/2"]
    assert await store.list_after("log/", "log/Ab/1", 1) == ["log/a/1"]
    assert await store.list_after("log/", "log/a0", 1) == ["log/ab/1"]
    assert await store.list_after("log/", "a") == await store.list_after("log/")
    assert await store.list_after("log/", "z") == []
    assert await store.list_after("", "log/ab/1") == ["logs/x"]
    assert await store.list_after("log/a/", limit=0) == []
    assert await store.list_after("nothing/") == []


async def deletes(store: Store) -> None:
    await store.put_new("snap/s/1", b"x")
    await store.put_new("snap/s/2", b"x")
    await store.delete(["snap/s/1", "snap/s/3", "none/at/all"])
    await store.delete([])
    assert await store.list_after("snap/") == ["snap/s/2"]
    with pytest.raises(MissingKey, match="snap/s/1") as caught:
        await store.get("snap/s/1")
    assert caught.value.store == store.name
    await store.delete(["snap/s/2"])
    assert await store.list_after("") == []
    assert await store.put_new("snap/s/1", b"new")
    assert await store.get("snap/s/1") == b"new"


async def seals(store: Store) -> None:
    seal, other = SEAL_MARK + b"1", SEAL_MARK + b"2"
    await store.put_new("log/s/0", b"entry")
    assert await store.seal_new("log/s/0", seal) == (False, b"entry")
    assert await store.seal_new("log/s/1", seal) == (True, seal)
    assert await store.seal_new("log/s/1", other) == (True, seal)
    assert not await store.put_new("log/s/1", b"entry")
    with pytest.raises(ValueError, match="SEAL_MARK"):
        await store.seal_new("log/s/2", b"entry")


async def refuses_what_is_no_key(store: Store) -> None:
    for key in (
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "a/./b",
        ".tmp/x",
        "a b",
        "a\0",
        "ä",
        "a-b",
        "a.b",
        "a" * 600,
    ):
        with pytest.raises(ValueError, match="not a key"):
            await store.put_new(key, b"x")
        with pytest.raises(ValueError, match="not a key"):
            await store.put(key, b"x")
        with pytest.raises(ValueError, match="not a key"):
            await store.get(key)
        with pytest.raises(ValueError, match="not a key"):
            await store.delete([key])
    for prefix in ("log", "/", "log//", "../", "log/.."):
        with pytest.raises(ValueError, match="not a prefix"):
            await store.list_after(prefix)


CONTRACT: tuple[Callable[[Store], Coroutine[Any, Any, None]], ...] = (
    creates_once,
    races_have_one_winner,
    blobs_are_streamed,
    ranges_end_where_the_object_ends,
    overwrites,
    lists_sorted,
    deletes,
    seals,
    refuses_what_is_no_key,
)
"""Each wants an empty store."""
