"""The pages against the tree: links lead somewhere, commands exist, configurations are right."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mta import commands, config
from mta.demo import make
from mta.sieve_files import find_mistakes, library

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(path.relative_to(ROOT)) for path in PAGES]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "mta").rglob("*.py")))

AHEAD = {"roadmap.md", "rfcs.md"}
"""Pages that also name commands which do not exist yet."""


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of some languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [body for language, body in found if language in languages]


# Links


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[([\w.-]+)\]\(\1\) \|", index, re.MULTILINE)
    assert sorted(listed) == sorted({page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"})


def test_anchors() -> None:
    assert "tamis-side" in anchors(ROOT / "docs" / "dovecot.md")
    assert "dovecot-24" in anchors(ROOT / "docs" / "dovecot.md")


# Commands


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z]+)", text)) | set(
        re.findall(r"^(?:\$ )?make ([a-z]+)", text, re.MULTILINE)
    )
    assert named <= targets


def command_lines(text: str) -> Iterator[list[str]]:
    """The calls of `tamis` in fenced blocks and between backticks, as words."""
    shown = [line for block in blocks(text, "sh", "console", "") for line in block.splitlines()]
    shown += re.findall(r"`([^`\n]+)`", without_code(text))
    for line in shown:
        match = re.match(r"(?:\$ )?(?:\S*/)?tamis ([a-z][^#]*)", line.strip())
        if match:
            words = shlex.split(re.split(r" {3,}| \| |;", match[1])[0])
            yield words


def application() -> Any:
    """The command line with all its parts, a new one each time."""
    app = typer.Typer()
    app.registered_commands = list(commands.app.registered_commands)
    for name, sub_app in commands.SUB_APPS.items():
        app.add_typer(sub_app(), name=name)
    return typer.main.get_command(app)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in AHEAD], ids=lambda page: page.name
)
def test_commands_and_their_options_exist(page: Path) -> None:
    root = application()
    for words in command_lines(page.read_text(encoding="utf-8")):
        command, options = root, set[str]()
        while words and hasattr(command, "commands"):
            alternatives = words[0].split("|")
            assert set(alternatives) <= command.commands.keys(), f"tamis {words[0]} in {page.name}"
            command = command.commands[alternatives[0]]
            for parameter in command.params:
                options |= {*parameter.opts, *parameter.secondary_opts}
            words = words[1:]
        for word in words:
            if word.startswith("-") and word != "--":
                assert word.partition("=")[0] in options, f"{word} of {command.name} in {page.name}"


def test_command_lines_are_found() -> None:
    text = "`tamis user add|passwd`\n```sh\n.venv/bin/tamis status -c x   # look\n$ tamis stop --now\n```\n"
    assert list(command_lines(text)) == [["status", "-c", "x"], ["stop", "--now"], ["user", "add|passwd"]]


# Configurations


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_configurations_are_right(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8"), "toml"):
        config.parse(block, "/etc/tamis/tamis.toml")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_scripts_are_right(page: Path) -> None:
    """As `tamis sieve check` reads them, warnings too; the worked example has words of its own."""
    blocks = re.findall(r"^```sieve\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    scripts = [text.encode() for text in blocks if "vnd.example." not in text]
    assert [list(map(str, find_mistakes(text, library(page, None)))) for text in scripts] == [[]] * len(
        scripts
    )


def test_readme_needs_ten_lines_for_dovecot() -> None:
    (block,) = blocks(README, "toml")
    assert len(block.splitlines()) == 10
    settings = config.parse(block)
    assert [listener.name for listener in settings.listener] == ["smtp", "submission", "submissions"]
    assert settings.domains["example.org"].backend == "dovecot"


# What the README shows


def test_replies_in_the_readme_are_those_of_the_code() -> None:
    replies = re.findall(r"^<[-*]+ +\d{3} (?:\d\.\d\.\d )?(\D+?)(?: \d.*)?$", README, re.MULTILINE)
    assert len(replies) >= 5
    for text in replies:
        assert text in SOURCE


def test_mistake_in_the_readme_is_reported_like_that(tmp_path: Path) -> None:
    demo = make(tmp_path / "demo", (2525, 2587, 2465))
    text = demo.configuration.read_text(encoding="utf-8")
    demo.configuration.write_text(text.replace("recipients =", "recipient ="), encoding="utf-8")
    first = str(config.check(str(demo.configuration))[0]).removeprefix(f"{tmp_path}/")
    assert f"\n{first}\n" in README


# What pages say of the code


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_modules_exist(page: Path) -> None:
    for name in re.findall(r"`((?:mta|sieve_ext)(?:\.\w+)+)`", page.read_text(encoding="utf-8")):
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            try:
                found: object = importlib.import_module(".".join(parts[:count]))
            except ModuleNotFoundError:
                continue
            break
        for attribute in parts[count:]:
            # A field of a class without a default is no attribute of it.
            annotations = inspect.get_annotations(found) if inspect.isclass(found) else {}
            found = getattr(found, attribute, annotations.get(attribute))
            assert found is not None, f"{name} in {page.name}"


def test_flow_is_short_enough_to_be_read() -> None:
    assert 60 <= len((ROOT / "docs" / "flow.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_map_of_the_source_has_everything() -> None:
    """Each package, and each module that lies in none, by its name or that of its family (`mta.cli_*`)."""
    named = set(re.findall(r"`(mta\.[\w.]+\*?)`", (ROOT / "docs" / "source.md").read_text(encoding="utf-8")))
    families = tuple(name.removesuffix("*") for name in named if name.endswith("*"))
    there = [
        f"mta.{path.stem}"
        for path in (ROOT / "mta").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    ]
    assert len(there) > 90
    assert [name for name in there if name not in named and not name.startswith(families)] == []
    assert [family for family in families if not any(name.startswith(family) for name in there)] == []


def test_changelog_has_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", section) for section in sections[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limitations"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
