"""The capability record: what a mail server promises in the DNS (docs/capability-record.md).

    _25._smtp.mx.example.org. 3600 IN SVCB 1 . key65280="1.2" key65282 key65283="SMTPUTF8,CHUNKING"

`read_capabilities` reads the records of an answer, `Capabilities.rdata` writes one; both are pure. What is
not understood is passed over, unless the record itself says that it is mandatory: then the record is.
A record that means nothing to us is no record. Only the reader's caller knows whether the answer was
secure; from an answer that was not, nothing may follow.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import dns.name
from dns.rdata import Rdata
from dns.rdtypes.svcbbase import SVCBBase

MANDATORY = 0
TLS_FLOOR = 65280
IMPLICIT_TLS = 65281
REQUIRETLS = 65282
EHLO = 65283
SIZE = 65284
LIMITS = 65285
SERIAL = 65286
KEYS = frozenset({MANDATORY, TLS_FLOOR, IMPLICIT_TLS, REQUIRETLS, EHLO, SIZE, LIMITS, SERIAL})
"""The keys that we understand, from the range for private use (RFC 9460 section 14.3.1)."""
FLOORS = ("1.2", "1.3")
"""The least versions of TLS that a record can promise."""
MAX_KEYWORDS = 64
"""EHLO keywords of one record."""
LIMIT_NAMES = ("MAILMAX", "RCPTMAX", "RCPTDOMAINMAX")
"""The limits of RFC 9422."""

_SAME_HOST = (dns.name.root, dns.name.empty)
""""." on the wire, and as dnspython has it relative to the root."""
_KEYWORD = frozenset(string.ascii_uppercase + string.digits + "-")


def owner_name(host: str, port: int = 25) -> str:
    """Where the record of a server is."""
    return f"_{port}._smtp.{host}"


@dataclass(slots=True, frozen=True)
class Capabilities:
    """What one server promises. Anything may be missing."""

    tls_floor: str = ""
    """STARTTLS is always offered, with this version of TLS at least: "1.2", "1.3"; "" promises nothing."""
    implicit_tls: int = 0
    """A port with TLS from the first octet, 0 for none."""
    require_tls: bool = False
    """REQUIRETLS (RFC 8689) is offered over TLS."""
    ehlo: tuple[str, ...] = ()
    """Keywords of EHLO that are offered over TLS, without arguments: a hint."""
    size: int = 0
    """Octets of the greatest message, 0 for not said: a hint."""
    limits: tuple[tuple[str, int], ...] = ()
    """Limits of RFC 9422: a hint."""
    serial: int = 0
    """Grows with each change, so that people can tell which of two records is the newer one."""

    @property
    def promised(self) -> frozenset[str]:
        """The EHLO keywords whose absence over TLS is no accident but an attack (or a lie)."""
        return frozenset({"REQUIRETLS"}) if self.require_tls else frozenset()

    @property
    def demands(self) -> bool:
        """True when a client that believes the record must use TLS."""
        return bool(self.tls_floor) or self.require_tls

    def rdata(self) -> str:
        """The record's data as it stands in a zone file."""
        parts = ["1 ."]
        if self.tls_floor:
            parts.append(f'key{TLS_FLOOR}="{self.tls_floor}"')
        if self.implicit_tls:
            parts.append(f'key{IMPLICIT_TLS}="{self.implicit_tls}"')
        if self.require_tls:
            parts.append(f"key{REQUIRETLS}")
        if self.ehlo:
            parts.append(f'key{EHLO}="{",".join(self.ehlo)}"')
        if self.size:
            parts.append(f'key{SIZE}="{self.size}"')
        if self.limits:
            joined = ",".join(f"{name}={value}" for name, value in self.limits)
            parts.append(f'key{LIMITS}="{joined}"')
        if self.serial:
            parts.append(f'key{SERIAL}="{self.serial}"')
        return " ".join(parts)


def read_capabilities(records: Iterable[Rdata]) -> Capabilities | None:
    """What the records promise; None when there is none that we may use.

    Of several usable records the one with the lowest SvcPriority counts, among equals the one that promises
    most: hard promises first, then by their octets, so that the order of an answer means nothing.
    """
    found: list[tuple[int, int, str, Capabilities]] = []
    for record in records:
        if not isinstance(record, SVCBBase):
            continue
        capabilities = _read(record)
        if capabilities is not None:
            hard = bool(capabilities.tls_floor) + capabilities.require_tls
            found.append((record.priority, -hard, record.to_text(), capabilities))
    return min(found, key=lambda one: one[:3])[3] if found else None


def _read(record: SVCBBase) -> Capabilities | None:
    """One record; None for AliasMode, another target, or something mandatory that we do not know."""
    if record.priority == 0 or record.target not in _SAME_HOST:
        return None
    params = {int(key): value for key, value in record.params.items()}
    mandatory = params.get(MANDATORY)
    if mandatory is not None and not KEYS.issuperset(int(key) for key in mandatory.keys):
        return None

    def value(key: int) -> str | None:
        """The value as ASCII; "" for a key without one, None for no key or for octets that are no text."""
        if key not in params:
            return None
        octets: bytes = b"" if params[key] is None else params[key].value
        text = octets.decode("ascii", "replace")
        return text if text.isascii() and (not text or text.isprintable()) else None

    floor = value(TLS_FLOOR)
    keywords = (value(EHLO) or "").upper().split(",")[:MAX_KEYWORDS]
    return Capabilities(
        # A floor that we do not know yet promises TLS all the same: at least what we know best.
        tls_floor="" if floor is None else floor if floor in FLOORS else FLOORS[0],
        implicit_tls=_number(value(IMPLICIT_TLS), 65535),
        require_tls=REQUIRETLS in params,
        ehlo=tuple(word for word in keywords if word and _KEYWORD.issuperset(word)),
        size=_number(value(SIZE), 2**63 - 1),
        limits=_limits(value(LIMITS) or ""),
        serial=_number(value(SERIAL), 2**32 - 1),
    )


def _number(text: str | None, most: int) -> int:
    if not text or not text.isdigit() or len(text) > 20:
        return 0
    number = int(text)
    return number if number <= most else 0


def _limits(text: str) -> tuple[tuple[str, int], ...]:
    found: dict[str, int] = {}
    for item in text.upper().split(",")[: len(LIMIT_NAMES) * 2]:
        name, _, value = item.partition("=")
        number = _number(value, 999_999)
        if name in LIMIT_NAMES and number:
            found[name] = number
    return tuple(sorted(found.items()))


def ours(
    *,
    starttls: bool,
    minimum_version: str,
    offered: Iterable[str],
    size: int,
    recipients: int,
    serial: int = 0,
) -> Capabilities:
    """What our own server may promise.

    `starttls`: every listener for other servers has it; `minimum_version` as [tls] says it ("TLSv1.2");
    `offered` are the EHLO keywords; `size` and `recipients` the limits, 0 for none.
    """
    keywords: Callable[[str], bool] = _KEYWORD.issuperset
    words = sorted({word.upper() for word in offered if word and keywords(word.upper())} - _UNTOLD)
    return Capabilities(
        tls_floor=minimum_version.removeprefix("TLSv") if starttls else "",
        require_tls=starttls and "REQUIRETLS" in words,
        ehlo=tuple(word for word in words if word != "REQUIRETLS"),
        size=size,
        limits=(("RCPTMAX", recipients),) if recipients and "LIMITS" in words else (),
        serial=serial,
    )


_UNTOLD = frozenset({"STARTTLS", "AUTH", "XCLIENT", "XFORWARD", "HELP", "VRFY", "ETRN", "SIZE"})
"""What says nothing to a server that wants to deliver, or is said by a key of its own."""
