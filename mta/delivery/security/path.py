"""Chains that the library's verifier leaves out: keys on Edwards curves (RFC 8410), host names with "_".

It knows what the web's authorities may sign, and DANE-TA(2) binds an authority of the server's own choice.
This is less than RFC 5280: what has constraints on names, or anything critical that we do not know, is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from mta.net.certcheck import STRANGE

MAX_CHECKS = 64
"""Signatures that are checked for one chain, about 0.1 ms each: nobody makes us try all orders of many."""
MIN_RSA = 2048
"""Bits of an RSA key, as the library's verifier has it."""
_DIGESTS = frozenset(("sha256", "sha384", "sha512"))
_EDWARDS = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
_KNOWN = frozenset(
    (
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.ExtendedKeyUsage.oid,
        x509.SubjectAlternativeName.oid,
        x509.SubjectKeyIdentifier.oid,
        x509.AuthorityKeyIdentifier.oid,
    )
)
_FAILED = (*STRANGE, InvalidSignature)


def is_left_out(certificates: Sequence[x509.Certificate], names: Sequence[str]) -> bool:
    """Whether the library's verifier refuses a chain for what it does not know, whatever else it is worth."""
    return any("_" in name for name in names) or any(map(_is_edwards, certificates))


def chains_to(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    anchor: x509.Certificate,
    now: datetime,
    most: int,
) -> bool:
    """Whether the leaf chains to the anchor over at most `most` of the others. Names are not looked at."""
    checks = 0
    try:
        if not _is_plain(leaf, now):
            return False
        waiting = [(leaf, 0)]
        while waiting:
            child, above = waiting.pop()
            for issuer in (anchor, *others):
                if issuer is child or issuer.subject != child.issuer:
                    continue
                checks += 1
                if checks > MAX_CHECKS:
                    return False
                if not _may_issue(issuer, above, now) or not _has_signed(issuer, child):
                    continue
                if issuer is anchor:
                    return True
                if above < most:
                    waiting.append((issuer, above + 1))
    except _FAILED:
        return False
    return False


def _is_edwards(certificate: x509.Certificate) -> bool:
    try:
        return isinstance(certificate.public_key(), _EDWARDS)
    except _FAILED:
        return False


def _is_plain(certificate: x509.Certificate, now: datetime) -> bool:
    """Valid today, with a key that can be relied on and nothing critical that we do not know."""
    key = certificate.public_key()
    strong = isinstance(key, (*_EDWARDS, ec.EllipticCurvePublicKey)) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA
    )
    return (
        strong
        and certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
        and all(one.oid in _KNOWN or not one.critical for one in certificate.extensions)
    )


def _may_issue(issuer: x509.Certificate, above: int, now: datetime) -> bool:
    """Whether it is an authority, with `above` other ones between it and the leaf."""
    if not _is_plain(issuer, now):
        return False
    constraints: x509.BasicConstraints | None = None
    for one in issuer.extensions:
        value = one.value
        if isinstance(value, x509.NameConstraints):
            return False
        if isinstance(value, x509.KeyUsage) and not value.key_cert_sign:
            return False
        if isinstance(value, x509.BasicConstraints):
            constraints = value
    if constraints is None or not constraints.ca:
        return False
    return constraints.path_length is None or above <= constraints.path_length


def _has_signed(issuer: x509.Certificate, child: x509.Certificate) -> bool:
    digest = child.signature_hash_algorithm
    if digest is not None and digest.name not in _DIGESTS:
        return False
    try:
        child.verify_directly_issued_by(issuer)
    except _FAILED:
        return False
    return True
