"""The envelope that a script sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Envelope:
    """The envelope of a message for one recipient (RFC 5228 section 5.4)."""

    sender: str | None = ""
    """The reverse-path without angle brackets, "" for the null sender; None if there is none yet."""
    recipient: str = ""
    """The recipient that the script runs for, "" if there is none yet."""
    original_recipient: str = ""
    """The recipient as the sender gave it (ORCPT), "" if that is `recipient`."""
    user: str = ""
    """The authenticated user, "" if none."""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """More parts by lower-case name, for extensions of the envelope test: "notify", "ret", "envid"."""
