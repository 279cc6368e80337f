"""What must not creep in: the layout of the tree, its layers, its packaging and its manners."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "mta": "mta",
    "sieve_ext": "sieve_ext",
    "mailqueue": "queue/mailqueue",
    "mailmilter": "milter/mailmilter",
}
SOURCES = sorted(path for folder in PACKAGES.values() for path in (ROOT / folder).rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

LONGEST_FILE = 400
"""Lines of a file: what one idea needs."""
LONG_FILES: dict[str, str] = {}
STANDARD_NAMES = {
    "mta/admin/http.py": "always imported as mta.admin.http, never from its own folder",
    "mta/policy/sieve/queue.py": "what the capability is about; always imported as mta.policy.sieve.queue",
    "queue/mailqueue/inspect.py": "always imported as mailqueue.inspect",
    "queue/mailqueue/queue.py": "what the package is about; always imported as mailqueue.queue",
    "sieve_ext/extensions/copy.py": "the name of the capability; always imported from the package",
    "sieve_ext/extensions/mailbox.py": "the name of the capability; always imported from the package",
    "sieve_ext/message/html.py": "always imported as sieve_ext.message.html",
    "mta/trace.py": "the word of RFC 5321 4.4; always imported as mta.trace",
}
"""Modules that are named like one of the standard library."""


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def tree() -> Iterator[Path]:
    """All files of the project, without what tools make (the names of .gitignore)."""
    for folder, below, files in os.walk(ROOT):
        below[:] = [
            name
            for name in below
            if name not in (".git", ".venv", ".hypothesis", "__pycache__", "demo", "dist")
            and not name.endswith(("_cache", ".egg-info"))
        ]
        kept = (name for name in sorted(files) if name != ".git" and not name.endswith(".pyc"))
        yield from (Path(folder, name) for name in kept)


# The tree


@pytest.mark.parametrize("folder", ["queue", "milter"])
def test_folders_are_no_packages(folder: str) -> None:
    """A package `queue` would hide the standard library's, `milter` collides with pymilter."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_queue_is_still_the_standard_library(tmp_path: Path) -> None:
    """From the root of the tree, where the folder `queue` lies in the way, and from elsewhere."""
    code = "import queue, concurrent.futures; queue.Queue(); print(queue.__file__)"
    for folder in (ROOT, tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
        )
        assert not Path(done.stdout.strip()).is_relative_to(ROOT / "queue")


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_importable_from_its_folder(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).parent == ROOT / PACKAGES[package]
    assert (ROOT / PACKAGES[package] / "py.typed").exists()


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_no_module_is_named_like_one_of_the_standard_library(path: Path) -> None:
    name = path.parent.name if path.stem == "__init__" else path.stem
    if str(path.relative_to(ROOT)) not in STANDARD_NAMES:
        assert name == "__main__" or name not in sys.stdlib_module_names


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_file_holds_one_idea(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_FILE or str(path.relative_to(ROOT)) in LONG_FILES


@pytest.mark.parametrize("name", [*LONG_FILES, *STANDARD_NAMES])
def test_exception_is_about_a_file_that_exists(name: str) -> None:
    assert (ROOT / name).is_file()


# Docstrings: ruff looks at public names; this also at nested classes, and at the modules of tests.


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public classes, functions and methods without a docstring."""

    def visit(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
        for child in node.body:
            if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if child.name.startswith("_"):
                continue
            if not (ast.get_docstring(child) or "").strip():
                yield f"{prefix}{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from visit(child, f"{prefix}{child.name}.")

    if not (ast.get_docstring(tree) or "").strip():
        yield "the module"
    yield from visit(tree, "")


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_everything_public_has_a_docstring(path: Path) -> None:
    assert list(undocumented(ast.parse(path.read_text(encoding="utf-8")))) == []


TESTS = sorted(path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=names(TESTS))
def test_tests_and_benchmarks_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text or ast.get_docstring(ast.parse(text))


def test_undocumented_finds_what_it_should() -> None:
    source = "class A:\n    class B:\n        def c(self): ...\n    def _d(self): ...\nasync def e(): 'x'\n"
    assert list(undocumented(ast.parse(source))) == ["the module", "A", "A.B", "A.B.c"]


# Layers


def test_import_contracts_hold() -> None:
    # A process of its own: the linter silences the loggers of the one that it runs in.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_contracts_cover_all_packages() -> None:
    linter = PYPROJECT["tool"]["importlinter"]
    assert linter["root_packages"] == list(PACKAGES)
    assert {contract["name"] for contract in linter["contracts"]} >= {
        "The libraries know nothing of mta",
        "The libraries know nothing of each other",
        "mta.smtp is sans-IO",
    }


# Packaging


def test_wheel_has_the_packages_and_conf() -> None:
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == list(PACKAGES.values())
    assert wheel["force-include"] == {"conf": "mta/conf"}
    for name in ("tamis.toml", "systemd/tamis.service", "systemd/tamis.socket"):
        assert (ROOT / "conf" / name).is_file()


def dependencies() -> list[str]:
    """The names of what `pip install tamis` installs."""
    return [re.split(r"[<>=!~ \[;]", entry)[0] for entry in PYPROJECT["project"]["dependencies"]]


def extras() -> list[str]:
    """The names of what the extras install."""
    entries = [one for some in PYPROJECT["project"]["optional-dependencies"].values() for one in some]
    return [re.split(r"[<>=!~ \[;]", entry)[0] for entry in entries]


@pytest.mark.parametrize("name", dependencies())
def test_dependency_has_its_reason(name: str) -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if re.match(rf'  "{re.escape(name)}\b[^"]*",', line)]
    assert len(line.partition("#")[2].split()) >= 3


def imported() -> set[str]:
    """The top-level modules that our packages import, wherever in a file."""
    found: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def test_dependencies_are_what_is_imported() -> None:
    """No dependency that nobody uses, no import of what comes by chance with something else."""
    foreign = imported() - sys.stdlib_module_names - PACKAGES.keys()
    distributions = importlib.metadata.packages_distributions()
    used = {
        name.lower().replace("_", "-")
        for module in foreign
        for name in distributions.get(module, [f"{module}, which is not installed"])
    }
    assert used == {*dependencies(), *extras()}


# Manners

FOREIGN_WORDS = re.compile(
    "|".join(
        [
            # whose machine
            "/" + "work/", "/" + "root/", "/" + r"home/(?!a\b|bob\b)", "(?-i:/" + "Users/)",
            # where it was installed from
            "artifact" + "ory", "py" + r"pi\.org", "python" + "hosted", r"proxy\.go" + "lang",
            "index" + "-url",
            # in the course of what
            r"\bthe " + r"brief\b", r"\bthe " + r"lead\b", r"\bissue " + "#?[0-9]",
        ]
    ),
    re.IGNORECASE,
)  # fmt: skip
"""What belongs to the making and not to the product. In pieces, so that this file does not find itself."""


def test_no_file_tells_where_and_by_whom_it_was_made() -> None:
    found = []
    for path in tree():
        octets = path.read_bytes()
        if b"\0" in octets:
            continue
        for number, line in enumerate(octets.decode("utf-8", "replace").splitlines(), 1):
            if match := FOREIGN_WORDS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


def test_foreign_words_are_found() -> None:
    for text in ("see /" + "work/x", "in /" + "home/me/x", "issue " + "7"):
        assert FOREIGN_WORDS.search(text)
    for text in ("home=/home/bob", "a framework/x", "an issue", "leads to"):
        assert not FOREIGN_WORDS.search(text)
