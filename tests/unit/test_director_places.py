"""Where users are by a table: asked before, remembered, and never guessed."""

from __future__ import annotations

import asyncio

import pytest

from mta import config
from mta.daemon_director import backend_names
from mta.delivery.outcome import NextHop
from mta.director import places
from mta.director.director import UNTOLD, Director
from mta.director.places import Places
from mta.director.state import DirectorState
from mta.tables.table import Found, TableUnavailable

BACKENDS = {"a": "a", "192.0.2.1": "a", "192.0.2.2:24": "b", "b": "b"}


class Userdb:
    """A table that answers later, or not at all."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {"ann@x": "192.0.2.2:24", "eve@x": "192.0.2.9", "bob@x": ""}
        self.asked: list[str] = []
        self.away = False

    async def get(self, key: str) -> Found:
        self.asked.append(key)
        await asyncio.sleep(0)
        if self.away:
            raise TableUnavailable("away")
        return self.users.get(key)

    async def close(self) -> None:
        return


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_places_and_what_is_not_known() -> None:
    table, clock, said = Userdb(), Time(), list[str]()
    director = Director("d", {"a": 100}, places=Places(table, BACKENDS, clock, said.append))
    director.apply(DirectorState(moved={"ann@x": "a"}))

    async def main() -> None:
        assert director.hop("ann@x") is UNTOLD
        for user in ("ann@x", "eve@x", "bob@x", "nobody@x"):
            await director.find(user)
        assert director.hop("ann@x") == NextHop("backend:b")  # before `move`
        assert director.hop("bob@x") == NextHop("backend:a")  # by the hash: the table has no place for it
        assert director.hop("nobody@x") == NextHop("backend:a")
        assert director.hop("eve@x") is UNTOLD  # somewhere, and not by the hash
        assert said == ["eve@x: there is no back end 192.0.2.9"]
        await director.find("ann@x")
        assert table.asked.count("ann@x") == 1
        table.away = True
        clock.now += places.FRESH
        await director.find("ann@x")
        await director.find("new@x")
        assert director.hop("ann@x") == NextHop("backend:b")  # what it said last
        assert director.hop("new@x") is UNTOLD
        table.away = False
        table.users["ann@x"] = "a"
        await director.find("ann@x")
        assert director.hop("ann@x") == NextHop("backend:a")

    asyncio.run(main())


def test_a_file_of_users_comes_first() -> None:
    director = Director("d", {"a": 1}, places=Places(Userdb(), BACKENDS, Time()))
    director.table = lambda: {"ann@x": "a"}
    director.apply(DirectorState())
    assert director.hop("ann@x") == NextHop("backend:a")


def test_as_many_users_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "REMEMBERED", 3)
    known = Places(Userdb(), BACKENDS, Time())

    async def main() -> None:
        for number in range(5):
            await known.learn(f"user{number}@x")
        assert [known.get(f"user{number}@x") for number in range(5)] == [None, None, "", "", ""]

    asyncio.run(main())


def test_what_back_ends_may_be_called() -> None:
    text = """
[backends.one]
addresses = ["192.0.2.1:24"]
[backends.two]
addresses = ["192.0.2.2:24", "192.0.2.3:24", "unix:/run/lmtp"]
[backends.three]
addresses = ["192.0.2.3:2424"]
"""
    assert backend_names(config.parse(text, "/etc/tamis.toml")) == {
        "one": "one", "two": "two", "three": "three",
        "192.0.2.1": "one", "192.0.2.2": "two",
        "192.0.2.1:24": "one", "192.0.2.2:24": "two", "192.0.2.3:24": "two", "192.0.2.3:2424": "three",
    }  # fmt: skip
