"""Invariant: whatever a server sends, cut anywhere, nothing raises, no bare CR or LF goes out, no false 250.

Run ``python -m tests.fuzz.fuzz_client [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with
generated octets by the unit tests. No exception is allowed at all. A recipient has a positive reply only
after the end of the content was handed out.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from mta.address import parse_address
from mta.envelope import Envelope, Recipient
from mta.smtp.client import ClientSession, Phase
from mta.smtp.mailing import Mailing
from mta.smtp.opening import ClientSettings, StartTls
from mta.smtp.relaying import ContentFacts

CONTENT = b"Subject: x\r\n\r\n.dot\r\n"
HELLO = b"220 a\r\n250-b\r\n250-CHUNKING\r\n250-PRDR\r\n250 PIPELINING\r\n"
PLAIN = ClientSettings(helo_name="mx.test")
SETTINGS = (
    PLAIN,
    replace(PLAIN, lmtp=True),
    replace(PLAIN, starttls=StartTls.MAY),
    replace(PLAIN, chunking=False),
)


def drive(settings: ClientSettings, stream: bytes, cut: int, mode: int) -> None:
    """Feed a stream in pieces of `cut` octets to a session that sends as soon as it may."""
    session = ClientSession(settings)
    recipients = [Recipient(parse_address("a@x.test")), Recipient(parse_address("b@x.test"))]
    inline = None if mode & 1 else CONTENT
    message = Mailing(
        Envelope(parse_address("s@y.test")),
        recipients,
        ContentFacts(len(CONTENT)),
        inline,
        eager=bool(mode & 2),
    )
    out = b""
    begun = False
    for start in range(0, len(stream), cut):
        session.receive_data(stream[start : start + cut])
        if session.phase is Phase.STARTTLS and mode & 4:
            session.tls_started(verified=True, channel_bindings={})
        if session.phase is Phase.READY and not begun:
            begun = True
            session.begin_mailing(message)
        out += session.bytes_to_send()
        if session.phase is Phase.CONTENT:
            out += session.content(CONTENT) + session.end_of_content()
    session.receive_end("end")
    assert session.phase is Phase.CLOSED
    assert session.failure is not None
    assert session.failure.is_temporary
    rest = out.replace(b"\r\n", b"")
    assert b"\r" not in rest
    assert b"\n" not in rest
    for reply in message.replies:
        assert reply is None or reply.code >= 400 or (reply.code < 300 and message.sent)


def check(data: bytes) -> None:
    """Take the way from the first octets, the stream from the rest; hold whole and cut to the invariant."""
    if len(data) < 3:
        return
    settings, mode, cut = SETTINGS[data[0] % len(SETTINGS)], data[1] & 7, data[2] % 16 + 1
    stream = (HELLO if data[1] & 8 else b"") + data[3:]
    drive(settings, stream, len(stream) or 1, mode)
    drive(settings, stream, cut, mode)


def main() -> None:
    """Fuzz."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
