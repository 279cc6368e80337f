"""What a resolver answers, and the protocol that everybody who asks it depends on.

Sender authentication, delivery and start-up checks take a `Resolver`; the daemon gives them
`mta.net.resolver.stub`, tests `mta.net.resolver.fake`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dns.rdata import Rdata
from dns.rdtypes.txtbase import TXTBase


class Status(Enum):
    """How far an answer can be trusted (RFC 4035 section 4.3, without its "indeterminate")."""

    SECURE = "secure"
    """Validated from the root down: records, or the proof that there are none."""
    INSECURE = "insecure"
    """Unsigned, or a resolver answered that is not allowed to vouch."""
    BOGUS = "bogus"
    """Validation failed; there are no records."""
    FAIL = "fail"
    """No answer: timeout, SERVFAIL, refusal, nonsense; there are no records."""


@dataclass(slots=True, frozen=True)
class Answer:
    """The answer to one question. Do not change the records: the cache gives out the same answer again."""

    status: Status
    records: tuple[Rdata, ...] = ()
    """Records of the type that was asked for, at the end of any CNAMEs; empty if there are none."""
    ttl: float = 0.0
    """Seconds for which the DNS lets the answer be kept, as of when it was fetched."""
    reason: str = ""
    """For the log: why there is no usable answer (timeout, return code, extended error); else empty."""
    exists: bool = True
    """False when the name does not exist (NXDOMAIN, RFC 8020); without records the name may still exist."""
    canonical: str = ""
    """The name at the end of CNAMEs, lower case, without the final dot; "" when there were none."""

    @property
    def usable(self) -> bool:
        """True when the DNS answered, be it that there is nothing; otherwise the result is "temporary"."""
        return self.status is Status.SECURE or self.status is Status.INSECURE

    @property
    def secure(self) -> bool:
        """True when DNSSEC vouches for records or for their absence."""
        return self.status is Status.SECURE

    @property
    def texts(self) -> tuple[bytes, ...]:
        """TXT records, the strings of each joined (RFC 7208 section 3.3, RFC 6376 section 3.6.2.2)."""
        return tuple(b"".join(record.strings) for record in self.records if isinstance(record, TXTBase))


class Resolver(Protocol):
    """Something that answers questions about the DNS."""

    async def query(self, name: str, rdtype: str, deadline: float) -> Answer:
        """Ask for records of `rdtype` ("TXT", "A", "MX" ...) at `name`.

        `name` is absolute, with or without the final dot; U-labels are asked as A-labels. A text that cannot
        be a domain name is answered as one that does not exist, without asking. `deadline` is in seconds of
        the running loop's clock; what is not answered by then is FAIL. Raises nothing but CancelledError,
        and ValueError for an unknown type, which is the caller's mistake.
        """
