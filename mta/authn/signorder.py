"""What a policy wants of signatures, as values: imported where scripts are read and where is signed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Method(Enum):
    """How a message is signed."""

    DKIM = "dkim"
    """As its sender."""
    ARC = "arc"
    """As somebody who passes it on."""
    NONE = "none"
    """Not at all, whatever else is ordered."""


@dataclass(slots=True, frozen=True)
class SignatureOrder:
    """One signature. Without any a message is signed as usual; with some, only as ordered."""

    method: Method
    domain: str = ""
    """In lower case and A-labels, "" for the usual choice."""
    selector: str = ""
    """That of one key, "" for all active keys of the domain."""
