"""servermetadata (RFC 5490 section 5): servermetadata, servermetadataexists. Status: complete."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from sieve_ext.extend import MATCHING, Capability, Compiler, Request, Run, Step, Test, string, strings
from sieve_ext.storing import annotation_name, prefixed


@dataclass(frozen=True)
class ServerMetadata(Request):
    """The value of an annotation of the server, by its lower-case name; None if there is none."""

    annotation: str


class ServerMetadataTest(Test):
    """servermetadata [MATCH-TYPE] [COMPARATOR] <annotation-name> <keys: string-list> (section 5.1)."""

    word = "servermetadata"
    args_definition = (
        *MATCHING,
        string("annotation-name", warn=prefixed("servermetadata test", annotation_name)),
        strings("keys"),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Compare the value."""
        annotation = compiler.text(self.given["annotation-name"])

        def values(run: Run) -> Generator[Request, Any, list[str]]:
            name = annotation.expand(run).lower()
            problem = annotation_name(name)
            if problem is not None:
                run.note(f"servermetadata test: {problem}")
                return []
            value = yield ServerMetadata(name)
            return [] if value is None else [str(value)]

        return compiler.match(self, values, needs_value=True)


class ServerMetadataExistsTest(Test):
    """servermetadataexists <annotation-names: string-list> (section 5.2)."""

    word = "servermetadataexists"
    args_definition = (
        strings("annotation-names", warn=prefixed("servermetadataexists test", annotation_name)),
    )

    def compile(self, compiler: Compiler) -> Step:
        """All annotations have a value."""
        annotations = compiler.texts(self.given["annotation-names"])

        def exist(run: Run) -> Generator[Request, Any, bool]:
            for name in annotations.expand(run):
                run.spend(1)
                problem = annotation_name(name)
                if problem is not None:
                    run.note(f"servermetadataexists test: {problem}")
                    return False
                if (yield ServerMetadata(name.lower())) is None:
                    return False
            return True

        return exist


CAPABILITIES = (
    Capability(
        "servermetadata",
        words=(ServerMetadataTest, ServerMetadataExistsTest),
        specification="RFC 5490 section 5",
    ),
)
