"""The DNS record of a key: what to publish, and how what is published differs from it (RFC 6376 section 3.6).

Pure: `compare` is given an answer.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta.authn.dkimkey import PublicKey, Revoked, read_record
from mta.authn.dkimkeys import SigningKey, public_octets
from mta.authn.dkimlib import Malformed
from mta.net.resolver.base import Answer

STRING_OCTETS = 255
"""Octets of one string of a TXT record (RFC 1035 section 3.3.14)."""
DEFAULT_TTL = 3600


class Published(StrEnum):
    """What the DNS has of a key."""

    OK = "ok"
    ABSENT = "absent"
    REVOKED = "revoked"
    """A record says that the key is no longer used."""
    WRONG = "wrong"
    """Something else than the key, or with restrictions that keep it from being used."""
    UNKNOWN = "unknown"
    """The DNS did not answer."""


@dataclass(slots=True, frozen=True)
class Comparison:
    """What the DNS has, and why that is not `OK`; `warnings` are of a key that can be used."""

    state: Published
    reason: str = ""
    warnings: tuple[str, ...] = ()
    secure: bool = False
    """DNSSEC vouches for the answer."""


def record_name(domain: str, selector: str) -> str:
    """Where a key is published."""
    return f"{selector}._domainkey.{domain}"


def record_text(key: SigningKey) -> str:
    """The text of the record; it may have to be split into strings."""
    return f"v=DKIM1; k={key.type}; p={base64.b64encode(public_octets(key.key)).decode()}"


def strings(text: str) -> list[str]:
    """An ASCII text as the strings of a TXT record."""
    return [text[start : start + STRING_OCTETS] for start in range(0, len(text), STRING_OCTETS)]


def zone_line(key: SigningKey) -> str:
    """The record as a line of a zone file (RFC 1035 section 5)."""
    quoted = " ".join(f'"{string}"' for string in strings(record_text(key)))
    if quoted.count('" "'):
        quoted = f"( {quoted} )"
    return f"{record_name(key.domain, key.selector)}. {DEFAULT_TTL} IN TXT {quoted}"


def compare(key: SigningKey, answer: Answer) -> Comparison:
    """What an answer for TXT at `record_name` has of `key`."""
    if not answer.usable:
        return Comparison(Published.UNKNOWN, answer.reason or "no answer")
    texts = answer.texts
    if not texts:
        return Comparison(Published.ABSENT, "there is no record", secure=answer.secure)
    if len(texts) > 1:
        # Which one a verifier takes is undefined (section 3.6.2.2).
        return Comparison(Published.WRONG, f"there are {len(texts)} records", secure=answer.secure)
    try:
        found = read_record(texts[0])
    except Revoked:
        return Comparison(Published.REVOKED, "the record says that it is revoked", secure=answer.secure)
    except Malformed as problem:
        return Comparison(Published.WRONG, str(problem), secure=answer.secure)
    if found.type != key.type:
        return Comparison(Published.WRONG, f"the record is for {found.type}", secure=answer.secure)
    if _octets(found.key) != _octets(key.key.public_key()):
        return Comparison(Published.WRONG, "the record has another key", secure=answer.secure)
    warnings = []
    if found.testing:
        warnings.append("t=y says that DKIM is only tested; verifiers may ignore signatures")
    if not texts[0].lstrip().startswith(b"v=DKIM1"):
        warnings.append("the record does not begin with v=DKIM1")
    return Comparison(Published.OK, warnings=tuple(warnings), secure=answer.secure)


def _octets(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
