"""What one reads of HTML, for tests of text and its extraction.

Tags become a blank where none stands already, comments vanish, scripts and styles become a blank, character
references are resolved, a quotation goes on lines of its own behind "> ". Where markup begins and ends is
decided as browsers decide it (the tokenisation of the HTML standard), so that no text which they show is
taken for an attribute, a comment or a script. One pass; nothing raises.
"""

from __future__ import annotations

import re
from html import unescape

_W = r" \t\n\f\r"
# Attributes and the end of a tag; a quotation mark that is never closed is like any other character.
_REST = (
    rf"""(?:[{_W}/]++|[^{_W}/>][^{_W}/>=]*+"""
    rf"""(?:[{_W}]*+=[{_W}]*+(?:"[^"]*+"|'[^']*+'|[^{_W}>]*+))?+)*+>?"""
)
_ENDS = rf"(?=[{_W}/>]|\Z)"
_markup = re.compile(
    r"(?P<comment><!--(?:-?>|.*?(?:--!?>|\Z))|<[!?](?!\[CDATA\[)[^>]*+>?|</(?![A-Za-z])[^>]*+>?)"
    # Within SVG and MathML CDATA is text, and "/>" ends a script.
    r"|<!\[CDATA\[(?P<data>[^>]*+)>?"
    rf"|<(?P<hidden>script|style){_ENDS}(?P<opened>{_REST})(?P<code>.*?)(?:</(?P=hidden){_ENDS}{_REST}|\Z)"
    # Elements whose content is text, whatever it looks like.
    rf"|<(?P<raw>title|textarea|xmp|iframe|noembed|noframes){_ENDS}{_REST}(?P<text>.*?)"
    rf"(?:</(?P=raw){_ENDS}{_REST}|\Z)"
    rf"|<plaintext{_ENDS}{_REST}(?P<plain>.*)"
    rf"|<(?P<end>/?)(?P<quotation>blockquote){_ENDS}{_REST}"
    rf"|</?[A-Za-z][^{_W}/>]*+{_REST}",
    re.DOTALL | re.IGNORECASE | re.ASCII,
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
        if match["comment"]:
            continue
        if match["quotation"]:
            out.append("\r\n" if match["end"] else "\r\n> ")
            is_blank = True
        elif not is_blank:
            out.append(" ")
            is_blank = True
        content = match["text"] or match["plain"] or match["data"]
        if match["hidden"] and match["opened"].endswith("/>"):
            content = match["code"]
        if content:
            out += (unescape(content), " ")
    out.append(unescape(markup[position:]))
    return "".join(out)
