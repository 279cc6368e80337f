"""The certificates that a server sent in a handshake, as they came and unverified.

`ssl` gives them out publicly from Python 3.13 on; before that the method is there, on the object beneath.
"""

from __future__ import annotations

import ssl
from typing import Any

from mta.net.tlsfailure import FailureType, PeerRefused

_DER = 2
"""`_ssl.ENCODING_DER` of the older, private interface."""


def peer_chain(connection: ssl.SSLObject | None) -> list[bytes]:
    """DER of all certificates, the server's own first. Raises PeerRefused when the library has none.

    That is so after a resumed session, too: whoever needs the chain must never resume.
    """
    found: Any = None
    if connection is not None:
        public = getattr(connection, "get_unverified_chain", None)
        found = public() if public is not None else connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    if not found:
        raise PeerRefused(FailureType.VALIDATION_FAILURE, "the server's certificates are not known")
    return [one if isinstance(one, bytes) else one.public_bytes(_DER) for one in found]
