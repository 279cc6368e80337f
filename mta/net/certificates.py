"""Certificates and keys as files: read, checked, and compared with server names.

`load` reads a chain and its key once, checks everything that can be proved wrong without the network and
returns the octets that were checked, so that a file replaced a moment later cannot slip past the check.
Refused, each with its reason: unreadable or oversized files, text that is no PEM, an encrypted key, a key
that is not the certificate's, a chain out of order, a certificate of the chain that is expired or not yet
valid, and configured names that the certificate does not cover.

Names are compared as RFC 6125 section 6.4 asks: in A-labels, without case, and a wildcard is a whole
left-most label that stands for exactly one label. Only subject alternative names count; a common name has
not been a server name for any client for years.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from mta.address import AddressError, domain_key

MAX_FILE = 1024 * 1024
"""Octets of a file with certificates or a key: a chain of ten takes 20 kB, so this only stops wrong paths."""
MAX_CHAIN = 10
"""Certificates of a chain. Every handshake sends them all; more is a mistake (a whole bundle of roots)."""

ReadFile = Callable[[str], bytes]
"""Reads a whole file; raises OSError."""


class CertificateError(Exception):
    """A certificate cannot be served; the text says why (local fault: files or configuration)."""


@dataclass(slots=True, frozen=True)
class CertificateFiles:
    """Where a certificate comes from: its name in the configuration, its files and the names it serves.

    `chain` holds the certificate and then its intermediate authorities, `key` the private key without pass
    phrase, both PEM; they may be the same file. `names` are server names (SNI), exact or ``*.example.org``;
    empty means the names in the certificate.
    """

    name: str
    chain: str
    key: str
    names: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class Certificate:
    """A certificate that passed the checks of `load`."""

    name: str
    pem: bytes
    """Key and chain."""
    der: bytes
    """The certificate itself, without its chain: what `tls-server-end-point` is computed from."""
    names: tuple[str, ...]
    """Server names, normalised."""
    not_after: datetime
    """The first moment at which it or a certificate of its chain is expired, in UTC."""


def read_file(path: str) -> bytes:
    """The octets of a file of at most `MAX_FILE`. Raises OSError and CertificateError."""
    with open(path, "rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise CertificateError(f"{path}: larger than {MAX_FILE} octets, this is no certificate or key")
    return data


def readable_by_all(path: str) -> bool:
    """True when everybody on the machine may read the file, which a key file should not allow."""
    try:
        return bool(os.stat(path).st_mode & 0o004)
    except OSError:
        return False


def load(files: CertificateFiles, now: datetime, read: ReadFile = read_file) -> Certificate:
    """Read and check one certificate at the moment `now` (aware). Raises CertificateError."""
    chain = _parse_chain(files.chain, _read(files.chain, read))
    key_pem = _read(files.key, read)
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


def server_name(text: str) -> str:
    """A server name as names are compared: A-labels, lower case, no final dot; may start with ``*.``.

    Raises CertificateError for what is no host name.
    """
    star, host = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        key = domain_key(host)
    except AddressError as error:
        raise CertificateError(f"{text!r} is no server name: {error}") from error
    if key.startswith("["):
        raise CertificateError(f"{text!r} is an address; server names are host names (RFC 6066 section 3)")
    return star + key


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


def wildcard_of(name: str) -> str:
    """The wildcard that would cover `name`: ``*.`` for its first label."""
    return "*." + name.partition(".")[2]


def covers(covered: Sequence[str], name: str) -> bool:
    """True when a certificate with the names `covered` is valid for `name` (itself perhaps a wildcard)."""
    return name in covered or (not name.startswith("*.") and wildcard_of(name) in covered)


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
        key = load_pem_private_key(key_pem, password=None)
    except TypeError as error:
        raise CertificateError(f"{files.key}: the private key has a pass phrase; remove it") from error
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
