"""SCRAM: salted challenge response, the arithmetic and the messages (RFC 5802, RFC 7677, RFC 9266).

The server keeps `ScramKeys`, from which nobody can log in elsewhere; neither a password nor anything like
it crosses the wire. With -PLUS both sides also sign what identifies the TLS channel, so a man in the
middle with a valid certificate is found out.

`ScramServer` never says whether a user exists: its keeper hands it a `ScramRecord` in any case, for an
unknown user one with a stable invented salt that no proof can match. The grammar is strict and attributes
come in their order; mandatory extensions ("m=") are refused, optional ones ignored (RFC 5802 section 7).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
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

SCRAM_HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
"""Mechanism name (without -PLUS) to the name of its hash in hashlib."""
DEFAULT_ITERATIONS = 65536
"""PBKDF2 rounds of new keys: far over the 4096 of RFC 7677, about 30 ms for a client's processor; whoever
steals the file has to pay them for each guess."""
MIN_ITERATIONS = 4096
"""RFC 7677 section 4: a server that asks for less may be collecting cheap material for guessing."""
MAX_ITERATIONS = 2_000_000
"""Most rounds taken from a file or a server: about one second of a processor."""
SALT_LENGTH = 16
"""Octets of a new salt."""
MAX_NONCE = 256
"""Longest nonce accepted, in octets; ours have 24 on top of the client's."""


@dataclass(slots=True, frozen=True)
class ScramKeys:
    """What a server stores of one password for one hash (RFC 5802 section 3). `hash_name` is of hashlib."""

    hash_name: str
    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def derive(
        cls, hash_name: str, password: str, *, iterations: int = DEFAULT_ITERATIONS, salt: bytes | None = None
    ) -> ScramKeys:
        """Keys of a password, which is prepared first (raises ValueError). Takes `iterations` rounds."""
        salt = secrets.token_bytes(SALT_LENGTH) if salt is None else salt
        salted = salted_password(hash_name, password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", hash_name)
        return cls(
            hash_name,
            iterations,
            salt,
            hashlib.new(hash_name, client_key).digest(),
            hmac.digest(salted, b"Server Key", hash_name),
        )

    @classmethod
    def parse(cls, hash_name: str, text: str) -> ScramKeys:
        """From "iterations,salt,stored key,server key" (base64), Dovecot's form. Raises ValueError."""
        parts = text.split(",")
        if len(parts) != 4 or not (parts[0].isascii() and parts[0].isdigit()):
            raise ValueError("SCRAM keys are 'iterations,salt,stored key,server key'")
        iterations = int(parts[0])
        if not 1 <= iterations <= MAX_ITERATIONS:
            raise ValueError(f"SCRAM iterations must be 1 to {MAX_ITERATIONS}")
        try:
            salt, stored_key, server_key = (b64decode(part, validate=True) for part in parts[1:])
        except binascii.Error as error:
            raise ValueError(f"SCRAM keys: {error}") from None
        size = hashlib.new(hash_name).digest_size
        if not salt or len(stored_key) != size or len(server_key) != size:
            raise ValueError(f"SCRAM keys of {hash_name} have {size} octets each and a salt")
        return cls(hash_name, iterations, salt, stored_key, server_key)

    def format(self) -> str:
        """The text that `parse` reads."""
        values = (b64encode(value).decode() for value in (self.salt, self.stored_key, self.server_key))
        return f"{self.iterations},{','.join(values)}"

    def matches(self, password: str) -> bool:
        """True when the keys are of this password; takes a hash time. Raises ValueError."""
        other = ScramKeys.derive(self.hash_name, password, iterations=self.iterations, salt=self.salt)
        return hmac.compare_digest(other.stored_key, self.stored_key)


@dataclass(slots=True, frozen=True)
class ScramRecord:
    """What the keeper of accounts knows for one name: the keys, and what a right proof leads to.

    For an unknown user the keys are invented and `result` is a Failure.
    """

    keys: ScramKeys
    result: Result


class ScramKeeper(Protocol):
    """Whoever keeps SCRAM keys."""

    def scram_record(
        self, user: str, mechanism: str
    ) -> ScramRecord | Failure | Awaitable[ScramRecord | Failure]:
        """The record of a prepared name for "SCRAM-SHA-1" or "SCRAM-SHA-256"; equal calls get equal salts.

        A Failure means that it cannot be told now.
        """


class ScramSyntaxError(ValueError):
    """A SCRAM message that the grammar does not allow."""


def salted_password(hash_name: str, password: str, salt: bytes, iterations: int) -> bytes:
    """SaltedPassword := Hi(Normalize(password), salt, i) of RFC 5802 section 3. Raises ValueError."""
    return hashlib.pbkdf2_hmac(hash_name, saslprep(password).encode(), salt, iterations)


def xor(left: bytes, right: bytes) -> bytes:
    """Octet-wise exclusive or of strings of equal length."""
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))


def encode_name(name: str) -> str:
    """A saslname: "=" and "," are written "=3D" and "=2C"."""
    return name.replace("=", "=3D").replace(",", "=2C")


def decode_name(text: str) -> str:
    """The reverse of `encode_name`. Raises ScramSyntaxError for "=" that starts nothing and for ""."""
    if text.count("=") != text.count("=2C") + text.count("=3D") or not text:
        raise ScramSyntaxError("not a saslname")
    return text.replace("=2C", ",").replace("=3D", "=")


def attribute(part: str, name: str) -> str:
    """The value of "name=value". Raises ScramSyntaxError when `part` is another attribute."""
    if not part.startswith(name + "="):
        raise ScramSyntaxError(f"expected attribute {name}")
    return part[2:]


def base64_value(text: str) -> bytes:
    """Decoded base64, which must be canonical and not empty. Raises ScramSyntaxError."""
    try:
        value = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ScramSyntaxError("not base64") from None
    if not value or b64encode(value).decode() != text:
        raise ScramSyntaxError("not canonical base64")
    return value


def check_nonce(nonce: str) -> str:
    """The nonce itself. Raises ScramSyntaxError unless it is 1 to `MAX_NONCE` printable ASCII but ","."""
    if not nonce or len(nonce) > MAX_NONCE or not nonce.isascii() or not nonce.isprintable() or " " in nonce:
        raise ScramSyntaxError("bad nonce")
    return nonce


class ScramServer:
    """One SCRAM exchange, server side. `name` is the mechanism, with -PLUS or without."""

    __slots__ = (
        "_bindings",
        "_bound",
        "_first_bare",
        "_gs2_header",
        "_keeper",
        "_make_nonce",
        "_mechanism",
        "_nonce",
        "_plus",
        "_plus_offered",
        "_record",
        "_server_first",
        "_state",
    )

    def __init__(
        self,
        name: str,
        keeper: ScramKeeper,
        channel_bindings: Mapping[str, bytes],
        *,
        plus_offered: bool,
        make_nonce: Callable[[], str] = lambda: secrets.token_urlsafe(18),
    ) -> None:
        """`plus_offered` tells whether this session was offered the -PLUS sister, to detect a downgrade."""
        self._mechanism = name.removesuffix("-PLUS")
        self._plus = name.endswith("-PLUS")
        self._keeper = keeper
        self._bindings = channel_bindings
        self._plus_offered = plus_offered
        self._make_nonce = make_nonce
        self._state = "first"
        self._record: ScramRecord | None = None
        self._gs2_header = self._first_bare = self._server_first = self._nonce = ""
        self._bound = b""

    def step(self, response: bytes | None) -> Step | Awaitable[Step]:
        """RFC 5802 section 5: client-first, client-final, then the empty answer to our proof."""
        if response is None:
            return Challenge(b"")
        try:
            match self._state:
                case "first":
                    return self._client_first(response.decode())
                case "final":
                    return self._client_final(response.decode())
        except UnicodeDecodeError:
            return Failure(replace(MALFORMED_RESPONSE, cause="the response is not UTF-8"))
        except ScramSyntaxError as error:
            return Failure(replace(MALFORMED_RESPONSE, cause=str(error)))
        if self._state == "proved" and not response and self._record is not None:
            result = self._record.result
            if isinstance(result, Login) and self._plus:
                return replace(result, mechanism=f"{self._mechanism}-PLUS")
            return result
        return Failure(replace(MALFORMED_RESPONSE, cause="a response after the last one"))

    def cancel(self) -> None:
        """Nothing is held."""

    def _client_first(self, text: str) -> Step | Awaitable[Step]:
        # gs2-cbind-flag "," [authzid] "," [reserved-mext ","] username "," nonce ["," extensions]
        parts = text.split(",")
        if len(parts) < 4:
            raise ScramSyntaxError("client-first-message is too short")
        flag, authzid, *bare = parts
        self._gs2_header = f"{flag},{authzid},"
        self._first_bare = text[len(self._gs2_header) :]
        refused = self._channel_binding(flag)
        user = saslprep_name(decode_name(attribute(bare[0], "n")))
        nonce = check_nonce(attribute(bare[1], "r"))
        if authzid:
            acting = saslprep_name(decode_name(attribute(authzid, "a")))
            if acting.lower() != user.lower():
                refused = refused or OTHER_IDENTITY
        if refused:
            return Failure(replace(CREDENTIALS_INVALID, cause=refused))
        self._nonce = nonce + self._make_nonce()
        record = self._keeper.scram_record(user, self._mechanism)
        if isinstance(record, (ScramRecord, Failure)):
            return self._challenge(record)
        return self._challenge_later(record)

    def _channel_binding(self, flag: str) -> str:
        """Read the gs2-cbind-flag; why the exchange must fail, if it must (RFC 5802 section 6)."""
        if flag.startswith("p="):
            if not self._plus:
                raise ScramSyntaxError("channel binding without -PLUS")
            data = self._bindings.get(flag[2:])
            self._bound = data or b""
            return "a channel binding that is not offered" if data is None else ""
        if flag not in ("n", "y"):
            raise ScramSyntaxError("bad gs2-cbind-flag")
        if self._plus:
            raise ScramSyntaxError("-PLUS without channel binding")
        # "y": the client can, and believes that we cannot. If we offered it, somebody removed the offer.
        return "the client saw no -PLUS in the offer" if flag == "y" and self._plus_offered else ""

    async def _challenge_later(self, waiting: Awaitable[ScramRecord | Failure]) -> Step:
        return self._challenge(await waiting)

    def _challenge(self, record: ScramRecord | Failure) -> Step:
        if isinstance(record, Failure):
            return record
        keys = record.keys
        self._record = record
        self._state = "final"
        self._server_first = f"r={self._nonce},s={b64encode(keys.salt).decode()},i={keys.iterations}"
        return Challenge(self._server_first.encode())

    def _client_final(self, text: str) -> Step:
        # channel-binding "," nonce ["," extensions] "," proof
        without_proof, comma, proof_text = text.rpartition(",p=")
        parts = without_proof.split(",")
        if not comma or len(parts) < 2:
            raise ScramSyntaxError("client-final-message is too short")
        bound = base64_value(attribute(parts[0], "c"))
        nonce = attribute(parts[1], "r")
        proof = base64_value(proof_text)
        assert self._record is not None
        keys = self._record.keys
        if len(proof) != len(keys.stored_key):
            raise ScramSyntaxError("the proof has a wrong length")
        message = f"{self._first_bare},{self._server_first},{without_proof}".encode()
        client_key = xor(proof, hmac.digest(keys.stored_key, message, keys.hash_name))
        genuine = hmac.compare_digest(hashlib.new(keys.hash_name, client_key).digest(), keys.stored_key)
        is_bound = hmac.compare_digest(bound, self._gs2_header.encode() + self._bound)
        is_fresh = hmac.compare_digest(nonce.encode(), self._nonce.encode())
        self._state = "spent"
        if not is_bound or not is_fresh:
            cause = "another nonce" if is_bound else "the channel binding does not match"
            return Failure(replace(CREDENTIALS_INVALID, cause=cause))
        if isinstance(self._record.result, Failure):  # with keys that are invented nothing is genuine
            return self._record.result
        if not genuine:
            return Failure(replace(CREDENTIALS_INVALID, cause="wrong password"))
        self._state = "proved"
        return Challenge(b"v=" + b64encode(hmac.digest(keys.server_key, message, keys.hash_name)))


def saslprep_name(name: str) -> str:
    """A prepared user name. Raises ScramSyntaxError where RFC 4013 forbids it or nothing is left of it."""
    try:
        prepared = saslprep(name)
    except ValueError as error:
        raise ScramSyntaxError(str(error)) from None
    if not prepared:
        raise ScramSyntaxError("empty user name")
    return prepared
