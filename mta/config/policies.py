"""Policy files before they are used: each mistake in them with file, line and column.

Loads the Sieve engine, so it is imported only where the configuration names scripts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mta.config.problems import Problem
from mta.config.schema import Config
from mta.policy.sieve.loading import load_for, source_of

if TYPE_CHECKING:
    from mta.config.files import FileCheck


def check_policies(config: Config, files: FileCheck) -> None:
    """Check every file of policy.scripts; a broken one makes its place in the configuration bad."""
    findings = files.findings
    if not findings.is_sound(("policy",)):
        return
    sources = []
    for index, path in enumerate(config.policy.scripts):
        octets = files.read(("policy", "scripts", index), path, limit=0)
        if octets is not None:
            sources.append(source_of(path))
    if len(sources) < len(config.policy.scripts):
        return
    if not findings.is_sound(("tables",)):
        return
    _, found = load_for(config, sources)
    for one in found:
        diagnostic = one.diagnostic
        findings.problems.append(
            Problem(
                one.path,
                diagnostic.line,
                "",
                diagnostic.text,
                reason=diagnostic.hint,
                warning=one.is_warning,
                column=diagnostic.column,
            )
        )
        if not one.is_warning:
            findings.bad.add(("policy", "scripts", config.policy.scripts.index(one.path)))
