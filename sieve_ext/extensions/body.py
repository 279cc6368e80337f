"""body (RFC 5173): tests of what is in the message. Status: complete.

:raw is the whole body as it was transferred; an empty one has no value. :content looks at each MIME part of a
wanted type, decoded and in Unicode: of a multipart at its prologue and its epilogue, of a message within the
message at its header (section 5.2). :text, the default, looks at the parts of type text and XHTML, markup
taken out. A part of an unknown transfer encoding is empty. A match sets no match values (section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sieve_ext.extend import MATCHING, STRINGS, Capability, Compiler, Run, Step, Test, asks, strings, tag
from sieve_ext.message import Part, Structure, html_text

KEY = "body"
"""Where decoded texts are kept in `Run.state`."""

XHTML = "application/xhtml+xml"

READABLE = ("text", XHTML)
"""The types of parts that :text looks at."""

_LONG = 1000
"""Octets that are decoded in the time of one operation."""


def type_filter(wanted: str) -> Callable[[str], bool]:
    """Whether a "type/subtype" is meant by `wanted`: all of it, a type, or nothing for all (section 5.2)."""
    wanted = wanted.lower()
    main, slash, sub = wanted.partition("/")
    if not wanted:
        return lambda found: True
    if not main or (slash and not sub) or "/" in sub:
        return lambda found: False
    if slash:
        return lambda found: found == wanted
    return lambda found: found.partition("/")[0] == main


def around(part: Part) -> Iterator[str]:
    """The prologue of a multipart, which may be empty, and the epilogue where there is one."""
    line = b"--" + (part.boundary or b"")
    head = part.octets(part.start, part.parts[0].start)
    found = 0 if head.startswith(line) else head.find(b"\n" + line)
    yield head[: max(found, 0)].removesuffix(b"\r").decode("utf-8", "replace")
    tail = part.octets(part.parts[-1].end, part.end)
    found = tail.find(line + b"--")
    epilogue = tail[found:].partition(b"\n")[2] if found >= 0 else b""
    if epilogue.strip():
        yield epilogue.decode("utf-8", "replace")


def part_values(part: Part) -> list[str]:
    """What :content compares of one part."""
    if part.is_multipart and part.parts:
        return list(around(part))
    if part.parts:
        header = b"".join(field.raw for field in part.parts[0].header.fields)
        return [header.decode("utf-8", "replace")]
    if not part.is_decodable:
        return [""]
    text = part.text(part.size)
    if part.content_type in ("message/rfc822", "message/global"):  # encoded, so that it was not looked into
        return [text.replace("\r\n", "\n").partition("\n\n")[0]]
    return [text]


class _Texts:
    """Decoded texts of a message, kept for tests to come."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.found: dict[tuple[int, bool], list[str]] = {}

    def of(self, run: Run, part: Part, readable: bool) -> list[str]:
        key = (id(part), readable)
        known = self.found.get(key)
        if known is None:
            run.spend(part.size // _LONG + 1)
            known = part_values(part)
            if readable and part.content_type in ("text/html", XHTML):
                known = [html_text(text) for text in known]
            self.found[key] = known
        return known


def _texts(run: Run) -> _Texts:
    structure = run.message.structure
    kept = run.state.get(KEY)
    if not isinstance(kept, _Texts) or kept.structure is not structure:
        kept = run.state[KEY] = _Texts(structure)
    return kept


def _raw(run: Run) -> list[str]:
    if not run.message.body_size:
        return []
    run.spend(run.message.body_size // _LONG)
    return [b"".join(run.message.body_chunks()).decode("utf-8", "replace")]


class BodyTest(Test):
    """body [COMPARATOR] [MATCH-TYPE] [":raw" | ":content" <types: string-list> | ":text"] <keys>."""

    word = "body"
    args_definition = (
        *MATCHING,
        tag("body-transform", ":raw", ":text"),
        tag("body-transform", ":content", value=STRINGS),
        strings("keys"),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Compare what the transform gives; the match values stay what they are."""
        step = compiler.match(self, self._values(compiler))
        if asks(step):

            def match_asking(run: Run) -> Any:
                before = run.match_values
                result = yield from step(run)
                run.match_values = before
                return result

            quiet: Any = match_asking
        else:

            def match(run: Run) -> Any:
                before = run.match_values
                result = step(run)
                run.match_values = before
                return result

            quiet = match
        quiet.traced = getattr(step, "traced", False)
        return quiet  # type: ignore[no-any-return]

    def _values(self, compiler: Compiler) -> Callable[[Run], list[str]]:
        given = self.tags.get("body-transform")
        if given is not None and given.tag == ":raw":
            return _raw
        is_content = given is not None and given.tag == ":content"
        wanted = compiler.texts(given.value if given is not None and is_content else None, READABLE)

        def values(run: Run) -> list[str]:
            filters = [type_filter(name) for name in wanted.expand(run)]
            texts = _texts(run)
            found: list[str] = []
            for part in texts.structure.root.walk():
                run.spend(len(filters))
                if any(fits(part.content_type) for fits in filters):
                    found += texts.of(run, part, not is_content)
            return found

        return values


CAPABILITIES = (Capability("body", words=(BodyTest,), specification="RFC 5173"),)
