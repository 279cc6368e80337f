"""test_set, test_message, test_message_print: the message that is being tested and its envelope."""

from __future__ import annotations

from collections.abc import Callable

from sieve_ext.extend import (
    STRING,
    Act,
    Checker,
    Compiler,
    Control,
    Node,
    Run,
    Step,
    Test,
    number,
    string,
    tag,
)
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.testsuite.delivery import octets_of
from sieve_ext.testsuite.mailstore import bad_name
from sieve_ext.testsuite.session import session_of
from sieve_ext.testsuite.surroundings import envelope_address, line_ends


def _set_from(envelope: Envelope, value: str) -> None:
    envelope.sender = envelope_address(value, may_be_local=True) or ""


def _set_to(envelope: Envelope, value: str) -> None:
    envelope.recipient = envelope.original_recipient = envelope_address(value, may_be_local=True) or ""


def _set_orig_to(envelope: Envelope, value: str) -> None:
    envelope.original_recipient = envelope_address(value, may_be_local=True) or ""


def _set_auth(envelope: Envelope, value: str) -> None:
    envelope.user = value


PARTS: dict[str, Callable[[Envelope, str], None]] = {
    "from": _set_from,
    "to": _set_to,
    "orig_to": _set_orig_to,
    "auth": _set_auth,
}
"""Parts of the envelope that can be set."""


class TestSetCommand(Control):
    """test_set <object: string> <value: string>."""

    __test__ = False
    word = "test_set"
    args_definition = (string("object"), string("value"))

    def check(self, checker: Checker) -> None:
        """The object is one that there is."""
        given = self.given["object"]
        name = checker.constant(given)
        if name is None:
            checker.error(given, "dynamic-object", "the object of test_set must be a constant string")
            return
        thing, dot, member = name.lower().partition(".")
        if thing not in ("message", "envelope"):
            checker.error(given, "unknown-object", f"unknown testsuite object '{name}'")
        elif (thing == "message") == bool(dot) or (dot and member not in PARTS):
            checker.error(
                given, "unknown-member", f"member '{member}' does not exist for testsuite object '{thing}'"
            )

    def compile(self, compiler: Compiler) -> Step:
        """Set it."""
        name = compiler.text(self.given["object"]).constant or ""
        value = compiler.text(self.given["value"])
        _, dot, member = name.lower().partition(".")
        if not dot:
            return lambda run: session_of(run).set_message(run, line_ends(value.expand(run)))
        assign = PARTS[member]

        def set_part(run: Run) -> None:
            text = value.expand(run)
            if member != "auth" and envelope_address(text, may_be_local=True) is None:
                session_of(run).report.errors.append(f"test_set: '{text}' is no address")
            run.envelope = Envelope(
                run.envelope.sender,
                run.envelope.recipient,
                run.envelope.original_recipient,
                run.envelope.user,
            )
            assign(run.envelope, text)
            session_of(run).forget(run)

        return set_part


def check_source(node: Node, checker: Checker) -> None:
    """One of :smtp and :folder is given, with the name of a mailbox."""
    if not node.has_tag("source"):
        checker.error(
            node, "missing-tag", f"the {node.name} {node.kind} requires either the :smtp or the :folder tag"
        )
        return
    mailbox = checker.constant(node.tags["source"].value)
    if mailbox is not None and (problem := bad_name(mailbox)) is not None:
        checker.error(node.tags["source"], "bad-value", problem)


def compile_select(node: Node, compiler: Compiler) -> Step:
    """A step that makes another message the current one; yields whether there is one."""
    index = node.number("index", 0) or 0
    source = node.tags["source"]
    if source.tag == ":smtp":

        def select_sent(run: Run) -> bool:
            session = session_of(run)
            if index >= len(session.postman.outbox):
                return False
            sent = session.postman.outbox[index]
            session.set_message(run, sent.octets)
            run.envelope = Envelope(sent.sender, sent.recipient, sent.recipient, run.envelope.user)
            return True

        return select_sent
    mailbox = compiler.text(source.value)

    def select_stored(run: Run) -> bool:
        session = session_of(run)
        name = mailbox.expand(run)
        if bad_name(name) is not None:
            session.fail(f"invalid mailbox name '{name}' for the test_message command")
        folder = session.store.find(name)
        if folder is None:
            session.default_message(run)
            return False
        if index >= len(folder.messages):
            return False
        session.set_stored(run, folder.messages[index])
        return True

    return select_stored


ARGUMENTS = (tag("source", ":smtp"), tag("source", ":folder", value=STRING), number("index"))


class TestMessageCommand(Act):
    """test_message (:smtp | :folder <mailbox: string>) <index: number>."""

    __test__ = False
    word = "test_message"
    args_definition = ARGUMENTS

    def check(self, checker: Checker) -> None:
        """Where it is to be taken from is said."""
        check_source(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Take it; a missing message fails the test."""
        select = compile_select(self, compiler)
        index = self.number("index", 0)
        where = "outgoing SMTP messages" if self.tags["source"].tag == ":smtp" else "mailbox"

        def take(run: Run) -> None:
            if not select(run):
                session_of(run).fail(f"no message at index {index} of the {where}")

        return take


class TestMessageTest(Test):
    """test_message (:smtp | :folder <mailbox: string>) <index: number>."""

    __test__ = False
    word = "test_message"
    args_definition = ARGUMENTS

    def check(self, checker: Checker) -> None:
        """Where it is to be taken from is said."""
        check_source(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Take it, if it is there."""
        return compile_select(self, compiler)


class TestMessagePrintCommand(Act):
    """test_message_print."""

    __test__ = False
    word = "test_message_print"

    def compile(self, compiler: Compiler) -> Step:
        """Put the message into the report."""

        def show(run: Run) -> None:
            text = octets_of(run.message).decode("utf-8", "replace").replace("\r\n", "\n")
            session_of(run).report.lines.append(f"\n--MESSAGE:\n{text}--MESSAGE--")

        return show


WORDS = (TestSetCommand, TestMessageCommand, TestMessageTest, TestMessagePrintCommand)
