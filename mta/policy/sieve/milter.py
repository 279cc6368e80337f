"""vnd.tamis.milter: milters from policy files. Status: complete.

    milter <name: string>

The milter takes part in the session from here on. It is told the stages that are over, and is asked at the
end of this stage and at each later one what the scripts let pass. In stage "data" it is asked about the
message here and now, and the lines after see its edits. A refusal ends the stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mta.policy.sieve.asking import Services
from mta.policy.sieve.facts import Facts
from mta.policy.sieve.onerror import end_stage
from mta.policy.sieve.sections import check_section
from mta.policy.sieve.stages import stage_of
from mta.reply import Reply
from sieve_ext import Request
from sieve_ext.extend import Act, Capability, Checker, Compiler, Run, Step, string
from sieve_ext.message import Message

if TYPE_CHECKING:
    from mta.policy.milter.milters import Milters

SESSION = frozenset(("connect", "helo", "auth", "mail", "rcpt", "data"))
MILTERS = "tamis_milters"
"""The setting that lists the names of the milters, with blanks between."""


@dataclass(frozen=True, slots=True)
class AskMilter(Request):
    """Let a milter take part, and ask it about the message if there is one."""

    milter: str
    message: Message | None
    """As it stands now, in stage "data"."""

    def unanswered(self) -> tuple[Reply | None, Message | None]:
        """It has nothing to say."""
        return None, None


class MilterCommand(Act):
    """milter <name: string>."""

    word = "milter"
    stages = SESSION
    elsewhere = 'milters take part in the session: name it in stage "data" at the latest'
    args_definition = (string("name"),)

    def check(self, checker: Checker) -> None:
        """The name is that of a section of the configuration."""
        check_section(self, checker, MILTERS, "milter", "milters")

    def compile(self, compiler: Compiler) -> Step:
        """Ask, take the edits, and leave if it refuses."""
        name = compiler.text(self.given["name"]).constant or ""
        has_message = stage_of(self) == "data"

        def ask(run: Run) -> Any:
            reply: Reply | None
            edited: Message | None
            reply, edited = yield AskMilter(name, run.message if has_message else None)
            if edited is not None:
                run.message = edited
            if reply is not None:
                end_stage(run, reply)

        return ask


def milter_services(milters: Milters) -> Services:
    """Who answers `AskMilter`."""

    def ask(request: AskMilter, facts: Facts) -> Any:
        return milters.ask(request.milter, facts.stage, facts.session, facts.envelope, request.message)

    return {AskMilter: ask}


CAPABILITIES = (
    Capability("vnd.tamis.milter", words=(MilterCommand,), specification="docs/policy/milter.md"),
)
