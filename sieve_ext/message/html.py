"""What one reads of HTML, for tests of text and its extraction.

Tags become a blank where none stands already, comments, scripts and styles vanish, character references are
resolved, a quotation goes on lines of its own behind "> ". One pass; nothing raises.
"""

from __future__ import annotations

import re
from html import unescape

_INSIDE = r"""(?:[^<>=]|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+>?"""
_markup = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)|<(/?)(blockquote)\b"
    + _INSIDE
    + r"|<[A-Za-z/!?]"
    + _INSIDE,
    re.DOTALL | re.IGNORECASE,
)


def html_text(markup: str) -> str:
    """The text of HTML."""
    out: list[str] = []
    position = 0
    is_blank = True
    for match in _markup.finditer(markup):
        text = unescape(markup[position : match.start()])
        position = match.end()
        if text:
            out.append(text)
            is_blank = text[-1].isspace()
        if match[3]:
            out.append("\r\n" if match[2] else "\r\n> ")
            is_blank = True
        elif not is_blank:
            out.append(" ")
            is_blank = True
    out.append(unescape(markup[position:]))
    return "".join(out)
