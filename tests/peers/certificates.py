"""Certificates for tests, as an administrator would have them: files of chain and key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme

from mta.net.certificates import CertificateFiles

PAST = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class Authority:
    """A certificate authority that writes into a folder."""

    folder: Path
    ca: trustme.CA

    @property
    def file(self) -> str:
        """Its own certificate."""
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return str(path)

    def issue(
        self,
        name: str,
        *identities: str,
        names: tuple[str, ...] = (),
        not_after: datetime | None = None,
        ec: bool = True,
    ) -> CertificateFiles:
        """Write NAME.pem and NAME.key for the identities (host names, addresses of mail)."""
        key_type = trustme.KeyType.ECDSA if ec else trustme.KeyType.RSA
        made = self.ca.issue_cert(*identities, not_after=not_after, key_type=key_type)
        chain, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        key.chmod(0o600)
        return CertificateFiles(name, str(chain), str(key), names)


def authority(folder: Path) -> Authority:
    """A new authority."""
    return Authority(folder, trustme.CA())
