"""subaddress (RFC 5233): the address parts :user and :detail. Status: complete.

What separates them is the setting `recipient_delimiter`, one or more characters, "+" by default; of these
the first in the local part counts. An address without it has no detail, and is all user.
"""

from __future__ import annotations

from sieve_ext.extend import AddressPart, Capability, Run


def split_local(local: str, delimiters: str) -> tuple[str, str | None]:
    """User and detail of a local part; the detail is None where there is no delimiter."""
    places = [place for delimiter in set(delimiters) if (place := local.find(delimiter)) >= 0]
    if not places:
        return local, None
    place = min(places)
    return local[:place], local[place + 1 :]


def _delimiters(run: Run) -> str:
    return run.settings.text("recipient_delimiter", "+")


def user_part(run: Run, local: str, domain: str) -> str | None:
    """What stands before the delimiter."""
    return split_local(local, _delimiters(run))[0]


def detail_part(run: Run, local: str, domain: str) -> str | None:
    """What stands behind it, None without one (section 4)."""
    return split_local(local, _delimiters(run))[1]


CAPABILITIES = (
    Capability(
        "subaddress",
        address_parts=(AddressPart(":user", user_part), AddressPart(":detail", detail_part)),
        specification="RFC 5233",
        settings={"recipient_delimiter": "characters that separate user and detail, + by default"},
    ),
)
