"""Sieve scripts as files: those that a command line names, those that they include, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from mta.policy.sieve.checking import check_policy, is_policy
from mta.policy.sieve.sandbox import load_sandboxed
from sieve_ext import Diagnostic, ScriptStore, check, standard_dialect
from sieve_ext.stores import DirectoryStore


def in_folders(paths: Iterable[Path], suffix: str, fail: Callable[[str], NoReturn]) -> Iterator[Path]:
    """The files that are named, and those with `suffix` in folders that are named, in order of name.

    `fail` is called with a text for a path that is not there, and for a folder that has none.
    """
    for path in paths:
        if path.is_dir():
            found = sorted(path.rglob(f"*{suffix}"))
            if not found:
                fail(f"{path}: no {suffix} file is in it")
            yield from found
        elif path.exists():
            yield path
        else:
            fail(f"{path}: no such file or folder")


def library(script: Path, folder: Path | None) -> DirectoryStore:
    """Where a script's `include` looks: in `folder`, by default in the script's own, for both locations."""
    where = folder or script.parent
    return DirectoryStore({"personal": where, "global": where})


def find_mistakes(text: bytes, store: ScriptStore, *, of_recipient: bool = False) -> list[Diagnostic]:
    """Everything that is wrong with a user's script or a policy file, each in its own language.

    `of_recipient`: a policy file is that of a domain or a user (docs/policy/recipients.md).
    """
    if of_recipient:
        return [one.diagnostic for one in load_sandboxed("", text)[1]]
    if is_policy(text):
        return check_policy(text)
    return check(text, standard_dialect(), store=store)
