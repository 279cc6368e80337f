"""Asks a server whether it would take mail for an address, without sending any (RFC 5321 section 3.3).

MAIL, RCPT, RSET in one write where PIPELINING is offered. VRFY would be the command for it, but hardly any
server answers it, and RCPT is what will be said when the message comes.
"""

from __future__ import annotations

from mta.address import Address
from mta.reply import Reply
from mta.smtp.opening import ClientSettings, Dialog, Peer, expect, expect_ok
from mta.smtp.relaying import NEEDS_UTF8_RECIPIENT, NEEDS_UTF8_SENDER, path

CANNOT_VERIFY = "The recipient cannot be verified at the moment"


class RecipientCheck:
    """Would this server take mail for an address? MAIL, RCPT, RSET, and no content."""

    __slots__ = ("_recipient", "_sender", "reply")

    def __init__(self, sender: Address, recipient: Address) -> None:
        self._sender = sender
        self._recipient = recipient
        self.reply: Reply | None = None
        """The answer; None when the session failed before it came."""

    def decide(self, reply: Reply) -> None:
        """The reply if there is none yet."""
        if self.reply is None:
            self.reply = reply

    def dialog(self, settings: ClientSettings, peer: Peer) -> Dialog:
        """Ask. Raises PeerFailure when the connection is of no use after it."""
        sender = path(self._sender, peer.offered)
        recipient = path(self._recipient, peer.offered)
        if sender is None or recipient is None:
            self.reply = NEEDS_UTF8_RECIPIENT if sender is not None else NEEDS_UTF8_SENDER
            return
        utf8 = b" SMTPUTF8" if not (sender.isascii() and recipient.isascii()) else b""
        steps = [b"RSET\r\n"] if peer.needs_reset else []
        steps += [b"MAIL FROM:" + sender + utf8 + b"\r\n", b"RCPT TO:" + recipient + b"\r\n", b"RSET\r\n"]
        if settings.pipelining and "PIPELINING" in peer.offered:
            steps = [b"".join(steps)] + [b""] * len(steps)
        send = iter(steps)
        if peer.needs_reset:
            expect_ok((yield next(send)), "RSET")
        peer.needs_reset = True
        mail = expect((yield next(send)), "MAIL")
        rcpt = expect((yield next(send)), "RCPT")
        self.reply = rcpt if mail.is_positive else mail
        if mail.is_permanent:
            # Whatever it has against the sender, or us: the recipient may exist, and its mail may wait.
            self.reply = Reply(451, "4.3.0", CANNOT_VERIFY, f"MAIL: {mail}")
        expect_ok((yield next(send)), "RSET")
        peer.needs_reset = False
