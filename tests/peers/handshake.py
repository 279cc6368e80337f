"""A TLS handshake in memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from cryptography import x509

from mta.net.tls import ServerTls, client_context
from tests.peers.certificates import Authority


class Handshake:
    """A client and a server in memory."""

    def __init__(
        self,
        server: ServerTls,
        name: str | None = None,
        *,
        version: ssl.TLSVersion | None = None,
        context: ssl.SSLContext | None = None,
        tamper: Callable[[bytes], bytes] = bytes,
        session: ssl.SSLSession | None = None,
    ) -> None:
        if context is None:
            context = client_context("encrypt")
            if version is not None:
                context.minimum_version = context.maximum_version = version
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        sent = ssl.MemoryBIO()
        self.client = context.wrap_bio(to_client, sent, server_hostname=name, session=session)
        self.server = server.context.wrap_bio(to_server, to_client, server_side=True)
        waiting = [self.client, self.server]
        for _ in range(10):
            for side in list(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    pass
                to_server.write(tamper(sent.read()))
            if not waiting:
                return
        raise AssertionError("no handshake")

    @property
    def certificate(self) -> x509.Certificate:
        der = self.client.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)

    @property
    def names(self) -> set[str]:
        extension = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return set(extension.value.get_values_for_type(x509.DNSName))


def client_with_certificate(
    ca: Authority, *identities: str, common_name: str | None = None
) -> ssl.SSLContext:
    context = client_context("encrypt")
    ca.ca.issue_cert(*identities, common_name=common_name).configure_cert(context)
    return context
