"""Did you mean: the known word nearest to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(word: str, known: Iterable[str]) -> str:
    """ "did you mean 'x'?" when a known word is near to `word`, else ""."""
    near = get_close_matches(word[:64].lower(), list(known), n=1, cutoff=0.7)
    return f"did you mean '{near[0]}'?" if near else ""
