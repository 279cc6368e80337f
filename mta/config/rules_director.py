"""Rules about directors. Pure: works on a settled `Config` and notes what is wrong."""

from __future__ import annotations

from mta.config.locate import KeyPath
from mta.config.problems import Findings
from mta.config.references import check_reference
from mta.config.schema import Config


def check_directors(config: Config, findings: Findings) -> None:
    """Note every violated rule in `findings`."""
    for name, director in config.director.items():
        path: KeyPath = ("director", name)
        if not findings.is_sound(path, (*path, "backends"), ("backends",)):
            continue
        if name in config.backends:
            findings.add(path, f'found the name "{name}"', "another one", reason="a back end has it")
        if not director.backends:
            findings.add((*path, "backends"), "found none", "names of [backends.NAME]")
        for index, backend in enumerate(director.backends):
            where = (*path, "backends", index)
            check_reference(findings, where, backend, config.backends, "backends")
            if backend in config.backends and backend in director.backends[:index]:
                findings.add(where, f'found "{backend}" again', "each back end once")
        if director.users:
            check_reference(findings, (*path, "users"), director.users, config.tables, "tables")
        if not findings.is_sound((*path, "weights")) or not director.weights:
            continue
        if len(director.weights) != len(director.backends):
            findings.add(
                (*path, "weights"),
                f"found {len(director.weights)}",
                f"{len(director.backends)}, one a back end",
            )
        elif not any(director.weights):
            findings.add((*path, "weights"), "found nothing but 0", "a back end that gets users")
