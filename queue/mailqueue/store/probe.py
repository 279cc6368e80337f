"""Does a store keep its word? Asked at start, before any mail is trusted to it.

Some servers that speak S3's protocol accept a conditional PUT and ignore the condition; well-known ones have
let several of a few simultaneous writers win, or do so when the writers come through different gateways.
On such a store the queue would lose mail at the first takeover, silently, so it is refused, by name and with
what it did. Nothing here proves a store right: it is a test that the wrong ones fail.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from mailqueue.store.base import MissingKey, Store, StoreError, StoreRefused, StoreUnavailable

RACERS = 8
"""Writers of one key at the same time."""
RACES = 3
"""Keys raced for, all at the same time."""
PREFIX = "probe/"

Check = Callable[[Sequence[Store], str], Awaitable[None]]


async def probe(store: Store, report: Callable[[str], None] = lambda text: None) -> None:
    """Try a store through all its endpoints, or each store of a replicated one.

    `report` hears what was tried and found good. Raises StoreRefused for a store that lies, and
    StoreError when it cannot be tried.
    """
    for member in _members(store):
        await _probe_one(member, _endpoints(member), report)


async def probe_what_answers(store: Store) -> list[str]:
    """The same as far as there are answers; returns what did not answer, each with its words.

    Of a store with several endpoints only those that answer are used from now on: through another one, that
    nobody has tried, a second writer might win. Of several stores the others may do without one for a while,
    and it is used when it is back. Whoever calls this calls it again until nothing is left. Raises as
    `probe`, also when nothing of the only store answers, or none of several.
    """
    troubles: list[StoreUnavailable] = []
    is_any_there = False
    for member in _members(store):
        endpoints = _endpoints(member)
        asked = await asyncio.gather(*map(_trouble, endpoints))
        there = [place for place, trouble in enumerate(asked) if trouble is None]
        troubles += [trouble for trouble in asked if trouble is not None]
        if there:
            is_any_there = True
            await _probe_one(member, [endpoints[place] for place in there])
            if len(endpoints) > 1:
                member.use(there)  # type: ignore[attr-defined]  # who has several endpoints has this
    if not is_any_there:
        raise troubles[0]
    return [str(trouble) for trouble in troubles]


def _members(store: Store) -> Sequence[Store]:
    members: Sequence[Store] = getattr(store, "members", (store,))
    return members


def _endpoints(store: Store) -> Sequence[Store]:
    endpoints: Sequence[Store] = getattr(store, "endpoints", (store,))
    return endpoints


async def _trouble(endpoint: Store) -> StoreUnavailable | None:
    """Why an endpoint does not answer, None when it does: what it refuses is for the probe to say."""
    try:
        await endpoint.get(f"{PREFIX}none")
    except StoreUnavailable as error:
        return error
    except StoreError:
        pass
    return None


async def _probe_one(
    store: Store, endpoints: Sequence[Store], report: Callable[[str], None] = lambda text: None
) -> None:
    prefix = f"{PREFIX}{secrets.token_hex(8)}/"
    try:
        for name, check in CHECKS.items():
            await check(endpoints, prefix)
            report(f"{store.name}: {name}")
    except StoreError as error:
        with suppress(StoreError):  # what was found wrong is what matters
            await _clean(store, prefix)
        # Without the random name: the same trouble has the same words, however often it is met.
        raise type(error)(error.store, error.text.replace(prefix, PREFIX)) from error
    await _clean(endpoints[0], prefix)


async def _clean(store: Store, prefix: str) -> None:
    await store.delete(await store.list_after(prefix))


async def _creates(endpoints: Sequence[Store], prefix: str) -> None:
    first, last = endpoints[0], endpoints[-1]
    key = f"{prefix}create"
    if not await first.put_new(key, b"first"):
        raise _refused(first, "it says that a key exists which nobody has written")
    await _expect(last, key, b"first", "what was written through one endpoint")
    if await last.put_new(key, b"second"):
        raise _refused(last, "it ignores the condition of a conditional write: a key was created twice")
    await _expect(first, key, b"first", "what was written first, though the second write was refused")
    if not await last.put_new(key, b"first"):
        raise _refused(last, "it does not return the octets that were written")


async def _races(endpoints: Sequence[Store], prefix: str) -> None:
    await asyncio.gather(*(_race(endpoints, f"{prefix}race{number}") for number in range(RACES)))


async def _race(endpoints: Sequence[Store], key: str) -> None:
    values = [b"racer %d" % racer for racer in range(RACERS)]
    racers = [endpoints[number % len(endpoints)] for number in range(RACERS)]
    won = await asyncio.gather(
        *(racer.put_new(key, value) for racer, value in zip(racers, values, strict=True))
    )
    if sum(won) != 1:
        through = f" through {len(endpoints)} endpoints" if len(endpoints) > 1 else ""
        raise _refused(
            endpoints[0],
            f"of {RACERS} writers that created one key at the same time{through}, {sum(won)} won",
        )
    for endpoint in endpoints:
        await _expect(endpoint, key, values[won.index(True)], "what the winner of a race wrote")


async def _lists(endpoints: Sequence[Store], prefix: str) -> None:
    folder = f"{prefix}list/"
    # "10" sorts before "9", and capitals before small letters.
    keys = sorted(f"{folder}{name}" for name in ("10", "9", "B/1", "a/1", "ab", "b/2"))
    for number, key in enumerate(keys):
        await endpoints[number % len(endpoints)].put_new(key, b"x")
    for endpoint in endpoints:
        if await endpoint.list_after(folder) != keys:
            raise _refused(endpoint, "a listing does not show what was just written, sorted")
        if await endpoint.list_after(folder, keys[2], 2) != keys[3:5]:
            raise _refused(endpoint, "a listing that begins after a key does not show what follows it")


async def _ranges(endpoints: Sequence[Store], prefix: str) -> None:
    key = f"{prefix}range"
    data = bytes(range(256)) * 16
    await endpoints[0].put_new(key, data)
    for endpoint in endpoints:
        for start, end in ((0, 1), (255, 258), (4000, 5000), (4096, 4097), (100, None)):
            if await endpoint.get(key, start, end) != data[start:end]:
                raise _refused(
                    endpoint, f"it does not return the octets from {start} to {end} when asked for them"
                )


async def _overwrites(endpoints: Sequence[Store], prefix: str) -> None:
    key = f"{prefix}overwrite"
    for number, writer in enumerate(endpoints):
        for data in (b"old %d" % number, b"new %d" % number):
            await writer.put(key, data)
            for reader in endpoints:
                await _expect(reader, key, data, "an overwritten object's new octets")


async def _deletes(endpoints: Sequence[Store], prefix: str) -> None:
    folder = f"{prefix}delete/"
    keys = [f"{folder}{number}" for number in range(3)]
    for key in keys:
        await endpoints[0].put_new(key, b"x")
    await endpoints[-1].delete([keys[0], keys[2], f"{folder}none"])
    for endpoint in endpoints:
        if await endpoint.list_after(folder) != [keys[1]]:
            raise _refused(endpoint, "a listing shows what was deleted, or not what was kept")
        try:
            await endpoint.get(keys[0])
        except MissingKey:
            continue
        raise _refused(endpoint, "what was deleted can still be read")


CHECKS: dict[str, Check] = {
    "one writer creates a key, a second one is told so": _creates,
    f"of {RACERS} simultaneous writers one wins": _races,
    "listings show what was just written": _lists,
    "parts of objects can be read": _ranges,
    "overwriting is seen at once": _overwrites,
    "what is deleted is gone": _deletes,
}
"""What is tried, in order."""


async def _expect(store: Store, key: str, octets: bytes, what: str) -> None:
    try:
        found = await store.get(key)
    except MissingKey:
        raise _refused(store, f"it does not return {what}: the object is missing") from None
    if found != octets:
        raise _refused(store, f"it does not return {what}")


def _refused(store: Store, sin: str) -> StoreRefused:
    return StoreRefused(store.name, f"{sin}; a queue cannot be kept on it")
