"""Rules for [srs], and its secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mta.address import domain_key
from mta.config.problems import Findings
from mta.config.schema import Config

if TYPE_CHECKING:
    from mta.config.files import FileCheck

SECRET_LEAST = 16
"""Characters of a secret: what can be guessed makes an open relay."""
SECRETS_OCTETS = 64 * 1024
"""Octets of the file of secrets."""


def check_srs(config: Config, findings: Findings) -> None:
    """Note what is wrong with [srs]."""
    srs = config.srs
    if srs.secrets_file and not srs.domain:
        findings.add(("srs", "domain"), "missing", "one of [domains]", reason="reports come back to it")
    elif srs.domain and findings.is_sound(("srs", "domain")):
        if domain_key(srs.domain) not in map(domain_key, config.domains):
            findings.add(
                ("srs", "domain"),
                f'found "{srs.domain}"',
                "one of [domains]",
                reason="reports come back to it",
            )
        elif not srs.secrets_file:
            findings.add(("srs", "secrets_file"), "missing", "a file with a secret a line")


def check_secrets(config: Config, files: FileCheck) -> None:
    """Note what is wrong with the secrets of [srs]."""
    file = config.srs.secrets_file
    octets = files.read(("srs", "secrets_file"), file, secret=True, limit=SECRETS_OCTETS + 1)
    if octets is None:
        return
    try:
        read_secrets(octets)
    except ValueError as error:
        files.findings.add(("srs", "secrets_file"), f"{file}{error}", "a secret a line")


def read_secrets(octets: bytes) -> list[str]:
    """The secrets of a file, the newest first. Raises ValueError with ":line: " in front, never with a
    secret."""
    if len(octets) > SECRETS_OCTETS:
        raise ValueError(": it is too large")
    found = []
    for number, line in enumerate(octets.split(b"\n"), 1):
        try:
            secret = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f":{number}: it is not UTF-8") from None
        if secret and len(secret) < SECRET_LEAST:
            raise ValueError(f":{number}: the secret has less than {SECRET_LEAST} characters")
        if secret:
            found.append(secret)
    if not found:
        raise ValueError(": there is none in it")
    return found
