"""convert (RFC 6558): parts of one media type become parts of another. Status: text only.

A command and a test; the test is false when a conversion failed. In a foreverypart loop the part at hand is
converted, if it is of the type; elsewhere all parts that are, or none where one conversion fails.

Text becomes plain text in UTF-8 here (a parameter may say just that). Everything else is asked of the host
(`Conversion`); without an answer it fails.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from sieve_ext.extend import Act, Capability, Compiler, Node, Request, Run, Step, Test, string, strings
from sieve_ext.message import Part, html_text
from sieve_ext.runtime.entity import replace_message, text_entity
from sieve_ext.runtime.parts import (
    edit_body,
    enter,
    leave,
    loops_of,
    part_at_hand,
    parts_to_visit,
    replace_part,
    replaced_whole,
)

_is_type = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_parameter = re.compile(r"[!-<>-~]+=[^\r\n]+").fullmatch


@dataclass(frozen=True)
class Conversion(Request):
    """Convert a part. Answered by a MIME entity: header, empty line, content; None when that failed."""

    content: bytes
    """Transfer encoding undone."""
    source: str
    target: str
    """Media types, "type/subtype" in lower case."""
    parameters: tuple[str, ...]
    """ "name=value" each (RFC 5259)."""


def media_type(text: str) -> str | None:
    """What is wrong with a media type."""
    return None if _is_type(text) else f"'{text[:80]}' is not a media type"


def parameter(text: str) -> str | None:
    """What is wrong with a conversion parameter."""
    return None if _is_parameter(text) else f"'{text[:80]}' is not a conversion parameter (name=value)"


def as_plain_text(part: Part, parameters: tuple[str, ...]) -> bytes | None:
    """A text part as plain text in UTF-8; None when a parameter asks for more."""
    for one in parameters:
        name, _, value = one.partition("=")
        if name.strip().lower() != "charset" or value.strip(' "').lower() not in ("utf-8", "utf8"):
            return None
    text = part.text(part.size)
    return text_entity(html_text(text) if part.content_type == "text/html" else text)


def put(run: Run, part: Part, entity: bytes) -> None:
    """Put an entity where a part is."""
    if part.depth:
        replace_part(run, part, entity)
        return
    replace_message(edit_body(run), entity)
    replaced_whole(run)


def compile_convert(node: Node, compiler: Compiler) -> Step:
    """Convert, and say whether nothing failed."""
    source, target = compiler.text(node.given["from-type"]), compiler.text(node.given["to-type"])
    params = compiler.texts(node.given["parameters"])

    def convert(run: Run) -> Generator[Request, Any, bool]:
        wanted, goal = source.expand(run).lower(), target.expand(run).lower()
        parameters = tuple(params.expand(run))
        in_loop = loops_of(run) is not None
        parts = [part_at_hand(run)] if in_loop else parts_to_visit(run)
        done: list[tuple[Part, bytes]] = []
        for part in parts:
            run.spend(1)
            if part.content_type != wanted or part.parts:
                continue
            run.spend(part.size // 1000)
            entity = None
            if goal == "text/plain" and wanted in ("text/plain", "text/html"):
                entity = as_plain_text(part, parameters)
            if entity is None:
                entity = yield Conversion(part.content(part.size), wanted, goal, parameters)
            if entity is None:
                run.note(f"convert action: cannot convert {wanted} to {goal}")
                return False
            done.append((part, entity))
        for part, entity in done:
            if not in_loop:
                enter(run, part)
            put(run, part, entity)
            if not in_loop:
                leave(run)
        return True

    return convert


ARGUMENTS = (
    string("from-type", check=media_type),
    string("to-type", check=media_type),
    strings("parameters", check=parameter),
)


class ConvertCommand(Act):
    """convert <quoted-from-media-type> <quoted-to-media-type> <transcoding-params: string-list>."""

    word = "convert"
    args_definition = ARGUMENTS

    def compile(self, compiler: Compiler) -> Step:
        """Convert."""
        return compile_convert(self, compiler)


class ConvertTest(Test):
    """The same as a test: whether no conversion failed."""

    word = "convert"
    args_definition = ARGUMENTS

    def compile(self, compiler: Compiler) -> Step:
        """Convert."""
        return compile_convert(self, compiler)


CAPABILITIES = (
    Capability(
        "convert",
        words=(ConvertCommand, ConvertTest),
        specification="RFC 6558",
        status="text to plain text; the rest is asked of the host",
    ),
)
