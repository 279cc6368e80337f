"""TLSA records: which ones can be used, and which certificates they match (RFC 6698, RFC 7671, RFC 7672).

Usages 0 and 1 have no meaning between mail servers (RFC 7672 section 3.1.3), unknown selectors and matching
types, digests of a wrong length and full data that cannot be read make a record unusable. Of the usable ones
those with the strongest digest count, for each usage and selector; full data always counts (digest agility,
RFC 7671 section 9).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from dns.rdata import GenericRdata, Rdata
from dns.rdtypes.tlsabase import TLSABase

from mta.delivery.security.der import DerError, public_key_info, read_element
from mta.delivery.security.requirement import Tlsa

DANE_TA = 2
DANE_EE = 3
CERTIFICATE = 0
PUBLIC_KEY = 1
FULL = 0
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}
_LENGTHS = {1: 32, 2: 64}
_STRENGTH = {1: 1, 2: 2}
MAX_RECORDS = 64
"""Records of one host that are looked at; a roll-over of several keys needs eight."""


def read_tlsa(records: Iterable[Rdata]) -> list[Tlsa]:
    """The TLSA records of an answer, read by dnspython or left to us, in an order of our own."""
    found: set[Tlsa] = set()
    for record in records:
        if isinstance(record, TLSABase):
            found.add(Tlsa(record.usage, record.selector, record.mtype, record.cert))
        elif isinstance(record, GenericRdata) and len(record.data) >= 3:
            usage, selector, matching = record.data[:3]
            found.add(Tlsa(usage, selector, matching, record.data[3:]))
    return sorted(found, key=lambda one: (-one.usage, one.selector, one.matching, one.data))


def is_usable(record: Tlsa) -> bool:
    """Whether a certificate can be matched against the record at all."""
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (CERTIFICATE, PUBLIC_KEY):
        return False
    if record.matching in _LENGTHS:
        return len(record.data) == _LENGTHS[record.matching]
    return record.matching == FULL and _is_readable(record)


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """What counts of the records, digest agility applied."""
    fit = [record for record in records if is_usable(record)][:MAX_RECORDS]
    strongest: dict[tuple[int, int], int] = {}
    for record in fit:
        kind = record.usage, record.selector
        strongest[kind] = max(strongest.get(kind, 0), _STRENGTH.get(record.matching, 0))
    return tuple(
        record
        for record in fit
        if record.matching == FULL or _STRENGTH[record.matching] == strongest[record.usage, record.selector]
    )


def matches(record: Tlsa, certificate: bytes) -> bool:
    """Whether a certificate (DER) is the one that the record tells, by itself or by its public key."""
    if record.selector == CERTIFICATE:
        selected = certificate
    else:
        try:
            selected = public_key_info(certificate)
        except DerError:
            return False
    digest = _DIGESTS.get(record.matching)
    return (digest(selected).digest() if digest else selected) == record.data


def _is_readable(record: Tlsa) -> bool:
    # The keys themselves are read where they are needed (`mta.delivery.security.dane`): this is quick.
    try:
        if record.selector == CERTIFICATE:
            public_key_info(record.data)
        tag, _, end = read_element(record.data, 0)
    except DerError:
        return False
    return tag == 0x30 and end == len(record.data)
