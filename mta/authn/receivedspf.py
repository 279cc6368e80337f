"""The field Received-SPF (RFC 7208 section 9.1), for programs that do not read Authentication-Results."""

from __future__ import annotations

from mta.address import Address
from mta.authn.spf import SpfResult
from mta.session import Session

FIELD = "Received-SPF"


def render(hostname: str, session: Session, sender: Address, found: SpfResult) -> str:
    """The value, folded; `sender` is that of MAIL. What strangers wrote is reduced to harmless characters."""
    return "\r\n\t".join(
        (
            f"{found.result.result} ({hostname}: {_within(found.result.reason, 200, '()')})",
            f"receiver={hostname}; client-ip={_within(session.client_address, 45)};",
            f'envelope-from="{_within(sender.text, 320)}"; helo={_word(session.helo)};',
            f"identity={found.identity};",
        )
    )


def _within(text: str, most: int, without: str = "") -> str:
    """A text for the inside of a comment or a quoted string."""
    unfit = {'"', "\\", *without}
    return "".join(c if " " <= c <= "~" and c not in unfit else "?" for c in text[:most])


def _word(text: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "?" for c in text[:255])
    return kept.replace("?", "") or "unknown"
