"""What others wrote, as text that can do nothing to a terminal.

Escape sequences, other controls and marks that turn the direction of text become visible characters, so that
neither a message nor the reply of a server can write to the terminal's title or make one thing look like
another.
"""

from __future__ import annotations

import unicodedata

_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def harmless(text: str, *, lines: bool = False) -> str:
    """Text that can do nothing to a terminal; with `lines`, line ends and tabs stay what they are.

    C0 controls and DEL become their pictures (ESC becomes U+241B), all other controls and marks of
    direction U+FFFD.
    """
    if lines:
        text = text.replace("\r\n", "\n")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _visible(c, lines) for c in text)


def _visible(c: str, lines: bool) -> str:
    if lines and c in "\n\t":
        return c
    code = ord(c)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if c in _TURNS or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp"):
        return "\ufffd"
    return c
