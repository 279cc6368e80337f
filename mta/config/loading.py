"""The way from a file to a `Config`: read, locate, convert, settle, check rules, check files.

`load` is what the supervisor calls: a `Config`, or a `ConfigError` with every mistake. `examine` is what
`tamis check-config` calls: it also gives the warnings. `parse` does the pure part, for tests and tools.
"""

from __future__ import annotations

import os.path
import re
import socket
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mta.config.locate import format_path
from mta.config.notation import parse_fqdn
from mta.config.problems import ConfigError, Findings, Problem, unreadable
from mta.config.read import read_struct
from mta.config.rules import check_rules
from mta.config.schema import Config
from mta.config.settle import Machine, settle
from mta.config.site_script import with_site_script

MAX_FILE = 4 * 1024 * 1024
"""Octets of the largest configuration file: a bigger one is another file."""


@dataclass(slots=True, frozen=True)
class Report:
    """What an examination found; `config` is None when there are errors."""

    config: Config | None
    problems: tuple[Problem, ...]
    """Errors and warnings in the order of their lines."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What stops a start."""
        return tuple(problem for problem in self.problems if not problem.warning)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What the administrator should know."""
        return tuple(problem for problem in self.problems if problem.warning)


def load(path: str) -> Config:
    """The configuration of the file at `path`, all files that it names checked. Raises ConfigError."""
    report = examine(path)
    if report.config is None:
        raise ConfigError(report.errors)
    return report.config


def examine(path: str, now: float | None = None) -> Report:
    """Everything that can be said about the file at `path`.

    `now` is the time for the validity of certificates, in seconds of the epoch; default: the clock's.
    """
    try:
        with open(path, "rb") as file:
            octets = file.read(MAX_FILE + 1)
    except OSError as error:
        return Report(None, (unreadable(path, error),))
    if len(octets) > MAX_FILE:
        return Report(None, (Problem(path, 0, "", "is larger than 4 MiB"),))
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        return Report(None, (Problem(path, line, "", "is no UTF-8", reason="the encoding of TOML"),))
    # Here, for it loads cryptography, which a worker that only decodes its configuration does not need.
    from mta.config.files import check_files

    moment = time.time() if now is None else now
    return _examine(
        text,
        path,
        this_machine,
        with_site_script,
        lambda config, findings: check_files(config, findings, moment),
    )


def check(path: str) -> tuple[Problem, ...]:
    """Errors and warnings about the file at `path` and what it names; nothing is changed."""
    return examine(path).problems


def parse(text: str, path: str = "tamis.toml", machine: Machine | None = None) -> Config:
    """The configuration in `text`, no other file looked at. Raises ConfigError.

    `path` stands in messages, and its folder is where relative paths begin.
    """
    here = machine or Machine("localhost.localdomain")
    report = _examine(text, path, lambda name: here, lambda config, findings: config, lambda *_: None)
    if report.config is None:
        raise ConfigError(report.errors)
    return report.config


def this_machine(name: str = "") -> Machine:
    """The machine we run on; it is asked for its name, which may ask the DNS, only if `name` is empty."""
    folder = os.environ.get("TMPDIR") or "/var/tmp"
    six = _has_ipv6()
    if name:
        return Machine(name, folder, has_ipv6=six)
    name = socket.gethostname()
    if "." not in name:
        name = socket.getfqdn(name)
    for candidate, qualified in ((name, True), (f"{name}.localdomain", False)):
        try:
            return Machine(parse_fqdn(candidate, ""), folder, qualified, six)
        except ValueError:
            continue
    return Machine("localhost.localdomain", folder, False, six)


def _has_ipv6() -> bool:
    """Whether something can listen on all addresses of IPv6: a kernel may have been told to do without."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _examine(
    text: str,
    path: str,
    find_machine: Callable[[str], Machine],
    complete: Callable[[Config, Findings], Config],
    check: Callable[[Config, Findings], None],
) -> Report:
    try:
        document = tomllib.loads(text)
        findings = Findings(path, text)
    except tomllib.TOMLDecodeError as error:
        return Report(None, (_syntax_problem(str(error), text, path),))
    except RecursionError:
        return Report(None, (Problem(path, 0, "", "has lists or tables nested too deeply"),))
    except ValueError:  # of int(), which limits the digits that it reads
        return Report(None, (_number_problem(text, path),))
    folder = os.path.dirname(os.path.abspath(path))
    config = read_struct(Config, document, findings, folder)
    machine = find_machine(config.identity.hostname)
    unnamed = not config.identity.hostname and findings.is_sound(("identity", "hostname"))
    if unnamed and not machine.qualified:
        findings.add(
            ("identity", "hostname"), "the machine has no fully qualified name", "this key to be set",
            reason=f"{machine.hostname} is used", warning=True,
        )  # fmt: skip
    config = complete(settle(config, machine, document, folder), findings)
    check_rules(config, findings)
    check(config, findings)
    return Report(None if findings.bad else config, findings.sorted())


def _number_problem(text: str, path: str) -> Problem:
    """The line of the first number with more digits than Python reads."""
    digits = re.search(rf"\d(?:_?\d){{{sys.get_int_max_str_digits()},}}", text)
    line = text.count("\n", 0, digits.start()) + 1 if digits else 0
    return Problem(path, line, "", "found a number with too many digits", "one of 64 bits")


_SYNTAX = {
    "Illegal character '\\n'": ("the text does not end on its line", "its closing quote"),
    "Cannot overwrite a value": ("the key is there a second time", "each key once"),
    "Invalid value": ("this is no value", 'a text in quotes, a number, true, false, [...] or {...}'),
    "Expected newline or end of document after a statement": (
        "the value goes on after its end", "one value a line, texts in quotes",
    ),
}  # fmt: skip
"""What `tomllib` says, and what the administrator is told in its place."""


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*(\]\]?)")


def _single_section(lines: Sequence[str], number: int) -> tuple[int, str] | None:
    """The line of the [NAME] before the [[NAME]] in line `number`, and the name; None when that is not it."""
    again = _HEADER.match(lines[number - 1])
    if again is None or again[1] != "[[":
        return None
    for line, text in enumerate(lines[: number - 1], 1):
        header = _HEADER.match(text)
        if header is not None and (header[1], header[2]) == ("[", again[2]):
            return line, again[2]
    return None


def _syntax_problem(message: str, text: str, path: str) -> Problem:
    """tomllib says "what (at line 3, column 5)" or "what (at end of document)"."""
    what, _, where = message.rpartition(" (at ")
    numbers = [int(word) for word in where.replace(",", " ").replace(")", " ").split() if word.isdigit()]
    if what == "Cannot overwrite a value" and len(numbers) == 2:
        one = _single_section(text.splitlines(), numbers[0])
        if one is not None:
            line, name = one
            found = f"found the section [{name}], and in line {numbers[0]} [[{name}]]"
            return Problem(path, line, "", found, f"[[{name}]], one for each")
    twice = re.fullmatch(r"Cannot declare \((.*?),?\) twice", what)
    if twice:
        keys = tuple(match[1] or match[2] for match in re.finditer(r"'([^']*)'|\"([^\"]*)\"", twice[1]))
        found, expected = f"the section [{format_path(keys)}] is there a second time", "each section once"
        if keys == ("listener",):
            expected = "[[listener]], one for each"
    else:
        found, expected = _SYNTAX.get(what, ("", ""))
    reason = "" if found else what
    if len(numbers) == 2:
        found = f"column {numbers[1]}: {found or 'this is no TOML'}"
        return Problem(path, numbers[0], "", found, expected, reason=reason)
    line = text.count("\n") + 1
    if found:  # in the last line, which has no end
        return Problem(path, line, "", found, expected)
    return Problem(path, line, "", "end of the file: this is no TOML", reason=what)
