"""The reference pages, written from the schema: `conf/tamis.toml` and the tables of `docs/configuration.md`.

    python -m mta.config.reference        # in the root of the source tree: writes both files

The types, defaults and texts of the schema are the only source; a test fails when the files are not what
this module would write. In `tamis.toml` a line that begins with "#" and a letter or bracket is an option
with its default, a line that begins with "# " is text, so uncommenting is taking "#" away.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from mta.config.problems import show
from mta.config.read import fields_of, unwrap
from mta.config.schema import Config

WIDTH = 100
"""Columns of the text in `tamis.toml`."""

EXAMPLES = {
    ("certificates", "chain"): '"/etc/tamis/fullchain.pem"',
    ("certificates", "key"): '"/etc/tamis/privkey.pem"',
    ("backends", "addresses"): '["unix:/run/dovecot/lmtp"]',
    ("director", "backends"): '["dovecot"]',
    ("relays", "host"): '"smtp.example.net"',
    ("tables", "file"): '"vip"',
    ("milters", "address"): '"unix:/run/rspamd/milter.sock"',
    ("policy_servers", "address"): '"unix:/run/postgrey/socket"',
    ("scanners", "kind"): '"clamav"',
    ("scanners", "address"): '"unix:/run/clamav/clamd.ctl"',
    ("filters", "addresses"): '["127.0.0.1:10024"]',
    ("filters", "returns_to"): '"filtered"',
    ("queue_stores", "url"): '"s3://mail-queue/tamis"',
}
"""Values in `tamis.toml` for options without a default that makes sense."""

NAMES = {
    "certificates": "main",
    "domains": '"example.org"',
    "backends": "dovecot",
    "director": "stores",
    "relays": "smarthost",
    "sources": "bulk",
    "tables": "vip",
    "milters": "rspamd",
    "policy_servers": "postgrey",
    "scanners": "clamav",
    "filters": "amavis",
    "queue_stores": "shared",
}
"""Example names of sections that have one each."""

BEGIN, END = "<!-- begin: written from the schema -->\n", "<!-- end: written from the schema -->\n"

HEAD = """\
# The configuration of Tamis, with every option, its default and its reason.
#
# A line that begins with "#" and a name is an option with its default: take the "#" away and change it. What
# is not here keeps its default, so a short file is a good file (see conf/examples/). Options of a
# section that begins with "#[" need that line too. All mistakes are reported at once, with line and key:
#
#     tamis check-config --config /etc/tamis/tamis.toml
#
# Durations need a unit ("250ms", "5s", "2m", "1h30m", "1d"), sizes too ("512KiB", "50MiB"; "50MB" is
# 50,000,000 octets). Paths are relative to the folder of this file. "" is: not set. `tamis reload` puts
# changes into effect without losing a connection. This file is written from the program's own definitions.
"""


@dataclass(slots=True, frozen=True)
class Option:
    """One key as the pages show it."""

    name: str
    kind: str
    default: str
    """TOML text; an example when `required`."""
    text: str
    required: bool


@dataclass(slots=True, frozen=True)
class Section:
    """One section as the pages show it."""

    key: str
    header: str
    """As in the file: [identity], [[listener]], [backends.dovecot]."""
    title: str
    """With NAME for the name that the administrator chooses."""
    text: str
    options: tuple[Option, ...]


def sections() -> Iterator[Section]:
    """All sections of the schema in their order."""
    for key, annotation in fields_of(Config).items():
        bare, _, _ = unwrap(annotation)
        header = title = f"[{key}]"
        cls = bare
        if get_origin(bare) is dict:
            cls = get_args(bare)[1]
            header, title = f"[{key}.{NAMES[key]}]", f"[{key}.NAME]"
        elif get_origin(bare) is tuple:
            cls = get_args(bare)[0]
            header = title = f"[[{key}]]"
        yield Section(key, header, title, _flow(inspect.getdoc(cls) or ""), tuple(_options(key, cls)))


def toml() -> str:
    """The text of `conf/tamis.toml`."""
    lines = [HEAD]
    for section in sections():
        named = section.header != f"[{section.key}]"
        lines.append("#" * WIDTH)
        lines += _comment(section.text)
        lines.append("")
        lines.append(("#" if named else "") + section.header)
        for option in section.options:
            lines.append("")
            lines += _comment(option.text + (" Required." if option.required else ""))
            lines.append(f"#{option.name} = {EXAMPLES.get((section.key, option.name), option.default)}")
        lines.append("")
    return "\n".join(lines)


def markdown() -> str:
    """The tables of `docs/configuration.md`."""
    lines: list[str] = []
    for section in sections():
        lines += [f"### `{section.title}`", "", section.text, ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        for option in section.options:
            default = "required" if option.required else f"`{option.default}`"
            lines.append(f"| `{option.name}` | {option.kind} | {default} | {option.text} |")
        lines.append("")
    return "\n".join(lines)


def replace_tables(page: str) -> str:
    """The page with its tables, between the two marks, written anew. Raises ValueError without marks."""
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:begin] + "\n" + markdown() + "\n" + page[end:]


def write(value: Any, annotation: Any) -> str:
    """A value of the schema as TOML text."""
    bare, notation, _ = unwrap(annotation)
    if value is None:
        return '""'
    if notation is not None:
        return f'"{notation.format(value)}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(write(item, get_args(bare)[0]) for item in value) + "]"
    if isinstance(value, msgspec.Struct):
        return "{}"
    return show(value)


def _options(section: str, cls: type[msgspec.Struct]) -> Iterator[Option]:
    texts = field_texts(cls)
    annotations = fields_of(cls)
    for field in msgspec.structs.fields(cls):
        annotation = annotations[field.name]
        required = field.default is msgspec.NODEFAULT
        default = EXAMPLES[section, field.name] if required else write(field.default, annotation)
        yield Option(field.name, _kind(annotation), default, texts[field.name], required)


def _kind(annotation: Any) -> str:
    bare, notation, ranges = unwrap(annotation)
    if notation is not None:
        name = notation.kind
    elif get_origin(bare) is Literal:
        name = ", ".join(f"`{choice}`" for choice in get_args(bare))
    elif get_origin(bare) is tuple:
        return f"list of: {_kind(get_args(bare)[0])}"
    elif bare is bool:
        name = "`true`, `false`"
    elif bare is int:
        name = "number"
    elif bare is str:
        name = "text"
    elif isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        name = "table"
    else:  # Annotated | None
        return _kind(get_args(bare)[0])
    shown = notation.format if notation is not None else str
    low = [shown(meta.ge) for meta in ranges if meta.ge]
    high = [shown(meta.le) for meta in ranges if meta.le is not None]
    return name + (f", from {low[0]}" if low else "") + (f", to {high[0]}" if high else "")


@cache
def field_texts(cls: type[msgspec.Struct]) -> dict[str, str]:
    """The text under each field of a struct, inherited ones included, as one line each."""
    texts: dict[str, str] = {}
    for part in reversed(cls.__mro__):
        if not issubclass(part, msgspec.Struct) or part is msgspec.Struct:
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        assert isinstance(tree, ast.ClassDef)
        name = ""
        for node in tree.body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=name)):
                    continue
                case ast.Expr(value=ast.Constant(value=str(text))) if name:
                    texts[name] = _flow(text)
            name = ""
    return texts


def _flow(text: str) -> str:
    return " ".join(text.split())


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def main() -> None:
    """Write both files in the current folder."""
    Path("conf/tamis.toml").write_text(toml(), encoding="utf-8")
    page = Path("docs/configuration.md")
    page.write_text(replace_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
