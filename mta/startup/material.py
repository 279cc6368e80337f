"""What is published of keys and certificates, read from our files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimkeys import SigningKey
from mta.authn.dkimrotate import KeyState
from mta.authn.keysource import KeyTable
from mta.net.certificates import CertificateError, read_file
from mta.net.tls import ServerTls
from mta.startup.certificates import listener_tls
from mta.startup.claims import Site
from mta.startup.tlsa import ders


def keys_to_publish(site: Site) -> list[SigningKey]:
    """The keys of our domains that have to be in the DNS. Raises KeyFileError and TableError."""
    signing = site.settings.signing
    if signing.key_table:
        table = KeyTable(Path(signing.key_table), time.monotonic, lambda text: None)
        return [key for domain in site.domains for key in table.signing_keys(domain)]
    if not signing.keys:
        return []
    folder = KeyFolder(signing.keys)
    found = []
    for domain in site.domains:
        entries = [entry for entry in folder.entries(domain) if entry.state is not KeyState.RETIRED]
        found += [folder.key(domain, entry) for entry in entries]
    return found


def chains(site: Site, more: Sequence[bytes] = ()) -> dict[str, list[bytes]]:
    """The certificates of our host: what is served, then `more`. Raises CertificateError."""
    found: list[bytes] = []
    for _, tls in listener_tls(site):
        if isinstance(tls, CertificateError):
            raise tls
        assert isinstance(tls, ServerTls)
        found.append(ders(tls.certificate_for(site.hostname))[0])
    return {site.hostname: list(dict.fromkeys([*found, *more]))}


def certificate_file(path: str) -> bytes:
    """DER of the first certificate of a file. Raises OSError and CertificateError."""
    try:
        return x509.load_pem_x509_certificates(read_file(path))[0].public_bytes(Encoding.DER)
    except ValueError as error:
        raise CertificateError(f"{path}: no certificates in PEM form ({error})") from None
