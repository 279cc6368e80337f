"""The store alone: `python -m mta.store SETTINGS.json [FD ...]`, without a mail server around it.

The file holds the keys of `mta.store.settings.StoreSettings`. The numbers are listening sockets that the
caller opened and passes on; without any, the addresses in `listen` are bound. SIGTERM ends it when the
current deliveries are done. Exit status 78 says that settings or users file are wrong.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import msgspec

from mta.accounts.usersfile import UsersFileError
from mta.store.server import bind, mailboxes_of, run
from mta.store.settings import StoreSettings

EX_USAGE, EX_CONFIG = 64, 78


def main(arguments: list[str]) -> int:
    """Serve; returns the exit status."""
    if not arguments or not all(number.isdecimal() for number in arguments[1:]):
        print("usage: python -m mta.store SETTINGS.json [FD ...]", file=sys.stderr)
        return EX_USAGE
    try:
        settings = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=StoreSettings)
        mailboxes = mailboxes_of(settings)
        sockets = [socket.socket(fileno=int(number)) for number in arguments[1:]] or bind(settings.listen)
    except (OSError, ValueError, UsersFileError, msgspec.DecodeError) as error:
        print(f"mta.store: {error}", file=sys.stderr)
        return EX_CONFIG
    run(settings, sockets, mailboxes)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
