"""Certificates as values: where they come from, what they are for, and how server names are compared.

Names are compared as RFC 6125 section 6.4 asks: in A-labels, without case, and a wildcard is a whole
left-most label that stands for exactly one label. Only subject alternative names count; a common name has
not been a server name for any client for years.

What reads and checks certificates is `mta.net.certcheck`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mta.address import AddressError, domain_key

NOT_SERVED = "its files have another certificate than the other workers serve"
"""Why a new worker does not begin with what the files have."""
MAX_FILE = 1024 * 1024
"""Octets of a file with certificates or a key: a chain of ten takes 20 kB, so this only stops wrong paths."""

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


def wildcard_of(name: str) -> str:
    """The wildcard that would cover `name`: ``*.`` for its first label."""
    return "*." + name.partition(".")[2]


def covers(covered: Sequence[str], name: str) -> bool:
    """True when a certificate with the names `covered` is valid for `name` (itself perhaps a wildcard)."""
    return name in covered or (not name.startswith("*.") and wildcard_of(name) in covered)


def load_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Load key and chain from memory. Raises ssl.SSLError.

    The library takes a path, so it gets that of an anonymous file. Loading the configured paths instead would
    read them a second time, after the check.
    """
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        view = memoryview(pem)
        while view:
            view = view[os.write(fd, view) :]
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
