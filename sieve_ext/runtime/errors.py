"""What ends a run before the end of the script. None of these leaves the engine."""

from __future__ import annotations


class RunFailed(Exception):
    """Something is wrong that only shows when the script runs; the message is kept, the text reported."""


class LimitExceeded(RunFailed):
    """The script has used up what it may."""


class Leave(Exception):
    """Control flow that leaves several blocks; not an error."""


class Stopped(Leave):
    """`stop` (RFC 5228 section 3.3)."""
