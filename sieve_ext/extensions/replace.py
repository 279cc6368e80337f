"""replace (RFC 5703 section 5): a part, or the whole message, gives way to a text. Status: complete.

In a foreverypart loop the part at hand is replaced, elsewhere - and where the loop is at the message itself -
the body of the message with the fields that describe it. Without :mime the text is plain, in UTF-8. With
:subject and :from, which only the whole message takes, the former fields stay as Original-Subject and
Original-From. Of the header that :mime brings for the whole message only Content-* fields count.
"""

from __future__ import annotations

from sieve_ext.extend import STRING, Act, Capability, Compiler, Run, Step, string, tag
from sieve_ext.message import Message, parse_addresses
from sieve_ext.runtime.entity import replace_message, text_entity
from sieve_ext.runtime.parts import edit_body, loops_of, part_at_hand, replace_part, replaced_whole

MAILBOXES_SHOWN = 100
"""Addresses that :from may have."""


def line_ends(text: str) -> bytes:
    """A MIME entity as a script has it, with the line ends of the wire."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode("utf-8", "replace")


def rename(message: Message, name: str, text: str) -> None:
    """Give a message another field of a name; what was there is kept as Original-NAME."""
    former = message.all(name.lower())
    kept = [field.unfolded for field in former]
    message.remove(former)
    for value in kept:
        message.add_raw(f"Original-{name}", value)
    message.add(name, text, None)


def bad_from(text: str) -> str | None:
    """What is wrong with the argument of :from, a list of mailboxes."""
    found, is_broken = parse_addresses(text.encode("utf-8", "replace"))
    if found and not is_broken and all(one.local and one.domain for one in found[:MAILBOXES_SHOWN]):
        return None
    return f"specified :from address '{text[:200]}' is invalid for the replace action"


class ReplaceCommand(Act):
    """replace [":mime"] [":subject" <string>] [":from" <string>] <replacement: string>."""

    word = "replace"
    args_definition = (
        tag("mime", ":mime"),
        tag("subject", ":subject", value=STRING),
        tag("from", ":from", value=STRING, check=bad_from),
        string("replacement"),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Replace."""
        replacement = compiler.text(self.given["replacement"])
        subject = compiler.text(self.value("subject")) if self.has_tag("subject") else None
        sender = compiler.text(self.value("from")) if self.has_tag("from") else None
        is_entity = self.has_tag("mime")

        def replace(run: Run) -> None:
            text = replacement.expand(run)
            run.spend(len(text) // 1000 + 1)
            entity = line_ends(text) if is_entity else text_entity(text)
            part = part_at_hand(run)
            if loops_of(run) is not None and part.depth:
                replace_part(run, part, entity)
                return
            message = edit_body(run)
            replace_message(message, entity)
            replaced_whole(run)
            if subject is not None:
                rename(message, "Subject", subject.expand(run))
            if sender is not None:
                author = sender.expand(run)
                problem = bad_from(author)
                if problem is not None:
                    run.note(problem)
                else:
                    rename(message, "From", author)

        return replace


CAPABILITIES = (Capability("replace", words=(ReplaceCommand,), specification="RFC 5703 section 5"),)
