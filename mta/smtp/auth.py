"""SASL in SMTP (RFC 4954, RFC 4422): the values and borders of an authentication exchange, both sides.

A mechanism is sans-IO and sees octets: base64, line lengths, "=" for an empty initial response and "*" for
a cancelled exchange belong to the SMTP session. The server asks its `Authenticator` which mechanisms it
may offer, begins a `ServerExchange` and feeds it responses until it yields a `Login` or a `Failure`. The
client picks a `ClientExchange` with `mta.smtp.authclient.client_mechanism`.

A step may be an awaitable, for a password hash takes tens of milliseconds in a thread and Dovecot is asked
over a socket. A `Failure` carries the reply as the client reads it: 535 for wrong credentials and nothing
more precise, 454 when the back end could not decide, 501 for what cannot be parsed; the cause is for the
log alone. A reply with `close` ends the session.

The mechanisms themselves are in `mta.smtp.authserver`, `mta.smtp.authclient` and `mta.smtp.scram`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from mta.address import Address
from mta.reply import Reply
from mta.session import Session

MAX_RESPONSE = 12288
"""Longest base64 response line in octets (RFC 4954 section 4); beyond it, `RESPONSE_TOO_LONG`."""

DEFAULT_BINDINGS = frozenset({"tls-exporter", "tls-unique"})
"""Channel bindings that both sides take by themselves, under TLS 1.3 and 1.2 (RFC 9266 section 3). SASL
cannot negotiate the type: -PLUS with another needs an administrator who knows what the other side can."""

CREDENTIALS_INVALID = Reply(535, "5.7.8", "Authentication credentials invalid")
"""The user, the password, the token or the authorisation identity is wrong; which one is not said."""
OTHER_IDENTITY = "the authorisation identity is another user"
"""Cause of a refusal: nobody may act as somebody else here."""
TEMPORARY_FAILURE = Reply(454, "4.7.0", "Temporary authentication failure, try again later")
"""The back end did not answer, or all its places are taken."""
MALFORMED_RESPONSE = Reply(501, "5.5.2", "Cannot decode the authentication response")
"""Bad base64, or octets that the mechanism's grammar does not allow."""
RESPONSE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
"""A response over `MAX_RESPONSE`."""
MECHANISM_TOO_WEAK = Reply(534, "5.7.9", "Authentication mechanism is too weak")
"""A mechanism that exists but is switched off here."""
ENCRYPTION_REQUIRED = Reply(538, "5.7.11", "Encryption required for requested authentication mechanism")
"""AUTH before TLS."""
MECHANISM_UNKNOWN = Reply(504, "5.5.4", "Unrecognized authentication type")
"""A mechanism that is not offered in this session."""
CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
"""The client sent "*", or left before anything that it had said was checked."""


@dataclass(slots=True, frozen=True)
class Challenge:
    """The exchange goes on: 334 with `data` in base64.

    `refused`: the credentials are wrong, and `data` says why (RFC 7628 section 3.2.2). It is a failed login
    whether the client hears the end or not.
    """

    data: bytes
    refused: bool = False


@dataclass(slots=True, frozen=True)
class Login:
    """The client is who it says: 235 2.7.0.

    `user` is the canonical name (lower case). `addresses` are those that it may send as besides its own
    name: lower-case "local@domain", or "@domain" for a whole domain.
    """

    user: str
    mechanism: str
    addresses: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class Failure:
    """The exchange is over without a login."""

    reply: Reply


Step: TypeAlias = Challenge | Login | Failure
"""What follows a response."""
Result: TypeAlias = Login | Failure
"""How an exchange ends."""


class ServerExchange(Protocol):
    """One AUTH command on the server side."""

    def step(self, response: bytes | None) -> Step | Awaitable[Step]:
        """The next step for a decoded response.

        The first call gets the initial response, None when there was none and b"" for "=". After a `Login`
        or a `Failure` the exchange is spent. Never raises for what a client or a back end says.
        """

    def cancel(self) -> None:
        """The client cancelled or went away: free what the exchange holds. Harmless at any time.

        A step that is waited for still ends. When the back end has got the client's response already, that is
        with what it says about it: else nobody would count the guesses of a client that does not wait.
        Everything else ends at once, as a `Failure` with `CANCELLED`.
        """


class Authenticator(Protocol):
    """Decides who may log in and as whom a user may send."""

    def mechanisms(self, session: Session, channel_binding_types: frozenset[str]) -> tuple[str, ...]:
        """Names for the AUTH keyword of EHLO, strongest first; empty: AUTH is not offered."""

    def begin(
        self, mechanism: str, session: Session, channel_bindings: Mapping[str, bytes]
    ) -> ServerExchange | Reply:
        """Start an exchange; a Reply refuses the command.

        `mechanism` is as the client wrote it, in any case. `channel_bindings` maps "tls-exporter",
        "tls-unique" and "tls-server-end-point" (RFC 9266, RFC 5929), as far as they are known, to data.
        """

    def owns(self, session: Session, sender: Address) -> bool | Awaitable[bool]:
        """True when the logged-in user of the session may send as `sender`."""


@dataclass(slots=True, frozen=True)
class Credentials:
    """What a client logs in with: a password, or a bearer token (RFC 6750).

    `mechanisms` are the names allowed, () for all that fit. With neither password nor token only EXTERNAL
    fits, and only when it is named in `mechanisms`.
    """

    user: str
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    mechanisms: tuple[str, ...] = ()


class AuthenticationProtocolError(Exception):
    """A server's challenge is malformed or its proof wrong: cancel the exchange and leave (remote fault)."""


class NoMechanismError(Exception):
    """No offered mechanism fits the credentials; the text says what was offered and what would fit."""


class ClientExchange(Protocol):
    """One AUTH command on the client side."""

    @property
    def name(self) -> str:
        """The mechanism, upper case."""

    @property
    def complete(self) -> bool:
        """True when a 235 may be believed: the server has proved itself, if the mechanism lets it."""

    def initial(self) -> bytes | None:
        """The initial response, b"" for "=", None when the mechanism begins with the server. Call it once."""

    def respond(self, challenge: bytes) -> bytes:
        """The response to a decoded 334. Raises AuthenticationProtocolError: send "*" and give up."""
