"""The queue's store on real servers of each protocol: contract, probe, large bodies, and a server that dies.

What a server is and is not: `tests.peers.seaweedfs`, `tests.peers.azurite`, `tests.peers.google`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import resource
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from mailqueue.store.base import Store, StoreRefused, StoreUnavailable
from mailqueue.store.file import FileStore
from mailqueue.store.objects import ObjectsStore
from mailqueue.store.options import Limits, StoreOptions
from mailqueue.store.probe import CHECKS, probe
from mailqueue.store.replicated import Member, Replicated
from mailqueue.store.urls import open_store
from tests.peers.objectservers import SCHEMES, ObjectServer, running
from tests.peers.running import until
from tests.peers.storecontract import CONTRACT, Pieces

pytestmark = pytest.mark.scenario

BUCKET = "queue"
T = TypeVar("T")
_spaces = itertools.count()


def run(main: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(main)


@pytest.fixture(scope="module", params=SCHEMES)
def server(request: pytest.FixtureRequest) -> Iterator[ObjectServer]:
    with running(request.param) as server:
        server.make_bucket(BUCKET)
        yield server


def opened(
    server: ObjectServer, space: str = "", options: StoreOptions | None = None, *, bucket: str = BUCKET
) -> ObjectsStore:
    """A store with a name space of its own."""
    url = f"{server.scheme}://{bucket}/{space or f'space{next(_spaces)}'}"
    store = open_store(url, options or server.options())
    assert isinstance(store, ObjectsStore)
    return store


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(server: ObjectServer, check: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    run(check(opened(server)))


def test_the_probe_accepts_it_and_leaves_nothing(server: ObjectServer) -> None:
    async def main() -> None:
        heard: list[str] = []
        options = server.options()
        if server.scheme == "s3":
            second = server.endpoint.replace("127.0.0.1", "localhost")
            options = replace(options, endpoints=(server.endpoint, second))
        store = opened(server, options=options)
        await probe(store, heard.append)
        assert heard == [f"{store.name}: {name}" for name in CHECKS]
        assert await store.list_after("") == []

    run(main())


def test_a_lost_answer_is_settled_through_the_real_server(server: ObjectServer) -> None:
    """A relay in front of the server drops the connection instead of passing the first answer on."""

    async def main() -> None:
        dropped = 0

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal dropped
            upstream, downstream = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                writing = asyncio.ensure_future(_pump(reader, downstream))
                answer = await upstream.read(65536)
                if not dropped:
                    dropped += 1
                    return
                writer.write(answer)
                await _pump(upstream, writer)
            finally:
                writing.cancel()
                writer.transport.abort()
                downstream.transport.abort()

        listener = await asyncio.start_server(relay, "127.0.0.1", 0)
        try:
            port = listener.sockets[0].getsockname()[1]
            store = opened(server, "lost", server.options(port=port))
            assert await store.put_new("log/s/1", b"mine")
            assert dropped == 1
            assert await opened(server, "lost").get("log/s/1") == b"mine"
            assert not await store.put_new("log/s/1", b"other")
        finally:
            listener.close()

    run(main())


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


def test_a_body_of_50_mb(server: ObjectServer) -> None:
    piece = bytes(range(256)) * 256
    blob = Pieces(piece, 800)
    digest = hashlib.sha256()
    for part in blob.chunks():
        digest.update(part)
    key = f"body/20260101/{digest.hexdigest()}"

    async def main() -> None:
        store = opened(server)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.monotonic()
        assert await store.put_new(key, blob)
        assert time.monotonic() - begun < 20
        assert await store.put_new(key, blob)  # a second message with the same body
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < 48, f"{grown} MB to send 52 MB"
        assert await store.get(key, 30_000_000, 30_000_010) == blob.octets[30_000_000 % 65536 :][:10]
        assert len(await store.get(key, blob.size - 100_000)) == 100_000
        await store.put(key, b"corrupt")
        assert not await store.put_new(key, blob)

    run(main())


def test_listings_of_more_than_a_page(server: ObjectServer) -> None:
    """A page has 1,000 keys at most, Azure's 5,000."""

    async def main() -> None:
        store = opened(server)
        keys = [f"log/s/{number:016}" for number in range(5060 if server.scheme == "az" else 1300)]
        await asyncio.gather(*(_write(store, keys[first::32]) for first in range(32)))
        before = server.pages()
        assert await store.list_after("log/s/") == keys
        if server.listing:  # its log may be late
            await asyncio.to_thread(until, lambda: server.pages() == before + 2, "two pages")
        assert await store.list_after("log/s/", keys[-200]) == keys[-199:]
        assert await store.list_after("log/s/", keys[10], 1200) == keys[11:1211]

    run(main())


def test_many_deletes(server: ObjectServer) -> None:
    async def main() -> None:
        store = opened(server)
        keys = [f"log/s/{number:016}" for number in range(230)]
        await asyncio.gather(*(_write(store, keys[first::8]) for first in range(8)))
        await store.delete([*keys[:120], "log/s/none", *keys[120:]])
        assert await store.list_after("") == []

    run(main())


async def _write(store: Store, keys: list[str]) -> None:
    for key in keys:
        assert await store.put_new(key, key.encode())


def test_wrong_credentials_are_named(server: ObjectServer) -> None:
    async def main() -> None:
        for words, credentials in server.wrong_credentials().items():
            store = opened(server, "s", server.reached(credentials))
            with pytest.raises(StoreRefused, match=words) as caught:
                await probe(store)
            text = str(caught.value)
            assert text.startswith(f"{server.scheme}://{BUCKET}/s at {server.endpoint}: writing probe/")
            assert "\n" not in text
            for secret in (server.credentials().secret, credentials.secret):
                assert not secret or secret not in text

    run(main())


def test_a_bucket_that_is_not_there_is_named(server: ObjectServer) -> None:
    async def main() -> None:
        store = opened(server, "s", bucket="nowhere")
        for call in (
            lambda: probe(store),
            lambda: store.get("log/s/1"),
            lambda: store.list_after("log/"),
            lambda: store.put("hb/s", b"x"),
        ):
            with pytest.raises(StoreRefused, match=f"nowhere.*({server.missing})"):
                await call()

    run(main())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_stops_answering_or_is_gone_and_comes_back(scheme: str) -> None:
    limits = Limits(connect=1, request=1, retries=1, call=2)
    with running(scheme) as server:
        server.make_bucket(BUCKET)

        def limited() -> ObjectsStore:
            return opened(server, "space", server.options(limits=limits))

        async def expect_unavailable(store: Store) -> None:
            begun = time.monotonic()
            results = await asyncio.gather(
                store.put_new("log/s/1", b"entry"),
                store.put_new("body/1/" + "a" * 64, Pieces(b"x" * 1000, 1000)),
                store.get("log/s/0"),
                store.list_after("log/"),
                store.delete(["log/s/7"]),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [StoreUnavailable] * 5, results
            assert time.monotonic() - begun < limits.call + limits.request + 5

        async def killed_midway() -> None:
            """Writers go on while it dies: what was acknowledged is there when it is back."""
            store = limited()
            acknowledged: list[str] = []
            enough = asyncio.Event()

            async def write(writer: int) -> None:
                for number in itertools.count():
                    key = f"log/{writer}/{number:016}"
                    try:
                        assert await store.put_new(key, key.encode() * 50)
                    except StoreUnavailable:
                        return
                    acknowledged.append(key)
                    if len(acknowledged) == 200:
                        enough.set()

            writers = asyncio.gather(*(write(writer) for writer in range(8)))
            await enough.wait()
            await asyncio.to_thread(server.kill)
            begun = time.monotonic()
            await writers
            assert time.monotonic() - begun < limits.call + limits.request + 5
            await expect_unavailable(store)
            await asyncio.to_thread(server.start)
            assert {key: await store.get(key) for key in acknowledged} == {
                key: key.encode() * 50 for key in acknowledged
            }

        async def paused() -> None:
            store = limited()
            assert await store.put_new("log/s/0", b"entry")
            server.pause()
            try:
                await expect_unavailable(store)
            finally:
                server.resume()
            # The late effect of one's own write is one's own success.
            assert await store.put_new("log/s/1", b"entry")

        run(paused())
        run(killed_midway())


def test_a_local_store_and_a_remote_one(server: ObjectServer, tmp_path: Path) -> None:
    """The plain case of replication: what is acknowledged is in both, and outlives either."""

    async def main() -> None:
        local = FileStore(tmp_path / "queue")
        remote = opened(server, "both")
        both = Replicated([Member(local, private=True), Member(remote)], 2, 1)
        await probe(both)
        assert await both.put_new("log/s/0", b"entry")
        assert await local.get("log/s/0") == await remote.get("log/s/0") == b"entry"
        blob = Pieces(b"x" * 65536, 20)
        assert await both.put_new("body/1/a", blob)
        assert await both.put_new("lease/s/0", b"mine")
        assert await local.list_after("") == ["body/1/a", "log/s/0"]
        # Another node, with a disk of its own, takes over.
        disk, bucket = FileStore(tmp_path / "other"), opened(server, "both")
        other = Replicated([Member(disk, private=True), Member(bucket)], 2, 1)
        assert await other.list_after("log/s/") == ["log/s/0"]
        assert await other.get("log/s/0") == b"entry"
        assert await other.seal_new("log/s/1", b"SEAL\nother") == (True, b"SEAL\nother")
        assert not await both.put_new("log/s/1", b"late")
        assert await remote.get("log/s/1") == b"SEAL\nother"
        # A machine that burns takes nothing with it.
        await both.close()
        shutil.rmtree(tmp_path / "queue")
        assert await other.get("body/1/a", 0, 3) == b"xxx"
        await other.close()

    run(main())
