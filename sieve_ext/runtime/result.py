"""What became of a run: actions in order, whether the message is kept, what went wrong.

One result may collect the actions of several scripts that run one after the other for a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import Struct, field

from sieve_ext.diagnostic import Position
from sieve_ext.message import Message
from sieve_ext.runtime.actions import START, Action, Keep, StoreAction
from sieve_ext.runtime.errors import LimitExceeded, RunFailed
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.settings import Settings


@dataclass(slots=True, frozen=True)
class Fault:
    """What ended a run before its time, or a note that a script made."""

    position: Position
    text: str
    script: str = ""
    """The included script it is about, "" for the script itself."""
    cause: BaseException | None = None
    """The exception where the engine itself is at fault; such a text begins with "internal error"."""

    def __str__(self) -> str:
        name = f"{self.script}: " if self.script else ""
        return f"{name}{self.position.line}:{self.position.column}: {self.text}"


class Result(Struct):
    """The outcome of one or more scripts for one message."""

    actions: list[Action] = field(default_factory=list)
    """What is to be done, in order, without the implicit keep."""
    failed: bool = False
    """The last run ended in an error: its actions are dropped and the message is kept."""
    errors: list[Fault] = field(default_factory=list)
    """Why runs failed."""
    notes: list[Fault] = field(default_factory=list)
    """What scripts and extensions have to say to whoever reads logs; never a failure."""
    _implicit: Keep | bool | None = None
    """`implicit_keep`; True before somebody has asked for it."""
    cancels_keep: bool = False
    """An action of the last run has cancelled the implicit keep; earlier runs do not count."""
    message: Message | None = None
    """The message with the edits that scripts made."""
    records: list[Request] = field(default_factory=list)
    """What the host is to remember once it has carried the result out, as requests that it answers then:
    that a message was seen. Dropped when the run fails."""

    @property
    def implicit_keep(self) -> Keep | None:
        """The keep that no command asked for, None when there is none. It is not in `actions`."""
        if self._implicit is True:  # policies run all day and never ask
            self._implicit = Keep(implicit=True, message=self.message)
        return self._implicit or None

    @implicit_keep.setter
    def implicit_keep(self, keep: Keep | None) -> None:
        """Somebody else has decided about it."""
        self._implicit = keep

    @property
    def keeps(self) -> bool:
        """True when the message is kept, implicitly or by `keep`: a following script may run."""
        return self.implicit_keep is not None or any(
            isinstance(one, StoreAction) and one.target.upper() == "INBOX" for one in self.actions
        )

    @property
    def all_actions(self) -> Iterator[Action]:
        """The actions with the implicit keep, which comes last."""
        yield from self.actions
        if self.implicit_keep is not None:
            yield self.implicit_keep

    def add(self, action: Action, settings: Settings) -> Action:
        """Add `action`, unless one that is there absorbs it; returns the one that is in the list now.

        Raises RunFailed when it cannot stand beside another, LimitExceeded when there are too many.
        """
        for other in self.actions:
            text = action.conflict(other) or other.conflict(action)
            if text is not None:
                raise RunFailed(text)
        for other in self.actions:
            if other.absorb(action):
                self.cancels_keep |= action.cancels_keep
                return other
        most, count = settings.limits.actions, len(self.actions) + 1
        if most and count > most:
            raise LimitExceeded(f"total number of actions exceeds policy limit ({count} > {most})")
        if action.limit is not None:
            most = settings.number(*action.limit)
            count = sum(one.name == action.name for one in self.actions) + 1
            if most and count > most:
                raise LimitExceeded(
                    f"number of {action.name} actions exceeds policy limit ({count} > {most})"
                )
        self.actions.append(action)
        self.cancels_keep |= action.cancels_keep
        return action

    def keep(self) -> None:
        """Without any script: the message is kept."""
        self.implicit_keep = Keep(implicit=True, message=self.message)

    def end(self, implicit: Keep | None = None) -> None:
        """After a run: `implicit` is the implicit keep, if nothing has cancelled it; None for a plain one."""
        self._implicit = (implicit or True) if self.failed or not self.cancels_keep else None

    def fail(self, fault: Fault, mark: int, original: Message) -> None:
        """A run failed: drop its actions, those from `mark` on, and its edits; what was before stays."""
        self.failed = True
        self.errors.append(fault)
        del self.actions[mark:]
        self.records.clear()
        self.message = original

    def note(self, text: str, position: Position = START, script: str = "") -> None:
        """Say something for the log."""
        if len(self.notes) < 1000:
            self.notes.append(Fault(position, text, script))
