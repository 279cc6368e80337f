"""The grammar of SMTP commands: verbs, paths, host names and the arguments of the small commands.

Pure functions from the octets of a command line (without its CRLF) to values (RFC 5321 section 4.1,
RFC 6531). What a client may not send raises `SyntaxProblem`, which carries the reply that it gets; no
other exception comes out, whatever the octets are. ESMTP parameters are split here and understood in
`mta.smtp.parameters`.

Strict: control characters, NUL, bare CR and LF, octets over 127 without SMTPUTF8 and invalid UTF-8 are
refused, so is every length over its limit. Lenient: blanks after the colon and at the end of the line,
verbs in lower case, source routes (accepted and dropped, RFC 5321 appendix C), a mailbox without angle
brackets if it is a plain ``local@domain`` (then nothing can be mistaken for a parameter).
"""

from __future__ import annotations

import binascii
from typing import NamedTuple

from mta.address import MAX_PATH, NULL, Address, AddressError, domain_key, has_controls, parse_address
from mta.reply import Reply

MAX_HOST_ARGUMENT = 255
"""Octets of the argument of EHLO, HELO and LHLO: a domain (RFC 5321 section 4.5.3.1.2)."""
MAX_CHUNK_DIGITS = 19
"""Digits of the size in BDAT: what fits 63 bits."""
MAX_MECHANISM = 20
"""Characters of a SASL mechanism name (RFC 4422 section 3.1)."""

Parameters = list[tuple[str, str | None]]
"""ESMTP parameters in their order: keyword in upper case, value or None when there is no "="."""


class SyntaxProblem(Exception):
    """The client's command does not follow the grammar (remote fault); `reply` tells it so."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class EtrnArgument(NamedTuple):
    """The argument of ETRN (RFC 1985): prefix "" for a node, "@" for its subdomains too, "#" for a queue."""

    prefix: str
    name: str


_USUAL_VERBS = {
    verb.encode("ascii"): verb
    for verb in ("EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "QUIT", "AUTH", "STARTTLS")
}
"""Verbs as nearly all clients write them, found by one look-up."""


def split_command(line: bytes) -> tuple[str, bytes]:
    """Split a command line into the verb in upper case and the argument without blanks around it.

    The verb is "" when the line does not begin with ASCII letters and then a blank or its end.
    """
    verb, _, argument = line.partition(b" ")
    usual = _USUAL_VERBS.get(verb)
    if usual is not None:
        return usual, argument.strip(b" \t")
    if not verb.isalpha():
        verb, _, argument = line.partition(b"\t")
        if not verb.isalpha():
            return "", line
    return verb.decode("ascii").upper(), argument.strip(b" \t")


def parse_mail(argument: bytes, *, smtputf8_ok: bool, qualify_domain: str = "") -> tuple[Address, Parameters]:
    """Read the argument of MAIL: ``FROM:<reverse-path>`` and ESMTP parameters.

    `smtputf8_ok` says that SMTPUTF8 is offered; a command that needs it must come with the parameter
    (553 5.6.7). `qualify_domain` is for a path without a domain, "" to refuse it. Raises SyntaxProblem
    (501 5.5.4, 501 5.1.7, 553 5.6.7).
    """
    if argument[:5].upper() != b"FROM:":
        raise SyntaxProblem(Reply(501, "5.5.4", "Syntax: MAIL FROM:<address>"))
    path, rest = _split_path(_decode(argument, smtputf8_ok), 5, _BAD_SENDER)
    if path:
        try:
            address = parse_address(path) if path[0] != "@" else _parse_route(path)
        except AddressError as error:
            address = _qualified(path, qualify_domain, error, _BAD_SENDER)
    else:
        address = NULL
    parameters = split_parameters(rest) if rest else []
    if not argument.isascii() and ("SMTPUTF8", None) not in parameters:
        raise SyntaxProblem(_NEEDS_SMTPUTF8)
    return address, parameters


def parse_rcpt(argument: bytes, *, smtputf8_ok: bool, qualify_domain: str = "") -> tuple[Address, Parameters]:
    """Read the argument of RCPT: ``TO:<forward-path>`` and ESMTP parameters.

    `smtputf8_ok` says that MAIL of this transaction had SMTPUTF8. ``<postmaster>`` needs no domain, others
    get `qualify_domain` as in MAIL. Raises SyntaxProblem (501 5.5.4, 501 5.1.3, 553 5.6.7).
    """
    if argument[:3].upper() != b"TO:":
        raise SyntaxProblem(Reply(501, "5.5.4", "Syntax: RCPT TO:<address>"))
    path, rest = _split_path(_decode(argument, smtputf8_ok), 3, _BAD_RECIPIENT)
    try:
        address = parse_address(path) if path[:1] != "@" else _parse_route(path)
    except AddressError as error:
        if path.lower() == "postmaster":
            address = Address("postmaster", "", path)
        else:
            address = _qualified(path, qualify_domain, error, _BAD_RECIPIENT)
    return address, split_parameters(rest) if rest else []


def split_parameters(text: str) -> Parameters:
    """Split ESMTP parameters at blanks, and each at its first "=" (RFC 5321 section 4.1.2).

    Raises SyntaxProblem (501 5.5.4) for a keyword that is none, an empty value and a duplicate.
    """
    parameters: Parameters = []
    for word in text.split(" "):
        if not word:
            continue
        keyword, equals, value = word.partition("=")
        if keyword not in _USUAL_KEYWORDS:
            keyword = _keyword(keyword)
        if value:
            parameters.append((keyword, value))
        elif equals:
            raise SyntaxProblem(Reply(501, "5.5.4", "Bad parameter syntax"))
        else:
            parameters.append((keyword, None))
    if len(parameters) > 1 and len(dict(parameters)) < len(parameters):
        raise SyntaxProblem(Reply(501, "5.5.4", "Parameter given twice"))
    return parameters


def parse_helo_argument(argument: bytes) -> str:
    """Read the argument of EHLO, HELO or LHLO. Any name is welcome: what to make of one is for the policy.

    What is no UTF-8 is read as far as it can be: computers are named in the code page of their owners.
    Raises SyntaxProblem (501 5.5.4) when it is missing, too long or has control characters.
    """
    if not argument:
        raise SyntaxProblem(Reply(501, "5.5.4", "Syntax: EHLO hostname"))
    if len(argument) > MAX_HOST_ARGUMENT:
        raise SyntaxProblem(Reply(501, "5.5.4", "Host name too long"))
    return _decode(argument.decode("utf-8", "replace").encode(), True)


def parse_bdat_argument(argument: bytes) -> tuple[int, bool]:
    """Read the argument of BDAT (RFC 3030): octets of the chunk, and whether it is the last one.

    Raises SyntaxProblem (501 5.5.4).
    """
    words = argument.split()
    if not words or len(words) > 2 or not words[0].isdigit() or len(words[0]) > MAX_CHUNK_DIGITS:
        raise SyntaxProblem(Reply(501, "5.5.4", "Syntax: BDAT size [LAST]"))
    last = len(words) == 2
    if last and words[1].upper() != b"LAST":
        raise SyntaxProblem(Reply(501, "5.5.4", "Syntax: BDAT size [LAST]"))
    return int(words[0]), last


def parse_auth_argument(argument: bytes) -> tuple[str, bytes | None]:
    """Read the argument of AUTH (RFC 4954): mechanism in upper case, decoded initial response or None.

    "=" is the empty initial response. Raises SyntaxProblem (501 5.5.4, 501 5.5.2 for bad base64).
    """
    mechanism, _, initial = argument.partition(b" ")
    name = mechanism.upper()
    if not name or len(name) > MAX_MECHANISM or name.strip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"):
        raise SyntaxProblem(Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]"))
    initial = initial.strip()
    if not initial:
        return name.decode("ascii"), None
    return name.decode("ascii"), b"" if initial == b"=" else _base64(initial)


def parse_auth_response(line: bytes) -> bytes | None:
    """Read a client's answer to 334 (RFC 4954): the decoded octets, None when it cancels with "*".

    Raises SyntaxProblem (501 5.5.2) for bad base64.
    """
    line = line.strip(b" \t")
    return None if line == b"*" else _base64(line)


def parse_lookup_argument(argument: bytes, *, smtputf8_ok: bool) -> tuple[str, bool]:
    """Read the argument of VRFY or EXPN: the string, and whether SMTPUTF8 was given (RFC 6531
    section 3.7.4.2).

    Raises SyntaxProblem (501 5.5.4, 553 5.6.7).
    """
    word, _, flag = argument.rpartition(b" ")
    utf8 = bool(word) and smtputf8_ok and flag.upper() == b"SMTPUTF8"
    text = _decode(word.rstrip() if utf8 else argument, utf8)
    if not text or len(text.encode("utf-8")) > MAX_PATH:
        raise SyntaxProblem(Reply(501, "5.5.4", "Syntax: VRFY or EXPN string"))
    return text, utf8


def parse_etrn_argument(argument: bytes) -> EtrnArgument:
    """Read the argument of ETRN (RFC 1985 section 5.2): a domain, "@domain" or "#queue".

    Raises SyntaxProblem (501 5.5.4).
    """
    text = _decode(argument, False)
    prefix = text[:1] if text[:1] in ("@", "#") else ""
    name = text[len(prefix) :]
    try:
        if prefix != "#":
            name = domain_key(name)
        elif not name or " " in name or len(name) > MAX_HOST_ARGUMENT:
            raise AddressError("no queue name")
    except AddressError as error:
        raise SyntaxProblem(Reply(501, "5.5.4", "Syntax: ETRN domain", cause=str(error))) from error
    return EtrnArgument(prefix, name)


# Nearly every MAIL has these and no others, in upper case: they need no further look.
_USUAL_KEYWORDS = frozenset({"SIZE", "BODY", "SMTPUTF8"})
_BAD_SENDER = Reply(501, "5.1.7", "Bad sender address syntax")
_BAD_RECIPIENT = Reply(501, "5.1.3", "Bad recipient address syntax")
_NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "Address or argument needs SMTPUTF8")


def _decode(argument: bytes, utf8_ok: bool) -> str:
    """The argument as text; raises SyntaxProblem for control characters and unwelcome octets over 127."""
    if argument.isascii():
        text = argument.decode("ascii")
        if not text.isprintable():
            raise SyntaxProblem(Reply(501, "5.5.2", "Control character in command"))
        return text
    if not utf8_ok:
        raise SyntaxProblem(_NEEDS_SMTPUTF8)
    try:
        text = argument.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SyntaxProblem(Reply(501, "5.5.2", "Command is not valid UTF-8")) from error
    if has_controls(text):
        raise SyntaxProblem(Reply(501, "5.5.2", "Control character in command"))
    return text


def _split_path(text: str, start: int, bad: Reply) -> tuple[str, str]:
    """The path without its brackets and what follows it, from `start` of `text`."""
    if text[start : start + 1] != "<":
        while text[start : start + 1] == " ":
            start += 1
        if text[start : start + 1] != "<":
            return _split_bare(text[start:], bad)
    end = text.find(">", start)
    path = text[start + 1 : end]
    if '"' in path:
        end = _closing_bracket(text, start)
        path = text[start + 1 : end]
    rest = text[end + 1 :]
    if end < 0 or (rest and rest[0] != " "):
        raise SyntaxProblem(bad)
    return path, rest


def _split_bare(text: str, bad: Reply) -> tuple[str, str]:
    # Without brackets only a word that is plainly a mailbox is one: nothing quoted, no bracket, no route.
    path, _, rest = text.partition(" ")
    if not path or path[0] == "@" or any(c in path for c in '"<>\\,;:'):
        raise SyntaxProblem(bad)
    return path, rest


def _closing_bracket(text: str, start: int) -> int:
    """The index of the ">" that is outside quotes, -1 when there is none."""
    quoted = escaped = False
    for index in range(start, len(text)):
        c = text[index]
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = True
        elif c == '"':
            quoted = not quoted
        elif c == ">" and not quoted:
            return index
    return -1


def _parse_route(path: str) -> Address:
    """The mailbox of a path (without brackets) that begins with a source route. Raises AddressError."""
    if len(path.encode("utf-8")) > MAX_PATH - 2:
        raise AddressError("the path is too long")
    route, colon, mailbox = path.partition(":")
    if not colon:
        raise AddressError("the source route has no mailbox")
    for hop in route.split(","):
        if hop[:1] != "@":
            raise AddressError("the source route is malformed")
        domain_key(hop[1:])
    return parse_address(mailbox)


def _qualified(path: str, domain: str, problem: AddressError, bad: Reply) -> Address:
    """The address that a path is with `domain`. Raises SyntaxProblem when more than the domain is missing."""
    if domain and "@" not in path:
        try:
            return parse_address(f"{path}@{domain}")
        except AddressError as error:
            problem = error
    raise _bad_path(bad, problem) from problem


def _bad_path(bad: Reply, error: AddressError) -> SyntaxProblem:
    return SyntaxProblem(Reply(bad.code, bad.enhanced, bad.text, cause=str(error)))


def _keyword(text: str) -> str:
    """The keyword of a parameter in upper case; raises SyntaxProblem (501 5.5.4) when it is none."""
    if not (text.isascii() and text[:1].isalnum() and text.replace("-", "").isalnum()):
        raise SyntaxProblem(Reply(501, "5.5.4", "Bad parameter syntax"))
    return text.upper()


def _base64(text: bytes) -> bytes:
    try:
        # Some versions of Python overlook padding behind a complete group.
        if len(text) % 4 or text.endswith(b"==="):
            raise binascii.Error("incomplete")
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise SyntaxProblem(Reply(501, "5.5.2", "Cannot decode base64")) from error
