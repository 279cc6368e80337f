"""The command dsn of vnd.tamis.queue: what is reported about a message, in place of what the client has said.

dsn [:notify <events: string-list>] [:return <what: string>] [:envid <string>]

Of NOTIFY, RET and ENVID (RFC 3461) each is left as it is where its tag is not given. NOTIFY is that of all
recipients that the client has named. Next hops that offer DSN are told, and our own reports keep to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.policy.sieve.facts import DATA
from mta.policy.sieve.reply import PolicyAction
from sieve_ext.extend import STRING, STRINGS, Act, Checker, Compiler, Run, Step, tag, texts

ENVID_MOST = 100
"""Characters (RFC 3461 section 4.4)."""
EVENTS = frozenset(("NEVER", "SUCCESS", "FAILURE", "DELAY"))
RETURNS = {"full": "FULL", "headers": "HDRS"}
"""What `:return` says, as RET has it."""


@dataclass(eq=False)
class DsnOptions(PolicyAction):
    """In place of what the client has said; None leaves that."""

    notify: frozenset[str] | None = None
    ret: str | None = None
    envid: str | None = None
    name = "dsn"

    def describe(self) -> str:
        """One line for people."""
        notify = None if self.notify is None else ",".join(sorted(self.notify))
        words = (("notify", notify), ("return", self.ret), ("envid", self.envid))
        return " ".join(["dsn", *(f"{name}={value}" for name, value in words if value is not None)])


def bad_event(text: str) -> str | None:
    """What is wrong with an event of NOTIFY (RFC 3461 section 4.1)."""
    if text.upper() in EVENTS:
        return None
    return f'\'{text[:40]}\' is no event: "never", "success", "failure", "delay"'


def bad_return(text: str) -> str | None:
    """What is wrong with what a report returns (RFC 3461 section 4.3)."""
    if text.lower() in RETURNS:
        return None
    return f'\'{text[:40]}\' is neither "full" nor "headers"'


def bad_envid(text: str) -> str | None:
    """What is wrong with an identifier of an envelope (RFC 3461 section 4.4)."""
    if text.isascii() and text.isprintable() and 0 < len(text) <= ENVID_MOST:
        return None
    return f"'{text[:40]}' is no identifier: up to {ENVID_MOST} printable characters of ASCII"


class DsnCommand(Act):
    """dsn [":notify" <events: string-list>] [":return" <what: string>] [":envid" <string>]."""

    word = "dsn"
    stages = DATA
    args_definition = (
        tag("notify", ":notify", value=STRINGS, check=bad_event),
        tag("return", ":return", value=STRING, check=bad_return),
        tag("envid", ":envid", value=STRING, check=bad_envid),
    )

    def check(self, checker: Checker) -> None:
        """Something is said, and nobody wants to hear never and something else."""
        if not self.tags:
            checker.error(self, "no-option", "dsn needs :notify, :return or :envid")
        events = [checker.constant(text) for text in texts(self.value("notify"))]
        if len(events) > 1 and any(event is not None and event.upper() == "NEVER" for event in events):
            checker.error(self.tags["notify"], "bad-notify", '"never" stands alone (RFC 3461 section 4.1)')

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        notify = compiler.texts(self.value("notify")) if "notify" in self.tags else None
        ret = compiler.text(self.value("return")) if "return" in self.tags else None
        envid = compiler.text(self.value("envid")) if "envid" in self.tags else None

        def make(run: Run) -> DsnOptions:
            events = None if notify is None else [event.upper() for event in notify.expand(run)]
            wanted = None if ret is None else ret.expand(run).lower()
            name = None if envid is None else envid.expand(run)
            problems = [bad_event(event) for event in events or ()]
            problems += [
                None if wanted is None else bad_return(wanted),
                None if name is None else bad_envid(name),
            ]
            for problem in problems:
                if problem is not None:
                    run.fail(f"dsn action: {problem}")
            if events is not None and "NEVER" in events:
                events = ["NEVER"]
            return DsnOptions(
                None if events is None else frozenset(events),
                None if wanted is None else RETURNS[wanted],
                name,
            )

        return compiler.action(self, make)
