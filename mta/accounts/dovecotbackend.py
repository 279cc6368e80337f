"""Logging in against Dovecot: each exchange is passed through to its auth service.

Dovecot decides; this checks that what it says may be relied on. An OK with `nologin` or `proxy` is a refusal,
as the protocol demands. `temp` is 454, everything else 535; the reason goes to the log. The passdb may return
an extra field `addresses` (separated by commas: local@domain, @domain): what the user may send as.

A mechanism is offered when Dovecot announces it, it is known here and needs no channel binding; OAUTHBEARER
(RFC 7628) and XOAUTH2 are among them. Until the first handshake PLAIN and LOGIN are offered: a client that
finds no AUTH would give up for good, one that reads 454 comes back. That Dovecot answers for an unknown user
in SCRAM at once is Dovecot's to change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace

from mta.accounts.dovecotclient import AbandonedError, DovecotClient, UnavailableError
from mta.accounts.dovecotprotocol import Answer
from mta.accounts.user import address_key, user_key
from mta.reply import Reply
from mta.session import Session
from mta.smtp.auth import (
    CANCELLED,
    CREDENTIALS_INVALID,
    RESPONSE_TOO_LONG,
    TEMPORARY_FAILURE,
    Challenge,
    Failure,
    Login,
    ServerExchange,
    Step,
)

PASSWORD_EXPIRED = Reply(535, "5.7.8", "Authentication credentials invalid: the password has expired")
"""Said only after the right password."""
_HIDDEN = frozenset({"anonymous", "private", "channel-binding"})
_BEARER = frozenset({"OAUTHBEARER", "XOAUTH2"})
_FAILURES = ("temp", "authz", "user_disabled", "pass_expired")
_CODES = {
    "temp_fail": "temp",
    "authz_fail": "authz",
    "user_disabled": "user_disabled",
    "pass_expired": "pass_expired",
}


class DovecotBackend:
    """Dovecot as a back end of the authenticator."""

    def __init__(
        self,
        client: DovecotClient,
        *,
        service: str = "smtp",
        penalty: bool = True,
        is_secured: Callable[[Session], bool] = lambda session: session.tls is not None,
    ) -> None:
        """`penalty` leaves Dovecot's delays for guessing clients on, beside ours.

        `is_secured` tells Dovecot whether a password may travel in clear on this session.
        """
        self._client = client
        self._service = service
        self._penalty = penalty
        self._is_secured = is_secured

    def mechanisms(self) -> Collection[str]:
        """What Dovecot announced last."""
        known = self._client.mechanisms
        if not known:
            return ("PLAIN", "LOGIN")
        return [name for name, flags in known.items() if not flags & _HIDDEN and not name.endswith("-PLUS")]

    def begin(
        self,
        mechanism: str,
        session: Session,
        channel_bindings: Mapping[str, bytes],
        certificate_user: str,
        plus_offered: bool,
    ) -> ServerExchange | Reply:
        """Start an exchange of a mechanism of `mechanisms`."""
        return _Exchange(self._client, mechanism, self._fields(session, certificate_user))

    async def close(self) -> None:
        """End the connection."""
        await self._client.close()

    def _fields(self, session: Session, certificate_user: str) -> list[str]:
        # nologin: no master process will ask for this login, Dovecot need not keep it.
        fields = [f"service={self._service}", "nologin", f"session={session.id}"]
        if session.tls is not None:
            fields.append("secured=tls")
            if session.tls.sni:
                fields.append(f"local_name={session.tls.sni}")
            if session.tls.peer_subject or session.tls.peer_names:
                fields.append("valid-client-cert")
        elif self._is_secured(session):
            fields.append("secured")
        if certificate_user:
            fields.append(f"cert_username={certificate_user}")
        if not self._penalty:
            fields.append("no-penalty")
        if session.client_ip:
            fields.append(f"rip={session.client_ip}")
            fields.append(f"rport={session.client_port}")
            if session.server_address:
                fields.append(f"lip={session.server_address}")
                fields.append(f"lport={session.server_port}")
        return fields


class _Exchange:
    """One exchange passed through."""

    __slots__ = ("_fields", "_mechanism", "_request", "_started")

    def __init__(self, client: DovecotClient, mechanism: str, fields: list[str]) -> None:
        self._request = client.request()
        self._mechanism = mechanism
        self._fields = fields
        self._started = False

    def step(self, response: bytes | None) -> Awaitable[Step]:
        return self._step(response)

    def cancel(self) -> None:
        self._request.cancel()

    async def _step(self, response: bytes | None) -> Step:
        try:
            if self._started:
                answer = await self._request.proceed(response or b"")
            else:
                self._started = True
                answer = await self._request.start(self._mechanism, self._fields, response)
        except AbandonedError:
            return Failure(CANCELLED)
        except UnavailableError as error:
            return Failure(replace(TEMPORARY_FAILURE, cause=f"Dovecot: {error}"))
        except ValueError:
            return Failure(RESPONSE_TOO_LONG)
        if answer.kind == "CONT":
            # A good token is answered OK at once.
            refused = self._mechanism in _BEARER and response is not None and bool(answer.data)
            return Challenge(answer.data, refused)
        return _accepted(answer, self._mechanism) if answer.kind == "OK" else _refused(answer)


def _accepted(answer: Answer, mechanism: str) -> Login | Failure:
    fields = answer.fields
    for word in ("nologin", "proxy"):
        if word in fields:
            return Failure(replace(CREDENTIALS_INVALID, cause=f"Dovecot: {word} {fields.get('reason', '')}"))
    try:
        user = user_key(fields.get("user", ""))
        addresses = tuple(address_key(text) for text in fields.get("addresses", "").split(",") if text)
    except ValueError as error:
        return Failure(replace(TEMPORARY_FAILURE, cause=f"Dovecot: bad user or addresses: {error}"))
    return Login(user, mechanism, addresses)


def _refused(answer: Answer) -> Failure:
    fields = answer.fields
    why = _CODES.get(fields.get("code", ""), "") or next((word for word in _FAILURES if word in fields), "")
    cause = " ".join(filter(None, ("Dovecot:", why or "refused", fields.get("reason", ""))))
    if why == "temp":
        return Failure(replace(TEMPORARY_FAILURE, cause=cause))
    return Failure(replace(PASSWORD_EXPIRED if why == "pass_expired" else CREDENTIALS_INVALID, cause=cause))
