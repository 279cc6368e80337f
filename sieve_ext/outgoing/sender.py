"""Settings that say whose address a mail carries."""

from __future__ import annotations

from sieve_ext.outgoing.mail import Origin
from sieve_ext.validate.values import normal_address


def source_address(origin: Origin, key: str, default: str) -> str | None:
    """The address that the setting `key` means.

    Values are "sender", "recipient", "orig_recipient", "user_email", "postmaster", an address in angle
    brackets, or "<>". "" is the null sender; None when the address meant is not known or the setting cannot
    be read.
    """
    value = origin.settings.text(key, default) or default
    match value.lower():
        case "sender":
            return origin.envelope.sender or ""
        case "recipient":
            return origin.recipient or None
        case "orig_recipient":
            return origin.original_recipient or None
        case "user_email":
            return origin.user_email or origin.recipient or None
        case "postmaster":
            return postmaster(origin)
        case "<>":
            return ""
    if value.startswith("<") and value.endswith(">"):
        return normal_address(value[1:-1])
    origin.settings.complaints.append(f"{key}: cannot read {value!r}")
    return None


def postmaster(origin: Origin) -> str:
    """The address of the administrator, without display name; "" where none can be read."""
    return normal_address(origin.postmaster) or ""
