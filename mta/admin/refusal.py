"""What `tamis reload` says of a refusal."""

from __future__ import annotations

from mta.admin.control import Answer
from mta.folders import whole_path


def refusal(answer: Answer, configuration: str) -> list[str]:
    """Lines for the administrator who asked for a reload with this file."""
    lines = [f"tamis: {answer.error}; the server goes on as before"]
    lines += [_as_named(problem, configuration) for problem in answer.problems]
    if _only_there(answer.problems, configuration):
        lines.append(
            "tamis: check-config finds no mistake: if another version was installed since the server"
            " started, it needs a restart"
        )
    return lines


def _only_there(problems: tuple[str, ...], configuration: str) -> bool:
    """Whether the server finds mistakes in files, or cannot read them, and this program does not."""
    from mta.config import check

    in_files = any(problem.startswith(("/", "internal error: ")) for problem in problems)
    return in_files and all(problem.warning for problem in check(configuration))


def _as_named(problem: str, configuration: str) -> str:
    """A mistake with the file as it was named here: the server knows its whole path."""
    whole = whole_path(configuration) + ":"
    return f"{configuration}:{problem.removeprefix(whole)}" if problem.startswith(whole) else problem
