"""Policy files before they are used: each mistake in them with file, line and column.

Loads the Sieve engine, so it is imported only where the configuration names scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mta.config.problems import Problem
from mta.config.schema import Config
from mta.policy.sieve.loading import load_for, source_of

if TYPE_CHECKING:
    from mta.config.files import FileCheck


def check_policies(config: Config, files: FileCheck) -> None:
    """Check every file of policy.scripts, and policy.base; a broken one makes its place bad."""
    if not files.findings.is_sound(("policy",)):
        return
    _check(config, files, {path: ("policy", "scripts", n) for n, path in enumerate(config.policy.scripts)})
    if config.policy.base:
        _check(config, files, {config.policy.base: ("policy", "base")})


def _check(config: Config, files: FileCheck, places: Mapping[str, tuple[str | int, ...]]) -> None:
    findings = files.findings
    sources = [
        source_of(path) for path, where in places.items() if files.read(where, path, limit=0) is not None
    ]
    if len(sources) < len(places) or not findings.is_sound(("tables",)):
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
            findings.bad.add(places[one.path])
