"""What is to be explained: client, envelope and message, from options, a transcript or a stored message.

Pure. What is wrong with it is a `GivenError` whose text is for the administrator.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from mta.address import NULL, Address, AddressError, parse_address
from sieve_ext.message import Message


class GivenError(ValueError):
    """It cannot be explained: what is wrong, and where."""


@dataclass(slots=True, frozen=True)
class Given:
    """A session with one message, or a part of it; "" and None: not said."""

    client: str = ""
    helo: str = ""
    user: str = ""
    sender: str | None = None
    """The reverse-path; "" is the null sender."""
    recipients: tuple[str, ...] = ()
    message: bytes | None = None


_CLIENT = re.compile(r"^(?:C:|<?[-~=]>|>>>)\s?")
"""How transcripts mark what the client says; swaks writes " ->" and " ~>" (TLS)."""
_SERVER = re.compile(r"^(?:S:|<[-~=*]+|<<<|\*\*\*|===|\d{3}[ -])")
_PATH = re.compile(r"<([^<>]*)>")
_RECEIVED_IP = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f.:]+)\]")
_RECEIVED_FROM = re.compile(r"^\s*from\s+(\S+)", re.IGNORECASE)
_RECEIVED_FOR = re.compile(r"\bfor\s+<([^<>]+)>", re.IGNORECASE)


def read_transcript(text: str) -> Given:
    """The first message of a session as swaks shows it, or of bare client lines. Raises GivenError."""
    given = Given()
    recipients: list[str] = []
    body: list[str] | None = None
    # Not `splitlines`, for which a form feed in a field, or U+2028, ends a line.
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    marked = any(_CLIENT.match(line.strip()) for line in lines)
    for number, raw in enumerate(lines, 1):
        line = raw.strip() if body is None else raw.removeprefix(" ")
        if body is None and (not line or _SERVER.match(line)):
            continue
        said = _CLIENT.sub("", line, count=1)
        if body is not None:
            if marked and _SERVER.match(line) and not _CLIENT.match(line):
                continue
            if said.strip() == ".":
                break
            body.append(said[1:] if said.startswith("..") else said)
            continue
        verb, _, argument = said.partition(" ")
        match verb.upper():
            case "EHLO" | "HELO" | "LHLO":
                given = replace(given, helo=argument.strip())
            case "MAIL":
                given = replace(given, sender=_path(argument, number))
                recipients.clear()  # those of a transaction that came to nothing
            case "RCPT":
                recipients.append(_path(argument, number))
            case "DATA":
                body = []
            case "QUIT":
                break
            case _:
                continue
    if body is not None:
        given = replace(
            given, message="".join(f"{line}\r\n" for line in body).encode("utf-8", "surrogateescape")
        )
    return replace(given, recipients=tuple(recipients))


def _path(argument: str, number: int) -> str:
    found = _PATH.search(argument)
    if found is None:
        raise GivenError(f"line {number} of the transcript has no <address>: {argument[:80]!r}")
    return found[1]


def read_message(octets: bytes) -> Given:
    """What a stored message tells of how it came: Return-Path, Delivered-To, and the topmost Received.

    What there makes no address, as a user without a domain in Delivered-To, tells nothing.
    """
    message = Message(octets)
    given = Given(message=octets)
    path = message.text("return-path")
    if path is not None and (found := _PATH.search(path)) is not None and _is_path(found[1]):
        given = replace(given, sender=found[1])
    received = message.text("received") or ""
    ip = next((one for one in _RECEIVED_IP.findall(received) if _is_ip(one)), None)
    if ip is not None:
        given = replace(given, client=ip)
    if (helo := _RECEIVED_FROM.search(received)) is not None:
        given = replace(given, helo=helo[1])
    named = [(message.text("delivered-to") or "").strip().strip("<>"), *_RECEIVED_FOR.findall(received)]
    to = next((one for one in named if one and _is_path(one)), None)
    return given if to is None else replace(given, recipients=(to,))


def _is_path(text: str) -> bool:
    try:
        return not text or bool(parse_address(text).to_ascii())
    except AddressError:
        return False


def _is_ip(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def completed(said: Given, known: Given) -> Given:
    """What is said by options, and where they say nothing what is known from elsewhere."""
    return Given(
        said.client or known.client,
        said.helo or known.helo,
        said.user or known.user,
        known.sender if said.sender is None else said.sender,
        said.recipients or known.recipients,
        known.message if said.message is None else said.message,
    )


def client_address(text: str) -> str:
    """A client's address in its usual form. Raises GivenError."""
    if text == "unix":
        return text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise GivenError(f"--client: '{text}' is no IP address") from None


def address(option: str, text: str) -> Address:
    """An address of the envelope. Raises GivenError."""
    if not text and option == "--from":
        return NULL
    if option == "--to" and text.lower() == "postmaster":
        return Address(text, "", text)
    try:
        found = parse_address(text)
    except AddressError as error:
        raise GivenError(f"{option}: '{text}' is no address: {error}") from None
    return found.to_ascii() if found.local.isascii() else found
