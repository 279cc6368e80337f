"""Aliases: what is looked for, what values mean, loops and limits; and the format of /etc/aliases."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import parse_address
from mta.policy.aliases import (
    ADDRESSES_MOST,
    DEPTH_MOST,
    OWNERS_MOST,
    AliasError,
    AliasLoop,
    Member,
    expand,
    read_targets,
)
from mta.tables.aliases import parse_aliases

OURS = {"a.test": "+", "b.test": "", "minus.test": "+-"}


def expanded(start: str, entries: dict[str, str], *, keep: bool = True) -> list[str] | None:
    """Who gets the mail of `start`."""
    found = look(start, entries, keep=keep)[0]
    return None if found is None else [str(one) for one in found]


def look(
    start: str, entries: dict[str, str], *, keep: bool = True
) -> tuple[tuple[Member, ...] | None, list[str]]:
    """The same with the keys that were asked for."""
    going = expand(parse_address(start), OURS.get, keep_extension=keep)
    asked = []
    try:
        key = next(going)
        while True:
            asked.append(key)
            key = going.send(entries.get(key))
    except StopIteration as end:
        return end.value, asked


@pytest.mark.parametrize(
    ("start", "entries", "wanted"),
    [
        ("x@a.test", {}, None),
        ("x@a.test", {"x@a.test": "y@b.test"}, ["y@b.test"]),
        ("X@A.test", {"x@a.test": "y@b.test, z@far.test"}, ["y@b.test", "z@far.test"]),
        ("x@a.test", {"x": "y"}, ["y@a.test"]),
        ("x@far.test", {"x": "y"}, None),
        ("x@far.test", {"x@far.test": "y@far.test"}, ["y@far.test"]),
        ("x@a.test", {"@a.test": "all@b.test"}, ["all@b.test"]),
        ("x@a.test", {"@a.test": "@b.test"}, ["x@b.test"]),
        ("jürgen@a.test", {"@a.test": "@b.test"}, ["jürgen@b.test"]),
        ("jürgen@a.test", {"@a.test": "@bücher.test"}, ["jürgen@bücher.test"]),
        ("x+ä@a.test", {"x@a.test": "y@bücher.test"}, ["y+ä@xn--bcher-kva.test"]),
        ("ä+x@a.test", {"ä@a.test": "y@bücher.test"}, ["y+x@xn--bcher-kva.test"]),
        ("x@a.test", {"x@a.test": "x@a.test", "@a.test": "all@b.test"}, ["x@a.test"]),
        ("x@a.test", {"x": "x, y", "y": "z"}, ["x@a.test", "z@a.test"]),
        ("x@a.test", {"x": "y, z", "y": "u", "z": "u"}, ["u@a.test"]),
        ("x@a.test", {"x": "\\y", "y": "z"}, ["y@a.test"]),
        ("x@a.test", {"x": "y", "y": "\\x, z"}, ["x@a.test", "z@a.test"]),  # the mailbox of x: no loop
        ("x@a.test", {"x": "<y@b.test> z"}, ["y@b.test", "z@a.test"]),
        ("x@a.test", {"x": '"two words"@b.test,"q,r"'}, ['"two words"@b.test', '"q,r"@a.test']),
        ('"two words"@a.test', {"two words": "y"}, ["y@a.test"]),
        # extensions
        ("x+e@a.test", {"x@a.test": "y@a.test"}, ["y+e@a.test"]),
        ("x+e@a.test", {"x@a.test": "y@far.test"}, ["y+e@far.test"]),
        ("x+e@a.test", {"x@a.test": "y+f@a.test"}, ["y+f@a.test"]),
        ("x+e@a.test", {"x+e@a.test": "y@a.test", "x": "z"}, ["y@a.test"]),
        ("x+e@a.test", {"x+e": "y@a.test", "x@a.test": "z"}, ["z+e@a.test"]),
        ("x+e@a.test", {"x+e": "y@a.test", "x": "z"}, ["y@a.test"]),
        ("x+e@a.test", {"x": "x"}, ["x+e@a.test"]),
        ("x+e@a.test", {"@a.test": "y@a.test"}, ["y@a.test"]),
        ("x-e@minus.test", {"x": "y"}, ["y-e@minus.test"]),
        ("x-e@minus.test", {"x": "y@a.test"}, ["y-e@a.test"]),
        ("x+e@b.test", {"x": "y"}, None),
    ],
)  # fmt: skip
def test_expand(start: str, entries: dict[str, str], wanted: list[str] | None) -> None:
    assert expanded(start, entries) == wanted


def test_extension_is_dropped() -> None:
    assert expanded("x+e@a.test", {"x@a.test": "y@a.test"}, keep=False) == ["y@a.test"]
    assert expanded("x+e@a.test", {"x": "x, y"}, keep=False) == ["x@a.test", "y@a.test"]


def test_order_of_keys() -> None:
    assert look("X+e@a.test", {})[1] == ["x+e@a.test", "x@a.test", "x+e", "x", "@a.test"]
    assert look("x@far.test", {})[1] == ["x@far.test", "@far.test"]


def owned(start: str, entries: dict[str, str]) -> dict[str, str]:
    """Who gets the mail of `start` from whom, and who hears of it behind that: "sender > people"."""
    found = look(start, entries)[0]
    assert found is not None
    return {
        str(one): "" if one.owner is None else f"{one.owner.address} > {' '.join(map(str, one.owner.people))}"
        for one in found
    }


OWNED = "owner-x@a.test > o@a.test"


@pytest.mark.parametrize(
    ("start", "entries", "wanted"),
    [
        ("x@a.test", {"x": "y, z@far.test"}, {"y@a.test": "", "z@far.test": ""}),
        ("x@a.test", {"x": "y, z@far.test", "owner-x": "o"}, {"y@a.test": OWNED, "z@far.test": OWNED}),
        ("X@A.test", {"x": "y", "owner-x@a.test": "o@b.test"}, {"y@a.test": "owner-x@a.test > o@b.test"}),
        ("x@a.test", {"x@a.test": "y", "owner-x": "o"}, {"y@a.test": OWNED}),
        ("x@a.test", {"x": "y", "owner-x@a.test": "o", "owner-x": "no"}, {"y@a.test": OWNED}),
        ("x@a.test", {"x": "x, y", "owner-x": "o"}, {"x@a.test": OWNED, "y@a.test": OWNED}),
        ("x+e@a.test", {"x": "y", "owner-x": "o"}, {"y+e@a.test": OWNED}),
        (
            "x-e@minus.test",
            {"x": "y", "owner-x": "o"},
            {"y-e@minus.test": "owner-x@minus.test > o@minus.test"},
        ),
        # aliases in a row
        ("x@a.test", {"x": "y, u", "y": "z", "owner-x": "o"}, {"z@a.test": OWNED, "u@a.test": OWNED}),
        (
            "x@a.test",
            {"x": "y, u", "y": "z", "owner-y": "p", "owner-x": "o"},
            {"z@a.test": "owner-y@a.test > p@a.test", "u@a.test": OWNED},
        ),
        (
            "x@a.test",
            {"x": "y, u", "y": "z", "owner-y": "p"},
            {"z@a.test": "owner-y@a.test > p@a.test", "u@a.test": ""},
        ),
        # who is behind the owner
        (
            "x@a.test",
            {"x": "y", "owner-x": "o", "o": "p, q@far.test"},
            {"y@a.test": "owner-x@a.test > p@a.test q@far.test"},
        ),
        ("x@a.test", {"x": "y", "owner-x": "owner-x"}, {"y@a.test": "owner-x@a.test > owner-x@a.test"}),
        ("x@a.test", {"x": "y", "owner-x": "x"}, {"y@a.test": "owner-x@a.test > y@a.test"}),
        (
            "x@a.test",
            {"x": "y", "owner-x": "o", "o": "owner-x"},
            {"y@a.test": "owner-x@a.test > owner-x@a.test"},
        ),
        ("x@a.test", {"x": "y", "owner-x": "|prog"}, {"y@a.test": "owner-x@a.test > owner-x@a.test"}),
        ("x@a.test", {"x": "y", "owner-x": "o", "owner-o": "p"}, {"y@a.test": OWNED}),
        # who has none
        ("owner-x@a.test", {"x": "y", "owner-x": "o", "owner-owner-x": "p"}, {"o@a.test": ""}),
        (
            "u@a.test",
            {"@a.test": "all", "owner-": "o", "owner-u": "o", "owner-@a.test": "o"},
            {"all@a.test": ""},
        ),
        ("x@far.test", {"x@far.test": "y@a.test", "owner-x@far.test": "o"}, {"y@a.test": ""}),
        ("x@a.test", {"x": "y", "@a.test": "all"}, {"all@a.test": ""}),
        (
            '"two words"@a.test',
            {"two words": "y", "owner-two words": "o"},
            {"y@a.test": '"owner-two words"@a.test > o@a.test'},
        ),
    ],
)
def test_owners(start: str, entries: dict[str, str], wanted: dict[str, str]) -> None:
    assert owned(start, entries) == wanted


def test_many_owners_and_none_with_a_name_that_is_too_long() -> None:
    entries = {"x": "y", "owner-x": ",".join(f"o{n}" for n in range(OWNERS_MOST + 5))}
    assert owned("x@a.test", entries)["y@a.test"].count("@a.test") == 1 + OWNERS_MOST
    name = "x" * 60
    assert owned(f"{name}@a.test", {name: "y"}) == {"y@a.test": ""}


def test_an_owner_is_looked_for_only_behind_an_alias_of_ours() -> None:
    assert look("x@a.test", {"x": "y"})[1] == [
        *("x@a.test", "x", "owner-x@a.test", "owner-x"),
        *("y@a.test", "y", "@a.test"),
    ]


@pytest.mark.parametrize(
    "entries",
    [
        {"x": "y", "y": "x"},
        {"x": "y", "y": "z, ok", "z": "x"},
        {"@a.test": "@b.test", "@b.test": "@a.test"},
        {"x": "y+1", "y": "x+1"},
    ],
)
def test_loops(entries: dict[str, str]) -> None:
    with pytest.raises(AliasLoop, match=r"in a circle: x@a\.test -> "):
        expanded("x@a.test", entries)


@pytest.mark.parametrize(
    ("entries", "people"),
    [
        ({"x": r"\x, y", "y": r"\y, x"}, "xy"),
        ({"x": "x, y", "y": "x, y"}, "xy"),
        ({"x": "y, x@a.test", "y": r"z, \y", "z": "x, z"}, "xyz"),
        ({"x": r"\x, y", "y": "x"}, "x"),
    ],
)
def test_copies_for_each_other(entries: dict[str, str], people: str) -> None:
    """Who has a mailbox of that name gets the mail, whatever leads back there."""
    assert sorted(expanded("x@a.test", entries) or ()) == [f"{name}@a.test" for name in people]


def test_limits() -> None:
    chain = {f"x{n}": f"x{n + 1}" for n in range(DEPTH_MOST + 1)}
    assert expanded("x1@a.test", chain) == [f"x{DEPTH_MOST + 1}@a.test"]
    with pytest.raises(AliasError, match="aliases in a row"):
        expanded("x0@a.test", chain)
    many = ",".join(f"u{n}@far.test" for n in range(ADDRESSES_MOST))
    with pytest.raises(AliasError, match="leads to more than 1000"):
        expanded("x@a.test", {"x": many})
    assert len(expanded("x@a.test", {"x": many.partition(",")[2]}) or ()) == ADDRESSES_MOST - 1


def test_the_client_does_not_choose_who_gets_it() -> None:
    """As a pattern would say that turns user%domain@ours round."""
    with pytest.raises(AliasError, match="open relay"):
        expanded("joe%far.test@a.test", {"joe%far.test@a.test": "joe@far.test"})
    assert expanded("far.test@a.test", {"far.test@a.test": "me@far.test"}) == ["me@far.test"]
    assert expanded("joe%b.test@a.test", {"joe%b.test@a.test": "joe@b.test"}) == ["joe@b.test"]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("", "no address"),
        (" , ", "no address"),
        ("|/bin/prog", "is a program"),
        ('"|/bin/prog -x"', "is a program"),
        ("/var/mail/x", "is a file"),
        ('"/var/mail/two words"', "is a file"),
        (":include:/etc/list", "another file"),
        (":fail:", "is no address"),
        ("a@b@c", "is no address"),
        ("@", "is no address"),
        ('"open', "not closed"),
        ("Ann Smith <ann@a.test>", "'<ann@a.test>' has a name before it"),
        ('bob, "Ann Smith" <ann@a.test>', "has a name before it"),
        ("b\u00fc@a.test", "is no address"),
    ],
)
def test_bad_values(value: str, wrong: str) -> None:
    with pytest.raises(AliasError, match=wrong):
        read_targets(value)


def test_addresses_in_angle_brackets() -> None:
    found = read_targets("<ann@a.test>, bob, <carl@a.test> dan@a.test <eve@a.test>")
    assert [one.text for one in found] == ["ann@a.test", "bob", "carl@a.test", "dan@a.test", "eve@a.test"]


def test_file() -> None:
    text = """
# comment
Postmaster: root
root: ann@a.test,
    bob
  # a comment within
\t"c d"@a.test
"two words": carol
"x y"@a.test : carol
sales+urgent : dan
"""
    assert parse_aliases(text.split("\n"), refuse) == {
        "postmaster": "root",
        "root": 'ann@a.test, bob "c d"@a.test',
        "two words": "carol",
        "x y@a.test": "carol",
        "sales+urgent": "dan",
    }


def refuse(number: int, reason: object) -> None:
    raise AssertionError(f"{number}: {reason}")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (" x: y", "1: a line that begins with a blank"),
        ("x y: z", "1: a name with blanks"),
        ("x", "1: 'name: address"),
        (": x", "1: 'name: address"),
        ("x: y\nX: z", "2: x is there twice"),
        ('"x: y', "1: the quote of the name"),
        ('"x"y: z', "1: ':' is expected"),
        ("x:", "1: x: there is no address"),
        ("\nx: y,\n |prog", "2: x: .* is a program"),
        ("x: :include:/l", "1: x: .*:include:/l"),
    ],
)
def test_bad_files(text: str, wrong: str) -> None:
    wrongs: list[str] = []
    parse_aliases(text.split("\n"), lambda number, reason: wrongs.append(f"{number}: {reason}"))
    assert len(wrongs) == 1
    assert re.match(wrong, wrongs[0])


@given(st.text(alphabet='ab"\\,:|/@ \t\n#<>+.', max_size=60))
def test_any_file_is_read_or_refused(text: str) -> None:
    wrongs: list[int] = []
    found = parse_aliases(text.split("\n"), lambda number, reason: wrongs.append(number))
    assert all(1 <= number <= text.count("\n") + 1 for number in wrongs)
    if wrongs:
        return
    for name, value in found.items():
        assert name == name.lower()
        assert read_targets(value)


@given(
    st.dictionaries(
        st.sampled_from("abcde"),
        st.lists(st.sampled_from(["a", "b", "c", "d", "e", "a+x", "b+y", "out@far.test"]), min_size=1),
        max_size=5,
    ),
    st.sampled_from(["a", "b+y"]),
)
def test_every_set_of_aliases_ends(entries: dict[str, list[str]], start: str) -> None:
    """It is a loop, or who is found is no alias or leads to itself."""
    table = {name: ", ".join(values) for name, values in entries.items()}
    try:
        found = expanded(f"{start}@a.test", table)
    except AliasError:
        return
    if found is None:
        assert start[0] not in table
        return
    assert found == list(dict.fromkeys(found))
    for address in found:
        local, _, domain = address.partition("@")
        user = local.partition("+")[0]
        assert domain == "far.test" or user not in table or user in {v[0] for v in entries[user]}
