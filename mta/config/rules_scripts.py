"""Rules for the paths of users' scripts: one script speaks for one user."""

from __future__ import annotations

import re

from mta.config.problems import Findings
from mta.config.schema import Config

WHERE = ("policy", "user_scripts")


def check_user_scripts(config: Config, findings: Findings) -> None:
    """Note what is wrong with the pattern."""
    pattern = config.policy.user_scripts
    if not pattern or not findings.is_sound(WHERE):
        return
    found = set(re.findall(r"%(.?)", pattern))
    expected = reason = ""
    if found - {"u", "d", "%"}:
        expected, reason = "%u, %d and %%", "nothing else stands behind a %"
    elif "u" not in found:
        expected, reason = "%u in it", "it would be the script of everybody"
    elif "d" not in found and len(config.domains) > 1:
        expected, reason = "%d in it", "users of several domains would share a script"
    if expected:
        findings.add(WHERE, f'found "{pattern}"', expected, reason=reason)
