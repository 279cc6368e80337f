"""The example of docs/developing-sieve.md works as it stands there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import sieve_ext

PAGE = (Path(__file__).parents[2] / "docs" / "developing-sieve.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_worked_example() -> None:
    module, host = blocks("python")
    (script,) = blocks("sieve")
    names: dict[str, Any] = {**vars(sieve_ext), "text": script, "Any": Any}
    example = types.ModuleType("sieve_example")
    sys.modules["sieve_example"] = example  # dataclasses look their module up
    try:
        exec(module, example.__dict__)
        exec(host, {**names, **example.__dict__}, names)
    finally:
        del sys.modules["sieve_example"]
    result = names["result"]
    assert [one.name for one in result.actions] == ["alarm", "redirect"]
    assert result.actions[0].text == "INBOX is full"
    assert result.actions[1].options == {"urgent": "no room"}
    assert result.implicit_keep is None
    assert not result.errors
