"""Plays the server to a `ClientSession` without sockets: what is expected to be sent, what is answered."""

from __future__ import annotations

from collections.abc import Sequence

from mta.address import NULL, Address, parse_address
from mta.envelope import BodyType, Envelope, Recipient
from mta.smtp.client import ClientSession, Phase
from mta.smtp.mailing import Mailing
from mta.smtp.opening import ClientSettings
from mta.smtp.relaying import ContentFacts

LMTP = ClientSettings(lmtp=True, helo_name="mx.test")
SMTP = ClientSettings(helo_name="mx.test")
CONTENT = b"Subject: x\r\n\r\n.dot\r\n"
STUFFED = b"Subject: x\r\n\r\n..dot\r\n.\r\n"

Step = tuple[bytes, bytes]
"""What the client must have sent, what the server then says."""


def address(text: str) -> Address:
    """An address value; "" is the null path."""
    return parse_address(text) if text else NULL


def feed(session: ClientSession, data: bytes, step: int) -> None:
    """Give octets to the session, `step` at a time (0: all at once)."""
    for start in range(0, len(data), step or len(data) or 1):
        session.receive_data(data[start : start + step] if step else data)


def play(session: ClientSession, steps: Sequence[Step], step: int = 0) -> None:
    """Check what is sent and answer it."""
    for sent, answer in steps:
        assert session.bytes_to_send() == sent
        feed(session, answer, step)


def opened(settings: ClientSettings, *keywords: str, encrypted: bool = False) -> ClientSession:
    """A session that is READY with a server that offers `keywords`."""
    session = ClientSession(settings, encrypted=encrypted, verified=encrypted)
    verb = b"LHLO" if settings.lmtp else b"EHLO"
    lines = ["250-srv.test", *(f"250-{keyword}" for keyword in keywords), "250 HELP"]
    hello = "\r\n".join(lines).encode() + b"\r\n"
    play(session, [(b"", b"220 srv.test\r\n"), (verb + b" mx.test\r\n", hello)])
    assert session.bytes_to_send() == b""
    assert session.phase is Phase.READY
    return session


def mailing(
    recipients: Sequence[str] = ("a@x.test",),
    *,
    sender: str = "s@y.test",
    content: bytes | None = CONTENT,
    size: int = 0,
    has_8bit: bool = False,
    utf8_header: bool = False,
    eager: bool = False,
    attributes: dict[str, str] | None = None,
    envelope: Envelope | None = None,
) -> Mailing:
    """A message to send; `content` None streams it."""
    envelope = envelope or Envelope(address(sender), body=BodyType.SEVEN_BIT)
    facts = ContentFacts(size or len(content or b""), has_8bit, utf8_header)
    found = [Recipient(address(recipient)) for recipient in recipients]
    return Mailing(envelope, found, facts, content, attributes=attributes, eager=eager)
