"""spamtest and spamtestplus (RFC 5235 sections 2.1 and 2.2). Status: complete.

The score comes from a field that a scanner has written, see `sieve_ext.runtime.scan`: 1 (clear) to 10
(certainly spam), or 0 to 100 with :percent; "0" without :percent is a message that was not tested. There is
always one value, so :count gives 1, as in Pigeonhole.
"""

from __future__ import annotations

from sieve_ext.extend import MATCHING, Capability, Compiler, Run, Step, Tag, Test, string
from sieve_ext.runtime.scan import percent, ratio, score

HIGHEST = 10
"""The highest score."""


class SpamtestTest(Test):
    """spamtest [":percent"] [COMPARATOR] [MATCH-TYPE] <value: string>."""

    word = "spamtest"
    args_definition = (*MATCHING, string("value"))

    def compile(self, compiler: Compiler) -> Step:
        """Compare the score."""
        is_percent = self.has_tag("percent")

        def values(run: Run) -> list[str]:
            part = ratio(run.message, run.settings, "spamtest", HIGHEST)
            return [percent(part) if is_percent else score(part, HIGHEST)]

        return compiler.match(self, values, "value")


SETTINGS = {
    "sieve_spamtest_status_header": "field that has the score, or NAME:EXPRESSION with one group",
    "sieve_spamtest_status_type": "score, strlen (its length is the score) or text",
    "sieve_spamtest_score_max_value": "what is certainly spam; or ..._max_header, a field that has it",
    "sieve_spamtest_text_value/N": "the text that means score N",
}

CAPABILITIES = (
    Capability("spamtest", words=(SpamtestTest,), specification="RFC 5235 section 2.1", settings=SETTINGS),
    Capability(
        "spamtestplus",
        tags=(Tag(":percent", ("spamtest",)),),
        brings=("spamtest",),
        specification="RFC 5235 section 2.2",
    ),
)
