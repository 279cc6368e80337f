"""What filters send, read into values."""

from __future__ import annotations

import re

from mailmilter.constants import Action, Command, Response
from mailmilter.packets import MilterProtocolError, number, split_strings
from mailmilter.values import (
    ACCEPT,
    CONNECTION_FAILURE,
    CONTINUE,
    DISCARD,
    REJECT,
    SHUTDOWN,
    TEMPFAIL,
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteHeader,
    DeleteRecipient,
    Edit,
    InsertHeader,
    Quarantine,
    Ruling,
    Verdict,
)

_PLAIN = {
    int(Response.CONTINUE): CONTINUE,
    int(Response.ACCEPT): ACCEPT,
    int(Response.DISCARD): DISCARD,
    int(Response.REJECT): REJECT,
    int(Response.TEMPFAIL): TEMPFAIL,
    int(Response.SHUTDOWN): SHUTDOWN,
    int(Response.CONNECTION_FAILURE): CONNECTION_FAILURE,
}
_NEEDS = {
    Response.ADD_HEADER: Action.ADD_HEADERS,
    Response.INSERT_HEADER: Action.ADD_HEADERS,
    Response.CHANGE_HEADER: Action.CHANGE_HEADERS,
    Response.ADD_RECIPIENT: Action.ADD_RECIPIENTS,
    Response.ADD_RECIPIENT_PARAMETERS: Action.ADD_RECIPIENTS_PARAMETERS,
    Response.DELETE_RECIPIENT: Action.DELETE_RECIPIENTS,
    Response.CHANGE_SENDER: Action.CHANGE_SENDER,
    Response.REPLACE_BODY: Action.CHANGE_BODY,
    Response.QUARANTINE: Action.QUARANTINE,
}
"""The action that a filter must have negotiated for each edit; libmilter checks the same on its side."""
_LINE = re.compile(r"([45][0-9][0-9])([ -]|$)(?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$))?(.*)", re.DOTALL)
_NAME = re.compile(rb"[!-9;-~]+")
_REPLY_LINES = 32
"""Lines of one reply (precedent: smfi_setmlreply takes 32)."""


def plain_verdict(code: int, data: bytes) -> Verdict | None:
    """The verdict of a response without data; None when it is another response.

    Raises MilterProtocolError when data follow.
    """
    verdict = _PLAIN.get(code)
    if verdict is not None and data:
        raise MilterProtocolError(f"{_PLAIN[code].ruling.value} with {len(data)} octets of data")
    return verdict


def parse_reply(data: bytes) -> Verdict:
    """A reply of the filter's own: one line or several, `550-5.7.1 text` CRLF `550 5.7.1 text`.

    Undoes the doubling of "%" as Postfix does: libmilter's callers write for Sendmail, which takes the text
    as a format. A 421 asks to close the session, as with Sendmail and Postfix. Raises MilterProtocolError for
    what is no refusal, for codes that differ and for an enhanced code of another class.
    """
    text = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    text = text.replace("%%", "\0").replace("%", "").replace("\0", "%")
    code = enhanced = ""
    lines: list[str] = []
    for line in re.split("\r\n|\r|\n", text.rstrip("\r\n")):
        match = _LINE.fullmatch(line)
        if match is None or (code and match[1] != code):
            raise MilterProtocolError(f"a malformed reply: {line[:80]!r}")
        code = match[1]
        found = match[3] or ""
        if found and found[0] != code[0]:
            raise MilterProtocolError(f"a reply {code} with enhanced code {found}")
        enhanced = enhanced or found
        lines.append("".join(one if one.isprintable() or one == "\t" else "?" for one in _escape(match[4])))
    if len(lines) > _REPLY_LINES:
        raise MilterProtocolError(f"a reply of {len(lines)} lines")
    return Verdict(Ruling.REPLY, int(code), enhanced, tuple(lines))


def _escape(text: str) -> str:
    """Octets that are no UTF-8 as question marks: replies are sent to clients as text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "?")


def edit_of(code: int, data: bytes, granted: Action, *, leading_space: bool) -> Edit | bytes | None:
    """An edit; a piece of the new body as octets; None when `code` is no edit.

    Raises MilterProtocolError for malformed data and for an edit that was not negotiated.
    """
    try:
        needed = _NEEDS[Response(code)]
    except (ValueError, KeyError):
        return None
    if not granted & needed:
        raise MilterProtocolError(f"the filter did not negotiate {needed.name}")
    if code == Response.REPLACE_BODY:
        return data
    if code == Response.QUARANTINE:
        return Quarantine(data.rstrip(b"\0").decode("utf-8", "replace"))
    if code == Response.CHANGE_HEADER or code == Response.INSERT_HEADER:
        index = number(data)
        name, value = _words(data[4:], 2, 2)
        if index > 0x7FFFFFFF:
            raise MilterProtocolError(f"a header index of {index}")
        return _header_edit(code, index, _checked_name(name), value, leading_space)
    if code == Response.ADD_HEADER:
        name, value = _words(data, 2, 2)
        return AddHeader(_checked_name(name), header_value(value, leading_space=leading_space))
    if code == Response.ADD_RECIPIENT:
        return AddRecipient(_address(_words(data, 1, 1)[0]))
    if code == Response.DELETE_RECIPIENT:
        return DeleteRecipient(_address(_words(data, 1, 1)[0]))
    words = _words(data, 1, 2)
    parameters = words[1].strip() if len(words) > 1 else b""
    if code == Response.CHANGE_SENDER:
        return ChangeSender(_address(words[0]), parameters)
    return AddRecipient(_address(words[0]), parameters)


def _header_edit(code: int, index: int, name: bytes, value: bytes, leading_space: bool) -> Edit:
    if code == Response.INSERT_HEADER:
        return InsertHeader(index, name, header_value(value, leading_space=leading_space))
    index = max(index, 1)
    if not value:
        return DeleteHeader(index, name)
    return ChangeHeader(index, name, header_value(value, leading_space=leading_space))


def header_value(wire: bytes, *, leading_space: bool) -> bytes:
    """The octets after the colon for a value that a filter sent.

    Line ends (LF by custom) become CRLF; a line that does not begin with a blank gets a tab, so that no
    filter can begin a new header by accident; empty lines, which would end the headers, are left out.
    """
    lines = [line for line in re.split(b"\r\n|\r|\n", wire) if line.strip(b" \t")]
    if not lines:
        return b"" if leading_space else b" "
    head = lines[0] if leading_space else b" " + lines[0]
    return b"\r\n".join([head, *(line if line[:1] in b" \t" else b"\t" + line for line in lines[1:])])


def wire_value(value: bytes, *, leading_space: bool) -> bytes:
    """The octets after a colon as filters see them: LF for CRLF, one leading space gone by default."""
    if not leading_space and value.startswith(b" "):
        value = value[1:]
    return value.replace(b"\r\n", b"\n") if b"\r" in value else value


def _words(data: bytes, least: int, most: int) -> list[bytes]:
    words = split_strings(data)
    if not least <= len(words) <= most:
        raise MilterProtocolError(f"{len(words)} strings where {least} to {most} are due")
    return words


def _checked_name(name: bytes) -> bytes:
    if not _NAME.fullmatch(name):
        raise MilterProtocolError(f"a header named {name[:80]!r}")
    return name


def _address(text: bytes) -> bytes:
    """An address without its angle brackets; the source route that some filters keep is left alone."""
    text = text.strip()
    if text.startswith(b"<") and text.endswith(b">"):
        text = text[1:-1]
    if any(octet < 32 or octet == 127 for octet in text):
        raise MilterProtocolError(f"an address {text[:80]!r}")
    return text


NEGOTIATION = int(Command.NEGOTIATE)
