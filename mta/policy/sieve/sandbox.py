"""Scripts of domains and users: what they may say, and where they come from.

They speak about their own recipients only, in stages rcpt and data: refuse, discard, accept. There is no
word in their language that asks anybody, changes the message, or says where mail goes. What they let pass the
other scripts and the base policy still judge.

A user's script is read when its first mail comes and again when it has changed. One that is wrong, or too
large, counts as none, and the log says what is wrong with it.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from mta.address import Address
from mta.policy.sieve.dialect import STANDARD, policy_dialect
from mta.policy.sieve.program import FileDiagnostic, Program, load, settings_for
from mta.policy.sieve.reply import CAPABILITIES as REPLIES
from mta.policy.sieve.reply import DisconnectCommand, TarpitCommand
from mta.policy.sieve.stages import KEY, OF_RECIPIENTS
from sieve_ext import Dialect, Settings

USER_OCTETS = 64 * 1024
"""Octets of the largest script of a user; it is read and compiled while sessions of the worker wait."""
USERS_MOST = 1000
"""Scripts of users that a worker keeps; the ones that were not used for longest make room."""

_NOT_FOR_THEM = frozenset({"editheader", "body", "foreverypart", "mime"})
"""Capabilities of the standard that change the message for all, or cost too much for each recipient."""


@cache
def sandbox_dialect() -> Dialect:
    """The language of these scripts."""
    found = []
    replies = {one.name: one for one in REPLIES}
    for capability in policy_dialect().capabilities.values():
        if capability.name in _NOT_FOR_THEM:
            continue
        if capability.name in replies:
            words = tuple(
                word for word in capability.words if not issubclass(word, (DisconnectCommand, TarpitCommand))
            )
            found.append(replace(capability, words=words))
        elif capability.name in (*STANDARD, KEY) or capability.name.startswith("comparator-"):
            found.append(capability)
    return Dialect(found)


def sandbox_settings() -> Settings:
    """What the words are told: that they speak of recipients."""
    usual = settings_for((), has_queue=False)
    values = {key: usual.text(key) for key in usual.keys()}  # noqa: SIM118 - not a mapping
    limits = {"sieve_max_cpu_time": "20ms", "sieve_regex_max_work": "10000000"}  # 50 ms at worst
    return Settings({**values, OF_RECIPIENTS: "yes", **limits})


def load_sandboxed(
    path: str, octets: bytes, *, tracing: bool = False
) -> tuple[Program | None, list[FileDiagnostic]]:
    """A script of a domain or a user, as `load`."""
    return load([(path, octets)], sandbox_settings(), tracing=tracing, dialect=sandbox_dialect())


@dataclass(slots=True)
class _Kept:
    stamp: tuple[int, int, int]
    program: Program | None


class UserScripts:
    """The scripts of users, by a pattern for their paths."""

    def __init__(self, pattern: str, complain: Callable[[str], None], *, tracing: bool = False) -> None:
        """`pattern` has "%d" for the domain and "%u" for the local part, both in lower case."""
        self._pattern = pattern
        self._complain = complain
        self._tracing = tracing
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def of(self, address: Address) -> Program | None:
        """The script of `address`, which has no subaddress; None when there is none that can be used."""
        path = path_of(self._pattern, address)
        if path is None:
            return None
        try:
            found = os.stat(path)
        except OSError:
            self._kept.pop(path, None)
            return None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        kept = self._kept.get(path)
        if kept is None or kept.stamp != stamp:
            kept = self._kept[path] = _Kept(stamp, self._read(path, found.st_size))
            if len(self._kept) > USERS_MOST:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return kept.program

    def _read(self, path: str, size: int) -> Program | None:
        if size > USER_OCTETS:
            self._complain(f"{path}: the script is larger than {USER_OCTETS // 1024} KiB and not used")
            return None
        try:
            octets = _octets_of(path)
        except OSError as error:
            self._complain(f"{path}: {error.strerror}")
            return None
        if octets is None:
            self._complain(f"{path}: this is no file, and not used")
            return None
        program, found = load_sandboxed(path, octets, tracing=self._tracing)
        if program is None:
            wrong = "; ".join(str(one) for one in found if not one.is_warning)
            self._complain(f"the script is not used: {wrong}")
        return program


def _octets_of(path: str) -> bytes | None:
    """What is in a file, as far as it is wanted; None for a pipe or a device, for which nobody waits: the
    folder may be the user's own. Raises OSError."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        return file.read(USER_OCTETS + 1)


def path_of(pattern: str, address: Address) -> str | None:
    """The path for an address, None for one whose parts are no names of files."""
    local, domain = address.key.rpartition("@")[0], address.domain.lower()
    for part in (local, domain):
        if not part or part.startswith(".") or "/" in part or "\0" in part or len(part.encode()) > 200:
            return None
    return "".join({"%u": local, "%d": domain, "%%": "%"}.get(part, part) for part in _split(pattern))


def _split(pattern: str) -> list[str]:
    parts: list[str] = []
    rest = pattern
    while rest:
        if rest[0] == "%":
            parts.append(rest[:2])
            rest = rest[2:]
        else:
            text = rest.partition("%")[0]
            parts.append(text)
            rest = rest[len(text) :]
    return parts
