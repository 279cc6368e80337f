"""vacation (RFC 5230): answers the sender that the recipient is away. Status: complete.

The action says what to answer; whether to is decided when the result is carried out
(`VacationAction.withheld`, `reply_key`), for the rules look at message and envelope only. One script may
answer once; what an earlier script has sent already is not sent again. :days is kept within the
administrator's limits.
"""

from __future__ import annotations

from sieve_ext.extend import (
    NUMBER,
    STRING,
    STRINGS,
    Act,
    Capability,
    Checker,
    Compiler,
    Run,
    Step,
    read_address,
    string,
    tag,
)
from sieve_ext.outgoing.vacation import DAY, SETTINGS, VacationAction, periods


def from_address(text: str) -> str | None:
    """What is wrong with the address of :from (section 4.3)."""
    problem = read_address(text)
    if isinstance(problem, str):
        return f"specified :from address '{text[:200]}' is invalid for vacation action: {problem}"
    return None


class VacationCommand(Act):
    """vacation [:days N] [:subject S] [:from S] [:addresses L] [:mime] [:handle S] <reason: string>."""

    word = "vacation"
    args_definition = (
        tag("period", ":days", value=NUMBER),
        tag("subject", ":subject", value=STRING),
        tag("from", ":from", value=STRING, check=from_address),
        tag("addresses", ":addresses", value=STRINGS),
        tag("mime", ":mime"),
        tag("handle", ":handle", value=STRING),
        string("reason"),
    )

    def check(self, checker: Checker) -> None:
        """Warn of a period that will not be taken as it is."""
        given = self.tags.get("period")
        if given is None:
            return
        number = self.number("period", 0) or 0
        least, _, most = periods(checker.unit.settings)
        seconds = number * _unit(given.tag)
        if seconds < least:
            checker.warn(given, "period", f"specified {given.tag} value '{number}' is under the minimum")
        elif most and seconds > most:
            checker.warn(given, "period", f"specified {given.tag} value '{number}' is over the maximum")

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        given = self.tags.get("period")
        seconds = None if given is None else (self.number("period", 0) or 0) * _unit(given.tag)
        subject = compiler.text(self.value("subject")) if self.has_tag("subject") else None
        sender = compiler.text(self.value("from")) if self.has_tag("from") else None
        handle = compiler.text(self.value("handle")) if self.has_tag("handle") else None
        addresses = compiler.texts(self.value("addresses"))
        reason = compiler.text(self.given["reason"])
        is_mime = self.has_tag("mime")

        def make(run: Run) -> VacationAction:
            least, default, most = periods(run.settings)
            period = default if seconds is None else max(seconds, least)
            if most:
                period = min(period, most)
            source = None if sender is None else sender.expand(run)
            if source is not None and (problem := from_address(source)) is not None:
                run.note(f"vacation action: {problem}; the user's address is used")
                source = None
            return VacationAction(
                reason=reason.expand(run),
                subject=None if subject is None else subject.expand(run),
                sender=source,
                addresses=addresses.expand(run),
                handle=None if handle is None else handle.expand(run),
                is_mime=is_mime,
                seconds=period,
            )

        return compiler.action(self, make)


def _unit(name: str) -> int:
    return 1 if name == ":seconds" else DAY


CAPABILITIES = (
    Capability(
        "vacation",
        words=(VacationCommand,),
        specification="RFC 5230",
        settings=SETTINGS,
    ),
)
