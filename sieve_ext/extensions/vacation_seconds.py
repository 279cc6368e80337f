"""vacation-seconds (RFC 6131): :seconds on vacation, instead of :days. Status: complete.

Zero means an answer to every message (section 2), where the administrator's least period allows that.
"""

from __future__ import annotations

from sieve_ext.extend import NUMBER, Capability, Tag

CAPABILITIES = (
    Capability(
        "vacation-seconds",
        tags=(Tag(":seconds", ("vacation",), value=NUMBER, name="period"),),
        brings=("vacation",),
        specification="RFC 6131",
    ),
)
