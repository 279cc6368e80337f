"""Trees of scripts as octets: what is read is the tree that was written, or one that is checked like any."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sieve_ext import (
    DiskCache,
    InvalidScript,
    MappingStore,
    Message,
    Script,
    ScriptCache,
    Settings,
    execute,
    standard_dialect,
)
from sieve_ext import compile as load
from sieve_ext.closures.unit import Unit
from sieve_ext.runtime import script as script_module
from sieve_ext.syntax import limits, stored
from sieve_ext.syntax.parser import Parser
from sieve_ext.syntax.tree import Call, Number, TagName, Text, TextList
from sieve_ext.testsuite import run_file

ROOT = Path(__file__).parents[1] / "sieve"
FILES = sorted(ROOT.rglob("*.svtest"))

SCRIPT = """require ["fileinto", "variables", "encoded-character", "vacation"];
# a comment
if anyof (header :contains ["Subject", "X"] "h\\"e${hex: 6c}", not size :over 10K) {
    fileinto "a${unicode: e4}";
} elsif allof (true, exists "nothing") { vacation :days 7 text:
..away
.
; }
else { set "name" "value"; }
"""
MESSAGE = b"Subject: hello\r\n\r\nbody\r\n"


class Trees:
    """A cache in memory that counts."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.hits = self.misses = 0

    def read(self, key: bytes) -> bytes | None:
        found = self.kept.get(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    def write(self, key: bytes, octets: bytes) -> None:
        self.kept[key] = octets


class Counted:
    """A cache that counts what is found and written."""

    def __init__(self, cache: DiskCache) -> None:
        self._cache = cache
        self.hits = self.writes = 0

    def read(self, key: bytes) -> bytes | None:
        found = self._cache.read(key)
        self.hits += found is not None
        return found

    def write(self, key: bytes, octets: bytes) -> None:
        self.writes += 1
        self._cache.write(key, octets)


def did(script: Script, message: bytes = MESSAGE) -> list[str]:
    result = execute(script, Message(message))
    return [one.describe() for one in result.all_actions] + [str(one) for one in result.errors]


# Trees


@pytest.mark.parametrize("path", [*FILES, *ROOT.rglob("*.sieve")], ids=lambda path: path.name)
def test_a_tree_comes_back_as_it_was(path: Path) -> None:
    parser = Parser()
    tree = parser.read(path.read_bytes())
    if not parser.diagnostics:
        assert stored.read_tree(stored.write_tree(tree)) == tree


def nested(depth: int, *, tests: bool) -> list[Call]:
    inner = [Call("true" if tests else "keep", 0, 0)]
    for _ in range(depth):
        inner = [Call("not", 0, 0, tests=inner)] if tests else [Call("if", 0, 0, block=inner)]
    return inner


def call(*arguments: Any, **more: Any) -> list[Call]:
    return [Call("keep", 0, 4, list(arguments), **more)]


TREES: list[tuple[str, list[Call], bool]] = [
    ("nothing", [], True),
    ("a command", call(Text("a", 0, 1), Number(2**64 - 1, 0, 1), TagName(":a", 0, 1)), True),
    ("a list", call(TextList([Text("a", 0, 1)], 0, 1)), True),
    ("an empty list", call(TextList([], 0, 1)), False),
    ("NUL", call(Text("a\0", 0, 1)), False),
    ("NUL in a list", call(TextList([Text("a", 0, 0), Text("\0", 0, 1)], 0, 1)), False),
    ("NUL in a test", call(tests=call(Text("\0", 0, 1))), False),
    ("a negative number", call(Number(-1, 0, 1)), False),
    ("a negative place", call(Text("a", -1, 1)), False),
    ("a place behind all scripts", call(Text("a", 0, limits.SCRIPT_OCTETS + 1)), False),
    ("no name", [Call("", 0, 0)], False),
    ("a long name", [Call("a" * 34, 0, 0)], False),
    ("many arguments", call(*[Text("a", 0, 0)] * (limits.ARGUMENTS + 1)), False),
    ("tests without parentheses", call(tests=call() * 2), False),
    ("tests in parentheses", call(tests=call() * 2, is_list=True), True),
    ("parentheses without tests", call(is_list=True), False),
    ("a test with a block", call(tests=call(block=[])), False),
    ("deep blocks", nested(limits.BLOCK_DEPTH, tests=False), True),
    ("too deep blocks", nested(limits.BLOCK_DEPTH + 1, tests=False), False),
    ("deep tests", call(tests=nested(limits.TEST_DEPTH - 1, tests=True)), True),
    ("too deep tests", call(tests=nested(limits.TEST_DEPTH, tests=True)), False),
    ("many commands", call() * limits.CALLS, True),
    ("too many commands", call() * (limits.CALLS + 1), False),
    ("too many in a block", call(block=call() * limits.CALLS), False),
]


@pytest.mark.parametrize(("tree", "is_one"), [row[1:] for row in TREES], ids=[row[0] for row in TREES])
def test_what_no_script_has_is_no_tree(tree: list[Call], is_one: bool) -> None:
    assert (stored.read_tree(msgspec.msgpack.encode(tree)) is not None) is is_one


@pytest.mark.parametrize(
    ("text", "is_deep"),
    [
        ("if true {" * 32 + "}" * 32, False),
        ("if true {" * 33 + "}" * 33, True),
        ("if " + "not " * 31 + "true {}", False),
        ("if " + "not " * 32 + "true {}", True),
    ],
)
def test_trees_may_be_as_deep_as_scripts(text: str, is_deep: bool) -> None:
    parser = Parser()
    tree = parser.read(text)
    assert bool(parser.diagnostics) is is_deep
    if not is_deep:
        assert stored.read_tree(stored.write_tree(tree)) == tree


@pytest.mark.parametrize("octets", [b"", b"\xc0", b"\x90x", b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", b"\x80"])
def test_garbage_is_no_tree(octets: bytes) -> None:
    assert stored.read_tree(octets) is None


# Scripts from trees


def test_hit_and_miss() -> None:
    trees = Trees()
    first = load(SCRIPT, standard_dialect(), trees=trees)
    second = load(SCRIPT, standard_dialect(), name="again", trees=trees)
    assert (trees.hits, trees.misses) == (1, 1)
    plain = load(SCRIPT, standard_dialect())
    assert did(first) == did(second) == did(plain) == ["store into 'a\u00e4'"]
    for one in (first, second):
        assert (one.enabled, one.variables, one.text) == (plain.enabled, plain.variables, plain.text)
        assert [str(warning) for warning in one.warnings] == [str(warning) for warning in plain.warnings]
    assert second.name == "again"


def test_a_changed_script_has_another_tree() -> None:
    trees = Trees()
    assert did(load("keep;", standard_dialect(), trees=trees)) == ["keep"]
    assert did(load("discard;", standard_dialect(), trees=trees)) == ["discard"]
    assert trees.hits == 0


_UPGRADED = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from sieve_ext.syntax import stored
grammar = pathlib.Path(stored.__file__).with_name("parser.py")
grammar.write_text(grammar.read_text().removesuffix("# newer\\n") + "# newer\\n")
print(stored.__file__, stored.key_of(b"keep;").hex())
"""


def test_a_process_from_before_an_upgrade_keeps_trees_of_its_own(tmp_path: Path) -> None:
    """It reads its first script when the files are those of the new version already."""
    shutil.copytree(Path(stored.__file__).parents[1], tmp_path / "sieve_ext")
    before, after = (
        subprocess.run(
            [sys.executable, "-c", _UPGRADED, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert str(tmp_path) in before
    assert before != after


def test_a_changed_grammar_has_other_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = Trees()
    load("keep;", standard_dialect(), trees=trees)
    monkeypatch.setattr(stored, "_grammar", lambda: b"another")
    load("keep;", standard_dialect(), trees=trees)
    assert trees.hits == 0


def test_another_dialect_checks_the_tree_anew() -> None:
    trees = Trees()
    text = 'require "fileinto"; fileinto "a";'
    load(text, standard_dialect(), trees=trees)
    smaller = standard_dialect().with_capabilities(without=["fileinto"])
    with pytest.raises(InvalidScript) as plain:
        load(text, smaller)
    with pytest.raises(InvalidScript) as cached:
        load(text, smaller, trees=trees)
    assert trees.hits == 1
    assert [str(one) for one in cached.value.diagnostics] == [str(one) for one in plain.value.diagnostics]


def test_other_settings_check_the_tree_anew() -> None:
    trees = Trees()
    text = 'require "editheader"; addheader "X-A" "b";'
    assert not load(text, standard_dialect(), trees=trees).warnings
    settings = Settings({"sieve_editheader_forbid_add": "x-a"})
    assert len(load(text, standard_dialect(), settings=settings, trees=trees).warnings) == 1
    assert trees.hits == 1


def test_faulty_scripts_are_not_kept() -> None:
    trees = Trees()
    for text in ("keep", "foo;", 'fileinto "a";', "keep;" * (limits.CALLS + 1)):
        with pytest.raises(InvalidScript):
            load(text, standard_dialect(), trees=trees)
    assert not trees.kept


def test_included_scripts_have_trees_of_their_own() -> None:
    trees = Trees()
    main = 'require ["include", "fileinto"]; include "one"; include "two";'
    texts = {("personal", "one"): b"keep;", ("personal", "two"): b'require "fileinto"; fileinto "a";'}
    both = ["keep", "store into 'a'"]
    for hits in (0, 3):
        assert did(load(main, standard_dialect(), store=MappingStore(texts), trees=trees)) == both
        assert trees.hits == hits
    texts["personal", "two"] = b'require "fileinto"; fileinto "b";'
    changed = load(main, standard_dialect(), store=MappingStore(texts), trees=trees)
    assert did(changed) == ["keep", "store into 'b'"]
    texts["personal", "two"] = b"foo;"
    with pytest.raises(InvalidScript) as cached:
        load(main, standard_dialect(), store=MappingStore(texts), trees=trees)
    with pytest.raises(InvalidScript) as plain:
        load(main, standard_dialect(), store=MappingStore(texts))
    assert [str(one) for one in cached.value.diagnostics] == [str(one) for one in plain.value.diagnostics]


FORGED = [
    "foo;",
    'fileinto "a";',
    'require "include"; include "none";',
    'require "include"; include "one"; include "none";',
    "if size :over 1 { elsif true { keep; } }",
    'redirect "no address";',
]


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("is_included", [False, True])
def test_a_forged_tree_of_an_invalid_script_changes_nothing(forged: str, is_included: bool) -> None:
    trees = Trees()
    main = 'require ["include", "variables"]; global "a"; include "one"; include "two"; set "a" "b";'
    texts = {("personal", "one"): b"keep;", ("personal", "two"): b"discard;"}
    attacked = texts["personal", "two"] if is_included else main.encode()
    tree = stored.write_tree(Parser().read(forged))
    store = MappingStore(texts)
    trees.kept[stored.key_of(attacked)] = tree
    script = load(main, standard_dialect(), store=store, trees=trees)
    assert did(script) == did(load(main, standard_dialect(), store=store)) == ["keep", "discard"]
    assert set(script.included) == set(texts)
    assert trees.kept[stored.key_of(attacked)] != tree, "it is written anew"


def test_a_forged_tree_of_a_valid_script_is_that_script() -> None:
    trees = Trees()
    trees.kept[stored.key_of(b"keep;")] = stored.write_tree(Parser().read("discard;"))
    assert did(load("keep;", standard_dialect(), trees=trees)) == ["discard"]


def test_damage_under_a_right_checksum_is_harmless() -> None:
    """Every octet of a tree set to every value: a valid script, this one or another; never an exception."""
    trees = Trees()
    text = b'if header :is "a" "b" { discard; }'
    load(text, standard_dialect(), trees=trees)
    ((key, whole),) = trees.kept.items()
    for place in range(len(whole)):
        for value in range(256):
            trees.kept[key] = whole[:place] + bytes([value]) + whole[place + 1 :]
            did(load(text, standard_dialect(), trees=trees))


# In memory


def test_script_cache_looks_at_included_scripts() -> None:
    texts: dict[tuple[str, str], bytes] = {("personal", "one"): b"keep;"}
    scripts = ScriptCache(standard_dialect(), store=MappingStore(texts))
    main = 'require "include"; include "one"; include :optional "two";'
    first = scripts.load(main)
    assert scripts.load(main) is first
    texts["personal", "one"] = b"discard;"
    second = scripts.load(main)
    assert did(second) == ["discard"]
    texts["personal", "two"] = b"keep;"
    assert did(scripts.load(main)) == ["discard", "keep"]
    del texts["personal", "one"]
    with pytest.raises(InvalidScript):
        scripts.load(main)
    assert (scripts.hits, scripts.misses) == (1, 4)


def test_script_cache_with_a_store_that_fails() -> None:
    class Store:
        is_broken = False

        def load(self, location: str, name: str) -> bytes | None:
            if self.is_broken:
                raise OSError("gone")
            return b"keep;"

    store = Store()
    scripts = ScriptCache(standard_dialect(), store=store)
    scripts.load('require "include"; include "one";')
    store.is_broken = True
    with pytest.raises(InvalidScript, match="cannot be read"):
        scripts.load('require "include"; include "one";')


# The whole language


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_svtests_say_the_same(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is loaded, included scripts too, goes through a cache: a cold one, a warm one."""
    cache = Counted(DiskCache(tmp_path / "cache"))

    def make(*arguments: Any, **more: Any) -> Unit:
        more["trees"] = cache
        return Unit(*arguments, **more)

    plain = run_file(path)
    monkeypatch.setattr(script_module, "Unit", make)
    cold = run_file(path)
    written, cache.hits = cache.writes, 0
    warm = run_file(path)
    assert warm.passed
    assert plain.text() == cold.text() == warm.text()
    assert plain.errors == cold.errors == warm.errors == []
    assert cache.hits >= written > 0
    assert cache.writes == written
