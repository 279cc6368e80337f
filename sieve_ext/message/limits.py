"""The limits of the message index, in one place, each with its reason.

Nothing here raises: the index takes any octets in time linear in their number, stops going deeper or
wider where a limit says so, and reports through properties that it did (`Message.has_long_header`,
`Message.has_many_fields`, `Message.has_long_line`, `Structure.is_truncated`). The caller decides what a
limit means: the transaction refuses long headers, the Sieve engine carries on with what there is, and a
policy may ask whether that is all.
"""

from __future__ import annotations

HEADER_OCTETS = 256 * 1024
"""Header section in octets. Postfix keeps 100 kB and truncates; mailing lists with ARC sets and long
recipient lists reach that, so twice as much is still called normal."""

HEADER_FIELDS = 2000
"""Header fields of one message. Real messages have 10 to 150."""

LINE_OCTETS = 998
"""Longest line without its CRLF (RFC 5322 section 2.1.1)."""

HEAD_OCTETS = 1024 * 1024
"""Octets at the start of a message that are kept in memory, and the size up to which `Message.head` is the
whole message. The same as the memory limit of the transaction's buffer."""

READ_OCTETS = 64 * 1024
"""Octets read at a time from the middle of a large message."""

MIME_DEPTH = 20
"""Nesting of multipart and message/rfc822. A digest of forwarded digests is 6 deep; each level costs one
search of the octets inside it."""

MIME_PARTS = 1000
"""Parts of one message. The largest digests of mailing lists have about 200."""

PART_HEADER_OCTETS = 64 * 1024
"""Header section of one body part; what comes after belongs to its body."""

BOUNDARY_OCTETS = 200
"""Octets of a boundary that are searched for. RFC 2046 section 5.1.1 allows 70; a few programs write more."""

PART_TEXT_OCTETS = 1024 * 1024
"""Decoded octets of a part that `Part.text` gives when its caller names no other limit."""

PARAMETERS = 100
"""Parameters of one Content-Type or Content-Disposition field."""

MAILBOXES = 10_000
"""Mailboxes read from one header field; more than any header within `HEADER_OCTETS` is likely to have."""
