"""mboxmetadata (RFC 5490 section 4): metadata, metadataexists. Status: complete.

The host answers with the value of an annotation (RFC 5464), None where there is none; a mailbox that does not
exist has none. A name that is none for an annotation matches nothing and is warned of.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from sieve_ext.extend import MATCHING, Capability, Compiler, Request, Run, Step, Test, string, strings
from sieve_ext.storing import annotation_name, prefixed


@dataclass(frozen=True)
class MailboxMetadata(Request):
    """The value of an annotation of a mailbox, by its lower-case name; None if there is none."""

    mailbox: str
    annotation: str


class MetadataTest(Test):
    """metadata [MATCH-TYPE] [COMPARATOR] <mailbox> <annotation-name> <keys: string-list> (section 4.1)."""

    word = "metadata"
    args_definition = (
        *MATCHING,
        string("mailbox"),
        string("annotation-name", warn=prefixed("metadata test", annotation_name)),
        strings("keys"),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Compare the value."""
        mailbox = compiler.text(self.given["mailbox"])
        annotation = compiler.text(self.given["annotation-name"])

        def values(run: Run) -> Generator[Request, Any, list[str]]:
            name = annotation.expand(run).lower()
            problem = annotation_name(name)
            if problem is not None:
                run.note(f"metadata test: {problem}")
                return []
            value = yield MailboxMetadata(mailbox.expand(run), name)
            return [] if value is None else [str(value)]

        return compiler.match(self, values, needs_value=True)


class MetadataExistsTest(Test):
    """metadataexists <mailbox: string> <annotation-names: string-list> (section 4.2)."""

    word = "metadataexists"
    args_definition = (
        string("mailbox"),
        strings("annotation-names", warn=prefixed("metadataexists test", annotation_name)),
    )

    def compile(self, compiler: Compiler) -> Step:
        """All annotations have a value."""
        mailbox = compiler.text(self.given["mailbox"])
        annotations = compiler.texts(self.given["annotation-names"])

        def exist(run: Run) -> Generator[Request, Any, bool]:
            place = mailbox.expand(run)
            for name in annotations.expand(run):
                run.spend(1)
                problem = annotation_name(name)
                if problem is not None:
                    run.note(f"metadataexists test: {problem}")
                    return False
                if (yield MailboxMetadata(place, name.lower())) is None:
                    return False
            return True

        return exist


CAPABILITIES = (
    Capability("mboxmetadata", words=(MetadataTest, MetadataExistsTest), specification="RFC 5490 section 4"),
)
