"""What a run may ask of its host: anything that is not in the script, the message or the envelope.

A step yields a request and is sent the answer. Each request class says what it means when the host has no
answer (`unanswered`), so that a host need only know the requests it cares for, and extensions bring theirs.
"""

from __future__ import annotations

from typing import Any


class Request:
    """A question to the host. Subclasses are frozen dataclasses."""

    __slots__ = ()

    def unanswered(self) -> Any:
        """The answer where the host does not know this request."""
        return None
