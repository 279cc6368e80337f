"""Names that once proved something are held to it: no silent downgrade (design 6, RFC 7672 section 8).

A pin is set when an answer about a name was SECURE. When the name turns unsigned later - its parent lost
the DS record, or somebody made it look so - mail for it waits for a hold-down and the administrator is told.
After the hold-down the pin is released, with another line in the log, unless the configuration says to hold
until somebody forgets it by hand. A name that proves itself again in between is as good as new.

Kinds: "mx" (the MX answer of a domain), "host" (the addresses of a mail host), "capability" (a host has a
capability record), "sts" (a domain has an MTA-STS policy in mode enforce).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from mta.delivery.security.memory import Memory, Pin

REFRESH = 3600.0
"""Seconds after which a pin's `last` is written anew: one write an hour for a name."""
CACHE = 30.0
"""Seconds that a worker trusts what it read: then it sees what others and the administrator did."""
CACHED = 20_000
"""Names of which a worker remembers that there is no pin, or which."""


@dataclass(slots=True, frozen=True)
class Held:
    """Mail for a name must wait."""

    name: str
    last: float
    """When it proved itself last (time of the epoch)."""
    since: float
    until: float | None
    """End of the hold-down; None: until somebody forgets the pin."""

    def __str__(self) -> str:
        end = "until an administrator forgets it" if self.until is None else f"until {_time(self.until)}"
        return f"last proven {_time(self.last)}, missing since {_time(self.since)}, held {end}"


class Log(Protocol):
    """Where it is told."""

    def warning(self, event: str, **fields: Any) -> Any:
        """What the administrator should know."""

    def error(self, event: str, **fields: Any) -> Any:
        """What the administrator must know."""


class Pins:
    """The pins of a worker."""

    def __init__(
        self,
        memory: Memory,
        log: Log,
        *,
        hold: float,
        release: bool,
        now: Callable[[], float],
        alarm: Callable[[str], None],
    ) -> None:
        """`hold` in seconds, 0 keeps no pins; `release` at its end; `alarm` counts, by kind."""
        self._memory = memory
        self._log = log
        self._hold = hold
        self._release = release
        self._now = now
        self._alarm = alarm
        self._cache: dict[tuple[str, str], tuple[float, Pin | None]] = {}

    def proven(self, kind: str, name: str) -> None:
        """The name proved itself now."""
        if not self._hold:
            return
        now = self._now()
        pin = self._get(kind, name, now)
        if pin is None:
            self._set(kind, name, Pin(now, now), now)
        elif pin.broken is not None or now - pin.last >= REFRESH:
            if pin.broken is not None:
                self._log.warning("proven again", kind=kind, name=name, since=_time(pin.broken))
            self._set(kind, name, Pin(pin.first, now), now)

    def missing(self, kind: str, name: str, reason: str) -> Held | None:
        """The name does not prove itself now; what follows for its mail. `reason` is for the log."""
        if not self._hold:
            return None
        now = self._now()
        pin = self._get(kind, name, now)
        if pin is None:
            return None
        if pin.broken is None:
            pin = replace(pin, broken=now)
            self._set(kind, name, pin, now)
            self._alarm(kind)
            self._log.error(
                "downgrade", kind=kind, name=name, last=_time(pin.last), hold=self._hold, reason=reason
            )
        broken = pin.broken
        assert broken is not None
        if self._release and now >= broken + self._hold:
            self._memory.drop_pin(kind, name)
            self._cache[kind, name] = now, None
            self._log.error("downgrade accepted", kind=kind, name=name, last=_time(pin.last), reason=reason)
            return None
        return Held(name, pin.last, broken, broken + self._hold if self._release else None)

    def known(self, kind: str, name: str) -> bool:
        """Whether the name has a pin."""
        return bool(self._hold) and self._get(kind, name, self._now()) is not None

    def forget(self, kind: str, name: str) -> None:
        """The owner of the name has taken back, provably, what was proven."""
        if self.known(kind, name):
            self._memory.drop_pin(kind, name)
            self._cache[kind, name] = self._now(), None

    def _get(self, kind: str, name: str, now: float) -> Pin | None:
        found = self._cache.get((kind, name))
        if found is not None and 0 <= now - found[0] < CACHE:
            return found[1]
        pin = self._memory.pin(kind, name)
        self._keep(kind, name, pin, now)
        return pin

    def _set(self, kind: str, name: str, pin: Pin, now: float) -> None:
        self._memory.set_pin(kind, name, pin)
        self._keep(kind, name, pin, now)

    def _keep(self, kind: str, name: str, pin: Pin | None, now: float) -> None:
        cache = self._cache
        cache.pop((kind, name), None)
        cache[kind, name] = now, pin
        if len(cache) > CACHED:
            del cache[next(iter(cache))]


def _time(epoch: float) -> str:
    return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%d %H:%M UTC")
