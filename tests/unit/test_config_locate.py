"""Positions in TOML: every path of tomllib's result is found, at the right line and column."""

from __future__ import annotations

import contextlib
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config.locate import NOWHERE, KeyPath, Position, format_path, locate, nearest


def paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found |= paths(inner, (*path, index))
    return found


SHAPES: list[tuple[str, dict[KeyPath, tuple[int, int]]]] = [
    ("", {}),
    ("# only a comment", {}),
    ("a = 1", {("a",): (1, 1)}),
    ("\n\n  a=1 # b = 2\n", {("a",): (3, 3)}),
    ("a.b.c = true", {("a",): (1, 1), ("a", "b"): (1, 3), ("a", "b", "c"): (1, 5)}),
    ("a . b = 1\na . c = 2", {("a", "b"): (1, 5), ("a", "c"): (2, 5)}),
    ("\"a.b\" = 1\n'c d' = 2", {("a.b",): (1, 1), ("c d",): (2, 1)}),
    ('"\\u00e4\\"]" = 1', {('ä"]',): (1, 1)}),
    ("[t]\nx = 1\n[t.u]\nx = 2", {("t",): (1, 1), ("t", "x"): (2, 1), ("t", "u", "x"): (4, 1)}),
    ("[ t . u ]\nx = 1\n[t]\ny = 2", {("t",): (3, 1), ("t", "u"): (1, 1), ("t", "y"): (4, 1)}),
    (
        "[[l]]\nx = 1\n[[l]]\nx = 2\n[l.m]\ny = 3",
        {("l",): (1, 1), ("l", 0): (1, 1), ("l", 1, "x"): (4, 1), ("l", 1, "m", "y"): (6, 1)},
    ),
    (
        "[[l]]\n[[l.k]]\na=1\n[[l.k]]\na=2\n[[l]]\n[[l.k]]\na=3",
        {("l", 0, "k", 1, "a"): (5, 1), ("l", 1): (6, 1), ("l", 1, "k", 0, "a"): (8, 1)},
    ),
    (
        "a = [1, 2,\n  3, # c ]\n]\nb = 1",
        {("a", 0): (1, 6), ("a", 1): (1, 9), ("a", 2): (2, 3), ("b",): (4, 1)},
    ),
    ("a = [[1, 2], []]\nb = []", {("a", 0, 1): (1, 10), ("a", 1): (1, 14), ("b",): (2, 1)}),
    ("a = { b = 1, c.d = [2] }\ne = 1", {("a", "b"): (1, 7), ("a", "c", "d", 0): (1, 21), ("e",): (2, 1)}),
    ("a = {}\nb = [{x=1},{x=2}]", {("b", 1, "x"): (2, 13)}),
    ('a = """\n[x]\ny = 1\n"""\nb = 1', {("a",): (1, 1), ("b",): (5, 1)}),
    ('a = """x\\""" """\nb = 1', {("b",): (2, 1)}),
    ('a = """"q"""""\nb = 1', {("b",): (2, 1)}),
    ("a = '''it's\n'''''\nb = 1", {("b",): (3, 1)}),
    ("a = 'c:\\'\nb = 1", {("b",): (2, 1)}),
    ('a = "x # y = \\" ]"\nb = 1', {("b",): (2, 1)}),
    ("a = 1979-05-27 07:32:00Z\nb = 0x_ff".replace("_", ""), {("b",): (2, 1)}),
    ("a = 1\r\nb = 2\r\n", {("a",): (1, 1), ("b",): (2, 1)}),
    ('[domains."example.org"]\nbackend = "x"', {("domains", "example.org", "backend"): (2, 1)}),
]


@pytest.mark.parametrize(("text", "expected"), SHAPES)
def test_positions_of_shapes(text: str, expected: dict[KeyPath, tuple[int, int]]) -> None:
    found = locate(text)
    assert set(found) == paths(tomllib.loads(text))
    for path, position in expected.items():
        assert found[path] == Position(*position), path


keys = st.one_of(st.sampled_from(["a", "b-1", "C_2", "1"]), st.sampled_from(['"x y"', "'q.r'", '"\\t"']))
scalars = st.one_of(
    st.sampled_from(
        ["1", "-2.5e3", "true", "1979-05-27", "'#'", '"]"', '"\\""', "''", '"""\n]#"""', "'''\n\"'''"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[ # c\n" + ",\n".join(items) + "\n]"),
        st.dictionaries(keys, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{k} = {v}" for k, v in table.items()) + "}"
        ),
    ),
    max_leaves=5,
)
lines = st.one_of(
    st.tuples(st.lists(keys, min_size=1, max_size=3), values).map(lambda p: f"{' . '.join(p[0])} = {p[1]}"),
    st.lists(keys, min_size=1, max_size=3).map(lambda k: f"[{'.'.join(k)}]"),
    st.lists(keys, min_size=1, max_size=2).map(lambda k: f"[[ {'.'.join(k)} ]] # [x]"),
    st.sampled_from(["", "  # comment = 1", "\t"]),
)


@settings(max_examples=300)
@given(st.lists(lines, max_size=6))
def test_every_path_that_tomllib_knows_is_found(document: list[str]) -> None:
    # Documents that are not valid (a table defined twice) are cut down to their valid beginning.
    text = ""
    for line in document:
        try:
            tomllib.loads(text + line + "\n")
        except tomllib.TOMLDecodeError:
            continue
        text += line + "\n"
    found = locate(text)
    assert set(found) == paths(tomllib.loads(text))
    rows = text.split("\n")
    for position in found.values():
        assert 1 <= position.line <= len(rows)
        assert 1 <= position.column <= len(rows[position.line - 1])


@given(st.text(alphabet="ab.=[]{}\"'#\\\n, 1", max_size=40))
def test_the_scan_ends_on_anything(text: str) -> None:
    with contextlib.suppress(tomllib.TOMLDecodeError):
        locate(text)


def test_nearest_climbs_to_the_table() -> None:
    found = locate("[a.b]\nc = 1")
    assert nearest(found, ("a", "b", "missing")) == Position(1, 1)
    assert nearest(found, ("x", "y")) == NOWHERE
    assert nearest(found, ()) == NOWHERE


def test_paths_are_written_as_in_toml() -> None:
    assert format_path(("domains", "example.org", "backend")) == 'domains."example.org".backend'
    assert format_path(("listener", 0, "addresses", 1)) == "listener[0].addresses[1]"
