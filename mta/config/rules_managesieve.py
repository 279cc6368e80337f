"""Rules for listeners of ManageSieve: what belongs to mail has no place where scripts are edited."""

from __future__ import annotations

from mta.config.problems import Findings
from mta.config.schema import Config
from mta.config.units import format_size


def check_managesieve(config: Config, index: int, findings: Findings) -> None:
    """Note what is wrong with the listener at `index`."""
    listener, path = config.listener[index], ("listener", index)
    if listener.auth != "required" and findings.is_sound((*path, "auth")):
        findings.add(
            (*path, "auth"), f'found "{listener.auth}" with protocol = "managesieve"', '"required"',
            reason="scripts are somebody's",
        )  # fmt: skip
    for key in (
        "proxy_protocol_tls", "xclient_from", "xforward_from", "greet_delay", "discard_ehlo_keywords",
        "qualify_domain", "signing_domain",
    ):  # fmt: skip
        if getattr(listener, key) and findings.is_sound((*path, key)):
            findings.add(
                (*path, key), 'found it with protocol = "managesieve"', "it not to be set",
                reason="it is about mail",
            )  # fmt: skip


def check_quota(config: Config, findings: Findings) -> None:
    """Note a script that is allowed by itself and larger than all together may be."""
    settings, path = config.managesieve, ("managesieve", "max_script_size")
    if settings.max_script_size > settings.max_size and findings.is_sound(path, ("managesieve", "max_size")):
        findings.add(
            path,
            f'found "{format_size(settings.max_script_size)}"',
            f"at most managesieve.max_size ({format_size(settings.max_size)})",
        )
