"""DANE for SMTP: whether a server's certificates satisfy its TLSA records (RFC 7671, RFC 7672).

DANE-EE(3) binds the server's own certificate or key: nothing else of it counts, neither names nor dates nor
who signed it (RFC 7672 section 3.1.1). DANE-TA(2) binds an authority, which need not be known to anybody
else: the server's certificate must chain to it, be valid today, and have one of the reference names as a
DNS name. The authority must be in the chain that the server sends, above its own certificate, unless the
record holds it whole (a certificate, or a bare key that has signed what was sent).

Names count only as subjectAltName; a certificate with nothing but a common name is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import verification

from mta.delivery.security.path import chains_to, is_left_out
from mta.delivery.security.requirement import Tlsa
from mta.delivery.security.tlsa import CERTIFICATE, DANE_EE, DANE_TA, FULL, PUBLIC_KEY, matches
from mta.net.certcheck import STRANGE
from mta.net.tlsfailure import FailureType, PeerRefused

MAX_CHAIN = 12
"""Certificates of a server that are looked at; real chains have two to four."""
MAX_DEPTH = 8
MAX_PATHS = 8
"""Searches for a path to an authority, for one chain: a search that is made hard takes 10 ms of the event
loop, or 90 with slow keys. A roll-over of an authority needs two."""


def check_chain(
    chain: Sequence[bytes], records: Sequence[Tlsa], names: Sequence[str], now: datetime | None = None
) -> str:
    """The record that the chain satisfies, as text. Raises PeerRefused.

    `chain` is what the server sent, DER, its own certificate first; `records` are usable ones; `names` are
    the reference identifiers in A-labels. `now` is an aware time.
    """
    chain = chain[:MAX_CHAIN]
    for record in records:
        if record.usage == DANE_EE and matches(record, chain[0]):
            return str(record)
    anchored = [record for record in records if record.usage == DANE_TA]
    if not anchored:
        raise PeerRefused(FailureType.VALIDATION_FAILURE, "no TLSA record matches the certificate")
    return _Anchored(chain, names, now or datetime.now(UTC)).check(anchored)


class _Anchored:
    """One chain that is held against authorities."""

    def __init__(self, chain: Sequence[bytes], names: Sequence[str], now: datetime) -> None:
        self._chain = chain
        self._names = names
        self._now = now
        try:
            self._leaf = x509.load_der_x509_certificate(chain[0])
        except STRANGE as error:
            raise PeerRefused(FailureType.VALIDATION_FAILURE, "the certificate cannot be read") from error
        self._others = [one for one in map(_load, chain[1:]) if one is not None]
        self._reference = [name for name in names if _has_name(self._leaf, name)]
        certificates = (self._leaf, *self._others)
        found = [name for name in map(_issuer, certificates) if name is not None]
        self._issuers = list(dict.fromkeys(found))
        """Names of whoever has signed something of it, that of the leaf's issuer first."""
        self._paths = 0

    def check(self, records: Sequence[Tlsa]) -> str:
        """The record that the chain satisfies. Raises PeerRefused."""
        anchor_seen = False
        for record in records:
            for anchor in self._anchors(record):
                anchor_seen = True
                if self._reference and _subject(anchor) in self._issuers and self._chains_to(anchor):
                    return str(record)
        if not anchor_seen:
            raise PeerRefused(
                FailureType.VALIDATION_FAILURE, "no TLSA record matches an authority of the chain"
            )
        raise self._why()

    def _anchors(self, record: Tlsa) -> Iterator[x509.Certificate]:
        seen = False
        for octets in self._chain[1:]:
            if octets != self._chain[0] and matches(record, octets):
                certificate = _load(octets)
                if certificate is not None:
                    seen = True
                    yield certificate
        if record.matching == FULL and record.selector == CERTIFICATE:
            whole = _load(record.data)
            if whole is not None:
                yield whole
        elif record.matching == FULL and record.selector == PUBLIC_KEY and not seen:
            yield from self._bare(record.data)

    def _bare(self, key_info: bytes) -> Iterator[x509.Certificate]:
        """Authorities made of a bare key: one for each name that an issuer in the chain has.

        A trust anchor is a name and a key (RFC 5280 section 6.1.1); nobody looks at its signature.
        """
        try:
            key = serialization.load_der_public_key(key_info)
        except STRANGE:
            return
        for issuer in self._issuers:
            one = _anchor(issuer, key, self._now)  # type: ignore[arg-type]
            if one is not None:
                yield one

    def _chains_to(self, anchor: x509.Certificate) -> bool:
        if any(self._verify(anchor, name, self._now) for name in self._reference):
            return True
        return is_left_out((self._leaf, *self._others, anchor), self._reference) and chains_to(
            self._leaf, self._others, anchor, self._now, MAX_DEPTH
        )

    def _verify(self, anchor: x509.Certificate, name: str, now: datetime) -> bool:
        self._paths += 1
        if self._paths > MAX_PATHS:
            raise PeerRefused(FailureType.VALIDATION_FAILURE, "too many authorities, and none that fits")
        try:
            policy = (
                verification.PolicyBuilder()
                .store(verification.Store([anchor]))
                .time(now)
                .max_chain_depth(MAX_DEPTH)
                .extension_policies(ca_policy=_CA, ee_policy=_EE)
            )
            policy.build_server_verifier(x509.DNSName(name)).verify(self._leaf, self._others)
        except (verification.VerificationError, *STRANGE):
            return False
        return True

    def _why(self) -> PeerRefused:
        """What is wrong with a chain whose authority is the right one, as the report wants to know it."""
        leaf = self._leaf
        if not leaf.not_valid_before_utc <= self._now <= leaf.not_valid_after_utc:
            return PeerRefused(FailureType.CERTIFICATE_EXPIRED, "the certificate is not valid today")
        if not any(_has_name(leaf, name) for name in self._names):
            names = ", ".join(self._names)
            return PeerRefused(FailureType.CERTIFICATE_HOST_MISMATCH, f"the certificate is not for {names}")
        return PeerRefused(
            FailureType.CERTIFICATE_NOT_TRUSTED, "the certificate does not chain to the TLSA authority"
        )


def _load(octets: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(octets)
    except STRANGE:
        return None


def _issuer(certificate: x509.Certificate) -> x509.Name | None:
    try:
        return certificate.issuer  # read only now: the rest may be sound
    except STRANGE:
        return None


def _subject(certificate: x509.Certificate) -> x509.Name | None:
    try:
        return certificate.subject
    except STRANGE:
        return None


def _has_name(certificate: x509.Certificate, name: str) -> bool:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [found.lower() for found in extension.value.get_values_for_type(x509.DNSName)]
    except (x509.ExtensionNotFound, *STRANGE):
        return False
    return name in names or f"*.{name.partition('.')[2]}" in names


def _anchor(name: x509.Name, key: CertificatePublicKeyTypes, now: datetime) -> x509.Certificate | None:
    try:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key)
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        )
    except STRANGE:
        return None


_CA = verification.ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
)
_EE = verification.ExtensionPolicy.permit_all().require_present(
    x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None
)
