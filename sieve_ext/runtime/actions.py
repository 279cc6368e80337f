"""What a script decides, as values: the actions of a result, and how two of them get along.

An action is made when its command runs and added to the result, where every action that is there already is
asked: is it the same again, or can both not be? Extensions define theirs as subclasses; what a capability
adds to an action of another goes into `options` under a name that its module documents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from sieve_ext.diagnostic import Position
from sieve_ext.message import Message

START = Position(0, 0)
"""The position of what no command has made: the implicit keep."""


@dataclass(eq=False)
class Action:
    """One thing to be done with the message."""

    name: ClassVar[str] = ""
    """What lists of actions call it."""
    limit: ClassVar[tuple[str, int] | None] = None
    """A setting that limits actions of this class in one result, with its default; 0 is no limit."""
    delivers: ClassVar[bool] = False
    """It brings the message somewhere, so that it cannot also be refused (RFC 5429 section 2.2)."""
    answers: ClassVar[bool] = False
    """It sends something back to the sender."""

    position: Position = field(default=START, kw_only=True)
    """Where its command stands."""
    copy: bool = field(default=False, kw_only=True)
    """It leaves the implicit keep as it was, whatever its kind (RFC 3894)."""
    options: dict[str, Any] = field(default_factory=dict, kw_only=True)
    """What extensions have to say about it, by capability or tag."""
    message: Message | None = field(default=None, kw_only=True, repr=False)
    """The message as it was edited when the action was added: that is what is stored or sent."""
    executed: bool = field(default=False, kw_only=True)
    """The host has done it: it stays in the list but is not done again."""

    @property
    def cancels_keep(self) -> bool:
        """True when the message is not kept implicitly because of it (RFC 5228 section 2.10.2)."""
        return not self.copy

    @property
    def shown_name(self) -> str:
        """The name for lists of what happened; `name` but for what got another."""
        return self.name

    def conflict(self, other: Action) -> str | None:
        """Why this and `other` cannot both be, None if they can. Both are asked, whichever came first."""
        return None

    def absorb(self, later: Action) -> bool:
        """True when `later` says nothing that is not said by this one, perhaps changed by it just now."""
        return False

    def describe(self) -> str:
        """One line for people."""
        return self.shown_name


class StoreAction(Action):
    """Puts the message into a mailbox."""

    name = "store"
    delivers = True

    @property
    def target(self) -> str:
        """The mailbox, as given; "INBOX" for the default one."""
        return "INBOX"

    def absorb(self, later: Action) -> bool:
        """Into one mailbox only once; the later one's options win (RFC 5228 section 2.10.3)."""
        if not isinstance(later, StoreAction) or mailbox_key(later.target) != mailbox_key(self.target):
            return False
        if self.executed:  # by a script before; a keep is for the last one to decide
            return mailbox_key(self.target) != "INBOX"
        self.options.update(later.options)
        self.copy = self.copy and later.copy
        return True


def mailbox_key(name: str) -> str:
    """What makes two names the same mailbox: INBOX has no case (RFC 3501 section 5.1)."""
    return "INBOX" if name.upper() == "INBOX" else name


@dataclass(eq=False)
class Keep(StoreAction):
    """Keep the message: put it into the default mailbox (RFC 5228 section 4.3)."""

    name = "keep"
    implicit: bool = field(default=False, kw_only=True)
    """No command asked for it."""


@dataclass(eq=False)
class FileInto(StoreAction):
    """Put the message into `mailbox` (RFC 5228 section 4.1)."""

    name = "store"
    mailbox: str = ""
    merged: bool = field(default=False, kw_only=True)
    """A keep has come together with it, being of the same mailbox."""

    @property
    def target(self) -> str:
        """The mailbox."""
        return self.mailbox

    @property
    def shown_name(self) -> str:
        """ "keep" once one has been merged with it."""
        return "keep" if self.merged else "store"

    def absorb(self, later: Action) -> bool:
        """As any store; remembers that a keep was one of them."""
        if StoreAction.absorb(self, later):
            self.merged |= isinstance(later, Keep)
            return True
        return False

    def describe(self) -> str:
        """One line for people."""
        return f"{self.shown_name} into {self.mailbox!r}"


@dataclass(eq=False)
class Redirect(Action):
    """Send the message on to `address` (RFC 5228 section 4.2)."""

    name = "redirect"
    limit = ("sieve_max_redirects", 4)
    delivers = True
    address: str = ""
    """local@domain, normalised: no angle brackets, no display name."""

    def absorb(self, later: Action) -> bool:
        """To one address only once (RFC 5228 section 2.10.3)."""
        if not isinstance(later, Redirect) or _address_key(later.address) != _address_key(self.address):
            return False
        self.options.update(later.options)
        self.copy = self.copy and later.copy
        return True

    def describe(self) -> str:
        """One line for people."""
        return f"redirect to <{self.address}>"


def _address_key(address: str) -> tuple[str, str]:
    """What makes two addresses the same: only the domain has no case (RFC 5321 section 2.4)."""
    local, _, domain = address.rpartition("@")
    return local, domain.lower()


@dataclass(eq=False)
class Discard(Action):
    """Throw the message away: cancels the implicit keep and does nothing (RFC 5228 section 4.4)."""

    name = "discard"

    def absorb(self, later: Action) -> bool:
        """Once is enough."""
        return isinstance(later, Discard)
