"""virustest (RFC 5235 section 2.3). Status: complete.

The score comes from a field that a scanner has written, see `sieve_ext.runtime.scan`: 1 (no virus) to 5
(certainly one), "0" for a message that was not tested.
"""

from __future__ import annotations

from sieve_ext.extend import MATCHING, Capability, Compiler, Run, Step, Test, string
from sieve_ext.runtime.scan import ratio, score

HIGHEST = 5
"""The highest score."""


class VirustestTest(Test):
    """virustest [COMPARATOR] [MATCH-TYPE] <value: string>."""

    word = "virustest"
    args_definition = (*MATCHING, string("value"))

    def compile(self, compiler: Compiler) -> Step:
        """Compare the score."""

        def values(run: Run) -> list[str]:
            return [score(ratio(run.message, run.settings, "virustest", HIGHEST), HIGHEST)]

        return compiler.match(self, values, "value")


CAPABILITIES = (
    Capability(
        "virustest",
        words=(VirustestTest,),
        specification="RFC 5235 section 2.3",
        settings={
            "sieve_virustest_status_header": "field that has the score, or NAME:EXPRESSION with one group",
            "sieve_virustest_status_type": "score, strlen (its length is the score) or text",
            "sieve_virustest_score_max_value": "a certain virus; or ..._max_header, a field that has it",
            "sieve_virustest_text_value/N": "the text that means score N",
        },
    ),
)
