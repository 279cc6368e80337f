"""Invariant: whatever a client of ManageSieve sends, it ends in answers or a close, the same whole and cut.

Run ``python -m tests.fuzz.fuzz_managesieve [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with
generated octets by the unit tests. No exception is allowed.
"""

from __future__ import annotations

import sys

from mta.managesieve.answers import no
from mta.managesieve.session import LoggedOut, ManageSieveSession, Request, SessionSettings
from mta.managesieve.syntax import MAX_LINE
from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp.state import State

LITERAL = 50


def dialogue(octets: bytes, cut: int, user: str, tls: bool) -> bytes:
    """What a session says to a stream that comes in pieces; nobody has a script, and no password is right."""
    session = ManageSieveSession(SessionSettings(LITERAL, starttls=True), tls=tls)
    session.logged_in(user)
    session.greet("ready")
    for start in range(0, len(octets), cut):
        session.receive_data(octets[start : start + cut])
        while (event := session.next_event()) is not None:
            match event:
                case Request():
                    session.finish(no("none", "NONEXISTENT"))
                case ev.AuthStart():
                    session.challenge(b"go on" if event.initial is None else b"v=final")
                case ev.AuthResponse():
                    session.answer(None if event.data else Reply(535, "5.7.8", "no"))
                case ev.StartTls():
                    return session.data_to_send()  # what follows is a handshake, wherever it was cut
                case LoggedOut():
                    session.logged_in("")
                    session.answer()
        assert not session.is_waiting
        assert session.buffered <= MAX_LINE + cut
    said = session.data_to_send()
    if session.state is State.CLOSED:
        session.receive_data(b"NOOP\r\n")
        assert session.next_event() is None
        assert session.data_to_send() == b""
    return said


def check(data: bytes) -> None:
    """Take the cut, user and TLS from the first octet, the stream from the rest."""
    if not data:
        return
    octets, user, tls = data[1:], "alice" if data[0] & 16 else "", bool(data[0] & 32)
    whole = dialogue(octets, len(octets) or 1, user, tls)
    assert whole == dialogue(octets, data[0] % 16 + 1, user, tls)
    assert whole == b"" or whole.endswith(b"\r\n")


def main() -> None:
    """Fuzz."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
