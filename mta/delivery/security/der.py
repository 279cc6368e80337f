"""As much DER as it takes to find the public key in a certificate, octet by octet as it was signed.

Libraries give keys out in their own encoding, and not at all for algorithms that they do not know; TLSA
records are about the octets in the certificate (RFC 6698 section 2.1.2).
"""

from __future__ import annotations

SEQUENCE = 0x30
_VERSION = 0xA0
_BEFORE_KEY = 5
"""serialNumber, signature, issuer, validity, subject (RFC 5280 section 4.1)."""


class DerError(ValueError):
    """The octets are no certificate (remote)."""


def read_element(octets: bytes, position: int) -> tuple[int, int, int]:
    """Tag, start of the content and end of the element at `position`. Raises DerError."""
    try:
        tag, length = octets[position], octets[position + 1]
        start = position + 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4:
                raise DerError("length of a DER element")
            length = int.from_bytes(octets[start : start + count], "big")
            start += count
    except IndexError as error:
        raise DerError("DER ends too early") from error
    if start + length > len(octets):
        raise DerError("DER ends too early")
    return tag, start, start + length


def public_key_info(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate in DER. Raises DerError."""
    tag, start, end = read_element(certificate, 0)
    if tag != SEQUENCE or end != len(certificate):
        raise DerError("no certificate")
    tag, position, end = read_element(certificate, start)
    if tag != SEQUENCE:
        raise DerError("no certificate")
    tag, _, after = read_element(certificate, position)
    if tag == _VERSION:
        position = after
    for _ in range(_BEFORE_KEY):
        _, _, position = read_element(certificate, position)
    tag, _, after = read_element(certificate, position)
    if tag != SEQUENCE or after > end:
        raise DerError("no public key")
    return certificate[position:after]
