"""The director: who belongs where, what administrators change, and how nodes agree on it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailqueue.store.base import Store
from mailqueue.store.memory import MemoryStore
from mta import config
from mta.address import NULL, parse_address
from mta.daemon_policy import _asker
from mta.delivery.outcome import NextHop
from mta.director import shared, state
from mta.director.director import NOBODY, UNKNOWN, Director
from mta.director.spread import choose
from mta.director.state import DirectorState, Refused
from mta.director.userstable import read_users
from mta.policy.ground import DomainRule
from mta.policy.recipients import Everybody
from mta.policy.watched import TableError
from mta.reply import Reply

NAMES = st.sampled_from([f"store{number}" for number in range(12)])
WEIGHTS = st.dictionaries(NAMES, st.integers(1, 300), min_size=1, max_size=10)
USERS = [f"user{number}@example.org" for number in range(300)]


def places(weights: dict[str, int]) -> dict[str, str]:
    return {user: choose(user, weights) for user in USERS}


@given(WEIGHTS, NAMES)
def test_only_users_of_a_back_end_that_leaves_move(weights: dict[str, int], name: str) -> None:
    before = places(weights)
    after = places({one: weight for one, weight in weights.items() if one != name})
    for user in USERS:
        if before[user] != name:
            assert after[user] == before[user]
        else:
            assert after[user] != name


@given(WEIGHTS, NAMES, st.integers(1, 300))
def test_who_comes_takes_users_and_moves_no_others(weights: dict[str, int], name: str, weight: int) -> None:
    before = places({one: share for one, share in weights.items() if one != name})
    after = places({**weights, name: weight})
    assert all(after[user] in (name, before[user]) for user in USERS)


@given(WEIGHTS, NAMES, st.integers(1, 50))
def test_more_weight_only_takes_less_weight_only_gives(weights: dict[str, int], name: str, more: int) -> None:
    if name not in weights:
        return
    before = places(weights)
    heavier = places({**weights, name: weights[name] + more})
    for user in USERS:
        assert heavier[user] in (before[user], name)


@given(WEIGHTS)
def test_order_and_weight_zero_mean_nothing(weights: dict[str, int]) -> None:
    assert places(weights) == places(dict(reversed(weights.items())))
    assert places(weights) == places({**weights, "drained": 0})
    assert places(weights) == {user: choose(user, {**weights, "x": 9}, ["x"]) for user in USERS}


def test_shares_follow_the_weights() -> None:
    weights = {"a": 100, "b": 100, "c": 200}
    found = [choose(f"{number}@example.org", weights) for number in range(20_000)]
    assert abs(found.count("a") / 5000 - 1) < 0.06
    assert abs(found.count("c") / 10_000 - 1) < 0.06
    assert choose("x@y", {}) == ""
    assert choose("x@y", {"a": 0}) == ""


CONFIGURED = {"a": 100, "b": 100}


def test_changes_and_what_is_refused() -> None:
    now = state.move(DirectorState(), CONFIGURED, "u@x", "a")
    now = state.add(now, CONFIGURED, {"a": 1, "b": 1, "c": 1}, "c", 50)
    assert now.effective(CONFIGURED) == {"a": 100, "b": 100, "c": 50}
    assert state.set_weight(now, CONFIGURED, "a", 0).effective(CONFIGURED)["a"] == 0
    gone = state.remove(now, CONFIGURED, "a")
    assert gone.effective(CONFIGURED) == {"b": 100, "c": 50}
    assert gone.moved == {}
    assert state.add(gone, CONFIGURED, CONFIGURED, "a", 10).effective(CONFIGURED)["a"] == 10
    assert state.move(now, CONFIGURED, "u@x", "").moved == {}
    with pytest.raises(Refused, match="configure it on all nodes first"):
        state.add(now, CONFIGURED, CONFIGURED, "d", 1)
    with pytest.raises(Refused, match="a is there already"):
        state.add(now, CONFIGURED, CONFIGURED, "a", 1)
    with pytest.raises(Refused, match="d is none of its back ends: a, b, c"):
        state.move(now, CONFIGURED, "u@x", "d")
    alone = state.remove(DirectorState(), CONFIGURED, "a")
    with pytest.raises(Refused, match="nobody would take the users"):
        state.remove(alone, CONFIGURED, "b")
    with pytest.raises(Refused, match="nobody would take the users"):
        state.set_weight(alone, CONFIGURED, "b", 0)


def test_table_before_moves_before_hash() -> None:
    director = Director("d", CONFIGURED)
    assert director.hop("u@x") is UNKNOWN
    director.apply(DirectorState())
    usual = director.place("u@x")
    other = "b" if usual == "a" else "a"
    assert director.hop("u@x") == NextHop(f"backend:{usual}")
    assert director.apply(DirectorState(moved={"u@x": other}))
    assert director.place("u@x") == other
    director.table = lambda: {"u@x": "archive"}
    assert director.place("u@x") == "archive"
    assert not director.apply(DirectorState(moved={"u@x": other}))
    director.apply(DirectorState(removed=("a", "b")))
    assert director.hop("nobody@x") is NOBODY


def test_down_back_end_gives_its_users_to_others_only_where_that_is_asked_for() -> None:
    director = Director("d", {"a": 1, "b": 1, "c": 1})
    director.apply(DirectorState())
    before = {user: director.place(user) for user in USERS}
    down: set[str] = {"b"}
    director.is_down = down.__contains__
    for user in USERS:
        now = director.place(user)
        assert now != "b"
        assert before[user] == "b" or now == before[user]
    down |= {"a", "c"}
    assert {user: director.place(user) for user in USERS} == before  # all are: none is better


def test_detail_of_an_address_changes_nothing() -> None:
    director = Director("d", CONFIGURED)
    director.apply(DirectorState(moved={"u@x.test": "b"}))
    rule = DomainRule(NextHop("backend:d"), Everybody(), "+", None, director)
    for text in ("u@x.test", "U+list@x.test"):
        assert rule.hop(parse_address(text)) == NextHop("backend:b")


def test_table_of_users(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("# who\nAlice@Example.org  a\n\n")
    assert read_users(path) == {"alice@example.org": "a"}
    path.write_text("alice@example.org\n")
    with pytest.raises(TableError, match=r"users:1: expected an address and the name of a back end"):
        read_users(path)


def test_nodes_change_the_same_state_and_lose_nothing() -> None:
    async def main() -> None:
        store: Store = MemoryStore()

        async def mover(number: int) -> None:
            user = f"user{number}@x"
            await shared.change(store, "d", lambda old: state.move(old, CONFIGURED, user, "a"))

        await asyncio.gather(*(mover(number) for number in range(15)))
        revision, now = await shared.read(store, "d")
        assert revision == 15
        assert len(now.moved) == 15
        assert len(await store.list_after("director/d/")) <= shared.KEPT + 1
        assert await shared.read(store, "other") == (0, DirectorState())

    asyncio.run(main())


def test_state_of_a_later_version_is_not_believed() -> None:
    async def main() -> None:
        store = MemoryStore()
        await store.put_new("director/d/000000000001", b'{"version": 2}')
        with pytest.raises(ValueError, match="of a later Tamis"):
            await shared.read(store, "d")

    asyncio.run(main())


def test_a_back_end_that_this_node_does_not_have_is_no_fault_of_the_program() -> None:
    """Another node may know it already, or this one not any more."""
    director = Director("d", CONFIGURED)
    director.apply(DirectorState(moved={"u@x.test": "c"}))
    ask = _asker(config.Domain(backend="d"), {}, {"d": director})
    reply = asyncio.run(cast(Coroutine[Any, Any, Reply], ask(NULL, parse_address("u@x.test"))))
    assert (reply.code, reply.enhanced) == (451, "4.3.5")
    assert "backend:c" in reply.cause
