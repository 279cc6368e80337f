"""extlists (RFC 6134) in policy files: `:list` against the tables of the configuration. Status: files.

    if envelope :list "from" "table:vip" { ... }

A table is a file with a key a line; blank lines and lines that begin with "#" are skipped. Upper and lower
case are the same. A changed file is read again within a second, all of it at once; one that cannot be read
any more leaves the old content in force, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mta.policy.sieve.asking import Services
from mta.policy.sieve.facts import Facts
from mta.policy.watched import TableError, Watched
from sieve_ext.extend import Capability, Checker, Comparator, GivenTag, Node, suggest, texts
from sieve_ext.extensions.extlists import CAPABILITIES as STANDARD
from sieve_ext.extensions.extlists import ListKnown, ListLookup, bad_list, check_list

TABLES = "tamis_tables"
"""The setting that lists the names of the tables, with blanks between."""
SCHEME = "table:"


def read_keys(path: Path) -> frozenset[str]:
    """The keys of a table. Raises TableError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: {error}") from error
    lines = (line.strip() for line in text.splitlines())
    return frozenset(line.lower() for line in lines if line and not line.startswith("#"))


class Tables:
    """Answers what scripts ask about lists."""

    def __init__(
        self, files: Mapping[str, Path], clock: Callable[[], float], complain: Callable[[str], None]
    ) -> None:
        """Read all `files`, by the name of the table. Raises TableError; later ones go to `complain`."""
        self._tables = {
            SCHEME + name: Watched(path, read_keys, clock, complain=complain) for name, path in files.items()
        }

    @property
    def services(self) -> Services:
        """Who answers what scripts ask about lists."""
        return {ListLookup: self._lookup, ListKnown: self._known}

    def _lookup(self, request: ListLookup, facts: Facts) -> str | None:
        contents = [self._tables[name].content() for name in request.lists if name in self._tables]
        for value in request.values:
            key = value.strip().lower()
            if any(key in content for content in contents):
                return value
        return None

    def _known(self, request: ListKnown, facts: Facts) -> bool:
        return request.name in self._tables


def _check(node: Node, given: GivenTag, comparator: Comparator, checker: Checker) -> None:
    check_list(node, given, comparator, checker)
    known = [SCHEME + name for name in checker.unit.settings.text(TABLES).split()]
    for text in texts(node.keys):
        name = checker.constant(text)
        if name is not None and name not in known and bad_list(name) is None:
            hint = suggest(name, known) or (f"there are: {', '.join(known)}" if known else "there is none")
            checker.error(text, "unknown-table", f"'{name}' is no table of tamis.toml", hint)


(_standard,) = STANDARD
CAPABILITIES = (
    Capability(
        "extlists",
        words=_standard.words,
        match_types=tuple(replace(one, check=_check) for one in _standard.match_types),
        specification="RFC 6134",
    ),
)
