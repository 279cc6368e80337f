"""The places that are listened on, before the server opens them: folders, names and addresses of sockets.

What is in the way of a Unix socket is a mistake. An address that this machine does not have is a warning
only: it may come later, with a network that is slow or a service that moves from machine to machine, and a
start that fails for it is tried again by systemd.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mta.config.locate import KeyPath
from mta.config.notation import Inet, Inherited, Unix
from mta.config.schema import Config

if TYPE_CHECKING:
    from mta.config.files import Account, FileCheck

LONGEST_PATH = 107
"""Octets of the path of a Unix socket (unix(7))."""


def check_sockets(config: Config, files: FileCheck, starter: Account) -> None:
    """Note what could not be listened on by `starter`, who opens the sockets."""
    made = (config.process.runtime_directory, config.process.state_directory)
    for path, address in _listened(config):
        if not files.findings.is_sound(path):
            continue
        if isinstance(address, Unix):
            _unix(files, path, address.path, starter, made)
        elif isinstance(address, Inet) and not _is_here(address.host):
            files.findings.add(
                path, f'found "{address}"', "an address of this machine",
                reason="no interface has it now", warning=True,
            )  # fmt: skip


def _listened(config: Config) -> Iterator[tuple[KeyPath, Inet | Unix | Inherited]]:
    yield ("control", "socket"), Unix(config.control.socket)
    for index, listener in enumerate(config.listener):
        for number, address in enumerate(listener.addresses):
            yield ("listener", index, "addresses", number), address
    if config.metrics.listen is not None:
        yield ("metrics", "listen"), config.metrics.listen
    if config.store.enabled and config.store.listen is not None:
        yield ("store", "listen"), config.store.listen


def _unix(files: FileCheck, path: KeyPath, file: str, starter: Account, made: tuple[str, ...]) -> None:
    findings, folder = files.findings, os.path.dirname(file)
    if len(os.fsencode(file)) > LONGEST_PATH:
        findings.add(
            path, f'"{file}" is too long', f"a path of at most {LONGEST_PATH} octets",
            reason="no Unix socket can have it",
        )  # fmt: skip
    elif os.path.lexists(file):
        # A socket may be ours, made as root in a folder that is closed to us at a reload.
        if not stat.S_ISSOCK(os.lstat(file).st_mode):
            findings.add(path, f'"{file}" is there and is no socket', "a path that is free")
    elif folder not in made:  # which are looked at, and made, for themselves
        files.folder(path, folder, user=starter)


def _is_here(host: str) -> bool:
    """True when a socket can have this address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)[0][4])
    except OSError:
        return False
    return True
