"""What is known about a client session: the facts that policy, log and trace header read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from mta.authn.evaluation import SessionAuthentication


@dataclass(slots=True)
class TlsInfo:
    """The TLS state of a connection."""

    version: str
    """ "TLSv1.3" or "TLSv1.2"."""
    cipher: str
    bits: int
    sni: str = ""
    """The server name that the client asked for, "" if none."""
    peer_subject: str = ""
    """Common name or first name of a verified client certificate, "" if none."""
    peer_names: tuple[str, ...] = ()
    """E-mail and DNS names of the verified client certificate."""
    peer_issuer: str = ""
    """Common name, or else the organisation, of who has issued that certificate."""
    peer_key_fingerprint: str = ""
    """SHA-256 of the public key (SubjectPublicKeyInfo) of the certificate in hex, "" if none was sent."""
    peer_fingerprint: str = ""
    """SHA-256 of the client certificate in hex, "" if none was sent."""


NOT_KNOWN = "unknown"
"""The address of a client of which a trusted peer says that it has none or does not know it (XCLIENT)."""


class Session(Struct, eq=False):
    """One client session, from connect to close."""

    id: str
    """Unique in the cluster, printable, 11 characters or more."""
    listener: str
    """The name of the listener in the configuration."""
    protocol: str
    """ "smtp", "submission" or "lmtp"."""
    client_address: str
    """IP address in its canonical text form, "unix" for a Unix socket, or `NOT_KNOWN`."""
    client_port: int = 0
    """0 when it is not known."""
    server_address: str = ""
    server_port: int = 0
    proxied: bool = False
    """True when the addresses come from a PROXY header or XCLIENT of a trusted peer."""
    client_name: str = ""
    """The client's host name as a trusted peer says (XCLIENT), "" when nobody did."""
    helo: str = ""
    """The argument of EHLO, HELO or LHLO, "" before it."""
    esmtp: bool = False
    tls: TlsInfo | None = None
    user: str = ""
    """The authenticated user (authorisation identity), "" if none."""
    auth_mechanism: str = ""
    addresses: tuple[str, ...] = ()
    """Addresses that the authenticated user owns besides its login, lower case; "@domain" owns a domain."""
    forwarded: dict[str, str] = field(default_factory=dict)
    """XFORWARD attributes of a trusted peer about its next message, upper-case names; "" is not known."""
    transactions: int = 0
    """Messages begun in this session."""
    errors: int = 0
    """Commands refused in this session."""
    over: bool = False
    """The client is gone: nothing may be opened or kept for the session any more, for nobody would end it."""
    authentication: SessionAuthentication | None = None
    """Who the client and the senders of its mail are, found out when asked for; None when nobody looks."""

    @property
    def client_ip(self) -> str:
        """The client's IP address, "" when it has none that is known."""
        return "" if self.client_address in ("unix", NOT_KNOWN) else self.client_address
