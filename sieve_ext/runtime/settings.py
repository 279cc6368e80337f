"""What the administrator sets for the engine and its extensions: text by key.

The keys and the ways to write values are those that administrators of Dovecot know: `sieve_max_actions`,
"yes" and "no", times with units, sizes with K, M and G. A value that cannot be read counts as not set;
`Settings.complaints` collects what was wrong, for the host's log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_period = re.compile(r"(\d{1,9}) ?(ms|msecs?|s|secs?|m|mins?|h|hours?|d|days?|w|weeks?)?").fullmatch
_size = re.compile(r"(\d{1,18}) ?([kKmMgG]?)[bB]?").fullmatch
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SCALE = {"": 0, "k": 10, "m": 20, "g": 30}


class Settings:
    """Values by key; what is not set has the default of whoever asks."""

    __slots__ = ("_limits", "_values", "complaints")

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        """`values` are copied."""
        self._values = dict(values or {})
        self._limits: RunLimits | None = None
        self.complaints: list[str] = []
        """Values that could not be read, once each time that one was asked for."""

    def set(self, key: str, value: str) -> None:
        """Set a value from now on."""
        self._values[key] = value
        self._limits = None

    def unset(self, key: str) -> None:
        """Go back to the default."""
        self._values.pop(key, None)
        self._limits = None

    def keys(self) -> list[str]:
        """The keys that are set."""
        return list(self._values)

    def text(self, key: str, default: str = "") -> str:
        """A value without blanks around it."""
        value = self._values.get(key)
        return default if value is None else value.strip()

    def boolean(self, key: str, default: bool = False) -> bool:
        """A value that is yes or no."""
        value = self.text(key).lower()
        if value in ("yes", "y", "true", "1", "on"):
            return True
        if value in ("no", "n", "false", "0", "off"):
            return False
        return self._unread(key, value, default)

    def number(self, key: str, default: int) -> int:
        """A whole number, not negative."""
        value = self.text(key)
        if value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
        return self._unread(key, value, default)

    def size(self, key: str, default: int) -> int:
        """Octets, with K, M or G."""
        match = _size(self.text(key))
        if match:
            return int(match[1]) << _SCALE[match[2].lower()]
        return self._unread(key, self.text(key), default)

    def period(self, key: str, default: float, unit: str = "s") -> float:
        """Seconds; a number without unit is in `unit`: "s", "m", "h", "d"."""
        match = _period(self.text(key).lower())
        if match is None:
            return self._unread(key, self.text(key), default)
        given = match[2] or unit
        return int(match[1]) * _UNITS["ms" if given.startswith("ms") else given[0]]

    def _unread(self, key: str, value: str, default: T) -> T:
        if value:
            self.complaints.append(f"{key}: cannot read {value!r}")
        return default

    @property
    def limits(self) -> RunLimits:
        """The limits of a run."""
        if self._limits is None:
            self._limits = RunLimits(self)
        return self._limits


class RunLimits:
    """What one run may use, read once from the settings."""

    __slots__ = ("actions", "cpu_seconds", "operations", "variable_octets")

    def __init__(self, settings: Settings) -> None:
        """The defaults are those that the reference implementation has, where it has the limit."""
        self.operations = settings.number("sieve_max_operations", 20_000_000)
        """Values compared and commands done; a message of 100,000 fields costs that many a test."""
        self.cpu_seconds = settings.period("sieve_max_cpu_time", 30.0)
        """Processor seconds of this thread, without the time in which the host looks for answers."""
        self.actions = settings.number("sieve_max_actions", 32)
        """Actions of one result, 0 for no limit."""
        size = settings.size("sieve_variables_max_variable_size", 4096)
        self.variable_octets = settings.size("sieve_variables_max_value_size", size)
        """Longest value of a variable in octets of UTF-8; longer ones are cut."""
