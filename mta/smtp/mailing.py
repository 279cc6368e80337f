"""One mail transaction as a client sees it: MAIL, RCPT, content, replies (RFC 5321 section 3.3).

`Mailing` is a message on its way to one server, its `dialog` a generator in the manner of
`mta.smtp.opening`. With PIPELINING (RFC 2920) MAIL, RCPT and DATA go in one write; content that was given
whole goes in a second one after the 354, or behind BDAT (RFC 3030) in the first where `eager` allows it.
Large content is streamed by the shell: the dialog yields `SEND_CONTENT`. Every recipient gets its own reply:
the one to MAIL if that refused, the one to RCPT, the one to DATA, and after the content one each with LMTP
(RFC 2033) and PRDR (draft-hall-prdr: 353, one each, one for all), else the same one for all.

`sent` is the line that failures are measured by: set before the octets that end the message are handed
out. A recipient without a reply (`replies[i] is None`) did not get the message while `sent` is False and
may have got it when it is True.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mta.envelope import BINARY_MIME, Envelope, Recipient
from mta.reply import Reply
from mta.smtp.dotstuff import BareLineEnd, DotStuffer, LineEnds, PlainText, plain_whole, stuff_whole
from mta.smtp.opening import (
    SEND_CONTENT,
    ClientSettings,
    Dialog,
    Peer,
    PeerFailure,
    closing,
    expect,
    expect_ok,
    introduce,
    protocol_failure,
    unfit,
)
from mta.smtp.relaying import (
    MAX_COMMAND,
    NEEDS_UTF8_RECIPIENT,
    NEEDS_UTF8_SENDER,
    UNSENDABLE,
    ContentFacts,
    mail_command,
    path,
    rcpt_command,
    refusal,
)
from mta.smtp.xclient import encode_attributes

NOT_WANTED = Reply(451, "4.4.2", "The message was given up before it was sent", "the client has gone")
CUT_SHORT = "The next server refused a message before its end"
BARE_LINE_END = Reply(554, "5.6.0", "The message has line ends other than CRLF and cannot be sent on")


def _for_another_transaction(reply: Reply) -> Reply:
    """The reply to RCPT where others were accepted before it.

    "Too many recipients" (5.5.3, RFC 3463) is about their number alone: the rest goes in a transaction of its
    own, also where the server says it with a code for good, as old ones do (RFC 5321 section 4.5.3.1.10), or
    with the bare code alone, as Exim does. A mailbox that is full is refused again there.
    """
    bare = not reply.enhanced and reply.code in (452, 552)
    if not bare and (not reply.is_permanent or reply.enhanced != "5.5.3"):
        return reply
    return Reply(452, "4.5.3", reply.text, f"the next hop said {reply}")


class ContentSizeError(Exception):
    """The content had another size than was announced (our fault): nothing more can be said after it."""


class Mailing:
    """A message on its way to one server."""

    __slots__ = (
        "_attributes",
        "_chunked",
        "_command",
        "_eager",
        "_ends",
        "_inline",
        "_left",
        "_stuffer",
        "_wanted",
        "accepted",
        "answered",
        "envelope",
        "facts",
        "recipients",
        "replies",
        "sent",
    )

    def __init__(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        facts: ContentFacts,
        inline: bytes | None,
        *,
        attributes: Mapping[str, str] | None = None,
        eager: bool = False,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`inline` is the whole content when it is small; None: it is streamed when asked for.

        `attributes` are those of XCLIENT and XFORWARD. `eager` allows sending inline content before any
        reply: one round trip less, but a connection that turns out dead leaves the outcome open.
        `wanted` is asked at the last moment before inline content goes out: False gives the message up.
        """
        self.envelope = envelope
        self.recipients = recipients
        self.facts = facts
        self.replies: list[Reply | None] = [None] * len(recipients)
        self.accepted: list[int] = []
        """Indices of recipients that RCPT accepted."""
        self.sent = False
        self.answered = False
        """MAIL had a reply other than 421."""
        self._inline = inline
        self._attributes = attributes
        self._eager = eager
        self._wanted = wanted
        self._chunked = False
        self._command = b""
        self._left = facts.size
        self._stuffer: DotStuffer | PlainText | None = None
        self._ends: LineEnds | None = None

    # What the session calls while the content is streamed.

    def frame(self, chunk: bytes) -> bytes:
        """Content as it is sent. Raises BareLineEnd, ContentSizeError."""
        if self._stuffer is not None:
            return self._stuffer.stuff(chunk)
        if self._ends is not None:
            self._ends.check(chunk)
        self._left -= len(chunk)
        if self._left < 0:
            raise ContentSizeError("more content than announced")
        if self._command:
            chunk = self._command + chunk
            self._command = b""
        return chunk

    def finish(self) -> bytes:
        """What ends the content; from here on the message may be delivered.

        Raises BareLineEnd, ContentSizeError.
        """
        if self._stuffer is not None:
            end = self._stuffer.finish()
        else:
            end = self._command  # still there when there was no content
            if self._ends is not None:
                self._ends.end()
            if self._left:
                raise ContentSizeError("less content than announced")
        self.sent = True
        return end

    def decide(self, reply: Reply) -> None:
        """The same reply for every recipient that has none yet."""
        self.replies = [reply if known is None else known for known in self.replies]

    # The dialog.

    def dialog(self, settings: ClientSettings, peer: Peer) -> Dialog:
        """Send the message. Raises PeerFailure when the connection is of no use after it."""
        if self._attributes is not None and settings.xclient and "XCLIENT" in peer.offered:
            yield from introduce(settings, peer, self._attributes)
        offered = peer.offered
        mail, rcpts, prdr = self._commands(settings, peer)
        if not rcpts:
            return
        self._chunked = "CHUNKING" in offered and (settings.chunking or self.envelope.body is BINARY_MIME)
        try:
            content = self._prepare()
        except BareLineEnd as error:
            self.decide(Reply(554, "5.6.0", BARE_LINE_END.text, str(error)))
            return

        steps = [b"RSET\r\n"] if peer.needs_reset else []
        forwards = self._forwards(settings, offered)
        steps += forwards
        steps.append(mail)
        for _, command in rcpts:
            steps.append(command)
        pipelined = settings.pipelining and "PIPELINING" in offered
        # Behind RSET nothing is sent ahead: a server that refuses it could still take what follows.
        eager = self._eager and self._chunked and pipelined and content is not None and not peer.needs_reset
        if not self._chunked:
            steps.append(b"DATA\r\n")
        if pipelined:
            if eager:
                steps.append(content or b"")
            steps = [b"".join(steps)] + [b""] * len(steps)
        send = iter(steps)

        if peer.needs_reset:
            expect_ok((yield next(send)), "RSET")
        for _ in forwards:
            expect((yield next(send)), "XFORWARD")  # a server that does not want to know still gets mail
        peer.needs_reset = True
        self.sent = eager
        reply = yield next(send)
        if reply.code == 421:
            self.sent = False  # whatever followed, it was not taken
        else:
            self.answered = True
        expect(reply, "MAIL")
        begun = reply.code < 300
        if not begun:
            self.decide(reply)
            if not pipelined:
                return
        for index, _ in rcpts:
            reply = yield next(send)
            if reply.code == 421:
                self.sent = False  # the server closes: what came ahead is not taken either
            expect(reply, "RCPT")
            if not begun:
                continue
            if reply.code < 300:
                self.accepted.append(index)
            else:
                self.replies[index] = _for_another_transaction(reply) if self.accepted else reply

        if self._chunked:
            if eager:
                reply = yield b""
            elif not self.accepted:
                return
            elif content is not None:
                self._check_wanted()
                self.sent = True
                reply = yield content
            else:
                reply = yield SEND_CONTENT
        else:
            if not self.accepted and not pipelined:
                return
            reply = yield next(send)
            if reply.code < 300 or reply.code == 421:
                raise unfit(reply, "DATA")
            if reply.code >= 400:
                self._decide_accepted(reply)
                return
            if not self.accepted:
                if settings.lmtp or not begun:
                    raise protocol_failure("354 to DATA without a recipient")
                # RFC 2920 section 3.1: the server waits for a message that it has no recipient for.
                expect((yield b".\r\n"), "the empty message")
                return
            if content is not None:
                self._check_wanted()
                self.sent = True
                reply = yield content
            else:
                reply = yield SEND_CONTENT
        yield from self._final(settings, peer, reply, prdr)

    def _check_wanted(self) -> None:
        """Give the message up when nobody waits for it: after 354 only by giving up the connection."""
        if not self._wanted():
            self.decide(NOT_WANTED)
            raise PeerFailure(NOT_WANTED)

    def _commands(self, settings: ClientSettings, peer: Peer) -> tuple[bytes, list[tuple[int, bytes]], bool]:
        """MAIL, RCPT by index, whether PRDR is asked for. What cannot be asked of this server is decided."""
        rcpts: list[tuple[int, bytes]] = []
        offered = peer.offered
        smtputf8 = self.envelope.smtputf8
        sender = path(self.envelope.sender, offered, smtputf8=smtputf8)
        refused = refusal(
            self.envelope,
            self.facts,
            offered,
            lmtp=settings.lmtp,
            secure=peer.verified,
            eight_bit_anyway=settings.eight_bit_anyway,
        )
        if refused is None and sender is None:
            refused = NEEDS_UTF8_SENDER
        for index, recipient in enumerate(self.recipients):
            forward = path(recipient.address, offered, smtputf8=smtputf8)
            if forward is None:
                # Also where the header is refused, for that may only repeat the address (Received).
                self.replies[index] = NEEDS_UTF8_RECIPIENT if recipient.address.is_utf8 else UNSENDABLE
                continue
            if refused is not None or sender is None:
                continue
            command = rcpt_command(recipient, offered, forward)
            if len(command) > MAX_COMMAND:
                self.replies[index] = UNSENDABLE
                continue
            rcpts.append((index, command))
        if refused is not None or sender is None:
            self.decide(refused or NEEDS_UTF8_SENDER)
            return b"", rcpts, False
        welcome = settings.prdr and not settings.lmtp and len(rcpts) > 1
        utf8 = not smtputf8 and not all(command.isascii() for _, command in rcpts)
        mail, prdr = mail_command(self.envelope, self.facts, offered, sender, prdr=welcome, utf8=utf8)
        if len(mail) > MAX_COMMAND:
            self.decide(UNSENDABLE)
            rcpts.clear()
        return mail, rcpts, prdr

    def _forwards(self, settings: ClientSettings, offered: Mapping[str, str]) -> list[bytes]:
        if not settings.xforward or not self._attributes or "XFORWARD" not in offered:
            return []
        names = offered["XFORWARD"].upper().split()
        known = {name: self._attributes[name] for name in names if name in self._attributes}
        return [line.encode("ascii") + b"\r\n" for line in encode_attributes("XFORWARD", known)]

    def _prepare(self) -> bytes | None:
        """Inline content as it goes out, with BDAT before it or the dot after it; None when it is streamed.

        Raises BareLineEnd.
        """
        if not self._chunked:
            if self._inline is not None:
                return plain_whole(self._inline) if self.facts.plain else stuff_whole(self._inline)
            self._stuffer = PlainText() if self.facts.plain else DotStuffer()
            return None
        size = self.facts.size if self._inline is None else len(self._inline)
        command = b"BDAT %d LAST\r\n" % size
        if self.envelope.body is not BINARY_MIME and not self.facts.plain:
            self._ends = LineEnds()
        if self._inline is None:
            self._command = command
            return None
        if self._ends is not None:
            self._ends.check(self._inline)
            self._ends.end()
        return command + self._inline

    def _final(self, settings: ClientSettings, peer: Peer, reply: Reply, prdr: bool) -> Dialog:
        """The replies after the content, the first of which is `reply`."""
        if not self.sent:
            # The server does not want to hear the rest; the connection stands in the middle of content.
            if reply.code < 400 or reply.code == 421:
                raise unfit(reply, "content")
            self._decide_accepted(reply)
            raise PeerFailure(Reply(451, "4.4.2", CUT_SHORT, f"within the content: {reply}"))
        if not self.accepted:
            if reply.code < 400:
                raise protocol_failure(f"{reply} to a message without recipients")
            if reply.code == 421:
                raise PeerFailure(closing(reply))
            return
        single = not settings.lmtp
        prdr = prdr and reply.code == 353
        if prdr:
            single = False
            reply = yield b""
        elif reply.code in (500, 501, 502, 503) and self._chunked:
            single = True  # BDAT itself was refused
        if single:
            if 300 <= reply.code < 400:
                raise unfit(reply, "the end of content")
            self._decide_accepted(closing(reply) if reply.code == 421 else reply)
            if reply.code == 421 or (settings.lmtp and len(self.accepted) > 1):
                raise PeerFailure(closing(reply))  # whether more replies would come is not defined
            peer.needs_reset = self._chunked and reply.code >= 400  # RFC 3030 section 2
            return
        last = self.accepted[-1]
        worst_code = 0
        good: list[tuple[int, Reply]] = []
        for index in self.accepted:
            if 300 <= reply.code < 400:
                raise unfit(reply, "the end of content")
            worst_code = max(worst_code, reply.code)
            if prdr and reply.code < 300:
                good.append((index, reply))  # the last reply, for all, has the last word
            else:
                self.replies[index] = closing(reply) if reply.code == 421 else reply
            if reply.code == 421:
                raise PeerFailure(closing(reply))
            if index != last:
                reply = yield b""
        if prdr:
            reply = expect((yield b""), "the end of content")
            for index, said in good:
                self.replies[index] = reply if reply.code >= 400 else said
        peer.needs_reset = self._chunked and worst_code >= 400

    def _decide_accepted(self, reply: Reply) -> None:
        for index in self.accepted:
            self.replies[index] = reply
