"""Policy files before they are used: each mistake in them with file, line and column.

Loads the Sieve engine, so it is imported only where the configuration names scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mta.config.problems import Problem
from mta.config.schema import Config
from mta.policy.sieve.loading import load_for, source_of
from mta.policy.sieve.program import FileDiagnostic, Program
from mta.policy.sieve.sandbox import load_sandboxed

if TYPE_CHECKING:
    from mta.config.files import FileCheck

Loaded = tuple[Program | None, list[FileDiagnostic]]


def check_policies(config: Config, files: FileCheck) -> None:
    """Check every file of policy.scripts, and policy.base; a broken one makes its place bad."""
    if not files.findings.is_sound(("policy",)):
        return
    site = partial(load_for, config)
    for key, paths in (("scripts", config.policy.scripts), ("after", config.policy.after)):
        _check(files, {path: ("policy", key, number) for number, path in enumerate(paths)}, site)
    if config.policy.base:
        _check(files, {config.policy.base: ("policy", "base")}, site)
    seen = set()
    for name, domain in config.domains.items():
        if domain.script and domain.script not in seen:  # many domains may share one
            seen.add(domain.script)
            _check(files, {domain.script: ("domains", name, "script")}, _load_one)


def _load_one(sources: Sequence[tuple[str, bytes]]) -> Loaded:
    return load_sandboxed(*sources[0])


def _check(
    files: FileCheck,
    places: Mapping[str, tuple[str | int, ...]],
    load: Callable[[Sequence[tuple[str, bytes]]], Loaded],
) -> None:
    """Load the files at `places`, by path, as one program."""
    findings = files.findings
    readable = [path for path, where in places.items() if files.read(where, path, limit=0) is not None]
    if not readable or len(readable) < len(places) or not findings.is_sound(("tables",)):
        return
    _, found = load([source_of(path) for path in readable])
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
