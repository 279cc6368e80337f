"""The codes of the milter protocol, as libmilter's mfdef.h numbers them.

There is no RFC; the protocol is what Sendmail's libmilter and Postfix speak. A packet is a length (four
octets, big-endian, counts what follows), a code of one octet and data.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

VERSIONS = range(2, 7)
"""Protocol versions: 2 (Sendmail 8.10), 3 (UNKNOWN), 4 (DATA), 6 (Sendmail 8.14); 5 was never published."""
CHUNK = 65535
"""Octets of body in one packet unless more was negotiated."""
CHUNK_256K = 256 * 1024 - 1
CHUNK_1M = 1024 * 1024 - 1


class Command(IntEnum):
    """What the MTA says (SMFIC_*)."""

    ABORT = ord("A")
    BODY = ord("B")
    CONNECT = ord("C")
    MACRO = ord("D")
    END_OF_MESSAGE = ord("E")
    HELO = ord("H")
    QUIT_REUSE = ord("K")
    """SMFIC_QUIT_NC: this SMTP session is over, another one follows on the same connection."""
    HEADER = ord("L")
    MAIL = ord("M")
    END_OF_HEADERS = ord("N")
    NEGOTIATE = ord("O")
    QUIT = ord("Q")
    RCPT = ord("R")
    DATA = ord("T")
    UNKNOWN = ord("U")


class Response(IntEnum):
    """What the filter says (SMFIR_*); NEGOTIATE is answered with `Command.NEGOTIATE`."""

    ADD_RECIPIENT = ord("+")
    DELETE_RECIPIENT = ord("-")
    ADD_RECIPIENT_PARAMETERS = ord("2")
    SHUTDOWN = ord("4")
    ACCEPT = ord("a")
    REPLACE_BODY = ord("b")
    CONTINUE = ord("c")
    DISCARD = ord("d")
    CHANGE_SENDER = ord("e")
    CONNECTION_FAILURE = ord("f")
    ADD_HEADER = ord("h")
    INSERT_HEADER = ord("i")
    SET_SYMBOLS = ord("l")
    CHANGE_HEADER = ord("m")
    PROGRESS = ord("p")
    QUARANTINE = ord("q")
    REJECT = ord("r")
    SKIP = ord("s")
    TEMPFAIL = ord("t")
    REPLY = ord("y")


class Action(IntFlag):
    """What the filter may ask for (SMFIF_*)."""

    ADD_HEADERS = 0x001
    CHANGE_BODY = 0x002
    ADD_RECIPIENTS = 0x004
    DELETE_RECIPIENTS = 0x008
    CHANGE_HEADERS = 0x010
    QUARANTINE = 0x020
    CHANGE_SENDER = 0x040
    ADD_RECIPIENTS_PARAMETERS = 0x080
    SET_SYMBOLS = 0x100


class Protocol(IntFlag):
    """What is left out of the dialog, and how it is spelt (SMFIP_*)."""

    NO_CONNECT = 0x000001
    NO_HELO = 0x000002
    NO_MAIL = 0x000004
    NO_RCPT = 0x000008
    NO_BODY = 0x000010
    NO_HEADERS = 0x000020
    NO_END_OF_HEADERS = 0x000040
    NO_REPLY_HEADER = 0x000080
    NO_UNKNOWN = 0x000100
    NO_DATA = 0x000200
    SKIP = 0x000400
    """The MTA understands `Response.SKIP`."""
    REJECTED_RCPT = 0x000800
    """The filter wants to hear of recipients that the MTA has refused."""
    NO_REPLY_CONNECT = 0x001000
    NO_REPLY_HELO = 0x002000
    NO_REPLY_MAIL = 0x004000
    NO_REPLY_RCPT = 0x008000
    NO_REPLY_DATA = 0x010000
    NO_REPLY_UNKNOWN = 0x020000
    NO_REPLY_END_OF_HEADERS = 0x040000
    NO_REPLY_BODY = 0x080000
    LEADING_SPACE = 0x100000
    """Header values carry all that follows the colon; otherwise one space after it is not sent."""
    SIZE_256K = 0x10000000
    SIZE_1M = 0x20000000


class Stage(IntEnum):
    """Stages that macros belong to, numbered as SMFIR_SETSYMLIST numbers them (SMFIM_*)."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_MESSAGE = 5
    END_OF_HEADERS = 6


ALL_ACTIONS = Action(0x1FF)
ALL_PROTOCOL = Protocol(0x1FFFFF)
"""Everything but the packet sizes, which an option asks for."""

LEFT_OUT: dict[int, int] = {
    Command.CONNECT: Protocol.NO_CONNECT.value,
    Command.HELO: Protocol.NO_HELO.value,
    Command.MAIL: Protocol.NO_MAIL.value,
    Command.RCPT: Protocol.NO_RCPT.value,
    Command.DATA: Protocol.NO_DATA.value,
    Command.UNKNOWN: Protocol.NO_UNKNOWN.value,
    Command.HEADER: Protocol.NO_HEADERS.value,
    Command.END_OF_HEADERS: Protocol.NO_END_OF_HEADERS.value,
    Command.BODY: Protocol.NO_BODY.value,
}
"""The flag under which a command is not sent at all; plain integers, they are looked up for every packet."""

UNANSWERED: dict[int, int] = {
    Command.CONNECT: Protocol.NO_REPLY_CONNECT.value,
    Command.HELO: Protocol.NO_REPLY_HELO.value,
    Command.MAIL: Protocol.NO_REPLY_MAIL.value,
    Command.RCPT: Protocol.NO_REPLY_RCPT.value,
    Command.DATA: Protocol.NO_REPLY_DATA.value,
    Command.UNKNOWN: Protocol.NO_REPLY_UNKNOWN.value,
    Command.HEADER: Protocol.NO_REPLY_HEADER.value,
    Command.END_OF_HEADERS: Protocol.NO_REPLY_END_OF_HEADERS.value,
    Command.BODY: Protocol.NO_REPLY_BODY.value,
}
"""The flag under which a command gets no answer."""


def actions_of(version: int) -> Action:
    """The actions that exist in a protocol version (2 to 6)."""
    return ALL_ACTIONS if version >= 6 else Action(0x3F)


def protocol_of(version: int) -> Protocol:
    """The protocol flags that exist in a protocol version (2 to 6), without packet sizes."""
    if version >= 6:
        return ALL_PROTOCOL
    flags = Protocol(0x7F)
    if version >= 3:
        flags |= Protocol.NO_UNKNOWN
    if version >= 4:
        flags |= Protocol.NO_DATA | Protocol.NO_REPLY_HEADER
    return flags
