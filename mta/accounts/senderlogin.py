"""The sender-login check: may this user send as this address.

By default a user sends as its own login name, the addresses that the back end lists for it, and
subaddresses of all of them (alice+shop@example.org for alice@example.org), by the delimiters of the domain.
"@example.org" in the list owns the whole domain. The null sender is everybody's: read receipts and vacation
notices need it (RFC 8098 section 3). Masters may send as anybody: web mail, scanners, mailing lists. A
session without a login owns nothing, nor does one whose user is none any more; of users that a trusted peer
names (XCLIENT) only that peer knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mta.address import Address, split_subaddress
from mta.session import Session


@dataclass(slots=True, frozen=True)
class SenderLoginSettings:
    """What belongs to whom."""

    masters: frozenset[str] = frozenset()
    """Users (canonical names) that may send as anybody."""
    delimiters: str = "+"
    """Characters that separate a subaddress (RFC 5233), "" for none."""
    delimiters_of: Mapping[str, str] = field(default_factory=dict)
    """The same of domains that have their own: what is no subaddress there may be somebody else's address."""
    is_user: Callable[[str], bool] = lambda key: False
    """Tells whether a user has exactly this name: then it is no subaddress of another one's."""
    is_gone: Callable[[str], bool] = lambda user: False
    """Tells whether a user who has logged in here was deleted or disabled since: it owns nothing any more."""
    default_domain: str = ""
    """Domain of login names without one, "" if such a name is nobody's address."""


DEFAULTS = SenderLoginSettings()
"""Own addresses, subaddresses by "+", the null sender."""


def address_of(user: str, default_domain: str) -> str:
    """The address that a login name is: itself, or with the default domain; itself when there is none."""
    return user if "@" in user or not default_domain else f"{user}@{default_domain}"


def owns(settings: SenderLoginSettings, session: Session, sender: Address) -> bool:
    """True when the logged-in user of the session may send as `sender`; a microsecond."""
    user = session.user
    if not user or (settings.is_gone(user) and session.auth_mechanism != "XCLIENT"):
        return False
    if user in settings.masters or sender.is_null:
        return True
    own = address_of(user, settings.default_domain)
    key, domain = sender.key, sender.domain
    addresses = session.addresses
    if key == own or key in addresses or f"@{domain}" in addresses:
        return True
    delimiters = settings.delimiters_of.get(domain, settings.delimiters)
    base, detail = split_subaddress(key.rpartition("@")[0], delimiters)
    if detail is None:
        return False
    named, key = key, f"{base}@{domain}"
    if key != own and key not in addresses:
        return False
    names = (named, named.rpartition("@")[0]) if domain == settings.default_domain else (named,)
    return not any(map(settings.is_user, names))
