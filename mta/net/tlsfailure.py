"""Why TLS with another server did not come to stand, in the words that TLS reports have for it (RFC 8460).

`failure_of` sorts the error of a handshake; `PeerRefused` is raised by whoever looks at the server's
certificates after the handshake (`mta.net.connect.ClientTls.check`).
"""

from __future__ import annotations

import ssl
from enum import StrEnum


class FailureType(StrEnum):
    """The result types of TLS reports (RFC 8460 section 4.3)."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


class PeerRefused(Exception):
    """The handshake stands, but the server is not who it has to be. The text is for log and reports."""

    def __init__(self, failure: FailureType, text: str) -> None:
        super().__init__(text)
        self.failure = failure


_EXPIRED = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL's x509_vfy.h."""
_MISMATCH = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


def failure_of(error: BaseException | None) -> FailureType:
    """The type of failure that the error of a handshake is."""
    if isinstance(error, PeerRefused):
        return error.failure
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _EXPIRED:
            return FailureType.CERTIFICATE_EXPIRED
        if error.verify_code in _MISMATCH:
            return FailureType.CERTIFICATE_HOST_MISMATCH
        return FailureType.CERTIFICATE_NOT_TRUSTED
    return FailureType.VALIDATION_FAILURE
