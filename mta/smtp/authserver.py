"""SASL mechanisms of the server that hand a secret or a name to a keeper: PLAIN, LOGIN, EXTERNAL,
OAUTHBEARER and XOAUTH2.

Each parses strictly and asks its keeper once. The authorisation identity must be empty or the
authentication identity itself; another one is refused after the same work, with the same 535. SCRAM has
a module of its own.

PLAIN is RFC 4616; LOGIN the draft that Outlook made immortal; EXTERNAL RFC 4422 appendix A; OAUTHBEARER
RFC 7628; XOAUTH2 Google's and Microsoft's form of the same.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Protocol

from mta.smtp.auth import (
    CREDENTIALS_INVALID,
    MALFORMED_RESPONSE,
    Challenge,
    Failure,
    Login,
    Result,
    Step,
)
from mta.smtp.saslprep import saslprep
from mta.smtp.scram import attribute, decode_name

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


class TokenKeeper(Protocol):
    """Whoever can verify a bearer token."""

    def check_token(self, user: str, token: str, mechanism: str) -> Result | Awaitable[Result]:
        """The result for a token; `user` is "" when the client leaves the name to the token."""


def prepared_name(octets: bytes) -> str:
    """A user name after SASLprep. Raises ValueError when it is empty, too long or forbidden."""
    if not octets or len(octets) > MAX_NAME:
        raise ValueError("user name is empty or too long")
    name = saslprep(octets.decode())
    if not name:
        raise ValueError("user name is empty")
    return name


def password_text(octets: bytes) -> str:
    """A password as text, not prepared. Raises ValueError when it is empty, too long or not UTF-8."""
    if not octets or len(octets) > MAX_PASSWORD or b"\0" in octets:
        raise ValueError("password is empty or too long")
    return octets.decode()


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
            return Failure(MALFORMED_RESPONSE)
        try:
            acting = prepared_name(parts[0] or parts[1])
            user = prepared_name(parts[1])
            password = password_text(parts[2])
        except ValueError:
            return Failure(MALFORMED_RESPONSE)
        result = self._keeper.check_password(user, password, "PLAIN")
        if acting.lower() == user.lower():
            return result
        return Failure(CREDENTIALS_INVALID) if isinstance(result, (Login, Failure)) else _refuse(result)

    def cancel(self) -> None:
        """Nothing is held."""


async def _refuse(waiting: Awaitable[Result]) -> Step:
    await waiting
    return Failure(CREDENTIALS_INVALID)


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
        except ValueError:
            return Failure(MALFORMED_RESPONSE)
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
        except ValueError:
            return Failure(MALFORMED_RESPONSE)
        if acting.lower() != self._user.lower():
            return Failure(CREDENTIALS_INVALID)
        return self._keeper.check_identity(self._user, "EXTERNAL")

    def cancel(self) -> None:
        """Nothing is held."""


class BearerServer:
    """OAUTHBEARER and XOAUTH2: a bearer token; a refusal is explained in JSON before the 535."""

    __slots__ = ("_explained", "_keeper", "_mechanism")

    def __init__(self, mechanism: str, keeper: TokenKeeper) -> None:
        """`mechanism` is "OAUTHBEARER" or "XOAUTH2"."""
        self._mechanism = mechanism
        self._keeper = keeper
        self._explained = False

    def step(self, response: bytes | None) -> Step | Awaitable[Step]:
        """The token, then whatever answers the explanation."""
        if self._explained:
            return Failure(CREDENTIALS_INVALID)
        if response is None:
            return Challenge(b"")
        parse = parse_oauthbearer if self._mechanism == "OAUTHBEARER" else parse_xoauth2
        try:
            user, token = parse(response)
        except ValueError:
            return Failure(MALFORMED_RESPONSE)
        if not token:
            return self._explain("invalid_request")
        result = self._keeper.check_token(user, token, self._mechanism)
        return self._judge(result) if isinstance(result, (Login, Failure)) else self._judge_later(result)

    def cancel(self) -> None:
        """Nothing is held."""

    async def _judge_later(self, waiting: Awaitable[Result]) -> Step:
        return self._judge(await waiting)

    def _judge(self, result: Result) -> Step:
        if isinstance(result, Failure) and result.reply.is_permanent:
            return self._explain("invalid_token")
        return result

    def _explain(self, status: str) -> Step:
        # RFC 7628 section 3.2.2; XOAUTH2 clients know HTTP's status numbers instead.
        self._explained = True
        if self._mechanism == "XOAUTH2":
            status = "400" if status == "invalid_request" else "401"
        return Challenge(json.dumps({"status": status, "schemes": "bearer"}).encode(), refused=True)


def parse_oauthbearer(response: bytes) -> tuple[str, str]:
    """User ("" if none) and token ("" if none) of an OAUTHBEARER response (RFC 7628 section 3.1).

    Raises ValueError.
    """
    header, separator, rest = response.decode().partition("\x01")
    if not separator:
        raise ValueError("no key-value separator")
    user = ""
    if header:  # a lone separator answers an explanation and has no header
        flag, authzid, end = header.split(",")
        if flag not in ("n", "y") or end:
            raise ValueError("bad GS2 header")
        if authzid:
            user = prepared_name(decode_name(attribute(authzid, "a")).encode())
    return user, _bearer_token(rest)


def parse_xoauth2(response: bytes) -> tuple[str, str]:
    """User and token of an XOAUTH2 response. Raises ValueError."""
    first, _, rest = response.decode().partition("\x01")
    key, equals, user = first.partition("=")
    if key != "user" or not equals:
        raise ValueError("no user")
    return prepared_name(user.encode()), _bearer_token(rest)


def _bearer_token(pairs: str) -> str:
    """The token of "key=value^A...^A"; other keys are ignored. Raises ValueError."""
    if not pairs:
        return ""
    if not pairs.endswith("\x01"):
        raise ValueError("the last key-value pair is not closed")
    token = ""
    for pair in pairs.rstrip("\x01").split("\x01"):
        key, equals, value = pair.partition("=")
        if not equals:
            if pair:
                raise ValueError("not a key-value pair")
            continue
        if key == "auth":
            scheme, _, token = value.partition(" ")
            token = token.strip(" ")
            if scheme.lower() != "bearer" or not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError("not a bearer token")
    return token
