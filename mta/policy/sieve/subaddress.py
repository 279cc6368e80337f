"""subaddress (RFC 5233) as the site has it: what separates user and detail is said for each domain.

In our domains it is `subaddress_delimiter`, read as everywhere else in the server (`mta.address`); in
others, of whose customs nobody knows, it is "+".
"""

from __future__ import annotations

from mta.address import split_subaddress
from mta.policy.sieve.facts import Surroundings
from sieve_ext.extend import AddressPart, Run

ELSEWHERE = "+"


def _split(run: Run, local: str, domain: str) -> tuple[str, str | None]:
    around = run.environment
    delimiters = around.delimiters(domain) if isinstance(around, Surroundings) else None
    return split_subaddress(local, ELSEWHERE if delimiters is None else delimiters)


def user_part(run: Run, local: str, domain: str) -> str | None:
    """What stands before the delimiter; without one all of it."""
    return _split(run, local, domain)[0]


def detail_part(run: Run, local: str, domain: str) -> str | None:
    """What stands behind it, None without one (section 4)."""
    return _split(run, local, domain)[1]


PARTS = (AddressPart(":user", user_part), AddressPart(":detail", detail_part))
"""What takes the place of the standard's parts."""
