"""Rules that many sections need: what a key names is there, and connecting leaves time to deliver."""

from __future__ import annotations

from collections.abc import Collection

from mta.config.locate import KeyPath
from mta.config.problems import Findings, closest
from mta.config.schema import Config
from mta.config.units import format_duration


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


def check_connect_timeout(config: Config, path: KeyPath, timeout: float, findings: Findings) -> None:
    """Note the `timeout` of the next hop at `path` if nothing of delivery.deadline is left behind it."""
    where, deadline = (*path, "connect_timeout"), config.delivery.deadline
    if timeout >= deadline and findings.is_sound(where, ("delivery", "deadline")):
        findings.add(
            where, "it is not shorter than delivery.deadline", "time left to deliver",
            reason=f"{format_duration(timeout)} and {format_duration(deadline)}",
        )  # fmt: skip
