"""`mailq` and `postqueue`: look at the queue and flush it, in the words of Postfix."""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mta.admin.client import Unreachable
from mta.cli_queue_common import Access
from mta.config import ConfigError
from mta.mailq.filters import FilterError, parse_filter
from mta.mailq.postqueue import postqueue_json, postqueue_text
from mta.queue_access import open_queue
from mta.sendmail_options import UsageError
from mta.sendmail_submit import EX_NOPERM, EX_OK, EX_UNAVAILABLE
from mta.spool.remote import QueueProblem


@dataclass(slots=True, frozen=True)
class QueueOptions:
    """What is asked for."""

    action: str
    """text, json, flush, retry (one message), site (all for a domain)."""
    argument: str = ""
    configuration: str = ""


def parse_queue(arguments: Sequence[str]) -> QueueOptions:
    """Read the words behind `postqueue`. Raises UsageError."""
    if arguments[:1] == ["-f"] and len(arguments) == 2:  # as `sendmail -q` asks
        return _flush(arguments[1])
    try:
        given, rest = getopt.gnu_getopt(list(arguments), "c:fi:jps:v")
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from error
    if rest:
        raise UsageError(f"{rest[0]}: nothing is expected there")
    configuration, actions = "", []
    for option, value in given:
        match option:
            case "-c":
                # Postfix names a folder there; ours is a file.
                configuration = os.path.join(value, "tamis.toml") if os.path.isdir(value) else value
            case "-p":
                actions.append(("text", ""))
            case "-j":
                actions.append(("json", ""))
            case "-f":
                actions.append(("flush", ""))
            case "-i":
                actions.append(("retry", value))
            case "-s":
                actions.append(("site", value))
    if len(set(actions)) != 1:
        raise UsageError("one of -p (list), -j (list as JSON), -f (try all now), -i ID, -s DOMAIN")
    action, argument = actions[0]
    return QueueOptions(action, argument, configuration)


def run_queue(options: QueueOptions, configuration: str) -> int:
    """Do it; the exit status. Raises ConfigError and UsageError."""
    try:
        queue = open_queue(configuration)
        match options.action:
            case "text":
                rows = list(queue.rows(()))
                if rows or not queue.missing:  # else it is not known whether the queue is empty
                    _print(postqueue_text(rows))
            case "json":
                _print(postqueue_json(queue.rows(())))
            case _:
                _try_now(queue, options)
        for where, why in queue.missing.items():
            print(f"postqueue: incomplete: {where}: {why}", file=sys.stderr)
        if queue.missing:
            return EX_UNAVAILABLE
    except (QueueProblem, Unreachable, ConfigError) as problem:
        if isinstance(problem.__cause__, PermissionError):
            who = "only root and the user of the server may look at the queue"
            print(f"postqueue: {who} ({problem})", file=sys.stderr)
            return EX_NOPERM
        if isinstance(problem, ConfigError):
            raise
        print(f"postqueue: {problem}", file=sys.stderr)
        return EX_UNAVAILABLE
    return EX_OK


def _try_now(queue: Access, options: QueueOptions) -> None:
    match options.action:
        case "flush":
            queue.flush("")
        case "retry":
            if not list(queue.act("retry", [options.argument], ())):
                raise QueueProblem(f"there is no message {options.argument} to be tried")
        case "site":
            words = [f"domain={options.argument}"]
            try:
                parse_filter(words)
            except FilterError as error:
                raise UsageError(f"-s {options.argument!r}: no domain") from error
            list(queue.act("retry", (), words))
        case "sender" | "recipient":
            list(queue.act("retry", (), [f"{options.action}=*{options.argument}*"]))


def _flush(what: str) -> QueueOptions:
    match what[:1]:
        case "I":
            return QueueOptions("retry", what[1:])
        case "R":
            return QueueOptions("recipient", what[1:])
        case "S":
            return QueueOptions("sender", what[1:])
    return QueueOptions("flush")


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
    sys.stdout.flush()
