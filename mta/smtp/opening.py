"""How a client session begins: greeting, EHLO or LHLO, STARTTLS, AUTH, XCLIENT (RFC 5321 section 3.1).

`opening` is a dialog written as a generator: it yields what is to be sent and is sent the reply to it, so
the order of things reads from top to bottom and there is no table of states. It yields `START_TLS` when the
handshake is due and is resumed after it. `Peer` collects what is learnt on the way. A dialog that cannot go
on raises `PeerFailure` with the reply that stands for all mail that was to go here: always temporary, for a
server that greets with 554 or refuses our password is an accident of configuration, not a property of the
message.

After STARTTLS everything that was learnt in the clear is forgotten (RFC 3207 section 4.2).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, TypeAlias

from mta.reply import Reply
from mta.smtp.auth import AuthenticationProtocolError, ClientExchange, NoMechanismError
from mta.smtp.capabilities import NO_LIMITS, Limits, parse_capabilities, parse_limits
from mta.smtp.xclient import TEMPUNAVAIL, encode_attributes

MAX_CHALLENGES = 8
"""334 replies in one AUTH: SCRAM needs two, the longest mechanism in use three."""

OF_HOST = ("NAME", "REVERSE_NAME")
"""Attributes of XCLIENT that a server knows by itself of whoever connects: what is not told is ours."""

NO_STARTTLS = "4.7.4"
"""Enhanced code of the failure to get STARTTLS where it is required."""
LOGIN_REFUSED = "4.7.0"
"""Enhanced code of a login that the server refuses, or that cannot be tried with it."""


_SENT_AWAY = re.compile(r"(?:^the next hop said|^greeting:|^EHLO:|^LHLO:|^STARTTLS:) 421 ")
_PUT_OFF = re.compile(r"(?::|said) 4\d\d")
"""How failures of this module quote in their cause what the server has said."""


class StartTls(Enum):
    """When to use STARTTLS."""

    NEVER = "never"
    MAY = "may"
    """When it is offered; mail goes in the clear when it is not or is refused."""
    REQUIRE = "require"


@dataclass(slots=True, frozen=True)
class ClientSettings:
    """What does not change from one connection to the next."""

    lmtp: bool = False
    """LMTP (RFC 2033) in place of SMTP."""
    helo_name: str = "localhost"
    """Our name for EHLO, HELO and LHLO: a domain or an address literal."""
    starttls: StartTls = StartTls.NEVER
    authenticate: Callable[[Collection[str], Mapping[str, bytes], bool], ClientExchange] | None = None
    """Picks the mechanism from the names offered, the channel bindings and whether the connection is
    encrypted; None: no AUTH. Raises NoMechanismError."""
    xclient: bool = False
    """Tell a server that offers XCLIENT who our client is."""
    xforward: bool = False
    """Tell a server that offers XFORWARD who our client is."""
    eight_bit_anyway: bool = True
    """Send 8-bit content to a server without 8BITMIME as it is; False: refuse it (554 5.6.3)."""
    pipelining: bool = True
    """Use PIPELINING where it is offered; False for servers that do it wrongly."""
    chunking: bool = True
    """Use CHUNKING where it is offered."""
    prdr: bool = True
    """Use PRDR where it is offered."""


class Signal(Enum):
    """What a dialog may yield instead of octets."""

    START_TLS = "start the TLS handshake now"
    CONTENT = "send the content now"


START_TLS: Literal[Signal.START_TLS] = Signal.START_TLS
SEND_CONTENT: Literal[Signal.CONTENT] = Signal.CONTENT

Dialog: TypeAlias = Generator[bytes | Signal, Reply, None]
"""Yields what to send, is sent the next reply."""


class PeerFailure(Exception):
    """The session cannot be used any more; `reply` is for the recipients that have no answer yet."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class LoginRefused(PeerFailure):
    """The server refuses our login, or it cannot be tried there."""


class NoStartTls(PeerFailure):
    """STARTTLS is required and not to be had."""


@dataclass(slots=True)
class Peer:
    """What is known of the server and of the state of the session."""

    encrypted: bool = False
    verified: bool = False
    """The certificate was verified: what REQUIRETLS needs."""
    channel_bindings: Mapping[str, bytes] = field(default_factory=dict)
    greeting: str = ""
    refused: str = ""
    """A refusal that we went on after: why the server closes, if it does now."""
    offered: dict[str, str] = field(default_factory=dict)
    """Keywords of EHLO or LHLO."""
    limits: Limits = NO_LIMITS
    needs_reset: bool = False
    """A transaction was left open: RSET goes before the next MAIL."""
    introduced: dict[str, str] = field(default_factory=dict)
    """The XCLIENT attributes that hold in this session."""
    client: Mapping[str, str] | None = None
    """All that was known of the client that XCLIENT has told of, None before."""

    def is_bound(self, client: Mapping[str, str] | None) -> bool:
        """True when the session stands for another than `client` and cannot change that any more.

        Postfix takes the next XCLIENT only if the client that it was told of may send that.
        """
        return self.client is not None and "XCLIENT" not in self.offered and self.client != client


def protocol_failure(cause: str) -> PeerFailure:
    """The server said what it may not say."""
    return PeerFailure(Reply(451, "4.5.0", "The next server gave an answer that is not understood", cause))


def closing(reply: Reply) -> Reply:
    """A 421 as it is passed on: it closes the connection to the next hop, not the one to our client."""
    enhanced = reply.enhanced or "4.3.2"
    return Reply(451, enhanced, reply.text or "The next server is closing", f"the next hop said {reply}")


def is_sent_away(failure: Reply) -> bool:
    """Whether a failure is a 421 of the server: it is there, and has too much."""
    return _SENT_AWAY.search(failure.cause) is not None


def is_put_off(failure: Reply) -> bool:
    """Whether a failure quotes a temporary refusal of the server, at whatever moment."""
    return _PUT_OFF.search(failure.cause) is not None


def unfit(reply: Reply, command: str) -> PeerFailure:
    """What follows from a reply that has no place after `command`: 421, or nonsense."""
    if reply.code == 421:
        return PeerFailure(closing(reply))
    return protocol_failure(f"{reply} to {command}")


def expect(reply: Reply, command: str) -> Reply:
    """A reply that ends a command: 2yz, 4yz or 5yz, and not 421. Raises PeerFailure."""
    if 300 <= reply.code < 400 or reply.code == 421:
        raise unfit(reply, command)
    return reply


def expect_ok(reply: Reply, command: str) -> None:
    """A reply that cannot be negative. Raises PeerFailure."""
    if not 200 <= reply.code < 300:
        raise unfit(reply, command)


def _not_now(reply: Reply, stage: str, enhanced: str = "4.3.2") -> PeerFailure:
    text = "The next server does not accept mail at the moment"
    return PeerFailure(Reply(451, enhanced, text, f"{stage}: {reply}"))


def _takes_nothing(reply: Reply, stage: str) -> PeerFailure:
    """The server refuses us before it has heard of a message; why it does is for the sender, too."""
    failure = _not_now(reply, stage)
    if reply.code >= 400 and reply.text:
        words = reply.text.replace("\n", " / ")
        failure.reply = replace(failure.reply, text=f"{failure.reply.text}: {words}")
    return failure


def opening(settings: ClientSettings, peer: Peer) -> Dialog:
    """From connect to a session that takes mail. Raises PeerFailure."""
    reply = yield b""
    if reply.code != 220:
        raise _takes_nothing(reply, "greeting")
    peer.greeting = reply.text
    yield from _hello(settings, peer)
    if settings.starttls is not StartTls.NEVER and not peer.encrypted:
        yield from _starttls(settings, peer)
    if settings.authenticate is not None:
        yield from _authenticate(settings.authenticate, peer)


def _hello(settings: ClientSettings, peer: Peer) -> Dialog:
    verb = "LHLO" if settings.lmtp else "EHLO"
    reply = yield f"{verb} {settings.helo_name}\r\n".encode("ascii")
    if reply.code == 250:
        peer.offered = parse_capabilities(reply)
        peer.limits = parse_limits(peer.offered)
        return
    if reply.is_permanent and not settings.lmtp:
        # RFC 5321 section 3.2: a server that does not know EHLO still has to be talked to.
        peer.refused = f"{verb}: {reply}"
        reply = yield f"HELO {settings.helo_name}\r\n".encode("ascii")
        if reply.code == 250:
            peer.refused = ""
            peer.offered = {}
            peer.limits = NO_LIMITS
            return
    raise _takes_nothing(reply, verb)


def _starttls(settings: ClientSettings, peer: Peer) -> Dialog:
    required = settings.starttls is StartTls.REQUIRE
    if "STARTTLS" not in peer.offered:
        if required:
            cause = "TLS is required, STARTTLS was not offered"
            raise NoStartTls(Reply(451, NO_STARTTLS, "The next server cannot be reached securely", cause))
        return
    reply = yield b"STARTTLS\r\n"
    if reply.code == 421:  # it is leaving: that says nothing about TLS
        raise _not_now(reply, "STARTTLS")
    if reply.code != 220:
        if required:
            raise NoStartTls(_not_now(reply, "STARTTLS", NO_STARTTLS).reply)
        peer.refused = f"STARTTLS: {reply}"
        return
    yield START_TLS
    yield from _hello(settings, peer)


def _authenticate(
    choose: Callable[[Collection[str], Mapping[str, bytes], bool], ClientExchange], peer: Peer
) -> Dialog:
    text = "The next server does not accept mail at the moment"
    offered = peer.offered.get("AUTH", "").upper().split()
    try:
        exchange = choose(offered, peer.channel_bindings, peer.encrypted)
    except NoMechanismError as error:
        raise LoginRefused(Reply(451, LOGIN_REFUSED, text, f"AUTH: {error}")) from error
    initial = exchange.initial()
    command = f"AUTH {exchange.name}".encode("ascii")
    if initial is not None:
        encoded = binascii.b2a_base64(initial, newline=False) or b"="
        if len(command) + len(encoded) + 3 > 512:
            # RFC 4954 section 4: what does not fit the command line goes with the first 334.
            held: bytes | None = encoded
        else:
            held = None
            command += b" " + encoded
    else:
        held = None
    reply = yield command + b"\r\n"
    for _ in range(MAX_CHALLENGES):
        if reply.code != 334:
            break
        if held is not None:
            response, held = held, None
        else:
            try:
                challenge = binascii.a2b_base64(reply.text.encode("ascii"), strict_mode=True)
                response = binascii.b2a_base64(exchange.respond(challenge), newline=False)
            except (ValueError, AuthenticationProtocolError) as error:
                yield b"*\r\n"
                cause = f"AUTH {exchange.name}: {error}"
                raise LoginRefused(Reply(451, LOGIN_REFUSED, text, cause)) from error
        reply = yield response + b"\r\n"
    if reply.code != 235:
        stage = f"AUTH {exchange.name}"
        if reply.code >= 500:
            raise LoginRefused(_not_now(reply, stage, LOGIN_REFUSED).reply)
        raise _not_now(reply, stage)
    if not exchange.complete:
        cause = f"AUTH {exchange.name}: 235 without the server's proof"
        raise LoginRefused(Reply(451, LOGIN_REFUSED, text, cause))


def _tell(known: Mapping[str, str]) -> Generator[bytes | Signal, Reply, Reply]:
    """XCLIENT with its attributes; the last reply, or the first one that refuses."""
    for line in encode_attributes("XCLIENT", known):
        reply = yield line.encode("ascii") + b"\r\n"
        if reply.code != 220:
            break
    return reply


def introduce(settings: ClientSettings, peer: Peer, attributes: Mapping[str, str]) -> Dialog:
    """XCLIENT: the server forgets who we are and takes our client's place; then EHLO again.

    An attribute that held for the client before and is not known of this one is taken back, and so is our own
    host name.
    """
    wanted = {name: attributes.get(name, "") for name in peer.offered["XCLIENT"].upper().split()}
    known = {name: value for name, value in wanted.items() if value or name in peer.introduced}
    if known:
        # Whoever is let in by name would be let in by ours. Nobody looked for the client's: not permanent.
        known |= {name: TEMPUNAVAIL for name in OF_HOST if name in wanted and not wanted[name]}
    if known == peer.introduced:
        return
    if peer.needs_reset:  # Postfix and Dovecot refuse XCLIENT in a transaction
        expect_ok((yield b"RSET\r\n"), "RSET")
        peer.needs_reset = False
    reply = yield from _tell(known)
    if reply.code == 501 and ":" in known.get("ADDR", ""):
        # Postfix with IPv4 alone reads no IPv6 address: the client is one without an address there.
        known["ADDR"] = ""
        reply = yield from _tell(known)
    if reply.code != 220:
        raise _not_now(reply, "XCLIENT")
    peer.introduced = known
    peer.client = attributes
    yield from _hello(settings, peer)
