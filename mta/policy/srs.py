"""SRS, the sender rewriting scheme: a sender of somebody else's as an address of ours that leads back. Pure.

    ann@example.net            SRS0=HHHH=TT=example.net=ann@fwd.example.org
    SRS0=xxxx@relay.example    SRS1=HHHH=relay.example==xxxx@fwd.example.org
    SRS1=yyyy=relay.example==xxxx@second.example
                               SRS1=HHHH=relay.example==xxxx@fwd.example.org

HHHH is an HMAC (SHA-1, base64, cut) of what follows, TT the day in base 32. Only who knows a secret can make
an address that leads back, and it does so for some days. The first secret makes them, all are tried when one
comes back. The form is that of Mail::SRS, libsrs2 and postsrsd, so that addresses which one of them has made
are understood; its text is Shevek, "The Sender Rewriting Scheme".
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from mta.address import Address, AddressError, parse_address, quote_local

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
SLOTS = len(ALPHABET) ** 2
"""Days until the two letters begin again."""
DAY = 86400.0
SEPARATORS = "=+-"


class SrsError(ValueError):
    """An address that cannot be made or does not lead back; the text says why, and repeats nothing of it."""


class SrsExpired(SrsError):
    """An address of ours whose time is over."""


@dataclass(slots=True, frozen=True)
class SrsSettings:
    """How addresses are made."""

    secrets: Sequence[str]
    domain: str
    separator: str = "="
    """The one behind SRS0 and SRS1; the others are "="."""
    days: int = 21
    """How long an address leads back."""
    hash_length: int = 8
    """Characters of the HMAC."""


class Srs:
    """Makes addresses and reads them."""

    def __init__(self, settings: SrsSettings) -> None:
        """With at least one secret."""
        self._settings = settings
        self._secrets = [secret.encode() for secret in settings.secrets]

    def forward(self, sender: Address, now: float) -> Address:
        """The sender as an address of ours; `now` is seconds of the epoch. Raises SrsError."""
        try:
            sender = sender.to_ascii()
        except AddressError:
            raise SrsError("the sender is not ASCII") from None
        settings = self._settings
        local = sender.text.rpartition("@")[0] if sender.local != sender.text else sender.local
        if not local or local.startswith('"'):
            local = sender.local
        domain = sender.text.rpartition("@")[2]
        if _is(local, "SRS0"):
            tag, parts = "SRS1", [domain, local[4:]]
        elif _is(local, "SRS1"):
            _, host, rest = _split_srs1(local)
            tag, parts = "SRS1", [host, rest]
        else:
            tag, parts = "SRS0", [_day(now), domain, local]
        made = "=".join([self._hash(self._secrets[0], parts)[: settings.hash_length], *parts])
        try:
            return parse_address(f"{quote_local(tag + settings.separator + made)}@{settings.domain}")
        except AddressError as error:
            raise SrsError(str(error)) from None

    def reverse(self, address: Address, now: float) -> Address | None:
        """The address that one of ours leads back to; None when it is none of the form. Raises SrsError."""
        local = address.local
        if _is(local, "SRS0"):
            fields = local[5:].split("=", 3)
            if len(fields) < 4 or not all(fields):
                raise SrsError("fields are missing")
            signature, day, host, user = fields
            self._check(signature, [day, host, user])
            self._check_day(day, now)
            text = f"{quote_local(user)}@{host}"
        elif _is(local, "SRS1"):
            signature, host, rest = _split_srs1(local)
            self._check(signature, [host, rest])
            text = f"{quote_local('SRS0' + rest)}@{host}"
        else:
            return None
        try:
            return parse_address(text)
        except AddressError as error:
            raise SrsError(str(error)) from None

    def _hash(self, secret: bytes, parts: Sequence[str]) -> str:
        digest = hmac.digest(secret, "".join(parts).lower().encode(), "sha1")
        return b64encode(digest).decode("ascii").rstrip("=")

    def _check(self, signature: str, parts: Sequence[str]) -> None:
        """Case may have been changed on the way, so it does not count."""
        length = self._settings.hash_length
        given = signature.lower()
        wanted = [self._hash(secret, parts)[:length].lower() for secret in self._secrets]
        if not signature.isascii() or not any(hmac.compare_digest(given, one) for one in wanted):
            raise SrsError("it was not made here")

    def _check_day(self, day: str, now: float) -> None:
        letters = day.upper()
        if len(letters) != 2 or any(letter not in ALPHABET for letter in letters):
            raise SrsError("the day is none")
        made = ALPHABET.index(letters[0]) * len(ALPHABET) + ALPHABET.index(letters[1])
        age = (int(now / DAY) - made) % SLOTS
        if age > self._settings.days and age != SLOTS - 1:  # a node whose clock is a little ahead
            raise SrsExpired("its time is over")


def _is(local: str, tag: str) -> bool:
    return local[:4].upper() == tag and local[4:5] in tuple(SEPARATORS)


def _day(now: float) -> str:
    day = int(now / DAY) % SLOTS
    return ALPHABET[day // len(ALPHABET)] + ALPHABET[day % len(ALPHABET)]


def _split_srs1(local: str) -> tuple[str, str, str]:
    """HMAC, host and what stood behind SRS0 there, with its separator. Raises SrsError."""
    fields = local[5:].split("=", 2)
    if len(fields) < 3 or not all(fields) or fields[2][0] not in SEPARATORS:
        raise SrsError("fields are missing")
    signature, host, rest = fields
    return signature, host, rest
