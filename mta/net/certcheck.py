"""Certificates and keys as files: read, and checked for everything that can be proved wrong offline.

`load` reads a chain and its key once, checks them and returns the octets that were checked, so that a file
replaced a moment later cannot slip past. Refused, each with its reason: unreadable or oversized files, text
that is no PEM, an encrypted key, a key that is not the certificate's, a chain out of order, a certificate of
the chain that is expired or not yet valid, and configured names that the certificate does not cover.

This module uses `cryptography`, which takes 11 MB of a worker: import it where a certificate is there
to be read, not at the top of a module that a server without TLS needs too.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from mta.net.certificates import (
    Certificate,
    CertificateError,
    CertificateFiles,
    ReadFile,
    covers,
    read_file,
    server_name,
)
from mta.privatekeys import DamagedKey, read_private_key

STRANGE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises when it is asked for a part of a certificate that it cannot read."""

MAX_CHAIN = 10
"""Certificates of a chain. Every handshake sends them all; more is a mistake (a whole bundle of roots)."""


def load(files: CertificateFiles, now: datetime, read: ReadFile = read_file) -> Certificate:
    """Read and check one certificate at the moment `now` (aware). Raises CertificateError."""
    chain_pem = _read(files.chain, read)
    key_pem = _read(files.key, read)
    try:
        return _check(files, chain_pem, key_pem, now)
    except STRANGE as error:
        raise CertificateError(f"{files.chain}: a certificate that cannot be read ({error})") from error


def _check(files: CertificateFiles, chain_pem: bytes, key_pem: bytes, now: datetime) -> Certificate:
    chain = _parse_chain(files.chain, chain_pem)
    leaf = chain[0]
    _check_key(files, key_pem, leaf)
    _check_order(files.chain, chain)
    for certificate in chain:
        _check_validity(files.chain, certificate, now)
    covered = certificate_names(leaf)
    names = tuple(dict.fromkeys(server_name(name) for name in files.names)) or covered
    missing = [name for name in names if not covers(covered, name)]
    if missing:
        raise CertificateError(
            f"{files.chain}: the certificate is not for {', '.join(missing)};"
            f" it is for {', '.join(covered) or 'no name at all'}"
        )
    return Certificate(
        name=files.name,
        pem=key_pem + b"\n" + b"".join(c.public_bytes(Encoding.PEM) for c in chain),
        der=leaf.public_bytes(Encoding.DER),
        names=names,
        not_after=min(c.not_valid_after_utc for c in chain),
    )


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of the subject alternative names, normalised; names that are none are left out."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names: list[str] = []
    for value in extension.value.get_values_for_type(x509.DNSName):
        try:
            names.append(server_name(value))
        except CertificateError:
            continue  # an odd name beside good ones takes nothing from them
    return tuple(dict.fromkeys(names))


def server_end_point(certificate_der: bytes) -> bytes:
    """`tls-server-end-point` of a certificate (RFC 5929 section 4.1), b"" where it is not defined.

    The hash is that of the certificate's signature, with SHA-256 in place of MD5 and SHA-1. A signature
    without one single hash (Ed25519) has no such binding, nor has a certificate that OpenSSL has taken from
    the other side and `cryptography` cannot read.
    """
    try:
        algorithm = x509.load_der_x509_certificate(certificate_der).signature_hash_algorithm
    except STRANGE:
        return b""
    if algorithm is None:
        return b""
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name.replace("-", "_")
    try:
        return hashlib.new(name, certificate_der).digest()
    except ValueError:
        return b""


def subject_and_names(certificate_der: bytes) -> tuple[str, tuple[str, ...]]:
    """The common name (or else the first name) of a certificate, and its e-mail and DNS names as they are."""
    certificate = x509.load_der_x509_certificate(certificate_der)
    names: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        names = []  # none, or none that can be read: it is still the certificate that was verified
    else:
        names += extension.value.get_values_for_type(x509.RFC822Name)
        names += extension.value.get_values_for_type(x509.DNSName)
    printable = tuple(name for name in names if name.isprintable())
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    subject = str(common[0].value) if common else ""
    if not subject or not subject.isprintable():
        subject = printable[0] if printable else ""
    return subject, printable


def issuer_and_key(certificate_der: bytes) -> tuple[str, str]:
    """Who has issued a certificate (common name or organisation), and SHA-256 of its public key in hex."""
    certificate = x509.load_der_x509_certificate(certificate_der)
    issuer = ""
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for one in certificate.issuer.get_attributes_for_oid(oid):
            issuer = issuer or (str(one.value) if str(one.value).isprintable() else "")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return issuer, hashlib.sha256(key).hexdigest()


def _read(path: str, read: ReadFile) -> bytes:
    try:
        return read(path)
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror or error}") from error


def _parse_chain(path: str, data: bytes) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise CertificateError(f"{path}: no certificates in PEM form ({error})") from error
    if len(chain) > MAX_CHAIN:
        raise CertificateError(f"{path}: {len(chain)} certificates; a chain has at most {MAX_CHAIN}")
    return chain


def _check_key(files: CertificateFiles, key_pem: bytes, leaf: x509.Certificate) -> None:
    try:
        key = read_private_key(key_pem)
    except TypeError as error:
        raise CertificateError(f"{files.key}: the private key has a pass phrase; remove it") from error
    except DamagedKey as error:
        raise CertificateError(f"{files.key}: {error}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{files.key}: no private key in PEM form ({error})") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise CertificateError(f"{files.key}: not the key of the certificate in {files.chain}")


def _check_order(path: str, chain: list[x509.Certificate]) -> None:
    for certificate, issuer in pairwise(chain):
        if certificate.issuer != issuer.subject:
            raise CertificateError(
                f"{path}: chain out of order: {_subject(certificate)!r} is followed by"
                f" {_subject(issuer)!r}, not by its issuer"
            )
        try:
            certificate.verify_directly_issued_by(issuer)
        except InvalidSignature as error:
            raise CertificateError(
                f"{path}: {_subject(certificate)!r} is not signed by {_subject(issuer)!r}"
            ) from error
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue  # an algorithm that cannot be checked here is proof of nothing


def _check_validity(path: str, certificate: x509.Certificate, now: datetime) -> None:
    first, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise CertificateError(f"{path}: {_subject(certificate)!r} expired on {end:%Y-%m-%d %H:%M} UTC")
    if now < first:
        raise CertificateError(
            f"{path}: {_subject(certificate)!r} is not valid before {first:%Y-%m-%d %H:%M} UTC"
        )


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or (certificate_names(certificate) or ("?",))[0]
