"""SASL mechanisms of the client, and the choice among them (RFC 4954, RFC 4422).

`client_mechanism` takes the strongest mechanism that the server offers, the credentials fit and the
administrator allows. A password leaves this host in clear only inside TLS. SCRAM proves the server too:
its `complete` stays False until the server has shown that it knows the keys, so a 235 without that proof
must not be believed. Derived keys are remembered, or each session to a relay would cost 65,536 rounds.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping

from mta.smtp.auth import (
    DEFAULT_BINDINGS,
    AuthenticationProtocolError,
    ClientExchange,
    Credentials,
    NoMechanismError,
)
from mta.smtp.saslprep import saslprep
from mta.smtp.scram import (
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    SCRAM_HASHES,
    ScramSyntaxError,
    attribute,
    base64_value,
    check_nonce,
    encode_name,
    salted_password,
    xor,
)

PREFERENCE = (
    "EXTERNAL",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "OAUTHBEARER",
    "XOAUTH2",
    "PLAIN",
    "LOGIN",
)
"""All mechanisms, the most preferred first."""
CLEAR = frozenset({"OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"})
"""Mechanisms that show the secret to whoever reads the connection."""
CHANNEL_BINDINGS = ("tls-exporter", "tls-unique", "tls-server-end-point")
"""Types of channel binding, the most preferred first (RFC 9266, RFC 5929)."""
REMEMBERED_KEYS = 64
"""Salted passwords kept in memory: one for each relay and hash is needed."""


def client_mechanism(
    offered: Collection[str],
    credentials: Credentials,
    channel_bindings: Mapping[str, bytes],
    *,
    encrypted: bool,
) -> ClientExchange:
    """The strongest mechanism that is offered, allowed and possible.

    `offered` are the words of the server's AUTH line. `encrypted` is True inside TLS (or on a channel as
    good, such as a Unix socket). Raises NoMechanismError.
    """
    available = {name.upper() for name in offered}
    fitting = [name for name in PREFERENCE if _fits(name, credentials) and (encrypted or name not in CLEAR)]
    binding = next((kind for kind in CHANNEL_BINDINGS if kind in channel_bindings), "")
    may_bind = binding in DEFAULT_BINDINGS or (bool(binding) and bool(credentials.mechanisms))
    for name in fitting:
        if name not in available or (name.endswith("-PLUS") and not may_bind):
            continue
        if name in ("PLAIN", "LOGIN"):
            return PlainClient(credentials) if name == "PLAIN" else LoginClient(credentials)
        if name in ("OAUTHBEARER", "XOAUTH2"):
            return BearerClient(name, credentials)
        if name == "EXTERNAL":
            return ExternalClient(credentials)
        if not name.endswith("-PLUS") and f"{name}-PLUS" in available:
            binding = ""  # offered, but not wanted: "y" would tell the server that the offer was removed
        return ScramClient(name, credentials, binding, channel_bindings.get(binding, b""))
    raise NoMechanismError(
        f"the server offers {' '.join(sorted(available)) or 'no mechanism'}; "
        f"these credentials fit {' '.join(fitting) or 'none'}{'' if encrypted else ' without TLS'}"
    )


def _fits(name: str, credentials: Credentials) -> bool:
    if credentials.mechanisms and name not in credentials.mechanisms:
        return False
    if name == "EXTERNAL":
        return name in credentials.mechanisms
    return bool(credentials.token if name in ("OAUTHBEARER", "XOAUTH2") else credentials.password)


def _one_message(challenge: bytes, sent: bool) -> None:
    """Raise AuthenticationProtocolError unless this is the empty invitation to the only message."""
    if challenge or sent:
        raise AuthenticationProtocolError("the server goes on where the mechanism has ended")


class PlainClient:
    """PLAIN (RFC 4616)."""

    name = "PLAIN"

    def __init__(self, credentials: Credentials) -> None:
        """Raises ValueError for a name or a password with NUL."""
        if "\0" in credentials.user + credentials.password:
            raise ValueError("NUL in a user name or password")
        self._message = f"\0{credentials.user}\0{credentials.password}".encode()
        self.complete = False

    def initial(self) -> bytes:
        """The only message."""
        self.complete = True
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """The message for a server that ignored it in AUTH."""
        _one_message(challenge, self.complete)
        return self.initial()


class LoginClient:
    """LOGIN: name and password, whatever the server's prompts say."""

    name = "LOGIN"

    def __init__(self, credentials: Credentials) -> None:
        """No check: the words travel as they are."""
        self._answers = [credentials.password.encode(), credentials.user.encode()]

    @property
    def complete(self) -> bool:
        """True after both words."""
        return not self._answers

    def initial(self) -> None:
        """The server begins."""

    def respond(self, challenge: bytes) -> bytes:
        """The name first, then the password."""
        if not self._answers:
            raise AuthenticationProtocolError("the server asks for a third word")
        return self._answers.pop()


class ExternalClient:
    """EXTERNAL (RFC 4422 appendix A): the certificate of the TLS session speaks."""

    name = "EXTERNAL"

    def __init__(self, credentials: Credentials) -> None:
        """`credentials.user` is the authorisation identity, "" for the one that the server derives."""
        self._message = credentials.user.encode()
        self.complete = False

    def initial(self) -> bytes:
        """The only message."""
        self.complete = True
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """The message for a server that ignored it in AUTH."""
        _one_message(challenge, self.complete)
        return self.initial()


class BearerClient:
    """OAUTHBEARER (RFC 7628) and XOAUTH2: a bearer token."""

    def __init__(self, name: str, credentials: Credentials) -> None:
        """`name` is the mechanism. Raises ValueError for a name or token with control characters."""
        self.name = name
        user, token = credentials.user, credentials.token
        if not (user + token).isprintable():
            raise ValueError("control characters in a user name or token")
        if name == "OAUTHBEARER":
            header = f"n,a={encode_name(user)}," if user else "n,,"
            self._message = f"{header}\x01auth=Bearer {token}\x01\x01".encode()
        else:
            self._message = f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
        self.complete = False

    def initial(self) -> bytes:
        """The token."""
        self.complete = True
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """The token if it was not sent yet, else the consent to a refusal, which the server then replies."""
        if not self.complete and not challenge:
            return self.initial()
        return b"\x01" if self.name == "OAUTHBEARER" else b""


@functools.lru_cache(maxsize=REMEMBERED_KEYS)
def _remembered_salted_password(hash_name: str, password: str, salt: bytes, iterations: int) -> bytes:
    return salted_password(hash_name, password, salt, iterations)


class ScramClient:
    """SCRAM-SHA-1, SCRAM-SHA-256 and their -PLUS (RFC 5802, RFC 7677)."""

    def __init__(
        self,
        name: str,
        credentials: Credentials,
        binding: str,
        binding_data: bytes,
        make_nonce: Callable[[], str] = lambda: secrets.token_urlsafe(18),
    ) -> None:
        """`binding` is the channel binding type known for this connection, "" if none.

        Raises ValueError for a user name that SASLprep forbids.
        """
        self.name = name
        self.complete = False
        self._hash_name = SCRAM_HASHES[name.removesuffix("-PLUS")]
        self._password = credentials.password
        # "y" tells the server that we could bind and saw no offer, so that it notices a removed one.
        flag = f"p={binding}" if name.endswith("-PLUS") else "y" if binding else "n"
        self._gs2_header = f"{flag},,"
        self._bound = binding_data if name.endswith("-PLUS") else b""
        self._nonce = make_nonce()
        self._first_bare = f"n={encode_name(saslprep(credentials.user))},r={self._nonce}"
        self._signature = b""
        self._state = "start"

    def initial(self) -> bytes:
        """The client-first-message."""
        self._state = "first"
        return (self._gs2_header + self._first_bare).encode()

    def respond(self, challenge: bytes) -> bytes:
        """The client-final-message, then the empty consent to the server's proof."""
        try:
            match self._state:
                case "start" if not challenge:
                    return self.initial()
                case "first":
                    return self._final(challenge.decode())
                case "final":
                    return self._verify(challenge.decode())
        except ValueError as error:
            raise AuthenticationProtocolError(f"{self.name}: {error}") from None
        raise AuthenticationProtocolError(f"{self.name}: a challenge out of turn")

    def _final(self, server_first: str) -> bytes:
        parts = server_first.split(",")
        if len(parts) < 3:
            raise ScramSyntaxError("server-first-message is too short")
        nonce = check_nonce(attribute(parts[0], "r"))
        salt = base64_value(attribute(parts[1], "s"))
        count = attribute(parts[2], "i")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ScramSyntaxError("the server's nonce does not extend ours")
        if not (count.isascii() and count.isdigit()) or len(count) > 9:
            raise ScramSyntaxError("bad iteration count")
        iterations = int(count)
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise ScramSyntaxError(
                f"iteration count {iterations} is not {MIN_ITERATIONS} to {MAX_ITERATIONS}"
            )
        salted = _remembered_salted_password(self._hash_name, self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", self._hash_name)
        stored_key = hashlib.new(self._hash_name, client_key).digest()
        bound = b64encode(self._gs2_header.encode() + self._bound).decode()
        without_proof = f"c={bound},r={nonce}"
        message = f"{self._first_bare},{server_first},{without_proof}".encode()
        proof = xor(client_key, hmac.digest(stored_key, message, self._hash_name))
        server_key = hmac.digest(salted, b"Server Key", self._hash_name)
        self._signature = hmac.digest(server_key, message, self._hash_name)
        self._state = "final"
        return f"{without_proof},p={b64encode(proof).decode()}".encode()

    def _verify(self, server_final: str) -> bytes:
        self._state = "spent"
        if server_final.startswith("e="):
            raise ScramSyntaxError(f"the server says {server_final[2:80]!r}")
        signature = base64_value(attribute(server_final.split(",")[0], "v"))
        if not hmac.compare_digest(signature, self._signature):
            raise ScramSyntaxError("the server's proof is wrong: it does not know the password")
        self.complete = True
        return b""
