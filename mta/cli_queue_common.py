"""What the commands of `tamis queue` share: options, the queue they work on, and how they fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Protocol, TypeAlias

import typer

from mta.cli_exit import EXIT_CONFIG, EXIT_FAILED, fail
from mta.cli_options import Config
from mta.mailq.filters import FilterError, parse_filter
from mta.mailq.rows import QueueRow
from mta.spool.remote import QueueProblem

ConfigOption: TypeAlias = Config
WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="WORD",
        help="Filter: sender= recipient= domain= status= reason= older= younger= node= id=.",
    ),
]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Messages by their ids.")]
FilterOption = Annotated[
    list[str] | None,
    typer.Option("--filter", "-f", metavar="WORD", help="Messages by filter words; may be repeated."),
]
AllOption = Annotated[bool, typer.Option("--all", help="All messages.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Access(Protocol):
    """A queue, wherever it is."""

    missing: dict[str, str]
    """What the last answer lacks: why, by who did not give it. Empty when it is whole."""

    def reading(self) -> AbstractContextManager[None]:
        """Makes many reads in a row cheap."""

    def rows(self, words: Sequence[str]) -> Iterator[QueueRow]:
        """The messages that a filter means."""

    def show(self, name: str) -> dict[str, Any]:
        """Everything about a message."""

    def octets(self, name: str) -> Iterator[bytes]:
        """Header and body of a message."""

    def act(self, action: str, ids: Sequence[str], words: Sequence[str], to: str = "") -> Iterator[str]:
        """Do something to messages; the ids of those it was done to."""

    def stats(self) -> dict[str, dict[str, Any]]:
        """What each process knows of next hops."""

    def flush(self, site: str) -> int:
        """Try now what waits; how many messages."""


Open = Callable[[str], Access]
"""Opens the queue of a configuration."""


def checked_words(words: Sequence[str] | None) -> list[str]:
    """Filter words, checked here too, so that a mistake is one of usage."""
    given = list(words or ())
    try:
        parse_filter(given)
    except FilterError as error:
        raise typer.BadParameter(str(error)) from error
    return given


def chosen(ids: Sequence[str] | None, words: Sequence[str] | None, everything: bool) -> list[str]:
    """The filter words of a command that needs ids, a filter or --all, and only one of them."""
    if bool(ids) + bool(words) + everything != 1:
        raise typer.BadParameter("name messages by ids, by --filter, or by --all")
    return checked_words(words)


def printable(text: str) -> str:
    """No escape sequence of a remote server or sender reaches the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in text)


@contextmanager
def failures() -> Iterator[None]:
    """Turns what may go wrong into a line on standard error and an exit status."""
    from mta.admin.client import Unreachable
    from mta.config import ConfigError

    try:
        yield
    except ConfigError as error:
        rights = _rights(error)
        print(f"tamis: {rights}" if rights else error, file=sys.stderr)
        raise typer.Exit(EXIT_CONFIG) from error
    except (QueueProblem, Unreachable) as problem:
        fail(_rights(problem) or str(problem))


def _rights(problem: Exception) -> str:
    """Who may work on the queue, when the one who asks may not; "" for other problems."""
    if isinstance(problem.__cause__, PermissionError):
        return f"only root and the user of the server may see and change the queue ({problem})"
    return ""


def with_missing(facts: dict[str, Any], queue: Access) -> dict[str, Any]:
    """What programs read: with "missing" when the answers lack something."""
    return facts | {"missing": queue.missing} if queue.missing else facts


def require_whole(queue: Access) -> None:
    """Say what the answers lack, if anything, and exit with a status that says so."""
    for where, why in queue.missing.items():
        print(f"tamis: incomplete: {where}: {why}", file=sys.stderr)
    if queue.missing:
        raise typer.Exit(EXIT_FAILED)
