"""Several stores that hold the same: entries, snapshots and bodies on all, an answer after `copies` of them.

No agreement is needed for these, because every log has one writer and keys never change: what the stores
hold together is the union. Where two writers may meet, at leases and retired marks, one store decides, the
`authority`; announcements and heartbeats are there too. A seal is the one key on which stores may differ:

* An entry is acknowledged when `copies` stores have it. Some stores may be *private*: a folder on the disk of
  this node, that no other node can see. So of m shared and p private stores at least copies - p shared ones
  have every acknowledged entry.
* A seal is complete when m - (copies - p) + 1 shared stores have one at this number. Then no acknowledged
  entry is there, nor can one come, as any `copies` stores include one of the sealed; an entry that one of the
  others has was never acknowledged.
* With fewer seals, an entry that is seen counts; the sealer goes on with the next number. (At worst it adopts
  a message that its client was told to send again.)
* With fewer stores within reach and no entry nothing is sealed: `StoreUnavailable`, and the dead log waits.

A seal that is read needs no more: it counts when m - (copies - p) + 1 shared stores have it or nothing. An
object that is wanted is missing when all stores deny it, else `StoreUnavailable`: what a sealer has seen and
taken over may be on fewer stores than was acknowledged.

`lossy` allows one copy, or none on a shared store: what only a lost machine had is lost, and a node that did
not write a log cannot seal it, as the stores it sees do not prove anything. It is never the default.

A store that is slow delays nobody once there are enough copies: its write goes on in the background, up to
`PENDING_COUNT` writes and `PENDING_OCTETS`. What it misses it gets later (mailqueue.store.catchup).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from mailqueue.keys import BODIES, CORRUPT, LOGS, SNAPSHOTS
from mailqueue.store.asking import ask_all
from mailqueue.store.base import (
    SEAL_MARK,
    Blob,
    MissingKey,
    SealResult,
    Store,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    check_key,
    check_prefix,
    is_seal,
    room_of,
    size_of,
)
from mailqueue.store.catchup import CatchUp
from mailqueue.store.certainty import certainty
from mailqueue.store.repair import Repaired, repair

COPIED = (LOGS, SNAPSHOTS, BODIES, CORRUPT)
"""What all stores hold. All other keys are the authority's."""
PENDING_COUNT = 256
"""Writes that may be under way to a store that is slower than the others."""
PENDING_OCTETS = 64 * 1024 * 1024
"""Octets of these writes."""
BLOB_GRACE = 5.0
"""Seconds that a slower store gets to complete a Blob: its owner may close it when `put_new` has returned."""
CLOSING = 10.0
"""Seconds for what is under way when the store is closed."""
SEAL_MAX = 512
"""Octets of the longest seal."""
PATIENCE = 2.0
"""Seconds after which a read turns to another store."""
SUSPECT = 30.0
"""Seconds for which reads prefer other stores after an error, or an answer that did not come."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the stores."""

    store: Store
    private: bool = False
    """True when other nodes do not see the same store under this name: a folder on a disk of this node."""


class Replicated:
    """Several stores as one."""

    __slots__ = (
        "_alone",
        "_authority",
        "_catch_up",
        "_closing",
        "_copies",
        "_members",
        "_needed",
        "_octets",
        "_pending",
        "_private",
        "_shared",
        "_suspect",
        "missed",
        "name",
    )

    def __init__(
        self, members: Sequence[Member], copies: int, authority: int, *, lossy: bool = False
    ) -> None:
        """`authority` is the index of the store that decides; it is not private.

        Raises ValueError for a combination that would lose mail, unless it is asked for with `lossy`, and for
        those that make no sense.
        """
        self._members = tuple(member.store for member in members)
        self._private = tuple(index for index, member in enumerate(members) if member.private)
        self._shared = tuple(index for index, member in enumerate(members) if not member.private)
        self.name = " + ".join(store.name for store in self._members)
        proof = certainty(len(self._shared), len(self._private), copies, lossy=lossy)
        if authority not in self._shared:
            raise ValueError("the authority has to be a store that all nodes share")
        self._alone, self._needed = proof.alone, proof.needed
        self._copies = copies
        self._authority = self._members[authority]
        self._pending: dict[int, set[asyncio.Task[bool]]] = {i: set() for i in range(len(members))}
        self._octets: Counter[int] = Counter()
        self._suspect: dict[int, float] = {}
        self._catch_up = CatchUp(self._members)
        self._closing = False
        self.missed: Counter[str] = Counter()
        """Writes that a store did not take in time, by its name."""

    @property
    def members(self) -> tuple[Store, ...]:
        """The stores."""
        return self._members

    @property
    def room(self) -> int:
        """Octets that new mail may take: as many stores as there have to be copies have that much."""
        return sorted(map(room_of, self._members), reverse=True)[self._copies - 1]

    def behind(self) -> dict[str, int]:
        """How many objects each store still has to be given, by its name."""
        return {store.name: self._catch_up.waiting(index) for index, store in enumerate(self._members)}

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        """Create an object; True when `copies` stores have it.

        False as soon as too many have other octets. Raises as soon as too many failed: StoreFull or
        StoreRefused when one of them said so.
        """
        if not _is_copied(check_key(key)):
            return await self._authority.put_new(key, data)
        tasks: dict[asyncio.Task[bool], int] = {}
        failures: list[StoreError] = []
        for index, member in enumerate(self._members):
            if self._is_behind(index, data):
                failures.append(StoreUnavailable(member.name, f"writing {key}: it is too far behind"))
                self._note_miss(index, key)
            else:
                tasks[self._start(index, key, data)] = index
        try:
            return await self._gather_copies(key, tasks, failures)
        finally:
            if not isinstance(data, bytes):
                await self._end(set(tasks))

    async def _gather_copies(
        self, key: str, tasks: dict[asyncio.Task[bool], int], failures: list[StoreError]
    ) -> bool:
        waiting = set(tasks)
        good = other = 0
        total = len(self._members)
        while True:
            if good >= self._copies:
                return True
            if total - other < self._copies:
                return False
            if total - other - len(failures) < self._copies:
                raise self._combined(f"writing {key}", failures)
            try:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                for task in waiting:
                    task.cancel()
                raise
            for task in sorted(done, key=tasks.__getitem__):
                error = task.exception()
                if isinstance(error, StoreError):
                    failures.append(error)
                elif error is not None:
                    raise error
                elif task.result():
                    good += 1
                else:
                    other += 1

    async def put(self, key: str, data: bytes) -> None:
        """Create or overwrite an object of the authority. Raises ValueError for other keys."""
        if _is_copied(check_key(key)):
            raise ValueError(f"objects on several stores are never overwritten: {key}")
        await self._authority.put(key, data)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Octets of an object, from the first store that has it, private ones first; of a seal only from its
        beginning. Raises MissingKey when all deny it."""
        if not _is_copied(check_key(key)):
            return await self._authority.get(key, start, end)
        failures: list[StoreError] = []
        denials = 0
        seal: bytes | None = None
        waiting: deque[tuple[int, float | None]] = deque((index, PATIENCE) for index in self._in_order())
        while waiting:
            index, patience = waiting.popleft()
            try:
                async with asyncio.timeout(patience if waiting else None):
                    found = await self._members[index].get(key, start, end)
                    sealed = key.startswith(LOGS) and await self._is_seal(index, key, start, end, found)
            except MissingKey:
                denials += index in self._shared
            except TimeoutError:
                # It is asked again, without haste, when no other store has an answer.
                self._suspect[index] = asyncio.get_running_loop().time() + SUSPECT
                waiting.append((index, None))
            except StoreError as error:
                self._suspect[index] = asyncio.get_running_loop().time() + SUSPECT
                failures.append(error)
            else:
                if not sealed:
                    return found
                # Another store may have an entry there, and that would count.
                seal = found
                denials += index in self._shared
        # Who reads on knows that an entry was there; that others have a seal in its place proves nothing.
        wants_entry = seal is None or start > 0
        if denials < self._needed or (failures and (wants_entry or self._alone)):
            raise self._combined(f"reading {key}", failures)
        if seal is None or start > 0:
            raise MissingKey(self.name, f"reading {key}: there is none")
        return seal

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        """Keys that any store has under `prefix` greater than `after`, sorted."""
        check_prefix(prefix)
        if prefix and not _is_copied(prefix):
            return await self._authority.list_after(prefix, after, limit)
        asked = range(len(self._members)) if self._alone else self._shared
        lists, failures = await ask_all(
            self._members,
            asked,
            lambda store: store.list_after(prefix, after, limit),
            lambda lists: not self._alone and len(lists) >= self._needed,
        )
        if sum(index in self._shared for index in lists) < self._needed or (self._alone and failures):
            raise self._combined(f"listing {prefix or 'it'}", list(failures.values()))
        return sorted(set().union(*lists.values()))[:limit]

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects from all stores within reach; raises when that is none.

        What a store keeps because it could not be reached is listed again when it is back.
        """
        some = [check_key(key) for key in keys]
        copied = [key for key in some if _is_copied(key)]
        self._catch_up.forget(copied)
        if len(copied) < len(some):
            await self._authority.delete([key for key in some if not _is_copied(key)])
        if copied:
            everywhere = range(len(self._members))
            done, failures = await ask_all(self._members, everywhere, lambda store: store.delete(copied))
            if not done:
                raise self._combined(f"removing {copied[0]}", list(failures.values()))

    async def seal_new(self, key: str, seal: bytes) -> SealResult:
        """Try to end a log at this number, by the rules above. Raises MissingKey as every store does."""
        if not check_key(key).startswith(LOGS):
            raise ValueError(f"only logs are sealed: {key}")
        if len(seal) > SEAL_MAX:
            raise ValueError(f"a seal has at most {SEAL_MAX} octets")
        asked: Sequence[int] = self._shared
        if self._alone:
            asked = range(len(self._members))
            await self._expect_own_log(key)
        needed = len(asked) if self._alone else self._needed
        results, failures = await ask_all(
            self._members,
            asked,
            lambda store: store.seal_new(key, seal),
            lambda results: sum(result.sealed for result in results.values()) >= needed,
        )
        for error in failures.values():
            if isinstance(error, MissingKey):
                raise error
        seals = [result for result in results.values() if result.sealed]
        if len(seals) >= needed:
            return seals[0]
        for result in results.values():
            if not result.sealed:
                return result
        raise self._combined(f"sealing {key} on {needed} stores", list(failures.values()))

    async def repair(self, prefix: str, after: str = "", only: Container[str] | None = None) -> Repaired:
        """Copy to each store what it misses of the keys under `prefix` that are greater than `after`.

        `prefix` is that of one log, of its snapshots, or of bodies. Of what was deleted while a store was
        away nothing may come back: `after` is the last key that is no longer needed, or `only` holds those
        that are. Private stores get only what belongs to logs that they have begun.
        """
        if not _is_copied(check_prefix(prefix)):
            raise ValueError(f"only {', '.join(COPIED)} are on several stores: {prefix!r}")
        return await repair(self._members, self._shared, prefix, after, only)

    async def close(self) -> None:
        """Give what is under way a moment, then close all stores."""
        self._closing = True
        await self._catch_up.close()
        tasks = set().union(*self._pending.values())
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSING)
            await self._end(tasks, grace=0.0)
        for member in self._members:
            await member.close()

    def _start(self, index: int, key: str, data: bytes | Blob) -> asyncio.Task[bool]:
        member, size = self._members[index], size_of(data)
        task = asyncio.ensure_future(member.put_new(key, data))
        self._pending[index].add(task)
        self._octets[index] += size

        def finished(task: asyncio.Task[bool]) -> None:
            self._pending[index].discard(task)
            self._octets[index] -= size
            if task.cancelled() or task.exception() is not None:
                self._note_miss(index, key)

        task.add_done_callback(finished)
        return task

    def _note_miss(self, index: int, key: str) -> None:
        self.missed[self._members[index].name] += 1
        if not self._closing:
            self._catch_up.miss(index, key)

    def _is_behind(self, index: int, data: bytes | Blob) -> bool:
        pending = self._pending[index]
        return len(pending) >= PENDING_COUNT or (
            bool(pending) and self._octets[index] + size_of(data) > PENDING_OCTETS
        )

    @staticmethod
    async def _end(tasks: set[asyncio.Task[bool]], grace: float = BLOB_GRACE) -> None:
        """Cancel what does not end in time; afterwards nothing reads the data any more."""
        left = {task for task in tasks if not task.done()}
        if not left:
            return
        try:
            if grace:
                _, left = await asyncio.wait(left, timeout=grace)
        finally:
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    def _in_order(self) -> list[int]:
        now = asyncio.get_running_loop().time()
        order = (*self._private, *self._shared)
        return sorted(order, key=lambda index: self._suspect.get(index, now) > now)

    async def _is_seal(self, index: int, key: str, start: int, end: int | None, found: bytes) -> bool:
        """Whether octets of an object under "log/" are those of a seal."""
        if start == 0 and len(found) >= len(SEAL_MARK):
            return is_seal(found)
        if start >= SEAL_MAX and end is not None and len(found) == end - start > 0:
            return False  # a seal has no octets there
        return is_seal(await self._members[index].get(key, 0, len(SEAL_MARK)))

    async def _expect_own_log(self, key: str) -> None:
        log = key[: key.rindex("/") + 1]
        lists, failures = await ask_all(
            self._members, self._private, lambda store: store.list_after(log, limit=1)
        )
        if failures:
            raise self._combined(f"sealing {key}", list(failures.values()))
        if not all(lists.values()):
            raise StoreRefused(
                self.name,
                f"sealing {key}: with so few copies only the node that wrote a log can take it over",
            )

    def _combined(self, what: str, failures: Sequence[StoreError]) -> StoreError:
        """One error for what several stores said; the gravest kind that one of them has."""
        kind: type[StoreError] = StoreUnavailable
        for candidate in (StoreRefused, StoreFull):
            if any(isinstance(error, candidate) for error in failures):
                kind = candidate
                break
        return kind(self.name, f"{what}: " + ("; ".join(map(str, failures)) or "too few stores answered"))


def _is_copied(key: str) -> bool:
    return key.startswith(COPIED)
