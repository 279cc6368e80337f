"""Rules about directors. Pure: works on a settled `Config` and notes what is wrong."""

from __future__ import annotations

from mta.config.locate import KeyPath
from mta.config.problems import Findings, closest
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
            if backend not in config.backends:
                near = closest(backend, config.backends)
                names = ", ".join(sorted(config.backends)) or "there is none"
                findings.add(
                    where, f'found "{backend}"', f"the name of a [backends.NAME]: {names}",
                    suggestion=f'"{near}"' if near else "",
                )  # fmt: skip
            elif backend in director.backends[:index]:
                findings.add(where, f'found "{backend}" again', "each back end once")
        if director.users and director.users not in config.tables:
            near = closest(director.users, config.tables)
            findings.add(
                (*path, "users"), f'found "{director.users}"', "the name of a [tables.NAME]",
                suggestion=f'"{near}"' if near else "",
            )  # fmt: skip
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
