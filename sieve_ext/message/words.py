"""Encoded words of header fields (RFC 2047), read and written.

Reading is tolerant, for the words of real messages are often broken: encoded text may hold blanks, "=" may
be followed by anything, base64 may lack its padding, a character may be split between two words of one
charset, a language may follow the charset (RFC 2231 section 5), words may stand inside quotation marks or
touch other text. White space between two words is dropped, however much (section 6.2). A word whose
charset is unknown is read as UTF-8 if it is that, else left as it stands. Raw octets over 127 are UTF-8
(RFC 6532) or, where they are not, U+FFFD. Linear in the length of the field; nothing raises.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from sieve_ext.message.charset import decode_charset
from sieve_ext.message.transfer import decode_base64

# No alternative can match the same octet in two ways, so a failed match costs what it has read, and the
# next attempt begins behind the "?" that it stopped at.
_word = re.compile(rb"=\?([^?\s]+)\?([BbQq])\?([^?]*)\?=")

_Q_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
"""Octets that stand for themselves in a Q word anywhere, in a phrase too (RFC 2047 section 5 rule 3)."""

_TOKEN = r'<[^<>]*>|[ \t]+|[^ \t"<>(),:;]+|.'
_token = re.compile(rf'"(?:[^"\\]|\\.?)*(?P<end>"?)|{_TOKEN}', re.DOTALL)
"""What a list of addresses is made of: quoted strings, addresses, blanks, atoms, specials."""
_unquoted_token = re.compile(_TOKEN, re.DOTALL)
"""The same behind a quotation mark that is never closed: no other one is, either."""

WORD_OCTETS = 75
"""Longest encoded word (RFC 2047 section 2)."""


def decode_words(value: bytes) -> str:
    """The text of an unfolded header value: encoded words decoded, raw UTF-8 taken as it is."""
    if b"=?" not in value:
        return _raw_text(value)
    out: list[str] = []
    pending: list[bytes] = []  # octets of adjacent words of one charset
    written: list[bytes] = []  # these words, a blank before those that do not touch the one before
    charset = b""
    position = 0
    for match in _word.finditer(value):
        between = value[position : match.start()]
        label, encoding, text = match.groups()
        label = label.partition(b"*")[0].lower()
        touches = bool(pending) and not between.strip(b" \t\r\n")
        if not touches or label != charset:
            if pending:
                out.append(_word_text(pending, written, charset))
                pending, written = [], []
            if between and not touches:
                out.append(_raw_text(between))
        charset = label
        pending.append(_q_octets(text) if encoding in b"qQ" else decode_base64(text))
        written.append(b" " + match.group() if written and between else match.group())
        position = match.end()
    if pending:
        out.append(_word_text(pending, written, charset))
    if position < len(value):
        out.append(_raw_text(value[position:]))
    return "".join(out)


def _q_octets(text: bytes) -> bytes:
    if b"=" not in text and b"_" not in text:
        return text
    return binascii.a2b_qp(text, header=True)


def _word_text(parts: list[bytes], written: list[bytes], charset: bytes) -> str:
    octets = b"".join(parts) if len(parts) > 1 else parts[0]
    text = decode_charset(octets, charset.decode("latin-1"))
    if text is None:
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            return _raw_text(b"".join(written))
    return text


def _raw_text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def encode_words(text: str) -> str:
    """`text` for a header field in ASCII: as it is, or as UTF-8 encoded words separated by blanks.

    Words are at most `WORD_OCTETS` long and hold whole characters; B or Q, whichever is shorter. ASCII text
    that would be read as an encoded word is encoded too. Lone surrogates become "?".
    """
    if text.isascii() and "=?" not in text:
        return text
    octets = text.encode("utf-8", "replace")
    specials = sum(octet not in _Q_PLAIN and octet != 0x20 for octet in octets)
    use_q = len(octets) + 2 * specials <= len(octets) * 4 // 3
    room = WORD_OCTETS - len("=?utf-8?q??=")
    words: list[str] = []
    chunk = b""
    cost = 0
    for character in text:
        piece = character.encode("utf-8", "replace")
        if use_q:
            cost += sum(1 if octet in _Q_PLAIN or octet == 0x20 else 3 for octet in piece)
            too_long = cost > room
        else:
            too_long = (len(chunk) + len(piece) + 2) // 3 * 4 > room
        if too_long:
            words.append(_encoded_word(chunk, use_q))
            chunk = b""
            cost = sum(1 if octet in _Q_PLAIN or octet == 0x20 else 3 for octet in piece)
        chunk += piece
    words.append(_encoded_word(chunk, use_q))
    return " ".join(words)


def encode_names(text: str) -> str:
    """A list of addresses for a header field in ASCII: display names and comments encoded, no address.

    An encoded word inside an address would make it one of nobody (RFC 2047 section 5). What is beyond ASCII
    in an address itself stays as it is (RFC 6532): there is no other way to write it.
    """
    if text.isascii() and "=?" not in text:
        return text
    out: list[str] = []
    name: list[str] = []  # words to encode, which are next to each other, and the blanks behind them
    for token in _tokens(text):
        plain = _unquoted(token)
        if (
            not (plain.isascii() and "=?" not in plain)
            and token[0] != "<"
            and (plain != token or "@" not in token)
        ):
            name.append(plain)
        elif name and token.isspace():
            name.append(token)
        else:
            _write_name(out, name)
            if name and not name[-1].isspace():
                out.append(" ")
            name = []
            out.append(token)
    _write_name(out, name)
    return "".join(out)


def _tokens(text: str) -> Iterator[str]:
    for match in _token.finditer(text):
        if match["end"] == "":
            yield from _unquoted_token.findall(match.group())
        else:
            yield match.group()


def _write_name(out: list[str], name: list[str]) -> None:
    """Encoded words, with a blank before them and the one behind them that was there."""
    if not name:
        return
    if out and not out[-1].isspace():
        out.append(" ")
    out.append(encode_words("".join(name).rstrip(" \t")))
    if name[-1].isspace():
        out.append(" ")


def _unquoted(token: str) -> str:
    return (
        re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL) if token[0] == '"' and len(token) > 1 else token
    )


def _encoded_word(octets: bytes, use_q: bool) -> str:
    if use_q:
        text = "".join(
            chr(octet) if octet in _Q_PLAIN else "_" if octet == 0x20 else f"={octet:02X}" for octet in octets
        )
        return f"=?utf-8?q?{text}?="
    return f"=?utf-8?b?{binascii.b2a_base64(octets, newline=False).decode('ascii')}?="
