"""The object store: answers that are lost, late or wrong, several endpoints, large bodies."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import obstore.store
import pytest

from mailqueue.store.base import (
    MissingKey,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreRefused,
    StoreUnavailable,
)
from mailqueue.store.buckets import open_bucket
from mailqueue.store.objects import PAUSE, ObjectsStore
from mailqueue.store.options import Limits, StoreOptions
from tests.peers.fakes3 import Answer, FakeS3, Verdict, fake_s3
from tests.peers.storecontract import Pieces

OLD = "Fri, 27 Nov 2026 00:00:00 GMT"
QUICK = Limits(connect=0.5, request=0.5, retries=1, call=1.2)


def opened(*fakes: FakeS3 | str, limits: Limits = QUICK) -> ObjectsStore:
    endpoints = tuple(fake if isinstance(fake, str) else fake.endpoint for fake in fakes)
    options = StoreOptions(
        endpoints=endpoints, allow_http=True, access_key="AK", secret="SK", region="eu", limits=limits
    )
    return open_bucket("s3://queue/ns", "s3", options)


def with_fake(main: Callable[[FakeS3], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with fake_s3() as fake:
            await main(fake)

    asyncio.run(run())


PAGE = Answer("200 OK", b"<html>be right back</html>", ('ETag: "5f3b-1a"', "Last-Modified: " + OLD))
"""What a web server has for people while the store behind it is away."""
EMBEDDED = Answer("200 OK", b"<Error><Code>InternalError</Code><Message>later</Message></Error>")
"""An error that came too late for the status."""


def nth(
    verdicts: Mapping[int, Verdict | Answer], method: str = "PUT"
) -> Callable[[str, str], Verdict | Answer]:
    """What becomes of the first, second ... request with this method."""
    count = iter(range(1, 1000))
    return lambda asked, path: verdicts.get(next(count), "") if asked == method else ""


@pytest.mark.parametrize(
    "verdicts", [{1: "lose"}, {1: "hang"}, {1: "drop"}, {1: "500 Oops"}, {1: "503 Slow Down"}]
)
def test_a_create_whose_answer_is_lost_is_settled(verdicts: dict[int, str]) -> None:
    async def main(fake: FakeS3) -> None:
        store = opened(fake)
        fake.decide = nth(verdicts)
        assert await store.put_new("log/s/1", b"mine")
        assert fake.objects == {"/queue/ns/log/s/1": b"mine"}
        assert not await store.put_new("log/s/1", b"other")

    with_fake(main)


def test_a_create_that_lost_a_race_says_so_also_after_a_lost_answer() -> None:
    async def main(fake: FakeS3) -> None:
        store = opened(fake)

        def decide(method: str, path: str) -> str:
            if method == "PUT" and path not in fake.objects:
                fake.objects[path] = b"theirs"
                return "drop"
            return ""

        fake.decide = decide
        assert not await store.put_new("log/s/1", b"mine")

    with_fake(main)


def test_a_conflict_that_left_nothing_is_tried_again() -> None:
    """S3 answers 409 when another conditional write is under way, which may come to nothing."""

    async def main(fake: FakeS3) -> None:
        store = opened(fake)
        fake.decide = nth({1: "409 Conflict"})
        assert await store.put_new("log/s/1", b"mine")
        fake.decide = nth({1: "412 Precondition Failed", 2: "412 Precondition Failed"})
        with pytest.raises(StoreUnavailable, match="it is there, but it cannot be read"):
            await opened(fake, limits=Limits(request=8, call=1)).put_new("log/s/2", b"mine")

    with_fake(main)


def test_who_is_told_to_slow_down_waits() -> None:
    async def main(fake: FakeS3) -> None:
        store = opened(fake, limits=Limits(request=4, retries=0, call=30))
        for verdict, least in (("429 Too Many Requests", PAUSE), ("409 Conflict", 0.0)):
            fake.decide = nth({1: verdict})
            begun = time.monotonic()
            await store.put("hb/s", b"x")
            assert time.monotonic() - begun >= least
        fake.decide = lambda method, path: "429 Too Many Requests"
        with pytest.raises(StoreUnavailable, match="it answered 429"):
            await store.put("hb/s", b"x")

    with_fake(main)


@pytest.mark.parametrize(
    ("verdict", "kind", "words"),
    [
        ("500 Oops", StoreUnavailable, "it answered 500 (Fake: as told)"),
        ("hang", StoreUnavailable, "no answer within"),
        ("drop", StoreUnavailable, "writing log/s/1: "),
        ("403 Forbidden", StoreRefused, "it answered 403 (Fake: as told)"),
        ("404 Not Found", StoreMissing, "there is no such bucket"),
        ("507 Insufficient Storage", StoreFull, "507"),
    ],
)
def test_errors_come_in_time_and_in_words(verdict: str, kind: type[StoreError], words: str) -> None:
    async def main(fake: FakeS3) -> None:
        store = opened(fake)
        fake.decide = lambda method, path: verdict
        for call in (store.put_new("log/s/1", b"x"), store.put("log/s/1", b"x")):
            begun = time.monotonic()
            with pytest.raises(StoreError) as caught:
                await call
            assert time.monotonic() - begun < 2.5
            assert type(caught.value) is kind
            assert words in str(caught.value)
            assert "SK" not in str(caught.value)
            assert str(caught.value).startswith(f"s3://queue/ns at {fake.endpoint}: writing log/s/1: ")
        assert fake.objects == {}

    with_fake(main)


def test_a_missing_object_and_a_missing_bucket_are_told_apart() -> None:
    async def main(fake: FakeS3) -> None:
        store = opened(fake)
        with pytest.raises(MissingKey, match="reading log/s/1: there is none"):
            await store.get("log/s/1")

    with_fake(main)


def elsewhere(method: str, path: str) -> Answer:
    """A gateway sends all that is asked to its page: after 303 that is fetched, whatever was asked."""
    return PAGE if path == "/away.html" else Answer("303 See Other", headers=("Location: /away.html",))


@pytest.mark.parametrize("away", [elsewhere, lambda method, path: PAGE], ids=["303", "200"])
def test_a_page_for_people_does_not_say_that_an_object_is_written(
    away: Callable[[str, str], Answer],
) -> None:
    async def main(fake: FakeS3) -> None:
        store = opened(fake)
        await store.put("hb/s", b"1")
        fake.decide = away
        with pytest.raises(StoreUnavailable, match="log/s/1: it says that this was done, and it was not"):
            await store.put_new("log/s/1", b"mine")
        with pytest.raises(StoreUnavailable, match="hb/s: it says that this was done, and it was not"):
            await store.put("hb/s", b"2")
        assert fake.objects == {"/queue/ns/hb/s": b"1"}
        fake.decide = lambda method, path: ""
        assert await store.put_new("log/s/1", b"mine")

    with_fake(main)


def test_etags_that_are_no_digests() -> None:
    """As of servers that count, or encrypt; and of one that has begun to."""

    async def main(fake: FakeS3) -> None:
        store = opened(fake)
        fake.etag = lambda octets: '"00000000000000000000000000000000-1"'
        assert await store.put_new("log/s/1", b"x")
        assert [asked for asked in fake.requests if asked.startswith("GET")] == []
        fake.etag = lambda octets: f'W/"{hashlib.md5(octets).hexdigest().upper()}"'
        assert await store.put_new("log/s/2", b"x" * 2_000_000)
        fake.etag = lambda octets: '"1"'
        assert await store.put_new("log/s/3", b"x")
        assert [asked for asked in fake.requests if asked.startswith("GET")] == ["GET /queue/ns/log/s/3"]

    with_fake(main)


def test_a_listing_that_is_an_error_is_not_an_empty_one() -> None:
    """S3 says 200 first and may find out later; then nothing would seem to be there."""

    def listing(*keys: str, more: str = "") -> Answer:
        each = "<LastModified>2026-11-27T00:00:00.000Z</LastModified><ETag>1</ETag><Size>1</Size>"
        found = "".join(f"<Contents><Key>ns/{key}</Key>{each}</Contents>" for key in keys)
        token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
        return Answer("200 OK", f"<ListBucketResult>{found}{token}</ListBucketResult>".encode())

    async def main(fake: FakeS3) -> None:
        store = opened(fake)
        fake.decide = nth({1: EMBEDDED, 2: listing("uses/s/a")}, "GET")
        assert await store.list_after("uses/s/") == ["uses/s/a"]
        many = [f"log/s/{number:04}" for number in range(1003)]
        first, rest = listing(*many[:1000], more="next"), listing(*many[1000:])
        fake.decide = nth({1: first, 2: EMBEDDED, 3: first, 4: rest}, "GET")
        assert await store.list_after("log/s/") == many
        fake.decide = nth({1: listing("uses/s/a"), 2: "500 Oops", 3: "500 Oops"}, "GET")
        assert await store.list_after("uses/s/") == ["uses/s/a"]
        fake.requests.clear()
        fake.decide = lambda method, path: listing()
        assert await store.list_after("uses/s/") == []
        assert len(fake.requests) == 2

    with_fake(main)


def test_an_answer_that_makes_no_sense() -> None:
    """The client panics when something was not deleted that it had not named."""

    async def main(fake: FakeS3) -> None:
        error = b"<Error><Key>who</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        answer = Answer("200 OK", b"<DeleteResult>%s</DeleteResult>" % error)
        fake.decide = lambda method, path: answer
        with pytest.raises(StoreUnavailable, match="removing log/s/1: its answer makes no sense"):
            await opened(fake).delete(["log/s/1"])

    with_fake(main)


def test_what_a_gateway_does_not_find_is_not_missing() -> None:
    """As one whose server is being replaced."""

    async def main(fake: FakeS3) -> None:
        store = opened(fake)
        assert await store.put_new("log/s/1", b"x")
        lost = Answer("404 Not Found", b"404 page not found")
        fake.decide = lambda method, path: lost
        words = r"it answered 404 \(Not Found\), and not in the way of a store"
        for call in (
            store.get("log/s/1"),
            store.get("log/s/1", 0, 1),
            store.get("log/s/1", 1, 1),
            store.list_after("log/"),
            store.delete(["log/s/1"]),
            store.put_new("log/s/2", b"x"),
        ):
            with pytest.raises(StoreUnavailable, match=words):
                await call
        fake.decide = lambda method, path: Answer(
            "404 Not Found", b"<Error><Code>NoSuchBucket</Code></Error>"
        )
        with pytest.raises(StoreMissing):
            await store.delete(["log/s/1"])

    with_fake(main)


def test_another_endpoint_is_used_and_stays_in_use() -> None:
    async def main(fake: FakeS3) -> None:
        store = opened("http://127.0.0.1:1", fake)
        assert await store.put_new("log/s/1", b"x")
        assert await store.get("log/s/1") == b"x"
        async with fake_s3() as other:
            other.objects = fake.objects
            store = opened(fake, other)
            fake.decide = nth({1: "lose", 2: "lose"})  # with the repetition: the effect, but no answer
            assert await store.put_new("log/s/2", b"y")
            assert await store.get("log/s/2") == b"y"
            assert other.requests == ["PUT /queue/ns/log/s/2", *["GET /queue/ns/log/s/2"] * 2]

    with_fake(main)


def test_what_one_endpoint_refuses_another_may_take() -> None:
    """As when the certificate or the clock of one gateway is wrong."""

    async def main(fake: FakeS3) -> None:
        async with fake_s3() as other:
            store = opened(fake, other)
            fake.decide = lambda method, path: "403 Forbidden"
            assert await store.put_new("log/s/1", b"x")
            assert await store.get("log/s/1") == b"x"
            assert fake.requests == ["PUT /queue/ns/log/s/1"]
            with pytest.raises(MissingKey):
                await store.get("log/s/2")
            assert len(fake.requests) == 1
            other.decide = fake.decide
            with pytest.raises(StoreRefused, match="403"):
                await store.put("hb/s", b"x")
            assert len(fake.requests) == 2

    with_fake(main)


def test_errors_name_the_endpoint_and_some_may_be_left_out() -> None:
    async def main(fake: FakeS3) -> None:
        async with fake_s3() as other:
            store = opened(fake, other)
            fake.decide = other.decide = lambda method, path: "403 Forbidden"
            with pytest.raises(StoreRefused, match=f"^s3://queue/ns at {other.endpoint}: writing a: "):
                await store.put("a", b"x")
            names = [endpoint.name for endpoint in store.endpoints]
            assert names == [f"s3://queue/ns at {each.endpoint}" for each in (fake, other)]
            store.use([0])
            with pytest.raises(StoreRefused, match=f"^s3://queue/ns at {fake.endpoint}: writing a: "):
                await store.put("a", b"x")
            assert len(fake.requests) == 2
            assert len(other.requests) == 1
            assert len(store.endpoints) == 2

    with_fake(main)


def test_nobody_listens() -> None:
    async def main() -> None:
        store = opened("http://127.0.0.1:1", "http://127.0.0.1:2")
        with pytest.raises(StoreUnavailable, match=r"writing a: no connection \(Connection refused\)"):
            await store.put_new("a", b"x")
        with pytest.raises(StoreUnavailable, match="listing log/: no connection"):
            await store.list_after("log/")
        with pytest.raises(StoreUnavailable, match="removing a: no connection"):
            await store.delete(["a"])

    asyncio.run(main())


SMALL = Limits(single_put=1_000_000)


def test_large_bodies_have_to_be_named_by_their_digest() -> None:
    async def main() -> None:
        store = ObjectsStore("objects:", [obstore.store.MemoryStore()], SMALL)
        blob = Pieces(b"0123456789" * 1000, 1300)
        key = "body/20260101/" + hashlib.sha256(blob.octets * 1300).hexdigest()
        with pytest.raises(ValueError, match="has to end with its SHA-256"):
            await store.put_new("body/20260101/abc", blob)
        assert await store.list_after("") == []
        assert await store.put_new(key, blob)
        assert await store.get(key) == blob.octets * 1300
        puts = store.requests["put"]
        assert puts == 5  # three parts, begin and end
        assert await store.put_new(key, blob)
        assert store.requests["put"] == puts
        await store.put(key, b"x" * blob.size)
        assert not await store.put_new(key, blob)

    asyncio.run(main())


@pytest.mark.parametrize("times", [2, 200])
def test_the_error_of_a_blob_is_passed_on(times: int) -> None:
    class Broken(Pieces):
        broken = False

        def chunks(self) -> Iterator[bytes]:
            for number, piece in enumerate(super().chunks()):
                if self.broken and number == self.times - 1:
                    raise LookupError("the spill is gone")
                yield piece

    class BreaksLater(Broken):
        def chunks(self) -> Iterator[bytes]:
            yield from super().chunks()
            self.broken = True  # it was good when its digest was taken

    async def main() -> None:
        store = ObjectsStore("objects:", [obstore.store.MemoryStore()], SMALL)
        blob = BreaksLater(b"x" * 10_000, times)
        blob.broken = blob.size <= SMALL.single_put
        with pytest.raises(LookupError, match="the spill is gone"):
            await store.put_new("body/1/" + hashlib.sha256(b"x" * blob.size).hexdigest(), blob)
        assert await store.list_after("") == []

    asyncio.run(main())


def test_requests_are_counted() -> None:
    async def main() -> None:
        store = ObjectsStore("objects:", [obstore.store.MemoryStore()])
        keys = [f"log/s/{number:04}" for number in range(1500)]
        for key in keys:
            await store.put_new(key, b"x")
        assert await store.list_after("log/") == keys
        assert await store.list_after("log/", keys[9], 2) == keys[10:12]
        await store.delete(keys)
        assert store.requests == {"put": 1500, "list": 3, "delete": 2}

    asyncio.run(main())


def test_a_store_that_cannot_begin_behind_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Azure's before it knew `startFrom`: it lists all, wherever it was to begin."""

    def all_of_it(store: Any, prefix: str | None, *, offset: str | None, **options: Any) -> Any:
        return listing(store, prefix, **options)

    async def main() -> None:
        store = ObjectsStore("objects:", [obstore.store.MemoryStore()])
        keys = sorted(f"log/s/{name}" for name in ("10", "9", "B", "a", "b"))
        for key in keys:
            await store.put_new(key, b"x")
        for at, key in enumerate(keys, 1):
            assert await store.list_after("log/", key) == keys[at:]
            assert await store.list_after("log/", key, 2) == keys[at : at + 2]

    listing = obstore.list
    monkeypatch.setattr(obstore, "list", all_of_it)
    asyncio.run(main())
