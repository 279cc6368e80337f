"""A rule that many sections need: what a key names must be there."""

from __future__ import annotations

from collections.abc import Collection

from mta.config.locate import KeyPath
from mta.config.problems import Findings, closest


def check_reference(
    findings: Findings, path: KeyPath, name: str, names: Collection[str], section: str, reason: str = ""
) -> None:
    """Note it unless `name` is among `names`, those of the sections [`section`.NAME]."""
    if name in names or not findings.is_sound(path):
        return
    expected = f"the name of a [{section}.NAME]"
    if names:
        expected += ": " + ", ".join(sorted(names))
    near = closest(name, names)
    findings.add(
        path, f'found "{name}"', expected, reason=reason or ("" if names else "there is none"),
        suggestion=f'"{near}"' if near else "",
    )  # fmt: skip
