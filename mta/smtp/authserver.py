"""SASL mechanisms of the server that hand a secret or a name to a keeper: PLAIN, LOGIN and EXTERNAL.

Each parses strictly and asks its keeper once. The authorisation identity must be empty or the
authentication identity itself; another one is refused after the same work, with the same 535. SCRAM has
a module of its own; OAUTHBEARER and XOAUTH2 are Dovecot's to check (`mta.accounts.dovecotbackend`).

PLAIN is RFC 4616; LOGIN the draft that Outlook made immortal; EXTERNAL RFC 4422 appendix A.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Protocol

from mta.smtp.auth import (
    CREDENTIALS_INVALID,
    MALFORMED_RESPONSE,
    OTHER_IDENTITY,
    Challenge,
    Failure,
    Login,
    Result,
    Step,
)
from mta.smtp.saslprep import saslprep

MAX_NAME = 320
"""Longest user name in octets: a local part of 64, "@" and a domain of 255 (RFC 5321 section 4.5.3.1)."""
MAX_PASSWORD = 1024
"""Longest password in octets: four times what RFC 4616 asks for, and little to hash."""


class PasswordKeeper(Protocol):
    """Whoever can verify a password."""

    def check_password(self, user: str, password: str, mechanism: str) -> Result | Awaitable[Result]:
        """The result for a prepared name and a password as typed; the same work for an unknown name."""


class IdentityKeeper(Protocol):
    """Whoever knows which users exist."""

    def check_identity(self, user: str, mechanism: str) -> Result | Awaitable[Result]:
        """The result for a user that TLS has already authenticated."""


def prepared_name(octets: bytes) -> str:
    """A user name after SASLprep. Raises ValueError when it is empty, too long or forbidden."""
    name = saslprep(_text("user name", octets, MAX_NAME))
    if not name:
        raise ValueError("the user name is empty")
    return name


def password_text(octets: bytes) -> str:
    """A password as text, not prepared. Raises ValueError when it is empty, too long or not UTF-8."""
    if b"\0" in octets:
        raise ValueError("the password has a NUL")
    return _text("password", octets, MAX_PASSWORD)


def _text(what: str, octets: bytes, longest: int) -> str:
    if not octets:
        raise ValueError(f"the {what} is empty")
    if len(octets) > longest:
        raise ValueError(f"the {what} has more than {longest} octets")
    try:
        return octets.decode()
    except UnicodeDecodeError:  # its text has an octet of the password, and this one is logged
        raise ValueError(f"the {what} is not UTF-8") from None


def _malformed(cause: str) -> Failure:
    """501, with the reason for the log: who supports a user has no other way to see it."""
    return Failure(replace(MALFORMED_RESPONSE, cause=cause))


def _another() -> Failure:
    return Failure(replace(CREDENTIALS_INVALID, cause=OTHER_IDENTITY))


class PlainServer:
    """PLAIN: [authzid] NUL authcid NUL password."""

    __slots__ = ("_keeper",)

    def __init__(self, keeper: PasswordKeeper) -> None:
        """`keeper` verifies the password."""
        self._keeper = keeper

    def step(self, response: bytes | None) -> Step | Awaitable[Step]:
        """The one response."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            return _malformed("not two NULs in the response")
        try:
            acting = prepared_name(parts[0] or parts[1])
            user = prepared_name(parts[1])
            password = password_text(parts[2])
        except ValueError as error:
            return _malformed(str(error))
        result = self._keeper.check_password(user, password, "PLAIN")
        if acting.lower() == user.lower():
            return result
        return _another() if isinstance(result, (Login, Failure)) else _refuse(result)

    def cancel(self) -> None:
        """Nothing is held."""


async def _refuse(waiting: Awaitable[Result]) -> Step:
    await waiting
    return _another()


class LoginServer:
    """LOGIN: the name, then the password; an initial response is the name."""

    __slots__ = ("_keeper", "_user")

    def __init__(self, keeper: PasswordKeeper) -> None:
        """`keeper` verifies the password."""
        self._keeper = keeper
        self._user = ""

    def step(self, response: bytes | None) -> Step | Awaitable[Step]:
        """Two responses."""
        if response is None:
            return Challenge(b"Username:")
        try:
            if not self._user:
                self._user = prepared_name(response)
                return Challenge(b"Password:")
            password = password_text(response)
        except ValueError as error:
            return _malformed(str(error))
        return self._keeper.check_password(self._user, password, "LOGIN")

    def cancel(self) -> None:
        """Nothing is held."""


class ExternalServer:
    """EXTERNAL: the client certificate has said who it is."""

    __slots__ = ("_keeper", "_user")

    def __init__(self, keeper: IdentityKeeper, user: str) -> None:
        """`user` is whom the verified certificate stands for."""
        self._keeper = keeper
        self._user = user

    def step(self, response: bytes | None) -> Step | Awaitable[Step]:
        """The one response: an authorisation identity, or b"" for the one of the certificate."""
        if response is None:
            return Challenge(b"")
        try:
            acting = prepared_name(response) if response else self._user
        except ValueError as error:
            return _malformed(str(error))
        if acting.lower() != self._user.lower():
            return _another()
        return self._keeper.check_identity(self._user, "EXTERNAL")

    def cancel(self) -> None:
        """Nothing is held."""
