"""Logins of a worker, put together from the configuration: the part of `mta.daemon` about them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mta import assembly, config, log
from mta.accounts.authenticator import Backend, SessionAuthenticator
from mta.accounts.limiter import FailureLimiter
from mta.net.limits import Limits

if TYPE_CHECKING:
    from mta.accounts.usersfile import UsersFile


@dataclass(slots=True, frozen=True)
class Logins:
    """How users log in."""

    backend: Backend
    """To be closed at the end."""
    authenticator: SessionAuthenticator


async def build_authenticator(
    settings: config.Config, users_file: Callable[[], UsersFile], limits: Limits
) -> Logins | None:
    """What auth.backend says, None when nobody logs in. Raises what `users_file` raises."""
    auth = settings.auth
    backend: Backend
    auth_settings, limiter_settings = assembly.auth_settings(settings)
    # Imported here, for a worker needs one of them or none.
    match auth.backend:
        case "none":
            return None
        case "users":
            from mta.accounts.usersbackend import UsersBackend, host_key
            from mta.accounts.verifier import PasswordVerifier

            users = users_file()
            backend = UsersBackend(users, PasswordVerifier(), fallback_key=host_key(auth.users_file))
            belongs = replace(
                auth_settings.sender_login,
                is_user=lambda key: users.of_key(key) is not None,
                is_gone=lambda name: (user := users.get(name)) is None or user.disabled,
            )
            auth_settings = replace(auth_settings, sender_login=belongs)
        case "dovecot":
            from mta.accounts.dovecotbackend import DovecotBackend
            from mta.accounts.dovecotclient import DovecotClient

            client = DovecotClient(
                assembly.dovecot_address(auth),
                on_change=functools.partial(_dovecot_changed, str(auth.dovecot_socket)),
            )
            await client.start()
            # Dovecot is told what we hold for safe: by the same rule.
            backend = DovecotBackend(client, is_secured=lambda session: authenticator.is_secured(session))
    limiter = FailureLimiter(limiter_settings, NodeFailures(limits))
    authenticator = SessionAuthenticator(backend, limiter, auth_settings)
    return Logins(backend, authenticator)


def _dovecot_changed(where: str, there: bool, text: str) -> None:
    logger = log.get("mta")
    (logger.info if there else logger.warning)("dovecot auth", socket=where, available=there, reason=text)


class NodeFailures:
    """Failed logins of the node (`mta.accounts.limiter.FailureCounter`) in the shared memory."""

    def __init__(self, limits: Limits) -> None:
        """`limits` has the shared memory."""
        self._limits = limits

    def add(self, client_address: str) -> None:
        """One more failure."""
        self._limits.auth_failed(self._limits.client(client_address))

    def count(self, client_address: str) -> int:
        """Failures within the window."""
        return self._limits.auth_failures(self._limits.client(client_address))

    def counts(self, client_address: str) -> bool:
        """False for `limits.exempt_networks`."""
        return not self._limits.client(client_address).exempt
