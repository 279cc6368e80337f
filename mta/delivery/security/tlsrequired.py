"""The header field `TLS-Required: No`: the author rather has the mail in the clear than late (RFC 8689).

It says that the recipient's TLS policies (DANE, MTA-STS, capability records) are to be passed over for this
message. REQUIRETLS beats it (section 4.1). Only the value "No" means anything; several fields contradict
the specification and count as none.
"""

from __future__ import annotations

_NAME = b"tls-required"


def tls_optional(head: bytes) -> bool:
    """Whether a message that begins with this header (CRLF line ends) says so."""
    header = head.partition(b"\r\n\r\n")[0]
    if _NAME not in header.lower():
        return False
    values: list[bytes] = []
    for line in header.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon and name.rstrip(b" \t").lower() == _NAME:
            values.append(value.strip(b" \t").lower())
    return values == [b"no"]
