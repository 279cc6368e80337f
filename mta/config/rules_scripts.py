"""Rules for the paths of users' scripts, of which one speaks for one user, and for what is traced."""

from __future__ import annotations

import re

from mta.config.locate import KeyPath
from mta.config.notation import parse_network
from mta.config.problems import Findings, show
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


def check_trace(config: Config, findings: Findings) -> None:
    """Note what would be taken for a user of a name that nobody has."""
    for index, entry in enumerate(config.policy.trace):
        path: KeyPath = ("policy", "trace", index)
        if not findings.is_sound(path):
            continue
        reason = "" if entry else "it is empty"
        if "/" in entry:
            try:
                parse_network(entry, "")
            except ValueError as error:
                reason = str(error)
        if reason:
            findings.add(path, f"found {show(entry)}", "a network or a user", reason=reason)
