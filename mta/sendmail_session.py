"""`sendmail -bs`: an SMTP session on standard input and output, passed on to the server of this machine."""

from __future__ import annotations

import os
import select
import socket
import sys

from mta.sendmail_server import LocalServer, NoListener
from mta.sendmail_submit import EX_CONFIG, EX_OK, EX_TEMPFAIL, connect
from mta.sendmail_wait import Patience

BLOCK = 65536


def session(local: LocalServer, patience: Patience) -> int:
    """Pass octets on until one side ends; the exit status."""
    try:
        where = local.where
    except NoListener as error:
        print(f"sendmail: {error}", file=sys.stderr)
        return EX_CONFIG
    if local.needs_tls:
        print(f"sendmail: the listener at {where} needs TLS before everything else", file=sys.stderr)
        return EX_CONFIG
    try:
        with connect(where, patience) as server:
            _pass_on(server, sys.stdin.fileno(), sys.stdout.fileno())
    except OSError as error:
        print(f"sendmail: the server at {where}: {error.strerror or error}", file=sys.stderr)
        return EX_TEMPFAIL
    return EX_OK


def _pass_on(server: socket.socket, source: int, target: int) -> None:
    # The greeting first: who talks before it is sent away, and a script in a pipe does.
    reading = [server.fileno()]
    is_greeted = False
    while server.fileno() in reading:
        ready, _, _ = select.select(reading, [], [])
        if source in ready:
            octets = os.read(source, BLOCK)
            if octets:
                server.sendall(octets)
            else:
                # Whoever has no more to say may still read the answers.
                reading.remove(source)
                server.shutdown(socket.SHUT_WR)
        if server.fileno() in ready:
            octets = server.recv(BLOCK)
            if not octets:
                return
            while octets:
                octets = octets[os.write(target, octets) :]
            if not is_greeted:
                is_greeted = True
                reading.append(source)
