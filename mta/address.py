"""Mail addresses as values (RFC 5321 section 4.1.2, RFC 6531, RFC 5891)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Address:
    """A mailbox, the null reverse-path, or `postmaster` without a domain.

    `local` is the local part without quoting ("a b" for `"a b"@x`). `domain` is compared and looked up:
    lower case, A-labels, no trailing dot; an address literal is "[192.0.2.1]" or "[IPv6:2001:db8::1]";
    "" for the null path and for a bare `postmaster`. `text` is the address as it was written, without
    angle brackets and source route: what is relayed.
    """

    local: str
    domain: str
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def is_null(self) -> bool:
        """True for `<>`."""
        return not self.text

    @property
    def is_utf8(self) -> bool:
        """True when the address as written needs SMTPUTF8."""
        return not self.text.isascii()


NULL = Address("", "", "")
"""The null reverse-path, `<>`."""
