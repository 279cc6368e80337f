"""A director in a running server: users keep their mail store, back ends die, users are moved."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.dialog.backend import ScriptedStore
from tests.dialog.server import Server, run, serving

ROOT = Path(__file__).resolve().parents[2]
USERS = [f"user{number}@many.test" for number in range(24)]
MORE = """
[policy]
trusted_networks = ["127.0.0.0/8"]
[domains."many.test"]
backend = "stores"
recipients = "all"
[director.stores]
backends = ["a", "b", "c"]
refresh = "0.1s"
"""
QUEUE = 'retry = ["1s"]\n'


async def stores(stack: AsyncExitStack) -> dict[str, ScriptedStore]:
    found = {name: ScriptedStore() for name in "abc"}
    for store in found.values():
        await store.start()
        stack.push_async_callback(store.stop)
    return found


def sections(found: dict[str, ScriptedStore]) -> str:
    return MORE + "".join(
        f'[backends.{name}]\naddresses = ["127.0.0.1:{store.port}"]\nfailure_delay = "0.1s"\n'
        for name, store in found.items()
    )


async def send(server: Server, users: list[str]) -> None:
    client = await server.connect()
    await client.hello()
    for user in users:
        assert (await client.send(user)).startswith("250 2.0.0"), user
    client.cut()


def where(found: dict[str, ScriptedStore]) -> dict[str, set[str]]:
    places: dict[str, set[str]] = {}
    for name, store in found.items():
        for one in store.delivered:
            places.setdefault(one.recipient, set()).add(name)
    return places


async def until(probe: object, seconds: float = 40.0) -> None:
    async with asyncio.timeout(seconds):
        while not probe():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def tamis(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "mta.cli", "director", "-c", str(folder / "tamis.toml"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_back_end_that_dies_under_load_loses_no_mail_and_no_user(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            found = await stores(stack)
            server = await stack.enter_async_context(serving(tmp_path, more=sections(found), queue=QUEUE))
            await send(server, USERS)
            first = where(found)
            assert set(first) == set(USERS)
            assert {name for places in first.values() for name in places} == {"a", "b", "c"}
            loads = [asyncio.create_task(send(server, USERS)) for _ in range(3)]
            await asyncio.sleep(0.02)
            port = found["b"].port
            await found["b"].stop()
            await asyncio.gather(*loads)  # each of them was told 250
            await found["b"].start(port)

            def all_there() -> bool:
                counted = Counter(one.recipient for store in found.values() for one in store.delivered)
                return all(counted[user] >= 4 for user in USERS)

            await until(all_there)
            assert where(found) == first  # nobody's mail went to another store

    run(main)


def test_administrators_move_users_and_drain_back_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            found = await stores(stack)
            server = await stack.enter_async_context(serving(tmp_path, more=sections(found), queue=QUEUE))
            await send(server, USERS)
            first = {user: next(iter(places)) for user, places in where(found).items()}
            user = next(user for user, place in first.items() if place == "a")

            shown = await asyncio.to_thread(tamis, tmp_path, "status", "--json")
            assert '"a": 100' in shown
            assert (await asyncio.to_thread(tamis, tmp_path, "where", user)).strip() == "a"
            await asyncio.to_thread(tamis, tmp_path, "move", user, "c")
            await asyncio.to_thread(tamis, tmp_path, "set", "b", "0")
            directors = server.daemon._directors
            assert directors is not None
            await until(lambda: directors["stores"].state is not None and directors["stores"].state.weights)
            for store in found.values():
                store.delivered.clear()
            await send(server, USERS)
            second = {user: next(iter(places)) for user, places in where(found).items()}
            assert second.pop(user) == "c"
            for other, place in second.items():
                assert place == first[other] if first[other] != "b" else place in ("a", "c")

    run(main)


def test_back_ends_come_and_go(tmp_path: Path) -> None:
    """`remove` and `add`: a back end that leaves gives away its own users only, and gets them back."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            found = await stores(stack)
            server = await stack.enter_async_context(serving(tmp_path, more=sections(found), queue=QUEUE))
            await send(server, USERS)
            first = where(found)
            directors = server.daemon._directors
            assert directors is not None

            async def changed(*words: str) -> dict[str, set[str]]:
                before = directors["stores"].state
                assert "Weight" in await asyncio.to_thread(tamis, tmp_path, *words)
                await until(lambda: directors["stores"].state != before)
                for store in found.values():
                    store.delivered.clear()
                await send(server, USERS)
                return where(found)

            without = await changed("remove", "b")
            for user, places in without.items():
                assert places == first[user] if first[user] != {"b"} else places < {"a", "c"}
            assert await changed("add", "b") == first
            with pytest.raises(AssertionError, match=r"no \[backends.d\]"):
                await asyncio.to_thread(tamis, tmp_path, "add", "d")

    run(main)
