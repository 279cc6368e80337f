"""Logging in against the users file.

Implements the keepers of `mta.smtp.authserver` and `mta.smtp.scram`. An unknown user, one without a
password and a disabled one cost the same work as the others and get the same 535: PLAIN and LOGIN verify a
decoy of a cost that occurs in the file, SCRAM invents keys whose salt and rounds stay the same for a name as
long as the file keeps its decoy key. Which of the costs in the file a name is given follows from the name
too (highest keyed hash wins), so a new user does not change what others see.

The back end cannot verify tokens: OAUTHBEARER and XOAUTH2 need Dovecot.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from mta.accounts import passwords
from mta.accounts.passwords import DECOY, HashingError, StoredPassword
from mta.accounts.user import User
from mta.accounts.usersfile import UsersFile
from mta.accounts.verifier import BusyError, PasswordVerifier
from mta.reply import Reply
from mta.session import Session
from mta.smtp.auth import (
    CREDENTIALS_INVALID,
    MECHANISM_UNKNOWN,
    TEMPORARY_FAILURE,
    Failure,
    Login,
    Result,
    ServerExchange,
)
from mta.smtp.authserver import ExternalServer, LoginServer, PlainServer
from mta.smtp.scram import DEFAULT_ITERATIONS, SALT_LENGTH, SCRAM_HASHES, ScramKeys, ScramRecord, ScramServer

_UNKNOWN = Failure(replace(CREDENTIALS_INVALID, cause="unknown user"))
_DISABLED = Failure(replace(CREDENTIALS_INVALID, cause="user is disabled"))
_NO_PASSWORD = Failure(replace(CREDENTIALS_INVALID, cause="user has no password of this kind"))
_WRONG_PASSWORD = Failure(replace(CREDENTIALS_INVALID, cause="wrong password"))
_DERIVED = "derived"
_MAX_DERIVED = 1024
"""Keys derived from passwords in clear that are remembered: 300 octets each."""


def host_key(path: str) -> bytes:
    """A decoy key for a file that holds none: the same for all processes of this host, unknown elsewhere.

    Made of /etc/machine-id as machine-id(5) demands, by a keyed hash. On a host without one it is random,
    and an unknown user gets other salts from each process.
    """
    try:
        machine = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        machine = b""
    return hmac.digest(machine or secrets.token_bytes(32), b"decoy key of " + path.encode(), "sha256")


class UsersBackend:
    """The users file as a back end of the authenticator."""

    def __init__(self, users: UsersFile, verifier: PasswordVerifier, *, fallback_key: bytes) -> None:
        """`fallback_key` serves when the file holds no decoy key; all workers should have the same."""
        self._users = users
        self._verifier = verifier
        self._fallback_key = fallback_key
        self._surveyed: Mapping[str, User] | None = None
        self._samples: dict[str, StoredPassword] = {}
        self._scram_kinds: dict[str, list[str]] = {}
        self._scram_for_all: frozenset[str] = frozenset()
        self._derived: dict[tuple[str, str, str], ScramKeys] = {}

    def mechanisms(self) -> Collection[str]:
        """What this file can do: SCRAM only when every user with a password can log in by it.

        A client takes the strongest mechanism and does not fall back when it fails.
        """
        self._survey()
        plus = [f"{name}-PLUS" for name in self._scram_for_all]
        return {"PLAIN", "LOGIN", "EXTERNAL", *self._scram_for_all, *plus}

    def begin(
        self,
        mechanism: str,
        session: Session,
        channel_bindings: Mapping[str, bytes],
        certificate_user: str,
        plus_offered: bool,
    ) -> ServerExchange | Reply:
        """Start an exchange of a mechanism of `mechanisms`."""
        match mechanism:
            case "PLAIN":
                return PlainServer(self)
            case "LOGIN":
                return LoginServer(self)
            case "EXTERNAL":
                return ExternalServer(self, certificate_user)
        if mechanism.removesuffix("-PLUS") in SCRAM_HASHES:
            return ScramServer(mechanism, self, channel_bindings, plus_offered=plus_offered)
        return MECHANISM_UNKNOWN

    async def close(self) -> None:
        """End the threads."""
        self._verifier.close()

    def check_identity(self, user: str, mechanism: str) -> Result:
        """The user of a client certificate."""
        record = self._users.get(user)
        if record is None:
            return _UNKNOWN
        return _DISABLED if record.disabled else _login(record, mechanism)

    def check_password(self, user: str, password: str, mechanism: str) -> Result | Awaitable[Result]:
        """PLAIN and LOGIN; waits only for a slow hash that is not remembered."""
        record = self._users.get(user)
        if record is None or record.password is None:
            refused = _UNKNOWN if record is None else _NO_PASSWORD
            return self._verify(self._decoy(user), password, refused, None)
        result = _DISABLED if record.disabled else _login(record, mechanism)
        if self._verifier.remembers(record.password, password):
            return result
        return self._verify(record.password, password, result, record)

    def _verify(
        self, stored: StoredPassword, password: str, result: Result, record: User | None
    ) -> Result | Awaitable[Result]:
        if stored.is_slow:
            return self._verify_slowly(stored, password, result, record)
        if passwords.verify(stored, password) or record is None:
            return result
        return _WRONG_PASSWORD

    async def _verify_slowly(
        self, stored: StoredPassword, password: str, result: Result, record: User | None
    ) -> Result:
        try:
            right = await self._verifier.verify(stored, password)
        except (BusyError, HashingError, MemoryError) as error:
            return Failure(replace(TEMPORARY_FAILURE, cause=str(error)))
        if record is None:
            return result
        if not right:
            return _WRONG_PASSWORD
        self._verifier.remember(stored, password)
        return result

    def scram_record(
        self, user: str, mechanism: str
    ) -> ScramRecord | Failure | Awaitable[ScramRecord | Failure]:
        """Stored keys, keys derived from a password in clear, or invented ones."""
        record = self._users.get(user)
        if record is not None:
            result = _DISABLED if record.disabled else _login(record, mechanism)
            keys = record.scram_keys(mechanism)
            if keys is not None:
                return ScramRecord(keys, result)
            clear = record.password.clear if record.password else None
            if clear is not None:
                return self._derive(user, mechanism, clear, result)
        refused = _UNKNOWN if record is None else _NO_PASSWORD
        self._survey()
        kind = self._choose(user, self._scram_kinds.get(mechanism, []))
        if kind == _DERIVED:
            return self._derive(user, mechanism, self._invent(user, "password", 24).hex(), refused)
        iterations, salt_length = (
            (int(n) for n in kind.split()) if kind else (DEFAULT_ITERATIONS, SALT_LENGTH)
        )
        hash_name = SCRAM_HASHES[mechanism]
        keys = ScramKeys(
            hash_name,
            iterations,
            self._invent(user, f"salt {mechanism}", salt_length),
            self._invent(user, f"stored key {mechanism}", 20 if hash_name == "sha1" else 32),
            self._invent(user, f"server key {mechanism}", 20 if hash_name == "sha1" else 32),
        )
        return ScramRecord(keys, refused)

    def _derive(
        self, user: str, mechanism: str, password: str, result: Result
    ) -> ScramRecord | Awaitable[ScramRecord | Failure]:
        keys = self._derived.get((user, mechanism, password))
        return ScramRecord(keys, result) if keys else self._derive_slowly(user, mechanism, password, result)

    async def _derive_slowly(
        self, user: str, mechanism: str, password: str, result: Result
    ) -> ScramRecord | Failure:
        salt = self._invent(user, f"salt {mechanism}", SALT_LENGTH)
        hash_name = SCRAM_HASHES[mechanism]
        try:
            keys = await self._verifier.run(lambda: ScramKeys.derive(hash_name, password, salt=salt))
        except BusyError as error:
            return Failure(replace(TEMPORARY_FAILURE, cause=str(error)))
        except ValueError:  # SASLprep forbids the password: SCRAM cannot carry it
            return _NO_PASSWORD
        while len(self._derived) >= _MAX_DERIVED:
            del self._derived[next(iter(self._derived))]
        self._derived[user, mechanism, password] = keys
        return ScramRecord(keys, result)

    def _survey(self) -> None:
        """Find out which costs occur in the file; again when it has changed."""
        users = self._users.users
        if users is self._surveyed:
            return
        self._surveyed = users
        self._samples = {}
        kinds: dict[str, set[str]] = {name: set() for name in SCRAM_HASHES}
        for_all = set(SCRAM_HASHES)
        for user in users.values():
            if user.password is None:
                continue
            self._samples.setdefault(user.password.cost, user.password)
            costs = [stored.cost for stored in (user.password, *user.verifiers)]
            for name in SCRAM_HASHES:
                cost = next((cost for cost in costs if cost.startswith(f"{name} ")), "")
                if cost:
                    kinds[name].add(cost.removeprefix(f"{name} "))
                elif user.password.clear is not None:
                    kinds[name].add(_DERIVED)
                else:
                    for_all.discard(name)
        self._scram_kinds = {name: sorted(found) for name, found in kinds.items()}
        self._scram_for_all = frozenset(for_all)

    def _decoy(self, user: str) -> StoredPassword:
        self._survey()
        return self._samples.get(self._choose(user, self._samples), DECOY)

    def _choose(self, user: str, kinds: Collection[str]) -> str:
        """One of the kinds, always the same for a name; "" when there are none."""
        return max(kinds, key=lambda kind: self._invent(user, f"kind {kind}", 32), default="")

    def _invent(self, user: str, purpose: str, length: int) -> bytes:
        key = self._users.decoy_key or self._fallback_key
        digest = hmac.digest(key, f"{purpose}\0{user.lower()}".encode(), "sha256")
        return hashlib.shake_256(digest).digest(length)


def _login(record: User, mechanism: str) -> Login:
    return Login(record.name, mechanism, record.addresses)
