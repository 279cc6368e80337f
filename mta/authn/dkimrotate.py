"""The life of a key: published, checked, active, retired (RFC 6376 section 3.1: selectors are for this).

    new -> published -> active -> retired -> (gone)

*new*: made, its record is to be put into the DNS. *published*: the record was seen. *active*: it signs; one
key of a type at a time. *retired*: it signs no longer, but its record stays while mail that it signed is
under way. When the record has gone after that, so does the key. What moves a key on is what the DNS says,
never a hope: `advance` is given what is published and the time, and is pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from mta.authn.dkimrecord import Comparison, Published, record_name

SETTLE = 3600
"""Seconds from when a record is seen to when the key signs in the place of another: resolvers elsewhere may
remember for this long that there was none (RFC 2308, the usual negative TTL)."""
KEEP = 7 * 86_400
"""Seconds that a record stays after its key signed last: longer than mail waits in queues."""


class KeyState(StrEnum):
    """Where a key is in its life."""

    NEW = "new"
    PUBLISHED = "published"
    ACTIVE = "active"
    RETIRED = "retired"


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key of a domain in the state file; times are whole seconds of the epoch."""

    selector: str
    type: str
    """ "rsa" or "ed25519"."""
    created: int
    state: KeyState = KeyState.NEW
    since: int = 0
    """Since when it is in this state."""


@dataclass(slots=True, frozen=True)
class Step:
    """What a step of a rotation comes to."""

    entries: tuple[KeyEntry, ...]
    events: tuple[str, ...] = ()
    """What happened and what is to be done, for people."""
    gone: tuple[KeyEntry, ...] = ()
    """Keys whose file is of no more use."""
    problem: bool = False
    """Something is wrong that needs somebody."""


def is_resting(entries: Sequence[KeyEntry]) -> bool:
    """True when no rotation is under way: every key is active."""
    return all(entry.state is KeyState.ACTIVE for entry in entries)


def types_to_renew(entries: Sequence[KeyEntry]) -> tuple[str, ...]:
    """The types of which a rotation makes new keys."""
    return tuple(dict.fromkeys(entry.type for entry in entries if entry.state is KeyState.ACTIVE))


def advance(
    domain: str,
    entries: Sequence[KeyEntry],
    found: Mapping[str, Comparison],
    now: float,
    *,
    settle: int = SETTLE,
) -> Step:
    """Move every key of `domain` on as far as what is published allows.

    `found` has what the DNS says, by selector; a key that it lacks stays where it is. `now` is in seconds of
    the epoch, `settle` is in seconds.
    """
    moment = int(now)
    walk = _Walk(domain, moment, settle)
    replaced = {entry.type for entry in entries if entry.state is KeyState.ACTIVE}
    after: list[KeyEntry] = []
    for entry in entries:
        seen = found.get(entry.selector)
        moved = entry if seen is None else walk.move(entry, seen, entry.type in replaced)
        if moved is not None:
            after.append(moved)
    newest: dict[str, KeyEntry] = {}
    for entry in after:
        if entry.state is KeyState.ACTIVE:
            best = newest.get(entry.type)
            # Within one second the order counts: new keys are put at the end.
            if best is None or (entry.since, entry.created) >= (best.since, best.created):
                newest[entry.type] = entry
    kept = []
    for entry in after:
        if entry.state is KeyState.ACTIVE and newest[entry.type] is not entry:
            walk.events.append(
                f"{entry.selector}: signs no longer; leave its record for {KEEP // 86_400} days"
            )
            entry = msgspec.structs.replace(entry, state=KeyState.RETIRED, since=moment)
        kept.append(entry)
    return Step(tuple(kept), tuple(walk.events), tuple(walk.gone), walk.problem)


class _Walk:
    """One step for each key; collects what is to be said."""

    def __init__(self, domain: str, now: int, settle: int) -> None:
        self._domain = domain
        self._now = now
        self._settle = settle
        self.events: list[str] = []
        self.gone: list[KeyEntry] = []
        self.problem = False

    def move(self, entry: KeyEntry, seen: Comparison, replaces: bool) -> KeyEntry | None:
        """Where one key is now; None when it has gone."""
        if seen.state is Published.UNKNOWN:
            self._say(entry, f"the DNS does not answer ({seen.reason}); nothing changes")
            self.problem = True
            return entry
        match entry.state:
            case KeyState.NEW:
                return self._new(entry, seen, replaces)
            case KeyState.PUBLISHED:
                return self._published(entry, seen, replaces)
            case KeyState.ACTIVE:
                return self._active(entry, seen)
            case KeyState.RETIRED:
                return self._retired(entry, seen)

    def _new(self, entry: KeyEntry, seen: Comparison, replaces: bool) -> KeyEntry:
        if seen.state is not Published.OK:
            self._say(entry, f"publish its record: {seen.reason}")
            self.problem = self.problem or seen.state is Published.WRONG
            return entry
        entry = self._in_state(entry, KeyState.PUBLISHED)
        if replaces and self._settle:
            self._say(entry, f"its record is published; it signs in {self._settle // 60} minutes")
            return entry
        return self._activate(entry)

    def _published(self, entry: KeyEntry, seen: Comparison, replaces: bool) -> KeyEntry:
        if seen.state is not Published.OK:
            self._say(entry, f"its record was seen, but no longer: {seen.reason}")
            self.problem = True
            return self._in_state(entry, KeyState.NEW)
        left = entry.since + self._settle - self._now
        if replaces and left > 0:
            self._say(entry, f"its record is published; it signs in {-(-left // 60)} minutes")
            return entry
        return self._activate(entry)

    def _active(self, entry: KeyEntry, seen: Comparison) -> KeyEntry:
        if seen.state is not Published.OK:
            # It signs on: without a signature nothing gets better, and the other key may be good.
            self._say(entry, f"signs, but its record is not right: {seen.reason}")
            self.problem = True
        return entry

    def _retired(self, entry: KeyEntry, seen: Comparison) -> KeyEntry | None:
        left = entry.since + KEEP - self._now
        is_absent = seen.state in (Published.ABSENT, Published.REVOKED)
        if left > 0:
            if is_absent:
                self._say(entry, "its record has gone too early: mail that it signed may be under way")
                self.problem = True
            return entry
        if not is_absent:
            self._say(entry, f"remove its record, {record_name(self._domain, entry.selector)}")
            return entry
        self._say(entry, "its record has gone; the key is deleted")
        self.gone.append(entry)
        return None

    def _activate(self, entry: KeyEntry) -> KeyEntry:
        self._say(entry, "signs from now on")
        return self._in_state(entry, KeyState.ACTIVE)

    def _in_state(self, entry: KeyEntry, state: KeyState) -> KeyEntry:
        return msgspec.structs.replace(entry, state=state, since=self._now)

    def _say(self, entry: KeyEntry, text: str) -> None:
        self.events.append(f"{entry.selector}: {text}")
