"""vnd.tamis.envelope: who gets the message, and from whom. Status: complete for what is listed.

    rewrite_recipient <address>            stage rcpt: another address in place of the client's
    add_recipient <address: string-list>   stage data
    bcc <address: string-list>             stages rcpt and data: copies of which nobody hears
    journal <address: string-list>         stage data: reports with the message attached, for archives
    remove_recipient <address: string-list>
    set_sender <address>                   stages mail and data; "" is the null sender

The base policy sees rewritten and added recipients as if the client had named them, so that no script
makes an open relay. The null sender is never changed: a report must not come back. Local parts that a script
names are ASCII, for a message that came in without SMTPUTF8 is not meant for others.

This module also has what the test `envelope` knows at the stages: "to" is every recipient in stage data.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.address import NULL, Address, AddressError, parse_address
from mta.policy.sieve.expand import ExpandCommand
from mta.policy.sieve.facts import DATA, RCPT
from mta.policy.sieve.queue import QUEUE
from mta.policy.sieve.reply import PolicyAction
from sieve_ext.extend import (
    Act,
    Capability,
    Checker,
    Compiler,
    Envelope,
    EnvelopePart,
    Run,
    Step,
    string,
    strings,
)

MAIL_OR_DATA = frozenset(("mail", "data"))
ADDED_MOST = 100
"""Recipients that the policy may add to one message."""


@dataclass(eq=False)
class RewriteRecipient(PolicyAction):
    """Another address in place of the recipient's."""

    address: Address
    name = "rewrite_recipient"

    def describe(self) -> str:
        """One line for people."""
        return f"rewrite_recipient {self.address}"


@dataclass(eq=False)
class _OfAddresses(PolicyAction):
    """Something that is done with addresses of recipients."""

    addresses: tuple[Address, ...]

    def describe(self) -> str:
        """One line for people."""
        return f"{self.name} {', '.join(map(str, self.addresses))}"


class AddRecipients(_OfAddresses):
    """More recipients."""

    name = "add_recipient"


class AddCopies(_OfAddresses):
    """Copies of which nobody hears."""

    name = "bcc"


class Journal(_OfAddresses):
    """Reports of the message for archives."""

    name = "journal"


class RemoveRecipients(_OfAddresses):
    """Recipients that do not get it."""

    name = "remove_recipient"


@dataclass(eq=False)
class SetSender(PolicyAction):
    """Another sender."""

    address: Address
    name = "set_sender"

    def describe(self) -> str:
        """One line for people."""
        return f"set_sender <{self.address}>"


def bad_address(text: str) -> str | None:
    """What is wrong with an address of a recipient."""
    try:
        parse_address(text).to_ascii()
    except AddressError as error:
        return f"'{text[:200]}' is no address: {error}"
    return None


def bad_sender(text: str) -> str | None:
    """What is wrong with an address of a sender."""
    return bad_address(text) if text else None


def _read(run: Run, text: str) -> Address:
    """An address that was put together from variables; fails the run when it is none. A local part beyond
    ASCII is what a client has named, with SMTPUTF8."""
    try:
        found = parse_address(text)
    except AddressError as error:
        run.fail(f"'{text[:200]}' is no address: {error}")
    return found.to_ascii() if found.local.isascii() else found


class RewriteRecipientCommand(Act):
    """rewrite_recipient <address: string>."""

    word = "rewrite_recipient"
    stages = RCPT
    args_definition = (string("address", check=bad_address),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        text = compiler.text(self.given["address"])
        return compiler.action(self, lambda run: RewriteRecipient(_read(run, text.expand(run))))


class _AddressesCommand(Act):
    """A command whose only argument is a list of addresses."""

    args_definition = (strings("addresses", check=bad_address),)
    action: type[_OfAddresses]
    """What it asks for."""

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        addresses = compiler.texts(self.given["addresses"])
        action = self.action

        def make(run: Run) -> _OfAddresses:
            found = addresses.expand(run)
            run.spend(len(found))
            return action(tuple(_read(run, text) for text in found))

        return compiler.action(self, make)


class AddRecipientCommand(_AddressesCommand):
    """add_recipient <addresses: string-list>."""

    word = "add_recipient"
    stages = DATA
    action = AddRecipients


class BccCommand(_AddressesCommand):
    """bcc <addresses: string-list>."""

    word = "bcc"
    stages = RCPT | DATA
    action = AddCopies


class JournalCommand(_AddressesCommand):
    """journal <addresses: string-list>."""

    word = "journal"
    stages = DATA
    action = Journal

    def check(self, checker: Checker) -> None:
        """There is a queue, which the reports are put into."""
        if not checker.unit.settings.boolean(QUEUE):
            checker.error(self, "no-queue", "the journal command needs the queue", "set queue.enabled = true")


class RemoveRecipientCommand(_AddressesCommand):
    """remove_recipient <addresses: string-list>."""

    word = "remove_recipient"
    stages = DATA
    elsewhere = 'refuse it there with reply, or remove it in stage "data"'
    action = RemoveRecipients


class SetSenderCommand(Act):
    """set_sender <address: string>."""

    word = "set_sender"
    stages = MAIL_OR_DATA
    args_definition = (string("address", check=bad_sender),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        text = compiler.text(self.given["address"])

        def make(run: Run) -> SetSender:
            address = text.expand(run)
            return SetSender(_read(run, address) if address else NULL)

        return compiler.action(self, make)


def _sender(envelope: Envelope) -> list[str]:
    return [] if envelope.sender is None else [envelope.sender]


def _extra(name: str) -> EnvelopePart:
    return EnvelopePart(name, lambda envelope: list(envelope.extra.get(name, ())), is_address=True)


def _user(envelope: Envelope) -> list[str]:
    return [envelope.user] if envelope.user else []


PARTS = (
    EnvelopePart("from", _sender, is_address=True),
    _extra("to"),
    _extra("orig_to"),
    EnvelopePart("auth", _user),
)
"""What `envelope` knows in a policy: of recipients there may be many."""

CAPABILITIES = (
    Capability(
        "vnd.tamis.envelope",
        words=(
            RewriteRecipientCommand,
            AddRecipientCommand,
            RemoveRecipientCommand,
            SetSenderCommand,
            ExpandCommand,
            BccCommand,
            JournalCommand,
        ),
        specification="docs/policy/envelope.md",
    ),
)
