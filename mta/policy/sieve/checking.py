"""A policy file checked by itself, without the configuration that it refers to: for tools and editors."""

from __future__ import annotations

from mta.policy.sieve.program import load, settings_for
from sieve_ext import Diagnostic
from sieve_ext.syntax.parser import Parser
from sieve_ext.syntax.tree import Text, TextList

PREFIX = "vnd.tamis."
"""What the capabilities that only policy files have begin with."""

OF_CONFIGURATION = frozenset(
    ("unknown-milter", "unknown-policy-server", "unknown-route", "unknown-scanner", "unknown-table")
)
"""Codes of what is wrong only in view of a configuration: `check-config` tells that."""


def is_policy(text: bytes) -> bool:
    """True for a policy file: it requires something of Tamis, or has a stage at its top; broken ones, too."""
    for call in Parser().read(text):
        if call.name == "stage":
            return True
        if call.name != "require":
            continue
        for argument in call.arguments:
            names = argument.items if isinstance(argument, TextList) else [argument]
            if any(isinstance(name, Text) and name.value.startswith(PREFIX) for name in names):
                return True
    return False


def check_policy(text: bytes) -> list[Diagnostic]:
    """Everything that is wrong with a policy file, warnings too, but for names that `tamis.toml` gives."""
    settings = settings_for([], has_queue=True)
    found = [one.diagnostic for one in load([("", text)], settings)[1]]
    return [one for one in found if one.code not in OF_CONFIGURATION]
