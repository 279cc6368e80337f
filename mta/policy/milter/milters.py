"""The milters of a worker: by name for scripts, by listener for those that always take part, by session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mailmilter.connection import Milter, MilterPool
from mta.envelope import Envelope
from mta.policy.external.tally import Tally
from mta.policy.milter.joined import GONE, Joined, Surroundings
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message


@dataclass(slots=True, frozen=True)
class MilterSettings:
    """Which milters there are."""

    hostname: str
    milters: Mapping[str, Milter] = field(default_factory=dict)
    always: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the milters that take part from the beginning, by listener."""
    spill_directory: str | None = None
    shown: frozenset[str] = frozenset()
    """Names of the milters that see our Authentication-Results in the header."""


class Milters:
    """Keeps the milters of each session."""

    def __init__(
        self,
        settings: MilterSettings,
        complain: Callable[[str, str, str], None],
        tally: Tally | None = None,
    ) -> None:
        """`complain` is told of trouble: what it is, the session, the text; `tally` counts."""
        self._pool = MilterPool()
        self._tally = tally
        self._milters = settings.milters
        self._around = Surroundings(
            settings.hostname, self._pool, complain, settings.spill_directory, settings.shown, tally
        )
        self._always = {
            listener: tuple(settings.milters[name] for name in names)
            for listener, names in settings.always.items()
        }
        self._sessions: dict[str, Joined] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, session: Session) -> None:
        """A session begins."""
        always = self._always.get(session.listener)
        if always and not session.over:
            self._sessions[session.id] = Joined(session, self._around, always)

    def of(self, session: Session) -> Joined | None:
        """The milters of a session, None when it has none."""
        return self._sessions.get(session.id)

    def end(self, session: Session) -> None:
        """A session is over."""
        joined = self._sessions.pop(session.id, None)
        if joined is not None:
            joined.end()

    async def ask(
        self, name: str, stage: str, session: Session, envelope: Envelope | None, message: Message | None
    ) -> tuple[Reply | None, Message | None]:
        """What a script asks for at a stage: take the milter in; in stage "data", ask it about the message.

        The reply that refuses, or the message as edited, None if it is not.
        """
        if session.over:
            return GONE, None
        joined = self._sessions.get(session.id)
        if joined is None:
            joined = self._sessions[session.id] = Joined(session, self._around)
        recipients = envelope.recipients if envelope is not None else []
        reply = await joined.join(self._milters[name], stage, envelope, recipients)
        if reply is not None or message is None or joined.discarded:
            return reply, None
        if name not in joined.wait_for_content():
            return None, None
        standing = [one for one in recipients if joined.refusal(one) is None]
        return await joined.content(message, standing, (name,))

    def measure(self) -> None:
        """Set the numbers of connections."""
        if self._tally is not None:
            self._tally.measure(self._pool.open, self._pool.opened)

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()
