"""The table of capabilities in `docs/sieve.md`, written from the modules that bring them.

    python -m sieve_ext.reference        # in the root of the source tree: writes the page

The docstring of an extension begins with its name, its specification and its status; that is the only source,
and a test fails when the page is not what this module would write.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from sieve_ext.extensions.table import MODULES

PAGE = Path("docs/sieve.md")
BEGIN = "<!-- begin: written from sieve_ext.extensions -->\n"
END = "<!-- end: written from sieve_ext.extensions -->\n"

_first = re.compile(r"(?P<text>.*?)(?: Status: (?P<status>.*?)\.?)?\Z", re.DOTALL)


def rows() -> list[tuple[str, str, str]]:
    """Capabilities of a module, what the module says of them, and their status."""
    found = []
    for name in MODULES:
        module = import_module(f"sieve_ext.extensions.{name}")
        paragraph = " ".join((module.__doc__ or "").split("\n\n", 1)[0].split())
        match = _first.match(paragraph)
        assert match is not None
        capabilities = ", ".join(f"`{one.name}`" for one in module.CAPABILITIES)
        found.append((capabilities, match["text"].rstrip("."), match["status"] or "complete"))
    return sorted(found)


def table() -> str:
    """The table, in Markdown."""
    lines = ["", "| capability | what it brings | status |", "|---|---|---|"]
    lines += [f"| {name} | {text.replace('|', chr(92) + '|')} | {status} |" for name, text, status in rows()]
    return "\n".join([*lines, "", ""])


def main() -> None:
    """Write the page anew."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(page[:begin] + table() + page[end:], encoding="utf-8")


if __name__ == "__main__":
    main()
