"""From what `tomllib` read to the structs of the schema, with every mistake noted on the way.

msgspec's own conversion stops at the first mistake; this reader goes on: a value that cannot be used is
noted in `Findings` and replaced by its default (or left out of its list), so that the rest can be
checked too. The result is only used when nothing was noted. The types of the schema are the only source of
what is allowed; the reader knows no name of a section or key.
"""

from __future__ import annotations

import re
import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from mta.config import suggest
from mta.config.locate import KeyPath, format_path
from mta.config.notation import Notation
from mta.config.postfix import POSTFIX, POSTFIX_PREFIXES, POSTFIX_TABLES, POSTFIX_VALUES
from mta.config.problems import Findings, closest, is_integer, listing, show

S = TypeVar("S", bound=msgspec.Struct)

_BAD: Any = object()
"""Stands for a value that could not be read."""

_NAMES: dict[type, str] = {bool: "true or false", int: "a whole number", str: "a text in quotes"}


def read_struct(cls: type[S], table: dict[str, Any], findings: Findings, folder: str) -> S:
    """The struct `cls` from the whole document `table`; paths in it are relative to `folder`."""
    reader = _Reader(cls, findings, folder)
    result: S = reader.struct(cls, table, ())
    return result


@cache
def fields_of(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Names and annotations of the fields of a struct, in order, `Annotated` kept."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in msgspec.structs.fields(cls)}


@cache
def required_of(cls: type[msgspec.Struct]) -> tuple[str, ...]:
    """Names of the fields of a struct that have no default."""
    return tuple(field.name for field in msgspec.structs.fields(cls) if field.required)


def unwrap(annotation: Any) -> tuple[Any, Notation | None, list[msgspec.Meta]]:
    """The bare type of an annotation, its notation and its ranges."""
    notation = None
    ranges = []
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, Notation):
            notation = extra
        elif isinstance(extra, msgspec.Meta):
            ranges.append(extra)
    if hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    return annotation, notation, ranges


class _Reader:
    def __init__(self, root: type[msgspec.Struct], findings: Findings, folder: str) -> None:
        self.root = root
        self.findings = findings
        self.folder = folder

    def struct(self, cls: type[msgspec.Struct], table: Any, path: KeyPath) -> Any:
        if not isinstance(table, dict):
            self.findings.add(path, f"found {show(table)}", "a section with keys")
            return _BAD
        known = fields_of(cls)
        values: dict[str, Any] = {}
        for key, raw in table.items():
            if key not in known:
                self._unknown(cls, key, raw, path)
                continue
            value = self.value(known[key], raw, (*path, key))
            if value is not _BAD:
                values[key] = value
        for name in required_of(cls):
            if name not in values:
                if name not in table:
                    self.findings.add((*path, name), "missing", self._expected(known[name]))
                values[name] = _placeholder(known[name])
        return cls(**values)

    def value(self, annotation: Any, raw: Any, path: KeyPath) -> Any:
        bare, notation, ranges = unwrap(annotation)
        if notation is not None:
            return self._notated(notation, ranges, raw, path)
        origin = get_origin(bare)
        if origin is Union or origin is types.UnionType:  # X | None: the empty text is None
            inner = next(part for part in get_args(bare) if part is not types.NoneType)
            return None if raw == "" else self.value(inner, raw, path)
        if origin is Literal:
            return self._choice(get_args(bare), raw, path)
        if origin is tuple:
            return self._list(get_args(bare)[0], raw, path)
        if origin is dict:
            return self._named(bare, raw, path)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            return self.struct(bare, raw, path)
        if isinstance(raw, int) and not is_integer(raw):
            self.findings.add(path, f"found {show(raw)}", _NAMES[bare])
            return _BAD
        if type(raw) is not bare:
            word = str(raw).lower()
            meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(word, word)
            fits = (bare is bool and meant in ("true", "false")) or (bare is int and word.isdigit())
            self.findings.add(path, f"found {show(raw)}", _NAMES[bare], suggestion=meant if fits else "")
            return _BAD
        if bare is str and "\0" in raw:
            self.findings.add(path, f"found {show(raw)}", "a text without NUL")
            return _BAD
        return raw if self._in_range(raw, ranges, str, path, raw) else _BAD

    def _notated(self, notation: Notation, ranges: list[msgspec.Meta], raw: Any, path: KeyPath) -> Any:
        reason = ""
        if isinstance(raw, str):
            try:
                value = notation.parse(raw, self.folder)
            except ValueError as error:
                reason = str(error)
            else:
                return value if self._in_range(value, ranges, notation.format, path, raw) else _BAD
        guess = ""
        guessable = isinstance(raw, (str, float)) or (type(raw) is int and is_integer(raw))
        if guessable:
            guess = suggest.checked(notation.suggest(raw), notation.parse, self.folder)
        self.findings.add(path, f"found {show(raw)}", notation.expected, reason=reason, suggestion=guess)
        return _BAD

    def _in_range(self, value: Any, ranges: list[msgspec.Meta], write: Any, path: KeyPath, raw: Any) -> bool:
        for meta in ranges:
            if meta.ge is not None and value < meta.ge:
                self.findings.add(path, f"found {show(raw)}", f"at least {write(meta.ge)}")
                return False
            if meta.le is not None and value > meta.le:
                self.findings.add(path, f"found {show(raw)}", f"at most {write(meta.le)}")
                return False
        return True

    def _choice(self, choices: tuple[str, ...], raw: Any, path: KeyPath) -> Any:
        if raw in choices:
            return raw
        near = POSTFIX_VALUES.get(raw, "") if isinstance(raw, str) else ""
        if near not in choices:
            near = closest(raw, choices) if isinstance(raw, str) else ""
        self.findings.add(
            path, f"found {show(raw)}", listing(choices), suggestion=f'"{near}"' if near else ""
        )
        return _BAD

    def _list(self, item: Any, raw: Any, path: KeyPath) -> Any:
        if not isinstance(raw, list):
            if isinstance(raw, dict):
                name = format_path(path)
                sections = get_origin(item) is None and isinstance(item, type)
                expected = f"[[{name}]], one for each" if sections else "a list"
                self.findings.add(path, f"found the section [{name}]", expected)
            else:
                guess = f"[{', '.join(map(show, _networks(raw)))}]" if isinstance(raw, str) else ""
                self.findings.add(path, f"found {show(raw)}", "a list", suggestion=guess)
            return _BAD
        values = [self.value(item, element, (*path, index)) for index, element in enumerate(raw)]
        if any(value is _BAD for value in values):
            self.findings.bad.add(path)  # the indices of the others have moved
        return tuple(value for value in values if value is not _BAD)

    def _named(self, bare: Any, raw: Any, path: KeyPath) -> Any:
        if not isinstance(raw, dict):
            name = format_path(path)
            self.findings.add(path, f"found {show(raw)}", f"sections [{name}.NAME]")
            return _BAD
        name_type, item = get_args(bare)
        _, notation, _ = unwrap(name_type)
        assert notation is not None
        result: dict[str, Any] = {}
        written: dict[str, str] = {}
        for key, inner in raw.items():
            try:
                name = notation.parse(key, self.folder)
            except ValueError as error:
                self.findings.add(
                    (*path, key), f"found the name {show(key)}", notation.expected, reason=str(error)
                )
                continue
            if name in written:
                self.findings.add((*path, key), f"found {show(key)} again", f"once, as {show(written[name])}")
                continue
            written[name] = key
            if name != key:
                self.findings.rename((*path, key), (*path, name))
            if not isinstance(inner, dict):
                self.findings.add(
                    (*path, name), f"found {show(inner)}", f"a section [{format_path(path)}.NAME]"
                )
                continue
            value = self.value(item, inner, (*path, name))
            if value is not _BAD:
                result[name] = value
        return result

    def _unknown(self, cls: type[msgspec.Struct], key: str, raw: Any, path: KeyPath) -> None:
        tables = isinstance(raw, dict) or (isinstance(raw, list) and any(isinstance(r, dict) for r in raw))
        kind = "section" if tables and not path else "key"
        known = fields_of(cls)
        postfix = POSTFIX.get(key)
        near = closest(key, known)
        elsewhere = [place for place, names in sections_of(self.root).items() if key in names]
        misplaced = bool(path) and key in fields_of(self.root)
        if path[:1] == ("tables",) and key in POSTFIX_TABLES:
            self.findings.add(
                (*path, key), f"unknown {kind}", reason="a name of Postfix", suggestion=POSTFIX_TABLES[key]
            )
        elif (
            path[:1] == ("domains",)
            and len(path) == 2
            and isinstance(raw, dict)
            and not (misplaced and "." in str(path[1]))
        ):
            self.findings.add((*path, key), f"unknown {kind}", suggestion=_quoted_domain(path[1], key, raw))
        elif meant := suggest.MEANT.get(str(path[0]) if path else "", {}).get(key):
            self.findings.add((*path, key), f"unknown {kind}", suggestion=meant)
        elif postfix is not None:
            # Before what the name only looks like: relayhost is no slip of relays.
            reason = "a name of Postfix" if postfix else "a name of Postfix, not needed here"
            self.findings.add((*path, key), f"unknown {kind}", reason=reason, suggestion=postfix)
        elif near:
            guess = near if path else _header(near, known[near])
            self.findings.add((*path, key), f"unknown {kind}", suggestion=guess)
        elif key.startswith(POSTFIX_PREFIXES):
            self.findings.add(
                (*path, key), f"unknown {kind}", reason="a name of Postfix, see docs/postfix.md"
            )
        elif misplaced:
            self.findings.add(
                (*path, key), f"unknown {kind} here", f"it in front of [{format_path(path[:1])}]",
                reason="what stands behind a section belongs to it",
            )  # fmt: skip
        elif elsewhere:
            places = " or ".join(f"{place}.{key}" for place in elsewhere)
            self.findings.add((*path, key), f"unknown {kind} here", suggestion=places)
        else:
            self.findings.add((*path, key), f"unknown {kind}", "one of " + ", ".join(known))

    def _expected(self, annotation: Any) -> str:
        bare, notation, _ = unwrap(annotation)
        if notation is not None:
            return notation.expected
        if get_origin(bare) is Literal:
            return listing(get_args(bare))
        return (
            f"a list with {self._expected(get_args(bare)[0])}" if get_origin(bare) is tuple else _NAMES[bare]
        )


def _networks(text: str) -> list[str]:
    """The elements of a list that was written as one text, if they are networks; else the text alone."""
    parts = text.replace(",", " ").split()
    if len(parts) > 1 and all(_is_network(part) for part in parts):
        return [part.replace("[", "").replace("]", "") for part in parts]  # Postfix has IPv6 in brackets
    return [text]


def _quoted_domain(first: str | int, second: str, raw: dict[str, Any]) -> str:
    """The header of a domain whose dots TOML took for levels, as in [domains.example.org]."""
    labels = [str(first), second]
    while len(raw) == 1 and isinstance(below := next(iter(raw.values())), dict):
        labels.append(next(iter(raw)))
        raw = below
    return f'[domains."{".".join(labels)}"]'


def _header(section: str, annotation: Any) -> str:
    match get_origin(annotation):
        case origin if origin is dict:
            return f"[{section}.NAME]"
        case origin if origin is tuple:
            return f"[[{section}]]"
    return f"[{section}]"


_is_network = re.compile(r"\[?[0-9A-Fa-f.:]+\]?(?:/[0-9]+)?").fullmatch


@cache
def sections_of(root: type[msgspec.Struct]) -> dict[str, frozenset[str]]:
    """The keys of each section, by the section's name as one speaks of it (backends.NAME)."""
    places: dict[str, frozenset[str]] = {}
    for name, annotation in fields_of(root).items():
        parts = get_args(annotation)
        inner = next((part for part in reversed(parts) if isinstance(part, type)), annotation)
        place = f"{name}.NAME" if get_origin(annotation) is dict else name
        places[place] = frozenset(fields_of(inner))
    return places


def _placeholder(annotation: Any) -> Any:
    """Something of the right kind for a required value that is missing or bad, so that reading goes on."""
    bare, _, _ = unwrap(annotation)
    return () if get_origin(bare) is tuple else ""
