"""The program `tamis`, under its own name and under those of a mail server (`POSTFIX`).

Its commands are in `mta.commands`, what it does under other names in `mta.sendmail`. Exit statuses of most
commands: 0 done, 1 failed, 2 wrong usage, 74 the output cannot be written, 78 the configuration is wrong, 130
after Ctrl-C; those of sysexits.h under another name.

Speed matters for `serve` only: its plain forms are recognised here and run without the command-line
library, and what other commands need is imported when they run.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import sys

DEFAULT_CONFIGURATION = "/etc/tamis/tamis.toml"
"""The file that is read when neither --config nor TAMIS_CONFIG says otherwise."""

_SERVE_OPTIONS = {
    "-c": "configuration",
    "--config": "configuration",
    "--pid-file": "pid_file",
    "--daemon": "daemon",
}


POSTFIX = ("sendmail", "mailq", "postqueue", "newaliases")
"""Names under which scripts know a mail server."""


_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
EX_FAILED, EX_UNAVAILABLE, EX_IOERR, EX_TEMPFAIL = 1, 69, 74, 75
EX_INTERRUPTED = 130
"""As shells say it, 128 and the number of SIGINT."""


def main() -> None:
    """Run the command line and exit."""
    _complete_streams()
    called = os.path.basename(sys.argv[0])
    options = plain_serve(sys.argv[1:]) if called not in POSTFIX else None
    if options is not None:
        # Nothing that is made while importing becomes garbage; `serve` enables the collector again.
        gc.disable()
        from mta.supervisor.main import serve

        sys.exit(serve(**options))
    try:
        try:
            _run(called)
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except KeyboardInterrupt:  # while a command is still being imported
        sys.exit(EX_TEMPFAIL if called in POSTFIX else EX_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left, as `tamis status --json | head -c 1` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EX_UNAVAILABLE if called in POSTFIX else EX_FAILED)
    except OSError as error:
        if error.filename is not None:  # a folder that is closed to us, a name that is too long, ...
            print(f"tamis: {os.fsdecode(error.filename)}: {error.strerror}", file=sys.stderr)
            sys.exit(EX_FAILED)
        if error.errno not in _UNWRITTEN:
            raise
        print(f"tamis: the output cannot be written: {error.strerror}", file=sys.stderr)
        # What is in the buffer is not tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EX_IOERR)


def _complete_streams() -> None:
    """Let there be all three standard streams, and let them take every text.

    Whoever calls us may have closed some: then the next file or socket that is opened would have the number
    of standard error, and what goes wrong would be written into it.
    """
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)  # the processes that we start need them as well
        os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A name in a folder that is no UTF-8, an address that the terminal's character set does not have.
        sys.stdout.reconfigure(errors="backslashreplace")


def _look_into_pythonpath_last() -> None:
    """Import nothing of the caller's: a program that sends mail may have modules for another Python there."""
    if given := os.environ.get("PYTHONPATH"):
        theirs = {os.path.abspath(path) for path in given.split(os.pathsep)}
        sys.path.sort(key=lambda path: os.path.abspath(path) in theirs)


def _run(called: str) -> None:
    if called in POSTFIX:
        _look_into_pythonpath_last()
        from mta.sendmail import run as run_as

        sys.exit(run_as(called, sys.argv[1:]))
    from mta.commands import run

    run()


def default_configuration() -> str:
    """Return the configuration file to read when none is named."""
    return os.environ.get("TAMIS_CONFIG") or DEFAULT_CONFIGURATION


def plain_serve(arguments: list[str]) -> dict[str, str] | None:
    """Return the options of a plain `serve --option VALUE ...`, or None for everything else.

    Everything else includes help and mistakes, which are the command-line library's business.
    """
    if arguments[:1] != ["serve"] or len(arguments) % 2 == 0:
        return None
    names, values = arguments[1::2], arguments[2::2]
    if any(name not in _SERVE_OPTIONS for name in names) or any(value.startswith("-") for value in values):
        return None
    chosen = {_SERVE_OPTIONS[name]: value for name, value in zip(names, values, strict=True)}
    return {"configuration": default_configuration(), **chosen}


if __name__ == "__main__":
    main()
