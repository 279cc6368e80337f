"""How long `sendmail` waits for a server that is away: a restart must lose no mail of who asks only once.

cron and most programs take any status but 0 for the end of it.
"""

from __future__ import annotations

import os
import sys
import time

VARIABLE = "TAMIS_SENDMAIL_WAIT"
"""In the environment: seconds in place of `WAIT`; 0 for programs that had rather do it themselves."""
WAIT = 120.0
"""Seconds: a stop may take `process.drain_timeout`, and the start comes after it."""
MAX_WAIT = 86_400.0
PAUSE = 0.5
"""Seconds between looks."""


class WrongWait(ValueError):
    """The environment says no number of seconds."""


class Patience:
    """What is left of the time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._has_said = False

    @classmethod
    def of_environment(cls) -> Patience:
        """As long as `VARIABLE` says. Raises WrongWait."""
        given = os.environ.get(VARIABLE, "")
        try:
            seconds = float(given or WAIT)
        except ValueError:
            seconds = -1
        if not 0 <= seconds <= MAX_WAIT:
            raise WrongWait(f"{VARIABLE}={given}: expected seconds, 0 to {MAX_WAIT:.0f}")
        return cls(seconds)

    def lasts(self, why: str) -> bool:
        """Sleep a moment and return True while there is time; say `why`, once."""
        left = self._until - time.monotonic()
        if left <= 0:
            return False
        if not self._has_said:
            self._has_said = True
            print(f"sendmail: {why}: waiting {self._seconds:g} s for it", file=sys.stderr, flush=True)
        time.sleep(min(PAUSE, left))
        return True
