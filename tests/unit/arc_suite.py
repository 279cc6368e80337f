"""Reads the public suite of ARC tests: the part of YAML that its files are written in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mta.authn.arcseal import one_line
from sieve_ext.message import Field

FOLDER = Path(__file__).parents[2].parent / "shared" / "suites" / "arc"
"""Where the suite is; not a part of the project."""

_authserv_id = re.compile(r"[ \t]*([^ \t;]+)(?:[ \t]+[0-9]+)?[ \t]*(?:;|$)").match
_key = re.compile(r"( *)([^\s:#][^:]*):(?:\s+(.*))?$").match


def documents(name: str) -> list[dict[str, Any]]:
    """The documents of a file of the suite."""
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    for line in (*(FOLDER / name).read_text().split("\n"), "---"):
        if line.rstrip() != "---":
            lines.append(line)
            continue
        document, rest = _mapping(lines, 0)
        assert not any(rest), rest[:3]
        if document:
            found.append(document)
        lines = []
    return found


def cases(name: str) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """All tests of a file: name, test, document."""
    return [
        (test, values, document) for document in documents(name) for test, values in document["tests"].items()
    ]


def records(document: dict[str, Any]) -> dict[str, str]:
    """The TXT records of a document, without the blanks that folding put into them."""
    return {name: re.sub(r"\s", "", text) for name, text in (document.get("txt-records") or {}).items()}


def octets(text: str) -> bytes:
    """A message with CRLF line ends."""
    return text.encode().replace(b"\n", b"\r\n")


def merged_results(fields: Iterable[Field], authserv_id: str) -> str:
    """The payload of the `fields` of one server that the suite seals; the empty text if none is.

    They follow each other as they are written, comments too (RFC 8617 section 4.1.1).
    """
    parts = []
    for field in fields:
        text = one_line(field.unfolded.decode("utf-8", "surrogateescape"))
        found = _authserv_id(text)
        if found is not None and found[1].lower() == authserv_id.lower():
            rest = text[found.end() :].strip(" \t;")
            if rest:
                parts.append(rest)
    return "; ".join((authserv_id, *parts)) if parts else ""


def _mapping(lines: list[str], indent: int) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    while lines:
        if not lines[0].strip() or lines[0].lstrip().startswith("#"):
            lines = lines[1:]
            continue
        match = _key(lines[0])
        if match is None or len(match[1]) < indent:
            break
        assert len(match[1]) == indent, lines[0]
        value = (match[3] or "").strip()
        lines = lines[1:]
        if value.startswith((">", "|")):
            found[match[2]], lines = _block(lines, indent)
        elif value:
            found[match[2]] = value
        else:
            depth = next((len(line) - len(line.lstrip()) for line in lines if line.strip()), 0)
            found[match[2]], lines = _mapping(lines, depth) if depth > indent else ("", lines)
    return found, lines


def _block(lines: list[str], indent: int) -> tuple[str, list[str]]:
    count = 0
    while count < len(lines) and (not lines[count].strip() or lines[count].startswith(" " * (indent + 1))):
        count += 1
    block = lines[:count]
    depth = min((len(line) - len(line.lstrip()) for line in block if line.strip()), default=0)
    text = "\n".join(line[depth:] for line in block)
    return text.rstrip("\n") + "\n" if text.strip() else "", lines[count:]
