"""vnd.dovecot.report (Pigeonhole's specification): report sends an abuse report. Status: complete.

The report (RFC 5965) is made when the result is carried out (`ReportAction.mails`). The same type of report
goes to one address only once.
"""

from __future__ import annotations

from sieve_ext.extend import (
    Act,
    Capability,
    Checker,
    Compiler,
    Run,
    Step,
    normal_address,
    read_address,
    string,
    tag,
)
from sieve_ext.outgoing.report import ReportAction, feedback_type


def report_address(text: str) -> str | None:
    """What is wrong with the address that a report goes to."""
    problem = read_address(text)
    if isinstance(problem, str):
        return f"specified report address '{text[:200]}' is invalid: {problem}"
    return None


class ReportCommand(Act):
    """report [:headers_only] <feedback-type: string> <message: string> <address: string>."""

    word = "report"
    args_definition = (
        tag("headers-only", ":headers_only"),
        string("feedback-type"),
        string("message"),
        string("address"),
    )

    def check(self, checker: Checker) -> None:
        """The type is one, and so is the address; the first that is not is reported."""
        for name, problem_of in (("feedback-type", feedback_type), ("address", report_address)):
            text = checker.constant(self.given[name])
            problem = None if text is None else problem_of(text)
            if problem is not None:
                checker.error(self.given[name], "bad-value", problem)
                return

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        kind = compiler.text(self.given["feedback-type"])
        text = compiler.text(self.given["message"])
        address = compiler.text(self.given["address"])
        headers_only = self.has_tag("headers-only")

        def make(run: Run) -> ReportAction:
            wanted, to = kind.expand(run), address.expand(run)
            problem = feedback_type(wanted) or report_address(to)
            if problem is not None:
                run.fail(problem)
            return ReportAction(wanted, text.expand(run), normal_address(to) or to, headers_only)

        return compiler.action(self, make)


CAPABILITIES = (
    Capability(
        "vnd.dovecot.report",
        words=(ReportCommand,),
        specification="Pigeonhole: spec-bosch-sieve-report",
        settings={
            "sieve_report_from": "From of reports: sender, recipient, orig_recipient, user_email, postmaster"
            " or an address in angle brackets; postmaster by default"
        },
    ),
)
