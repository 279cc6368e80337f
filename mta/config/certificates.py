"""Certificates and keys before they are served: format, order, match, names, validity.

What a client would refuse, or OpenSSL would only say in its own words at the first handshake, is said here
with the key of the configuration. Uses `cryptography`; reads files through the `FileCheck` of its caller.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from mta.config.inbound import Certificate
from mta.config.locate import KeyPath
from mta.config.schema import Config
from mta.privatekeys import DamagedKey, read_private_key

if TYPE_CHECKING:
    from mta.config.files import FileCheck

_STRANGE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises when it is asked for a part of a certificate that it cannot read."""

EXPIRY_WARNING = timedelta(days=14)
"""A certificate that expires sooner is warned of: renewal usually happens 30 days before."""


def check_certificates(config: Config, files: FileCheck, now: float) -> None:
    """Check every [certificates.NAME]; `now` in seconds of the epoch."""
    for name, certificate in config.certificates.items():
        path: KeyPath = ("certificates", name)
        try:
            _check(files, path, certificate, now)
        except _STRANGE as error:
            files.findings.add(
                (*path, "chain"),
                f'"{certificate.chain}" has a certificate that cannot be read ({error})',
                "one with a key of a kind that this machine knows",
            )


def _check(files: FileCheck, path: KeyPath, certificate: Certificate, now: float) -> None:
    """One of them. Raises `_STRANGE`."""
    chain = key = None
    if files.findings.is_sound((*path, "chain")):
        chain = _chain(files, (*path, "chain"), certificate.chain)
    if files.findings.is_sound((*path, "key")):
        key = _key(files, (*path, "key"), certificate.key)
    if not chain:
        return
    if key is not None and _public(key.public_key()) != _public(chain[0].public_key()):
        files.findings.add(
            (*path, "key"),
            f'"{certificate.key}" is the key of another certificate',
            "the key of the chain",
        )
    _validity(files, (*path, "chain"), chain[0], now)
    covered = certificate_names(chain[0])
    for index, server_name in enumerate(certificate.names):
        if not covers(covered, server_name):
            files.findings.add(
                (*path, "names", index), f'found "{server_name}"', "a name in the certificate",
                reason="it has " + (", ".join(covered) or "none"),
            )  # fmt: skip


def read_authorities(files: FileCheck, path: KeyPath, file: str) -> None:
    """Check a file with certificates of authorities."""
    if files.findings.is_sound(path):
        octets = files.read(path, file)
        if octets is not None:
            _parse_chain(files, path, file, octets)


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of a certificate; its common name when it has none (RFC 6125 6.4.4)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        names: list[str] = []
    else:
        names = extension.value.get_values_for_type(x509.DNSName)
    if not names:
        names = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(name.lower() for name in names)


def covers(names: tuple[str, ...], host: str) -> bool:
    """True when one of the names of a certificate is `host`, or a wildcard for it (RFC 6125 6.4.3)."""
    return host in names or "*." + host.partition(".")[2] in names


def _chain(files: FileCheck, path: KeyPath, file: str) -> list[x509.Certificate] | None:
    octets = files.read(path, file)
    chain = None if octets is None else _parse_chain(files, path, file, octets)
    if chain is not None:
        for index, (lower, upper) in enumerate(pairwise(chain), 2):
            if lower.issuer != upper.subject:
                files.findings.add(
                    path, f'certificate {index} in "{file}" did not issue the one before it',
                    "the server's certificate first, then each one's issuer",
                )  # fmt: skip
                break
    return chain


def _parse_chain(files: FileCheck, path: KeyPath, file: str, octets: bytes) -> list[x509.Certificate] | None:
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        files.findings.add(path, f'"{file}" holds no certificate', "certificates in PEM form")
        return None


def _key(files: FileCheck, path: KeyPath, file: str) -> PrivateKeyTypes | None:
    octets = files.read(path, file, secret=True)
    if octets is None:
        return None
    try:
        return read_private_key(octets)
    except TypeError:
        files.findings.add(path, f'the key in "{file}" has a pass phrase', "one without")
    except DamagedKey as error:
        files.findings.add(path, f'"{file}": {error}', "a private key that is whole")
    except (ValueError, UnsupportedAlgorithm):
        files.findings.add(path, f'"{file}" holds no private key', "a private key in PEM form")
    return None


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def _validity(files: FileCheck, path: KeyPath, certificate: x509.Certificate, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if moment > end:
        files.findings.add(path, f"the certificate expired on {end:%Y-%m-%d}", "a valid one")
    elif moment < begin:
        files.findings.add(path, f"the certificate is not valid before {begin:%Y-%m-%d}", "a valid one")
    elif end - moment < EXPIRY_WARNING:
        files.findings.add(path, f"the certificate expires on {end:%Y-%m-%d}", "its renewal", warning=True)
