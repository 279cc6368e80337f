"""vnd.tamis.tables and extlists (RFC 6134): looking up in the tables of the configuration. Status: complete.

    if envelope :list "from" "table:vip" { ... }
    if lookup :value "limit" "table:limits" "${env.auth_user}" { ... }
    lookup :value "box" "table:boxes" "${to}";

`:list` works wherever a match type stands. `lookup` is a test and a command: true when the key is there,
and the variable then has its value; as a command the variable is emptied when it is not. A table that
cannot say is `:on_error`'s case; `:list` has no such tag and defers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mta.policy.sieve.asking import Services, Unavailable
from mta.policy.sieve.facts import Facts
from mta.policy.sieve.onerror import ON_ERROR, check_on_error, unavailable, way_of
from mta.tables.table import Found, Table, TableUnavailable
from sieve_ext.extend import (
    STRING,
    Act,
    Capability,
    Checker,
    Comparator,
    Compiler,
    GivenTag,
    Match,
    Node,
    Request,
    Run,
    Step,
    TemplateList,
    Test,
    Value,
    string,
    suggest,
    tag,
    texts,
)
from sieve_ext.extensions.extlists import CAPABILITIES as STANDARD
from sieve_ext.extensions.extlists import ListKnown, ListLookup, compile_list

TABLES = "tamis_tables"
"""The setting that lists the names of the tables, with blanks between."""
SEARCHED = "tamis_searched_tables"
"""The setting that lists those of them that look a key up in several forms."""
SCHEME = "table:"


@dataclass(frozen=True)
class Lookup(Request):
    """What is the value of a key? Answered by it, None when it is not there, or Unavailable."""

    table: str
    """With the scheme."""
    key: str

    def unanswered(self) -> Any:
        """No table says anything: that is no "not there"."""
        return Unavailable(f"nobody looks up in {self.table}")


class Lists:
    """Answers what scripts ask about tables."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        """`tables` by name."""
        self._tables = {SCHEME + name: table for name, table in tables.items()}

    @property
    def services(self) -> Services:
        """Who answers what."""
        return {ListLookup: self._member, ListKnown: self._known, Lookup: self._value}

    def get(self, name: str, key: str) -> Any:
        """The value of a key, Unavailable, or an awaitable of these; `name` with the scheme."""
        table = self._tables.get(name)
        if table is None:
            return Unavailable(f"there is no {name}")
        try:
            found = table.get(key)
        except TableUnavailable as error:
            return Unavailable(str(error))
        return found if isinstance(found, str) or found is None else _in_words(found)

    def _value(self, request: Lookup, facts: Facts) -> Any:
        return self.get(request.table, request.key.strip())

    def _known(self, request: ListKnown, facts: Facts) -> bool:
        return request.name in self._tables

    def _member(self, request: ListLookup, facts: Facts) -> Any:
        lists = [name for name in request.lists if name in self._tables]
        return self._search([(value, name) for value in request.values for name in lists])

    def _search(self, places: Sequence[tuple[str, str]]) -> Any:
        for number, (value, name) in enumerate(places):
            found = self.get(name, value.strip())
            if found is None:
                continue
            if isinstance(found, str):
                return value
            if isinstance(found, Unavailable):
                return found
            return self._search_later(found, value, places[number + 1 :])
        return None

    async def _search_later(self, found: Any, value: str, places: Sequence[tuple[str, str]]) -> Any:
        said = await found
        if said is None:
            rest = self._search(places)
            return await rest if isinstance(rest, Awaitable) else rest
        return value if isinstance(said, str) else said


async def _in_words(found: Awaitable[Found]) -> Found | Unavailable:
    try:
        return await found
    except TableUnavailable as error:
        return Unavailable(str(error))


def check_table(value: Value, checker: Checker) -> None:
    """The constant name of a table is known, with its scheme."""
    known = [SCHEME + name for name in checker.unit.settings.text(TABLES).split()]
    for text in texts(value):
        name = checker.constant(text)
        if name is None or name in known:
            continue
        if not name.startswith(SCHEME):
            meant = SCHEME + (name.rpartition(":")[2] or "NAME")
            checker.error(text, "bad-list", f"'{name}' names no table", f'write "{meant}"')
            continue
        hint = suggest(name, known) or (f"there are: {', '.join(known)}" if known else "there is none")
        checker.error(text, "unknown-table", f"'{name}' is no table of tamis.toml", hint)


def _check(node: Node, given: GivenTag, comparator: Comparator, checker: Checker) -> None:
    if node.keys is not None:
        check_table(node.keys, checker)


def _compile(compiler: Compiler, node: Node, comparator: Comparator, keys: TemplateList) -> Match:
    """`:list`; a table that cannot say ends the stage."""
    standard = compile_list(compiler, node, comparator, keys)

    def match(run: Run, values: Sequence[str]) -> Generator[Request, Any, bool]:
        running = standard(run, values)
        try:
            request = next(running)
            while True:
                answer = yield request
                if isinstance(answer, Unavailable):
                    unavailable(run, "defer", ":list", answer)
                request = running.send(answer)
        except StopIteration as end:
            return bool(end.value)

    return match


LOOKUP = (ON_ERROR, tag("value", ":value", value=STRING), string("table"), string("key"))
"""Arguments of test and command."""


def _check_lookup(node: Node, checker: Checker) -> None:
    check_on_error(node, checker)
    check_table(node.given["table"], checker)
    if node.text("value") is not None:
        checker.variable(node.text("value"))


def _lookup(
    node: Node, compiler: Compiler, *, clears: bool
) -> Callable[[Run], Generator[Request, Any, bool]]:
    table = compiler.text(node.given["table"])
    key = compiler.text(node.given["key"])
    named = node.text("value")
    write = None if named is None else compiler.variable(named).write
    way = way_of(node)

    def look(run: Run) -> Generator[Request, Any, bool]:
        run.spend(1)
        request = Lookup(table.expand(run), key.expand(run))
        known = run.state.setdefault(TABLES, {})
        if request not in known:
            answer = yield request
            if isinstance(answer, Unavailable):
                unavailable(run, way, "lookup", answer)
                answer = None
            known[request] = answer
        found = known[request]
        if write is not None and (found is not None or clears):
            write(run, run.limit_value(found or ""))
        return found is not None

    return look


class LookupTest(Test):
    """lookup [:on_error <way>] [:value <variable>] <table: string> <key: string>."""

    word = "lookup"
    args_definition = LOOKUP

    def check(self, checker: Checker) -> None:
        """The table is there, and the variable is one."""
        _check_lookup(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """True when the key is there."""
        return _lookup(self, compiler, clears=False)


class LookupCommand(Act):
    """lookup [:on_error <way>] :value <variable> <table: string> <key: string>."""

    word = "lookup"
    args_definition = LOOKUP

    def check(self, checker: Checker) -> None:
        """Without a variable it would do nothing."""
        _check_lookup(self, checker)
        if self.text("value") is None:
            checker.error(
                self, "missing-value", "the lookup command needs :value and the name of a variable",
                'as a test it needs none: if lookup "table:x" "key" { ... }',
            )  # fmt: skip

    def compile(self, compiler: Compiler) -> Step:
        """Set the variable."""
        look = _lookup(self, compiler, clears=True)

        def act(run: Run) -> Generator[Request, Any, None]:
            yield from look(run)

        return act


(_standard,) = STANDARD
CAPABILITIES = (
    Capability(
        "extlists",
        words=_standard.words,
        match_types=tuple(replace(one, check=_check, compile=_compile) for one in _standard.match_types),
        specification="RFC 6134",
    ),
    Capability("vnd.tamis.tables", words=(LookupTest, LookupCommand), specification="docs/policy/tables.md"),
)
