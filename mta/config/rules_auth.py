"""Rules for [auth]: mechanisms by which somebody can log in. Pure, as `mta.config.rules`, which calls it."""

from __future__ import annotations

from mta.config.problems import Findings, listing
from mta.config.schema import Config

TOKENS = {"OAUTHBEARER", "XOAUTH2"}
"""Mechanisms that need somebody who knows tokens; the users file has passwords."""


def check_mechanisms(config: Config, findings: Findings) -> None:
    """Note mechanisms of which none can be offered."""
    auth, path = config.auth, ("auth", "mechanisms")
    wanted = set(auth.mechanisms)
    if not wanted or auth.backend == "none" or not findings.is_sound(path, ("auth", "backend")):
        return
    if auth.backend == "users" and wanted <= TOKENS:
        findings.add(
            path, f"found {listing(auth.mechanisms)}", 'others, or backend = "dovecot"',
            reason="users of the file have passwords and no tokens, so nobody could log in",
        )  # fmt: skip
    elif wanted == {"EXTERNAL"} and not any(listener.client_ca for listener in config.listener):
        findings.add(
            path, 'found "EXTERNAL" alone', "listener.client_ca to check certificates of clients with",
            reason="nobody could log in",
        )  # fmt: skip
