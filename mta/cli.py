"""The command `tamis`.

`serve` runs the server; `check-config` reads a configuration and reports every mistake; `reload`, `stop`,
`status` and `log-level` talk to a running server over its control socket; `user` and `mailbox` are apps of
their own. Exit statuses: 0 done, 1 failed, 2 wrong usage, 78 the configuration is wrong.

Speed matters for `serve` only: its plain forms are recognised here and run without the command-line
library, and what other commands need is imported when they run.
"""

from __future__ import annotations

import gc
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


def main() -> None:
    """Run the command line and exit."""
    called = os.path.basename(sys.argv[0])
    if called in POSTFIX:
        from mta.sendmail import run as run_as

        sys.exit(run_as(called, sys.argv[1:]))
    options = plain_serve(sys.argv[1:])
    if options is None:
        from mta.commands import run

        run()
    else:
        # Nothing that is made while importing becomes garbage; `serve` enables the collector again.
        gc.disable()
        from mta.supervisor.main import serve

        sys.exit(serve(**options))


def default_configuration() -> str:
    """Return the configuration file to read when none is named."""
    return os.environ.get("TAMIS_CONFIG", DEFAULT_CONFIGURATION)


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
