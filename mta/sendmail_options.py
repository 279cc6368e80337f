"""The command line of `sendmail`, as programs write it since the eighties; pure.

What has no meaning here is accepted and ignored, for scripts pass it by habit. Options are those that
Postfix's sendmail knows; several letters may stand together (`-ti`), values stand behind their letter or as
the next word.
"""

from __future__ import annotations

import getopt
from collections.abc import Sequence
from dataclasses import dataclass, field

_LETTERS = "A:B:C:D:F:GIL:N:O:R:UV:X:b:cd:e:f:h:imno:p:q:r:stvx"
MODES = {
    "m": "send",
    "a": "send",
    "p": "mailq",
    "s": "smtp",
    "i": "aliases",
}
"""What -b may ask for."""
_ELSEWHERE = {
    "d": "the server is started with `tamis serve`",
    "D": "the server is started with `tamis serve`",
    "l": "the server is started with `tamis serve`",
    "v": "addresses are not verified; `tamis explain` tells what becomes of mail for one",
    "t": "there are no rules to be tested",
}
_NOTIFY = frozenset({"never", "success", "failure", "delay"})


class UsageError(ValueError):
    """The command line makes no sense; the text says why."""


@dataclass(slots=True)
class Options:
    """What is asked for."""

    mode: str = "send"
    """send, mailq, smtp, aliases, flush."""
    recipients: list[str] = field(default_factory=list)
    from_header: bool = False
    """-t: recipients are in the header too."""
    dot_ends: bool = True
    """A line with nothing but a dot ends the message; -i and -oi forbid it."""
    sender: str | None = None
    """-f, "" for the null sender; None: whoever runs the command."""
    full_name: str = ""
    """-F."""
    envid: str = ""
    """-V."""
    ret: str = ""
    """-R: FULL or HDRS."""
    notify: tuple[str, ...] = ()
    """-N, in upper case."""
    body: str = ""
    """-B: 7BIT or 8BITMIME."""
    flush: str = ""
    """Of -q: "" for all, "I" and an id, or "R" or "S" and what must occur in an address."""
    configuration: str = ""
    """-C."""
    is_verbose: bool = False
    """-v: say what the server has answered."""


def parse(arguments: Sequence[str]) -> Options:
    """Read the words behind the command's name. Raises UsageError."""
    options = Options()
    words: list[str] = []
    for number, word in enumerate(arguments):
        if word == "--":
            words.extend(arguments[number:])
            break
        if word == "-q":  # its value, unlike all others, is never the next word
            options.mode = "flush"
        else:
            words.append(word)
    try:
        given, options.recipients = getopt.gnu_getopt(words, _LETTERS)
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from error
    for name, value in given:
        _take(options, name[1], value)
    return options


def _take(options: Options, letter: str, value: str) -> None:
    match letter:
        case "t":
            options.from_header = True
        case "i":
            options.dot_ends = False
        case "o":
            if value == "i":
                options.dot_ends = False
        case "v":
            options.is_verbose = True
        case "f" | "r":
            value = value.strip()
            options.sender = value[1:-1] if value.startswith("<") and value.endswith(">") else value
        case "F":
            options.full_name = value
        case "V":
            options.envid = _envid(value)
        case "C":
            options.configuration = value
        case "R":
            options.ret = _ret(value)
        case "N":
            options.notify = _notify(value)
        case "B":
            options.body = _body(value)
        case "b":
            options.mode = _mode(value)
        case "I":
            options.mode = "aliases"
        case "q":
            _queue_run(options, value)


def _mode(value: str) -> str:
    if value in MODES:
        return MODES[value]
    raise UsageError(f"-b{value}: {_ELSEWHERE.get(value, 'no such mode')}")


def _queue_run(options: Options, value: str) -> None:
    if value[:1] in ("I", "R", "S"):
        options.mode, options.flush = "flush", value
    elif value[:1].isdigit() or value[:1] == "p":
        raise UsageError(f"-q{value}: the server tries its queue by itself")
    else:
        raise UsageError(f"-q{value}: no such choice")


def _envid(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    raise UsageError("-V: printable ASCII is expected (RFC 3461)")


def _ret(value: str) -> str:
    found = value.upper()
    if found not in ("FULL", "HDRS"):
        raise UsageError(f"-R {value}: full or hdrs")
    return found


def _notify(value: str) -> tuple[str, ...]:
    words = [word.strip().lower() for word in value.split(",")]
    if not _NOTIFY.issuperset(words) or ("never" in words and len(words) > 1):
        raise UsageError(f"-N {value}: never, or some of success, failure, delay with commas")
    return tuple(dict.fromkeys(word.upper() for word in words))


def _body(value: str) -> str:
    found = value.upper()
    if found not in ("7BIT", "8BITMIME"):
        raise UsageError(f"-B {value}: 7BIT or 8BITMIME")
    return found
