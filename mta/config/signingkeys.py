"""The keys that sign, before they are used: each must be there, readable for the server and for nobody else.

Loads `cryptography`, so it is imported only where the configuration names keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimkeys import KeyFileError, read_key
from mta.authn.keysource import read_key_table
from mta.config.locate import KeyPath
from mta.config.schema import Config
from mta.policy.watched import TableError

if TYPE_CHECKING:
    from mta.config.files import FileCheck


def check_keys(config: Config, files: FileCheck) -> None:
    """Note what is wrong with the keys of [signing]."""
    signing, findings = config.signing, files.findings
    path: KeyPath = ("signing", "keys" if signing.keys else "key_table")
    if not findings.is_sound(path):
        return
    if signing.keys and not os.path.isdir(signing.keys):
        what = "is no folder" if os.path.lexists(signing.keys) else "does not exist"
        findings.add(path, f'"{signing.keys}" {what}', "a folder", reason="`tamis dkim new DOMAIN` makes it")
        return
    if signing.key_table and files.read(path, signing.key_table, limit=0) is None:
        return
    signed = set()
    try:
        for place, bits in _places(config):
            if not files.readable(path, str(place), bits):
                return
        for domain, key in _files(config):
            signed.add(domain)
            if files.read(path, str(key), limit=0) is None:
                continue
            try:
                read_key(key, trusted=files.account.uid)
            except KeyFileError as error:
                findings.add(path, str(error), f"a key for {domain}")
    except (KeyFileError, TableError) as error:
        for line in str(error).splitlines():
            findings.add(path, line, "keys that can be read")
        return
    _signers(config, files, signed)
    _unsigned(config, files, path, signed)


def _unsigned(config: Config, files: FileCheck, path: KeyPath, signed: set[str]) -> None:
    """A warning for our domains whose users could send nothing: their mail must be signed, and cannot be."""
    if not config.signing.required or _has_key(config.signing.domain, signed):
        return
    without = [domain for domain in config.domains if not _has_key(domain, signed)]
    if without:
        others = f" and {len(without) - 1} more domains" if without[1:] else ""
        files.findings.add(
            path, f"no active key for {without[0]}{others}",
            "`tamis dkim new DOMAIN`, its records in the DNS, then `tamis dkim rotate DOMAIN`",
            reason="until then mail from there to other servers is answered 451 4.7.5", warning=True,
        )  # fmt: skip


def _has_key(domain: str, signed: set[str]) -> bool:
    """Whether the domain or one above it is among those with a key."""
    labels = domain.split(".")
    return bool(domain) and any(".".join(labels[start:]) in signed for start in range(len(labels)))


def _signers(config: Config, files: FileCheck, signed: set[str]) -> None:
    """A warning for domains that are to sign and have no key (or one above them): keys may come later."""
    wanted: list[tuple[KeyPath, str]] = [
        (("signing", "domain"), config.signing.domain),
        (("signing", "seal_domain"), config.signing.seal_domain),
    ]
    for index, listener in enumerate(config.listener):
        wanted.append((("listener", index, "signing_domain"), listener.signing_domain))
    for path, domain in wanted:
        if domain and not _has_key(domain, signed) and files.findings.is_sound(path):
            files.findings.add(path, f'found "{domain}"', "a domain with a key", warning=True)


def _places(config: Config) -> Iterator[tuple[Path, int]]:
    """Folders and lists of keys, also of those that do not sign yet, and the bits of modes needed."""
    if config.signing.keys:
        folder = KeyFolder(config.signing.keys)
        yield Path(config.signing.keys), 5
        for domain in folder.domains():
            yield folder.state_path(domain).parent, 5
            yield folder.state_path(domain), 4


def _files(config: Config) -> Iterator[tuple[str, Path]]:
    """The domain and the file of each key that signs. Raises KeyFileError, TableError."""
    if config.signing.key_table:
        for domain, entries in read_key_table(Path(config.signing.key_table)).items():
            yield from ((domain, path) for _, path in entries)
        return
    folder = KeyFolder(config.signing.keys)
    for domain in folder.domains():
        for entry in folder.active(domain):
            yield domain, folder.key_path(domain, entry.selector)
