"""`tamis sendmail`, `mailq` and `postqueue`: the names under which scripts and programs call a mail server.

Also when `tamis` itself is called by such a name, as through a symbolic link /usr/sbin/sendmail. `sendmail`
reads a message from standard input and hands it to the server of this machine over SMTP; what it says is on
standard error, and its exit status is one of sysexits.h: 0 sent, 64 wrong usage, 65 the message is wrong,
67 no such user, 69 refused, 75 try again later, 77 not permitted, 78 the configuration is wrong.
"""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

from mta import config
from mta.address import NULL, Address
from mta.cli import default_configuration
from mta.sendmail_message import RecipientError, as_octets, cut_at_dot, prepare, read_recipients
from mta.sendmail_options import Options, UsageError, parse
from mta.sendmail_server import LocalServer, NoListener, NotPublished, NotRunning, find_server
from mta.sendmail_submit import (
    EX_CONFIG,
    EX_DATAERR,
    EX_OK,
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    EX_USAGE,
    Wishes,
    submit,
)
from mta.sendmail_wait import Patience, WrongWait

BLOCK = 256 * 1024


def run(name: str, arguments: Sequence[str]) -> int:
    """Do what a command of that name does; the exit status."""
    if list(arguments) == ["--help"]:
        print(f'{name} takes what Postfix\'s {name} takes: docs/queue.md, "For scripts"')
        return EX_OK
    command = COMMANDS[name]
    try:
        return command(arguments)
    except UsageError as error:
        return _fail(name, str(error), EX_USAGE)
    except (config.ConfigError, WrongWait) as error:
        return _fail(name, str(error), EX_CONFIG)
    except NotPublished as error:
        return _fail(name, str(error), EX_TEMPFAIL)
    except KeyboardInterrupt:
        return EX_TEMPFAIL


def sendmail(arguments: Sequence[str]) -> int:
    """`sendmail`."""
    options = parse(arguments)
    match options.mode:
        case "mailq":
            return _queue(["-p"], options.configuration)
        case "flush":
            return _queue(["-f", options.flush], options.configuration)
        case "aliases":
            return EX_OK  # there is no table of aliases to be made
        case "smtp":
            from mta.sendmail_session import session

            patience = Patience.of_environment()
            return session(_server(options, patience), patience)
    return _send(options, sys.stdin.buffer)


def mailq(arguments: Sequence[str]) -> int:
    """`mailq`."""
    return _queue(["-p", *arguments], "")


def postqueue(arguments: Sequence[str]) -> int:
    """`postqueue`."""
    return _queue(list(arguments), "")


def newaliases(arguments: Sequence[str]) -> int:
    """`newaliases`: there is no table to be made."""
    return EX_OK


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "sendmail": sendmail,
    "mailq": mailq,
    "postqueue": postqueue,
    "newaliases": newaliases,
}
"""By the name under which they are called."""


def _server(options: Options, patience: Patience) -> LocalServer:
    """The server, which may come back meanwhile. Raises ConfigError and NotPublished."""
    while True:
        try:
            return find_server(options.configuration or default_configuration())
        except NotRunning as error:
            if not patience.lasts(str(error)):
                raise


def _send(options: Options, stdin: BinaryIO) -> int:
    patience = Patience.of_environment()
    local = _server(options, patience)
    octets = read_limited(stdin, local.max_size)
    if octets is None:
        return _fail("sendmail", f"the message is larger than {local.max_size} octets", EX_DATAERR)
    if options.dot_ends:
        octets = cut_at_dot(octets)
    user, name = _caller()
    try:
        sender = _sender(options, user, local.origin)
        message = prepare(
            octets,
            options.recipients,
            from_header=options.from_header,
            sender=sender,
            full_name=options.full_name or os.environ.get("NAME", "") or name,
            origin=local.origin,
            hostname=local.hostname,
            now=time.time(),
            entropy=os.urandom,
        )
    except RecipientError as error:
        return _fail("sendmail", str(error), EX_DATAERR if options.from_header else EX_USAGE)
    if not message.recipients:
        how = "the header names nobody" if options.from_header else "name recipients, or use -t"
        return _fail("sendmail", f"nobody to send it to: {how}", EX_USAGE)
    try:
        where = local.where
    except NoListener as error:
        return _fail("sendmail", str(error), EX_CONFIG)
    wishes = Wishes(options.envid, options.ret, options.notify, options.body)
    result = submit(where, local.needs_tls, local.hostname, sender, message, wishes, patience)
    for problem in result.problems:
        _fail("sendmail", problem, result.status)
    if options.is_verbose and result.answer:
        _tell(result.answer)
    return result.status


def _tell(text: str) -> None:
    """Print it. That nobody reads it does not change what has become of the message: a retry is a copy."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_limited(stdin: BinaryIO, limit: int) -> bytes | None:
    """All octets, or None when there are more than `limit`."""
    blocks = []
    left = limit
    while block := stdin.read(BLOCK):
        left -= len(block)
        if left < 0:
            return None
        blocks.append(block)
    return b"".join(blocks)


def _sender(options: Options, user: str, origin: str) -> Address:
    given = user if options.sender is None else options.sender
    if not given:
        return NULL
    found = read_recipients(as_octets(given), origin)
    if len(found) != 1:
        raise RecipientError(f"{given}: one address is the sender")
    return found[0]


def _caller() -> tuple[str, str]:
    """Login name and full name of who runs us."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return f"uid{os.getuid()}", ""
    return entry.pw_name, entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())


def _queue(arguments: list[str], configuration: str) -> int:
    from mta.sendmail_queue import QueueOptions, parse_queue, run_queue

    options: QueueOptions = parse_queue(arguments)
    try:
        return run_queue(options, configuration or options.configuration or default_configuration())
    except BrokenPipeError:
        # The reader of our output has left, as `mailq | head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_UNAVAILABLE


def _fail(name: str, reason: str, status: int) -> int:
    print(f"{name}: {reason}", file=sys.stderr)
    return status
