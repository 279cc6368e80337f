"""extracttext (RFC 5703 section 7): the text of a part into a variable. Status: complete.

Of HTML it is what one reads; a part that is no text gives its octets as far as they are text. A multipart, a
message and a part of an unknown transfer encoding give nothing. :first counts characters and comes before the
modifiers.
"""

from __future__ import annotations

from sieve_ext.extend import MODIFIERS, NUMBER, Capability, Checker, Compiler, Control, Run, Step, string, tag
from sieve_ext.message import Part, html_text
from sieve_ext.runtime.parts import loops_around, part_at_hand

TEXT_OCTETS = 1024 * 1024
"""What is decoded of a part at most; no variable holds as much."""


def part_text(part: Part) -> str:
    """What one reads of a part."""
    if part.is_multipart or part.parts or part.content_type in ("message/rfc822", "message/global"):
        return ""
    if not part.is_decodable:
        return ""
    text = part.text(min(part.size, TEXT_OCTETS))
    return html_text(text) if part.content_type in ("text/html", "application/xhtml+xml") else text


class ExtracttextCommand(Control):
    """extracttext [MODIFIER] [":first" <number>] <varname: string>."""

    word = "extracttext"
    args_definition = (MODIFIERS, tag("first", ":first", value=NUMBER), string("varname"))

    def check(self, checker: Checker) -> None:
        """It stands in a loop, and the variable can be set."""
        if not loops_around(self):
            checker.error(self, "no-loop", "the extracttext command is not placed inside a foreverypart loop")
            return
        checker.variable(self.given["varname"])

    def compile(self, compiler: Compiler) -> Step:
        """Assign."""
        write = compiler.variable(self.given["varname"]).write
        if write is None:
            raise ValueError("a variable that is only read")
        modify = compiler.modifier(self)
        first = self.number("first")

        def extract(run: Run) -> None:
            part = part_at_hand(run)
            run.spend(min(part.size, TEXT_OCTETS) // 1000 + 1)
            text = part_text(part)
            run.check_time()
            write(run, run.limit_value(modify(text if first is None else text[:first])))

        return extract


CAPABILITIES = (
    Capability(
        "extracttext",
        words=(ExtracttextCommand,),
        needs=("foreverypart", "variables"),
        specification="RFC 5703 section 7",
    ),
)
