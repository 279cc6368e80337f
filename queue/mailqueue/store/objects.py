"""Object stores through obstore: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

`put_new` is one PUT with "If-None-Match: *" (Google: ifGenerationMatch=0). When its answer is lost, or a
retry finds the key taken, the object is read back and compared: exactly our octets are a success. Everything
is bounded well below a client's patience: `Limits` says how long to connect, how long one request may take,
how often it is repeated, and when a call is given up in any case.

Large bodies: obstore cannot make a multipart upload conditional, and a single PUT holds the whole body in
memory. So a Blob over `Limits.single_put` has to be content-addressed - the last segment of its key is the
SHA-256 of its octets, which is checked - and is sent in parts without a condition: whoever else writes that
key writes the same octets. Uploads that a crash leaves unfinished are invisible; a life-cycle rule of the
bucket (AbortIncompleteMultipartUpload) removes them.

Several endpoints are gateways to one bucket: the first is used until it fails, then the next one. An answer
that was lost is settled through the other endpoint too.

Not all that looks like an answer is one. When the ETag of a PUT is of another kind than before, the object is
read and compared (`mailqueue.store.etags`). A listing that is empty, or ends where a page does, is asked for
twice: S3 may answer 200 and put an error into the body, in which obstore sees a page without keys.

A trap for whoever runs this: threads of obstore (pyo3-async-runtimes) that still want the interpreter when it
shuts down abort the process (SIGABRT, seen in 1 of 12 runs). Nothing is lost by it but the exit status. They
need only a moment, so a process that has used an object store waits for `SETTLE` at its end; daemons end with
`os._exit` after flushing, which is certain.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from mailqueue.store.answers import (
    is_missing_bucket,
    is_of_the_store,
    is_past_the_end,
    is_told_to_wait,
    translate,
)
from mailqueue.store.base import (
    CHUNK,
    Blob,
    Comparison,
    MissingKey,
    SealResult,
    StoreError,
    StoreUnavailable,
    check_key,
    check_prefix,
    seal_alone,
    size_of,
)
from mailqueue.store.etags import Receipts
from mailqueue.store.options import Limits

PART = 5 * 1024 * 1024
"""Octets of one part of a large upload (S3: at least 5 MiB)."""
SETTLE = 0.3
"""Seconds that a process waits at its end for obstore's threads."""
PAUSE = 1.0
"""Seconds to wait, beyond what obstore waits itself, when a store wants fewer requests."""
LIST_PAGE = 1000
"""Keys of a listing that are looked at together; a page of S3's and Google's protocol at most."""
DELETES_AT_ONCE = 1000
"""Objects removed with one request of S3's protocol, at most."""
FEWER_DELETES = 100
"""The same where the server removes one after the other (Azure's), or each takes a request (Google's)."""
HASHED_IN_LOOP = 1024 * 1024
"""Octets whose digest is taken without a thread: two milliseconds."""
LARGE_AT_ONCE = 2
"""Blobs uploaded at the same time: each holds up to `Limits.single_put` octets, or four parts, in memory."""
if TYPE_CHECKING:
    from obstore import GetOptions

T = TypeVar("T")


class ObjectsStore:
    """A prefix of a bucket."""

    __slots__ = (
        "_all",
        "_current",
        "_deletes",
        "_endpoints",
        "_large",
        "_limits",
        "_names",
        "_receipts",
        "name",
        "requests",
    )

    def __init__(
        self,
        name: str,
        endpoints: Sequence[ObjectStore],
        limits: Limits | None = None,
        deletes: int = DELETES_AT_ONCE,
        names: Sequence[str] = (),
    ) -> None:
        """`endpoints` are obstore's stores, all for the same bucket and prefix (mailqueue.store.urls makes
        them), `names` what they are called, by default as the store; `deletes` is how many objects are
        removed within the time of one request. Nothing is sent yet."""
        if not endpoints:
            raise ValueError("at least one endpoint")
        atexit.unregister(_settle)
        atexit.register(_settle)
        self.name = name
        self.requests: Counter[str] = Counter()
        """Requests sent, by kind ("put", "get", "list", "delete"), repetitions by obstore not counted."""
        self._names = tuple(names) or (name,) * len(endpoints)
        self._all = tuple(endpoints)
        self._endpoints = tuple(range(len(endpoints)))
        """Those in use, as places in `_all`."""
        self._current = 0
        self._deletes = deletes
        self._limits = limits or Limits()
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._receipts = Receipts()

    @property
    def endpoints(self) -> list[ObjectsStore]:
        """A store for each endpoint alone, for the probe."""
        return [
            ObjectsStore(name, (endpoint,), self._limits, self._deletes)
            for name, endpoint in zip(self._names, self._all, strict=True)
        ]

    def use(self, endpoints: Sequence[int]) -> None:
        """Use only some of all endpoints from now on."""
        self._endpoints = tuple(endpoints)
        self._current = 0

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        """Create an object. Raises also what `data.chunks` raises, and ValueError for a large Blob whose key
        is not its digest."""
        check_key(key)
        what = f"writing {key}"
        if isinstance(data, bytes):
            return await self._try(what, len(data), lambda o, _: self._create(o, key, data))
        async with self._large:
            if data.size > self._limits.single_put:
                await asyncio.to_thread(_check_digest, key, data)
                return await self._try(what, data.size, lambda o, _: self._upload(o, key, data))
            octets = await asyncio.to_thread(lambda: b"".join(data.chunks()))
            return await self._try(what, data.size, lambda o, _: self._create(o, key, octets))

    async def put(self, key: str, data: bytes) -> None:
        """Create or overwrite."""
        check_key(key)

        await self._try(
            f"writing {key}", len(data), lambda endpoint, _: self._write(endpoint, key, data, "overwrite")
        )

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Octets of an object. Raises MissingKey."""
        check_key(key)
        nothing = end is not None and end <= start
        options: GetOptions = {}
        if nothing:
            options["range"] = (0, 1)  # nothing is wanted, but the object has to be there
        elif end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}

        async def get(endpoint: ObjectStore, timeout: asyncio.Timeout) -> bytes:
            self.requests["get"] += 1
            try:
                answer = await obstore.get_async(endpoint, key, options=options)
            except BaseError as error:
                if is_past_the_end(str(error)):
                    return b""
                raise
            if nothing:
                return b""
            first, last = answer.range
            self._extend(timeout, last - first)
            return bytes(await answer.bytes_async())

        return await self._try(f"reading {key}", 0, get, reading=True)

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        """Keys under `prefix` greater than `after`, sorted."""
        check_prefix(prefix)

        async def follow(endpoint: ObjectStore, timeout: asyncio.Timeout) -> list[str]:
            keys, is_certain = await self._pages(endpoint, timeout, prefix, after, limit)
            if is_certain:
                return keys
            self._extend(timeout, 0)
            again, _ = await self._pages(endpoint, timeout, prefix, after, limit)
            return again if len(again) > len(keys) else keys

        if limit == 0:
            return []
        return sorted(await self._try(f"listing {prefix or 'it'}", 0, follow))[:limit]

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, up to 1,000 with one request where the protocol can."""
        some = [check_key(key) for key in keys]
        for first in range(0, len(some), self._deletes):
            await self._remove(some[first : first + self._deletes])

    async def seal_new(self, key: str, seal: bytes) -> SealResult:
        """Try to end a log at this number."""
        return await seal_alone(self, key, seal)

    async def close(self) -> None:
        """Nothing to free: connections end with the process (see above)."""

    async def _pages(
        self, endpoint: ObjectStore, timeout: asyncio.Timeout, prefix: str, after: str, limit: int | None
    ) -> tuple[list[str], bool]:
        """Keys as `list_after` wants them, but not sorted; False when a page may have been an error."""
        keys: list[str] = []
        found = 0
        in_order = True
        where = prefix.rstrip("/") or None
        async for page in obstore.list(endpoint, where, offset=after or None, chunk_size=LIST_PAGE):
            self.requests["list"] += 1
            self._extend(timeout, 0)
            found += len(page)
            for one in page:
                # Some stores list in an order of their own (S3 Express): then all has to be read. Some do
                # not know where to begin (Azure's `startFrom` is new).
                in_order = in_order and (not keys or keys[-1] < one["path"])
                if one["path"] > after:
                    keys.append(one["path"])
            if limit is not None and in_order and len(keys) >= limit:
                return keys, True
        return keys, found % LIST_PAGE != 0

    async def _write(
        self, endpoint: ObjectStore, key: str, octets: bytes, mode: Literal["create", "overwrite"]
    ) -> None:
        self.requests["put"] += 1
        answer = await obstore.put_async(endpoint, key, octets, mode=mode, use_multipart=False)
        doubts = self._receipts.is_doubtful
        in_thread = len(octets) > HASHED_IN_LOOP
        args = octets, answer["e_tag"]
        is_doubtful = await asyncio.to_thread(doubts, *args) if in_thread else doubts(*args)
        if is_doubtful and not await self._compare(endpoint, key, octets):
            raise StoreUnavailable(self.name, f"writing {key}: it says that this was done, and it was not")

    async def _create(self, endpoint: ObjectStore, key: str, octets: bytes) -> bool:
        for _ in range(2):
            try:
                await self._write(endpoint, key, octets, "create")
            except AlreadyExistsError:
                found = await self._compare(endpoint, key, octets)
                if found is not None:
                    return found
            else:
                return True
        raise StoreUnavailable(self.name, f"writing {key}: it is there, but it cannot be read")

    async def _upload(self, endpoint: ObjectStore, key: str, blob: Blob) -> bool:
        found = await self._compare(endpoint, key, blob)
        if found is not None:
            return found
        self.requests["put"] += 2 + -(-blob.size // PART)
        source = _Source(blob)
        try:
            await obstore.put_async(endpoint, key, source, chunk_size=PART, max_concurrency=4)
        except BaseError:
            if source.error is not None:
                raise source.error from None
            raise
        return True

    async def _compare(self, endpoint: ObjectStore, key: str, data: bytes | Blob) -> bool | None:
        """Whether an object has exactly these octets; None when there is none."""
        self.requests["get"] += 1
        try:
            answer = await obstore.get_async(endpoint, key)
        except FileNotFoundError:
            return None
        if answer.meta["size"] != size_of(data):
            return False
        comparison = Comparison(data)
        async for piece in answer.stream(min_chunk_size=CHUNK):
            if not comparison.feed(bytes(piece)):
                return False
        return comparison.end()

    async def _remove(self, keys: list[str]) -> None:
        async def delete(endpoint: ObjectStore, timeout: asyncio.Timeout) -> None:
            self.requests["delete"] += 1
            try:
                await obstore.delete_async(endpoint, keys)
            except FileNotFoundError as error:
                if not is_of_the_store(str(error)) or is_missing_bucket(str(error)):
                    raise
                # Protocols without a request for many (Google's) stop at the first that is missing.
                for key in keys:
                    self.requests["delete"] += 1
                    self._extend(timeout, 0)
                    with suppress(FileNotFoundError):
                        await obstore.delete_async(endpoint, key)

        await self._try(f"removing {keys[0]}", 0, delete)

    async def _try(
        self,
        what: str,
        size: int,
        request: Callable[[ObjectStore, asyncio.Timeout], Awaitable[T]],
        *,
        reading: bool = False,
    ) -> T:
        """Do something through the endpoint that works, another one, or again, as time allows."""
        limits = self._limits
        loop = asyncio.get_running_loop()
        end = loop.time() + limits.call + size / limits.slowest
        longest = limits.request + size / limits.slowest
        failure: StoreError = StoreUnavailable(self.name, what)
        pause = 0.0
        for attempt in range(max(2, len(self._endpoints))):
            if loop.time() + pause + longest > end and attempt:
                break
            if pause:
                await asyncio.sleep(pause)
            current = (self._current + attempt) % len(self._endpoints)
            place = self._endpoints[current]
            name = self._names[place]
            try:
                async with asyncio.timeout(longest) as timeout:
                    result = await request(self._all[place], timeout)
            except TimeoutError:
                failure = StoreUnavailable(name, f"{what}: no answer within {longest:.0f} s")
            except StoreUnavailable as error:
                failure = StoreUnavailable(name, error.text)
            except (BaseError, FileNotFoundError, NotImplementedError) as error:
                failure = translate(name, what, error, reading=reading)
                is_certain = isinstance(failure, MissingKey) or attempt + 1 >= len(self._endpoints)
                if is_certain and not isinstance(failure, StoreUnavailable):
                    break  # otherwise it may be the gateway: its certificate, its clock
                pause = PAUSE if is_told_to_wait(str(error)) else 0.0
            except Exception as error:
                if type(error).__name__ != "RustPanic":  # a class that cannot be imported
                    raise
                failure = StoreUnavailable(name, f"{what}: its answer makes no sense")
            else:
                self._current = current
                return result
        raise failure

    def _extend(self, timeout: asyncio.Timeout, size: int) -> None:
        """There was an answer: the next one, of so many octets, has its own time."""
        seconds = self._limits.request + size / self._limits.slowest
        timeout.reschedule(asyncio.get_running_loop().time() + seconds)


def _settle() -> None:
    time.sleep(SETTLE)


class _Source:
    """A Blob for obstore, which would make an error of its own of what the Blob raises."""

    __slots__ = ("_blob", "error")

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._blob.chunks()
        except Exception as error:
            self.error = error
            raise


def _check_digest(key: str, blob: Blob) -> None:
    digest = hashlib.sha256()
    for piece in blob.chunks():
        digest.update(piece)
    if key.rpartition("/")[2] != digest.hexdigest():
        raise ValueError(f"a large object's key has to end with its SHA-256, {digest.hexdigest()}: {key}")
