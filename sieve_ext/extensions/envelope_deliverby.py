"""envelope-deliverby (RFC 6009 section 6): until when the sender wants delivery. Status: complete.

The parts are bytimeabsolute, bytimerelative, bymode and bytrace. They are in `Envelope.extra` under these
names: the absolute time as in RFC 3339, the relative one in seconds, the mode "notify" or "return", and
"trace" if tracing was asked for. What the client has not given has no value.
"""

from __future__ import annotations

from collections.abc import Callable

from sieve_ext.extend import Capability, Envelope, EnvelopePart

PARTS = ("bytimeabsolute", "bytimerelative", "bymode", "bytrace")


def _reader(name: str) -> Callable[[Envelope], list[str]]:
    return lambda envelope: list(envelope.extra.get(name, ()))


CAPABILITIES = (
    Capability(
        "envelope-deliverby",
        envelope_parts=tuple(EnvelopePart(name, _reader(name)) for name in PARTS),
        needs=("envelope",),
        specification="RFC 6009 section 6",
    ),
)
