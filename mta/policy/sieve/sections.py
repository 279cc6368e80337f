"""Sections of tamis.toml that words name: `milter "rspamd"` is [milters.rspamd]."""

from __future__ import annotations

from sieve_ext.extend import Checker, Node, suggest


def check_section(node: Node, checker: Checker, setting: str, kind: str, section: str) -> None:
    """What `check` of such a word calls: its `name` is constant, and one of those that the setting lists.

    `kind` is what people call it ("policy server"), `section` what the configuration does.
    """
    where = node.given["name"]
    name = checker.constant(where)
    known = checker.unit.settings.text(setting).split()
    if name in known:
        return
    hint = suggest(name or "", known) or (f"there are: {', '.join(known)}" if known else "")
    checker.error(
        where, f"unknown-{kind.replace(' ', '-')}", f"'{name or '${...}'}' is no {kind} of tamis.toml",
        hint or f"write a section [{section}.NAME]",
    )  # fmt: skip
