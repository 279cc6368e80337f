"""What is known of a TLS connection once it stands, and why one did not come to stand.

`tls_info` reads version, cipher and a verified client certificate from the ssl object of a transport;
`channel_bindings` gives the data that SCRAM-...-PLUS binds a login to (RFC 5929). `failure_class` sorts the
errors of handshakes into a few words for log and metrics.

Channel bindings: `tls-server-end-point` for every version; `tls-unique` for TLS 1.2 only (it is not defined
for TLS 1.3, RFC 9266 section 3) that is not resumed: there it may be the same on both sides of somebody in
the middle (RFC 7627 section 1), and whether the extended master secret forbids that Python does not tell.
`tls-exporter` (RFC 9266) needs an exporter that Python's ssl does not have; it is offered as soon as the
library lists it in `ssl.CHANNEL_BINDING_TYPES`. The only other way, OpenSSL's SSL_export_keying_material
through ctypes, would have to guess where inside a private structure the interpreter keeps its SSL pointer,
and a wrong guess is a crash or worse; so it is not done.

What reads certificates is imported when a certificate is there to be read: it takes 11 MB of each worker, and
a server without TLS has no use for it.
"""

from __future__ import annotations

import hashlib
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING

from mta.session import TlsInfo

if TYPE_CHECKING:
    from mta.net.proxyproto import ProxyHeader

FAILURE_CLASSES = (
    "timeout",
    "closed",
    "not_tls",
    "version",
    "cipher",
    "refused_by_client",
    "client_certificate",
    "protocol",
    "other",
)
"""The words of `failure_class`, for metrics that list them all."""

_VERSIONS = ("TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1")
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL"})
_VERSION = frozenset({"UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "TLSV1_ALERT_PROTOCOL_VERSION"})
_CIPHER = frozenset({"NO_SHARED_CIPHER", "SSLV3_ALERT_HANDSHAKE_FAILURE", "NO_SUITABLE_SIGNATURE_ALGORITHM"})
_REFUSED = frozenset(
    {
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_ACCESS_DENIED",
    }
)
_CLIENT_CERTIFICATE = frozenset({"CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"})


def tls_info(ssl_object: ssl.SSLObject) -> TlsInfo:
    """The facts of an established connection.

    `ssl_object` is `transport.get_extra_info("ssl_object")`. The peer fields are filled only for a client
    certificate that was verified: contexts without an authority for clients never ask for one.
    """
    name, version, bits = ssl_object.cipher() or ("", "", 0)
    info = TlsInfo(
        version=ssl_object.version() or version,
        cipher=name,
        bits=bits,
        sni=getattr(ssl_object, "sni", ""),
    )
    if ssl_object.context.verify_mode != ssl.CERT_NONE:
        der = ssl_object.getpeercert(binary_form=True)
        if der:
            from mta.net.certcheck import issuer_and_key, subject_and_names  # see the module text

            info.peer_fingerprint = hashlib.sha256(der).hexdigest()
            info.peer_subject, info.peer_names = subject_and_names(der)
            info.peer_issuer, info.peer_key_fingerprint = issuer_and_key(der)
    return info


def told_tls(header: ProxyHeader) -> TlsInfo | None:
    """The facts of a connection that a proxy has ended, as far as it tells them; None for one without TLS.

    The client's certificate is left out: a common name is not enough for AUTH EXTERNAL.
    """
    told = header.tls
    if told is None:
        return None
    return TlsInfo(
        told.version if told.version in _VERSIONS else "TLS",
        told.cipher or "unknown",
        _strengths().get(told.cipher, 0),
        sni=header.authority,
    )


@lru_cache(maxsize=1)
def _strengths() -> dict[str, int]:
    """The bits of every cipher that the library knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL")
    return {cipher["name"]: cipher["strength_bits"] for cipher in context.get_ciphers()}


def channel_bindings(ssl_object: ssl.SSLObject, server_certificate_der: bytes) -> dict[str, bytes]:
    """Channel binding data by type; empty when the connection allows none.

    `server_certificate_der` is the certificate that this connection was served
    (`mta.net.tls.served_certificate`).
    """
    from mta.net.certcheck import server_end_point  # see the module text

    bindings: dict[str, bytes] = {}
    end_point = server_end_point(server_certificate_der)
    if end_point:
        bindings["tls-server-end-point"] = end_point
    for kind in ("tls-unique", "tls-exporter"):
        if kind not in ssl.CHANNEL_BINDING_TYPES:
            continue
        if kind == "tls-unique" and (ssl_object.version() != "TLSv1.2" or ssl_object.session_reused):
            continue
        data = ssl_object.get_channel_binding(kind)
        if data:
            bindings[kind] = data
    return bindings


def failure_class(error: BaseException | None) -> str:
    """One word of `FAILURE_CLASSES` for the error of a handshake; None means the peer went away."""
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or ""  # errors not made by the library have none
        if reason in _NOT_TLS:
            return "not_tls"
        if reason in _VERSION:
            return "version"
        if reason in _CIPHER:
            return "cipher"
        if reason in _REFUSED:
            return "refused_by_client"
        if reason in _CLIENT_CERTIFICATE:
            return "client_certificate"
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return "closed"
        return "protocol"
    # Both loops report their own handshake timeout as an aborted connection with this text.
    if isinstance(error, ConnectionAbortedError) and "handshake is taking longer" in str(error):
        return "timeout"
    if isinstance(error, TimeoutError):
        return "timeout"
    if error is None or isinstance(error, OSError | EOFError):
        return "closed"
    return "other"


def failure_text(error: BaseException | None) -> str:
    """The error of a handshake as a few printable words for the log, never longer than 200 characters."""
    if error is None:
        return "connection closed"
    if isinstance(error, ssl.SSLError):
        reason = (getattr(error, "reason", None) or "").lower().replace("_", " ")
        text = getattr(error, "verify_message", "") or reason or str(error)
    else:
        text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text[:200])
