"""envelope-dsn (RFC 6009 section 4): notify, orcpt, ret and envid for the envelope test. Status: complete.

They are in `Envelope.extra` under these names, decoded (RFC 3461): of notify one value for each keyword;
orcpt with the type of the address before a semicolon. What the client has not given has no value.
"""

from __future__ import annotations

from collections.abc import Callable

from sieve_ext.extend import Capability, Envelope, EnvelopePart

PARTS = ("notify", "orcpt", "ret", "envid")


def _reader(name: str) -> Callable[[Envelope], list[str]]:
    return lambda envelope: list(envelope.extra.get(name, ()))


CAPABILITIES = (
    Capability(
        "envelope-dsn",
        envelope_parts=tuple(EnvelopePart(name, _reader(name)) for name in PARTS),
        needs=("envelope",),
        specification="RFC 6009 section 4",
    ),
)
