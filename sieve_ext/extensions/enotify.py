"""enotify (RFC 5435) with the method mailto (RFC 5436): notify, valid_notify_method,
notify_method_capability, and :encodeurl of `set`. Status: complete, mailto is the only method.

URIs are checked when the script is loaded, those with variables when it runs. The mail is made when the
result is carried out (`NotifyAction.mails`).
"""

from __future__ import annotations

import re
from urllib.parse import quote

from sieve_ext.extend import (
    MATCHING,
    STRING,
    STRINGS,
    Act,
    Capability,
    Checker,
    Compiler,
    Modifier,
    Run,
    Step,
    Test,
    Value,
    read_address,
    string,
    strings,
    tag,
    texts,
)
from sieve_ext.language.arguments import Check
from sieve_ext.outgoing.mailto import Mailto, parse_mailto
from sieve_ext.outgoing.notify import NotifyAction

_scheme = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):").match
_option = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*=", re.ASCII).match

IMPORTANCES = ("1", "2", "3")


def read_method(uri: str) -> Mailto | str:
    """What a URI says, or why it is no method of notification."""
    scheme = _scheme(uri)
    if scheme is None:
        return f"invalid scheme part for method URI '{uri[:200]}'"
    if scheme[1].lower() != "mailto":
        return f"invalid method '{scheme[1]}'"
    found = parse_mailto(uri)
    return found if found.error is None else f"mailto URI: {found.error}"


def from_address(text: str) -> str | None:
    """What is wrong with the address of :from (RFC 5436 section 2.3)."""
    problem = read_address(text)
    if isinstance(problem, str):
        return (
            f"notify command: specified :from address '{text[:200]}' is invalid for the mailto method:"
            f" {problem}"
        )
    return None


def importance(text: str) -> str | None:
    """What is wrong with an :importance (section 3.4)."""
    return None if text in IMPORTANCES else f"invalid :importance value for notify command: {text[:100]}"


class NotifyCommand(Act):
    """notify [:from S] [:importance "1"|"2"|"3"] [:options L] [:message S] <method: string> (section 3)."""

    word = "notify"
    args_definition = (
        tag("from", ":from", value=STRING),
        tag("importance", ":importance", value=STRING),
        tag("options", ":options", value=STRINGS),
        tag("message", ":message", value=STRING),
        string("method"),
    )

    def check(self, checker: Checker) -> None:
        """The arguments are what they should be; the first that is not is reported."""
        if not self._is_good("importance", importance, checker):
            return
        method = self.given["method"]
        uri = checker.constant(method)
        found = None if uri is None else read_method(uri)
        if isinstance(found, str):
            checker.error(method, "bad-method", f"notify command: {found}")
            return
        for warning in found.warnings if found is not None else ():
            checker.warn(method, "method", f"notify command: mailto URI: {warning}")
        if self._is_good("from", from_address, checker):
            self._check_options(self.value("options"), checker)

    def _is_good(self, name: str, problem_of: Check, checker: Checker) -> bool:
        value = self.value(name)
        text = checker.constant(value)
        problem = None if text is None else problem_of(text)
        if value is not None and problem is not None:
            checker.error(value, "bad-value", problem)
        return problem is None

    def _check_options(self, value: Value | None, checker: Checker) -> None:
        for text in texts(value):
            option = checker.constant(text)
            if option is not None and _option(option) is None:
                checker.error(
                    text, "bad-option",
                    f"notify command: invalid option name specified in option '{option[:100]}'",
                    'an option is "NAME=VALUE"',
                )  # fmt: skip
                return
        if value is not None:
            checker.warn(value, "options", "notify command: method 'mailto' accepts no options")

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        method = compiler.text(self.given["method"])
        sender = compiler.text(self.value("from")) if self.has_tag("from") else None
        level = compiler.text(self.value("importance"), "2")
        message = compiler.text(self.value("message")) if self.has_tag("message") else None

        def make(run: Run) -> NotifyAction:
            uri = method.expand(run)
            found = read_method(uri)
            if isinstance(found, str):
                run.fail(f"notify command: {found}")
            source = None if sender is None else sender.expand(run)
            wrong = None if source is None else from_address(source)
            if wrong is not None:
                run.fail(wrong)
            wanted = level.expand(run)
            if importance(wanted) is not None:
                run.fail(importance(wanted) or "")
            return NotifyAction(
                uri=uri,
                mailto=found,
                sender=source,
                importance=int(wanted),
                text=None if message is None else message.expand(run),
                recipients=list(found.recipients),
            )

        return compiler.action(self, make)


class ValidNotifyMethodTest(Test):
    """valid_notify_method <uris: string-list>: all are methods that could be used (section 4)."""

    word = "valid_notify_method"
    args_definition = (strings("notification-uris"),)

    def compile(self, compiler: Compiler) -> Step:
        """Read each."""
        uris = compiler.texts(self.given["notification-uris"])

        def valid(run: Run) -> bool:
            found = uris.expand(run)
            run.spend(len(found))
            return all(isinstance(read_method(uri), Mailto) for uri in found)

        return valid


class NotifyMethodCapabilityTest(Test):
    """notify_method_capability [COMPARATOR] [MATCH-TYPE] <uri> <capability> <keys> (section 5)."""

    word = "notify_method_capability"
    args_definition = (
        *MATCHING,
        string("notification-uri"),
        string("notification-capability"),
        strings("keys"),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Whether somebody who gets mail is online nobody knows (RFC 5436 section 2.2)."""
        uri = compiler.text(self.given["notification-uri"])
        name = compiler.text(self.given["notification-capability"])

        def values(run: Run) -> list[str]:
            if name.expand(run).lower() != "online" or isinstance(read_method(uri.expand(run)), str):
                return []
            return ["maybe"]

        return compiler.match(self, values, needs_value=True)


def encode_url(text: str) -> str:
    """:encodeurl (section 6): all octets but letters, digits and "-._~" as %XX."""
    return quote(text, safe="", errors="replace")


CAPABILITIES = (
    Capability(
        "enotify",
        words=(NotifyCommand, ValidNotifyMethodTest, NotifyMethodCapabilityTest),
        modifiers=(Modifier(":encodeurl", 15, encode_url),),
        specification="RFC 5435, RFC 5436",
        status="complete; the only method is mailto",
        settings={
            "sieve_notify_max_notifications": "notifications of one result, 10 by default, 0 for no limit",
            "sieve_notify_mailto_envelope_from": "sender of notifications: sender, recipient,"
            " orig_recipient, user_email, postmaster or an address in angle brackets",
        },
    ),
)
