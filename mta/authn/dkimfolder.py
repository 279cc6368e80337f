"""The keys of all domains in one folder, as `tamis dkim` keeps them and the server reads them.

    FOLDER/example.org/keys.json             the state of each key, written whole and renamed
    FOLDER/example.org/20261127-rsa.pem      a private key, mode 0600

Changes are made under a lock on the folder of the domain. A reader needs no lock; one that asks for the keys
that sign pays a `stat` a file while nothing changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mta.address import AddressError, domain_key
from mta.authn.dkimkeys import (
    ALGORITHMS,
    KeyFileError,
    SigningKey,
    check_selector,
    delete_key,
    is_shared,
    load_key,
    make_key,
    write_key,
)
from mta.authn.dkimrotate import KeyEntry, KeyState
from mta.folders import Owner, heir, make_folder, opened_folder, replacing

STATE_FILE = "keys.json"
LARGEST_STATE = 1024 * 1024
"""Octets of a state file that are read."""
MAX_DOMAINS = 10_000
"""Domains whose state is kept in memory."""


class StateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `keys.json` holds."""

    keys: tuple[KeyEntry, ...] = ()
    version: int = 1


class KeyFolder:
    """The folder. Errors with the files are KeyFileError, whose text names the file."""

    def __init__(self, path: str | Path, owner: Owner | None = None) -> None:
        """`path` need not exist before a key is made.

        What root makes there belongs to `owner`, else to who owns the folder that it is made in. Root
        refuses the folder of a third user, and one behind a link that others may have made.
        """
        self._path = Path(path)
        self._owner = owner if os.geteuid() == 0 else None
        self._states: dict[str, tuple[tuple[int, int, int], tuple[KeyEntry, ...]]] = {}

    @property
    def path(self) -> Path:
        """Where it is, or will be."""
        return self._path

    def domains(self) -> list[str]:
        """The domains that have keys, sorted. Raises KeyFileError."""
        try:
            return sorted(path.parent.name for path in self._path.glob(f"*/{STATE_FILE}"))
        except OSError as error:
            raise KeyFileError(f"{self._path}: {error.strerror}") from None

    def signing_keys(self, domain: str) -> tuple[SigningKey, ...]:
        """The active keys of a domain (in lower case and A-labels), RSA first: every verifier knows it.

        Empty when the domain has none. Raises KeyFileError.
        """
        return tuple(self.key(domain, entry) for entry in self.active(domain))

    def active(self, domain: str) -> list[KeyEntry]:
        """The entries of the keys that sign, RSA first. Raises KeyFileError."""
        active = [entry for entry in self.entries(domain) if entry.state is KeyState.ACTIVE]
        active.sort(key=lambda entry: entry.type != "rsa")
        return active

    def entries(self, domain: str) -> tuple[KeyEntry, ...]:
        """All keys of a domain as the state file has them, read again when it has changed."""
        path = self.state_path(domain)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}") from None
        mark = status.st_ino, status.st_mtime_ns, status.st_size
        known = self._states.get(domain)
        if known is None or known[0] != mark:
            if len(self._states) >= MAX_DOMAINS:
                self._states.clear()
            known = self._states[domain] = (mark, _read_state(path))
        return known[1]

    def key(self, domain: str, entry: KeyEntry) -> SigningKey:
        """The private key of an entry."""
        trusted = self._owner[0] if self._owner is not None else 0
        return load_key(self.key_path(domain, entry.selector), domain, entry.selector, trusted=trusted)

    def key_path(self, domain: str, selector: str) -> Path:
        """Where the private key of a selector is."""
        return self._folder(domain) / f"{selector}.pem"

    def create(
        self, domain: str, kinds: Sequence[str], selector: str, bits: int, now: float
    ) -> list[KeyEntry]:
        """Make a new key of each of `kinds`; `selector` "" chooses names by the date. Raises KeyFileError."""
        with self.locked(domain, create=True) as folder:
            entries = list(self.entries(domain))
            made = []
            for kind in kinds:
                name = selector or self._free_name(domain, kind, now)
                if any(entry.selector == name for entry in entries):
                    raise KeyFileError(f"{domain} has a key {name}")
                write_key(folder, self.key_path(domain, name), make_key(kind, bits), self._heir(folder))
                made.append(KeyEntry(name, kind, int(now), KeyState.NEW, int(now)))
                entries.append(made[-1])
                self.write(domain, entries)
        return made

    def write(self, domain: str, entries: Sequence[KeyEntry], gone: Sequence[KeyEntry] = ()) -> None:
        """Write the state of a domain, then delete the files of keys that have `gone`. Needs the lock.

        State and new keys are on the disk before any key is deleted: a crash never leaves a record in the DNS
        without its key. Raises KeyFileError.
        """
        path = self.state_path(domain)
        octets = msgspec.json.format(msgspec.json.encode(StateFile(tuple(entries))), indent=2) + b"\n"
        with self._opened(domain) as folder:
            try:
                with replacing(path, folder=folder, owner=self._heir(folder)) as file:
                    # Whatever the umask: its folder is closed, and it has no secret.
                    os.fchmod(file.fileno(), 0o644)
                    file.write(octets)
            except OSError as error:
                raise KeyFileError(f"{path}: {error.strerror}") from None
            for entry in gone:
                delete_key(folder, self.key_path(domain, entry.selector))

    @contextlib.contextmanager
    def locked(self, domain: str, *, create: bool = False) -> Iterator[int]:
        """Hold the lock on a domain, whose folder has the descriptor that this yields.

        Nobody else changes its keys meanwhile. Raises KeyFileError.
        """
        if create:
            self._make(self._path)
            self._make(self._folder(domain))
        with self._opened(domain) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield folder

    @contextlib.contextmanager
    def _opened(self, domain: str) -> Iterator[int]:
        path = self._folder(domain)
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(opened_folder(path))
                owner = os.fstat(folder).st_uid
            except FileNotFoundError:
                raise KeyFileError(f"{domain} has no keys in {self._path}") from None
            except OSError as error:
                raise KeyFileError(f"{path}: {error.strerror}") from None
            if self._owner is not None and owner not in (0, self._owner[0]):
                raise KeyFileError(
                    f"{path} belongs to user {owner}, neither to root nor to the server's user"
                )
            yield folder

    def _make(self, path: Path) -> None:
        if os.path.isdir(path):
            return
        try:
            with opened_folder(path.parent) as above, contextlib.suppress(FileExistsError):
                owner = self._heir(above)
                make_folder(above, path.name, 0o750 if is_shared(owner) else 0o700, owner)
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}") from None

    def _heir(self, folder: int) -> Owner | None:
        return self._owner or heir(folder)

    def _free_name(self, domain: str, kind: str, now: float) -> str:
        name = f"{time.strftime('%Y%m%d', time.gmtime(now))}-{kind}"
        number = 1
        free = name
        while self.key_path(domain, free).exists():
            number += 1
            free = f"{name}-{number}"
        return free

    def _folder(self, domain: str) -> Path:
        return self._path / domain

    def state_path(self, domain: str) -> Path:
        """The list of a domain's keys."""
        return self._folder(domain) / STATE_FILE


def check_domain(text: str) -> str:
    """A domain in the form of the folder's names. Raises ValueError."""
    try:
        name = domain_key(text)
    except AddressError as error:
        raise ValueError(f"{text!r} is no domain: {error}") from None
    if name.startswith("["):
        raise ValueError(f"{text!r} is an address, not a domain")
    return name


def _read_state(path: Path) -> tuple[KeyEntry, ...]:
    try:
        with open(path, "rb") as file:
            state = msgspec.json.decode(file.read(LARGEST_STATE), type=StateFile)
        for entry in state.keys:
            if entry.type not in ALGORITHMS:
                raise ValueError(f"the type {entry.type!r} is none of {', '.join(ALGORITHMS)}")
            if check_selector(entry.selector) != entry.selector:
                raise ValueError(f"the selector {entry.selector!r} is not in lower case")
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise KeyFileError(f"{path}: {error}") from None
    if state.version != 1:
        raise KeyFileError(f"{path}: version {state.version} is of a later Tamis")
    return state.keys
