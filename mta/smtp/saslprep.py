"""SASLprep: user names and passwords in one form before they are compared or hashed (RFC 4013).

A profile of stringprep (RFC 3454) over Unicode 3.2. Characters that Unicode assigned later ("unassigned",
emoji among them) pass by default: normalisation under 3.2 leaves them alone, so what was stored and what
is typed still agree, and a password is not refused for being modern.
"""

from __future__ import annotations

import stringprep
from unicodedata import ucd_3_2_0

_PROHIBITED = (  # RFC 4013 section 2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, allow_unassigned: bool = True) -> str:
    """`text` in its prepared form, perhaps "".

    `allow_unassigned` is the query form of RFC 3454 section 7; False gives the stored form. Raises
    ValueError for prohibited characters and for right-to-left text that mixes directions.
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    for c in prepared:
        if any(table(c) for table in _PROHIBITED):
            raise ValueError(f"U+{ord(c):04X} is not allowed in a user name or password")
        if not allow_unassigned and stringprep.in_table_a1(c):
            raise ValueError(f"U+{ord(c):04X} is not assigned in Unicode 3.2")
    if any(map(stringprep.in_table_d1, prepared)) and (  # RFC 3454 section 6
        any(map(stringprep.in_table_d2, prepared))
        or not stringprep.in_table_d1(prepared[0])
        or not stringprep.in_table_d1(prepared[-1])
    ):
        raise ValueError("left-to-right and right-to-left characters are mixed")
    return prepared
