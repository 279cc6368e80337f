"""Wrappers of tables: cache, search order, chain, what is ignored; and all of it from a configuration."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable
from pathlib import Path

import pytest

from mta import config
from mta.tables.build import Tables
from mta.tables.table import Found, TableUnavailable
from mta.tables.wrap import Cached, Chain, Failover, Guarded, Ignoring, Searched, access_keys, address_keys
from tests.peers.tables import ask


class Source:
    """A table that answers at once or later, and counts."""

    def __init__(self, content: dict[str, str], *, later: bool = False) -> None:
        self.content = content
        self.later = later
        self.broken = False
        self.asked: list[str] = []
        self.closed = False

    def get(self, key: str) -> Found | Awaitable[Found]:
        self.asked.append(key)
        if self.later:
            return self._wait(key)
        if self.broken:
            raise TableUnavailable("broken")
        return self.content.get(key)

    async def _wait(self, key: str) -> Found:
        await asyncio.sleep(0.01)
        if self.broken:
            raise TableUnavailable("broken")
        return self.content.get(key)

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("u+x@d", ("u+x@d", "u@d", "@d")), ("u@d", ("u@d", "@d")), ("@d", ("@d",)), ("d", ("d",)),
        ("+x@d", ("+x@d", "@d")),
        ("u-a+b@d", ("u-a+b@d", "u@d", "@d")), ('"a@b"@d', ('"a@b"@d', "@d")), ("", ("",)),
    ],
)  # fmt: skip
def test_where_an_address_is_looked_for(key: str, keys: tuple[str, ...]) -> None:
    assert address_keys(key, "+-") == keys


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("u+x@a.b.c", ("u+x@a.b.c", "u@a.b.c", "a.b.c", "b.c", "c", "u@")),
        ("u@c", ("u@c", "c", "u@")),
        ("@b.c", ("@b.c", "b.c", "c", "@")),
        ("u@[192.0.2.1]", ("u@[192.0.2.1]", "[192.0.2.1]", "u@")),
        ("mx.b.c", ("mx.b.c", "b.c", "c")),
        ("192.0.2.7", ("192.0.2.7", "192.0.2", "192.0", "192")),
        ("2001:db8::7", ("2001:db8::7",)),
        ("", ("",)),
        ("a." * 20 + "z", ("a." * 20 + "z", *("a." * count + "z" for count in range(7, -1, -1)))),
    ],
)
def test_where_an_access_map_is_looked_up(key: str, keys: tuple[str, ...]) -> None:
    assert access_keys(key, "+-") == keys


@pytest.mark.parametrize("later", [False, True])
def test_search_and_chain(later: bool) -> None:
    async def main() -> None:
        first, second = Source({"u@d": "1"}, later=later), Source({"@d": "2", "u@d": "no"}, later=later)
        searched = Searched(first, "+")
        assert await ask(searched, "u+x@d") == "1"
        assert first.asked == ["u+x@d", "u@d"]
        chain = Chain([searched, Searched(second, "+")])
        assert await ask(chain, "u@d") == "1"
        assert await ask(chain, "v@d") == "2"
        assert await ask(chain, "v@e") is None
        first.broken = True
        with pytest.raises(TableUnavailable):  # it may have had it
            await ask(chain, "v@d")
        await searched.close()
        assert first.closed

    asyncio.run(main())


@pytest.mark.parametrize("later", [False, True])
def test_the_first_table_that_can_say_counts(later: bool) -> None:
    async def main() -> None:
        sources = [Source({"a": str(number), "b": "old"}, later=later) for number in range(3)]
        del sources[0].content["b"]
        table = Failover(sources)
        assert [await ask(table, key) for key in ("a", "b")] == ["0", None]
        assert [len(source.asked) for source in sources] == [2, 0, 0]
        sources[0].broken = True
        assert [await ask(table, key) for key in ("a", "b", "c")] == ["1", "old", None]
        sources[1].broken = True
        assert await ask(table, "a") == "2"
        sources[2].broken = True
        with pytest.raises(TableUnavailable):
            await ask(table, "a")
        sources[1].broken = False
        assert await ask(table, "a") == "1"
        await table.close()
        assert not any(source.closed for source in sources)

    asyncio.run(main())


@pytest.mark.parametrize("later", [False, True])
def test_the_cache(later: bool) -> None:
    async def main() -> None:
        now = [0.0]
        source = Source({"a": "1"}, later=later)
        cached = Cached(source, 10, 1, 2, lambda: now[0])
        assert [await ask(cached, "a") for _ in range(2)] == ["1", "1"]
        assert [await ask(cached, "b") for _ in range(2)] == [None, None]
        assert source.asked == ["a", "b"]
        now[0] = 2
        source.content["b"] = "2"
        assert await ask(cached, "b") == "2"
        assert await ask(cached, "a") == "1"
        assert source.asked == ["a", "b", "b"]
        await ask(cached, "c")  # "a" makes room
        await ask(cached, "a")
        assert source.asked == ["a", "b", "b", "c", "a"]
        now[0] = 20
        source.broken = True
        for _ in range(2):  # a failure is not remembered
            with pytest.raises(TableUnavailable):
                await ask(cached, "a")
        source.broken = False
        assert await ask(cached, "a") == "1"
        await cached.close()

    asyncio.run(main())


def test_who_asks_at_the_same_time_waits_for_one_answer() -> None:
    async def main() -> None:
        source = Source({"a": "1"}, later=True)
        cached = Cached(source, 10, 1, 2, lambda: 0.0)
        assert await asyncio.gather(*(ask(cached, "a") for _ in range(5))) == ["1"] * 5
        assert source.asked == ["a"]
        # One that goes away takes nothing from the others.
        waiting = [asyncio.ensure_future(ask(cached, "b")) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert await waiting[1] is None
        await cached.close()

    asyncio.run(main())


@pytest.mark.parametrize("later", [False, True])
def test_rest_after_failures_and_its_end(later: bool) -> None:
    async def main() -> None:
        now = [0.0]
        told: list[tuple[str, bool, str]] = []
        source = Source({"a": "1"}, later=later)
        table = Guarded("t", source, 1, lambda: now[0], lambda *what: told.append(what))
        source.broken = True
        for _ in range(5):
            with pytest.raises(TableUnavailable):
                await ask(table, "a")
            assert await ask(Ignoring(table), "a") is None
        assert len(source.asked) == 3
        now[0] = 3
        source.broken = False
        assert await ask(table, "a") == "1"
        assert told == [("t", False, "broken"), ("t", True, "")]
        assert await ask(table, "x" * 2000) is None
        assert len(source.asked) == 4

    asyncio.run(main())


def test_one_question_finds_out_whether_a_silent_server_is_back() -> None:
    async def main() -> None:
        now = [0.0]
        source = Source({"a": "1"}, later=True)
        table = Guarded("t", source, 5, lambda: now[0])
        source.broken = True
        for _ in range(3):
            with pytest.raises(TableUnavailable, match="broken"):
                await ask(table, "a")
        now[0] = 3
        source.broken = False
        first = asyncio.ensure_future(ask(table, "a"))
        await asyncio.sleep(0)
        with pytest.raises(TableUnavailable, match="has just failed"):
            await ask(table, "a")
        assert await first == "1"
        assert await ask(table, "a") == "1"

    asyncio.run(main())


def test_all_of_it_from_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("ann@x.test box1\n@x.test box2\n")
    (tmp_path / "nets").write_text("192.0.2.0/24 here\n")
    (tmp_path / "patterns").write_text("/^(.*)@y\\.test$/ $1\n")
    text = """
[tables.one]
file = "one"
search = "address"
[tables.nets]
type = "cidr"
file = "nets"
[tables.patterns]
type = "pattern"
file = "patterns"
[tables.away]
type = "tcp"
address = "127.0.0.1:1"
on_error = "ignore"
cache_negative = "1m"
[tables.access]
file = "one"
search = "access"
[tables.all]
type = "chain"
tables = ["more", "nets"]
[tables.more]
type = "chain"
tables = ["away", "one", "patterns"]
[tables.dead]
type = "tcp"
address = "127.0.0.1:1"
[tables.either]
type = "failover"
tables = ["dead", "all"]
"""

    async def main() -> None:
        settings = config.parse(text, f"{tmp_path}/tamis.toml")
        tables = Tables(settings.tables, str(tmp_path / "index"))
        keys = ("ann+x@x.test", "bob@x.test", "ann@y.test", "192.0.2.7", "nobody")
        assert [await ask(tables["all"], key) for key in keys] == ["box1", "box2", "ann", "here", None]
        assert [await ask(tables["either"], key) for key in ("bob@x.test", "nobody")] == ["box2", None]
        assert await ask(tables["access"], "ann+x@X.test") == "box1"
        names = ["access", "all", "away", "dead", "either", "more", "nets", "one", "patterns"]
        assert sorted(tables) == names
        await tables.close()

    asyncio.run(main())


def test_servers_are_asked_in_lower_case_as_postfix_asks_them(tmp_path: Path) -> None:
    """A client chooses how it writes an address: no list in a database may be passed by that."""
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("CREATE TABLE blocked (who TEXT, why TEXT)")
        db.execute("INSERT INTO blocked VALUES ('spam@xn--bcher-kva.test', 'spam')")
    text = """
[tables.blocked]
type = "sqlite"
file = "db"
query = "SELECT why FROM blocked WHERE who = {key}"
[tables.parts]
type = "sqlite"
file = "db"
query = "SELECT why FROM blocked WHERE who = {local} || '@' || {domain}"
cache_positive = "1m"
[tables.patterns]
type = "pattern"
file = "patterns"
"""
    (tmp_path / "patterns").write_text("/^Spam@/c here\n")

    async def main() -> None:
        tables = Tables(config.parse(text, f"{tmp_path}/tamis.toml").tables, str(tmp_path / "index"))
        for key in ("spam@xn--bcher-kva.test", "Spam@XN--Bcher-Kva.TEST", "SPAM@BÜCHER.test"):
            assert [await ask(tables[one], key) for one in ("blocked", "parts")] == ["spam", "spam"]
        assert [await ask(tables["patterns"], key) for key in ("Spam@x", "spam@x")] == ["here", None]
        await tables.close()

    asyncio.run(main())
