"""From a requirement to a TLS client: contexts, made once, and the check of DANE."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mta.delivery.security.requirement import Level, Requirement
from mta.net.connect import ClientTls
from mta.net.tls import client_context
from mta.net.tlsfailure import FailureType, PeerRefused


class ClientContexts:
    """The contexts of a worker; each takes milliseconds to make, so they are made when first wanted."""

    def __init__(self, ca_file: str = "") -> None:
        """`ca_file`: authorities (PEM) in place of the system's."""
        self._ca_file = ca_file
        self._made: dict[tuple[bool, str], ssl.SSLContext] = {}

    def context(self, *, verify: bool, floor: str = "") -> ssl.SSLContext:
        """A context. Raises CertificateError when the authorities cannot be used."""
        key = verify, floor
        context = self._made.get(key)
        if context is None:
            minimum = ssl.TLSVersion.TLSv1_3 if floor == "1.3" else ssl.TLSVersion.TLSv1_2
            ca_file = (self._ca_file or None) if verify else None
            context = client_context("verify" if verify else "encrypt", ca_file=ca_file, minimum=minimum)
            # RFC 8461 section 4.2: a name counts as subjectAltName only.
            context.hostname_checks_common_name = False
            self._made[key] = context
        return context

    def client_tls(self, requirement: Requirement) -> ClientTls | None:
        """See `Security.client_tls`."""
        level = requirement.level
        if level is Level.NONE:
            return None
        name, floor, promised = requirement.host, requirement.floor, requirement.promised
        if requirement.testing:
            least = replace(requirement, testing=False)
            verified = self.context(verify=True, floor=floor)
            return ClientTls(
                verified, required=False, name=name, promised=promised, fallback=self.client_tls(least)
            )
        if level is Level.DANE:
            return ClientTls(
                self.context(verify=False, floor=floor),
                name=requirement.names[0],
                check=partial(_check, requirement),
                authenticates=True,
                promised=promised,
            )
        verify = level >= Level.VERIFY
        context = self.context(verify=verify, floor=floor)
        return ClientTls(context, required=level > Level.MAY, name=name, promised=promised)


def _check(requirement: Requirement, chain: Sequence[bytes]) -> None:
    from mta.delivery.security.dane import check_chain  # only who meets DANE pays for it

    if not requirement.tlsa:
        raise PeerRefused(FailureType.VALIDATION_FAILURE, "no usable TLSA record")
    check_chain(chain, requirement.tlsa, requirement.names)
