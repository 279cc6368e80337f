"""A driver for `ServerSession` without sockets: plays client groups, records replies and events."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp.server import ServerSession
from mta.smtp.server_settings import ServerSettings

SETTINGS = ServerSettings("mx.test", max_size=100_000)

Decide = Callable[[ev.Event], Reply | None]


def accept_all(event: ev.Event) -> Reply | None:
    """Say yes to everything."""
    return None


class Driver:
    """Feeds a session and answers its events with `decide`."""

    def __init__(
        self,
        settings: ServerSettings = SETTINGS,
        decide: Decide = accept_all,
        *,
        step: int = 0,
        mechanisms: tuple[str, ...] = (),
        session: ServerSession | None = None,
    ) -> None:
        """`step` is the number of octets fed at a time, 0 for whole groups."""
        self.session = session or ServerSession(settings)
        self.decide = decide
        self.step = step
        self.mechanisms = mechanisms
        self.events: list[ev.Event] = []
        self.messages: list[bytes] = []
        self._octets = b""
        self.each: list[Reply] | None = None

    def pump(self) -> bytes:
        """Take all events; returns what the session sends."""
        session = self.session
        while (event := session.next_event()) is not None:
            if not isinstance(event, ev.DataChunk):
                self.events.append(event)
            match event:
                case ev.DataChunk():
                    self._octets += event.data
                case ev.Hello():
                    session.mechanisms = self.mechanisms
                    session.answer(self.decide(event))
                case ev.AuthStart() if event.initial is None:
                    session.challenge(b"more")
                case ev.DataEnd():
                    self.messages.append(self._octets)
                    self._octets = b""
                    reply = event.problem or self.decide(event) or Reply(250, "2.0.0", "delivered")
                    session.answer_data(reply, self.each)
                case ev.StartTls():
                    session.answer(self.decide(event))
                case ev.Reset() | ev.AuthCancelled() | ev.Refused() | ev.Closed():
                    if isinstance(event, ev.Reset):
                        self._octets = b""
                case _:
                    session.answer(self.decide(event))
        return session.data_to_send()

    def say(self, octets: bytes) -> bytes:
        """Send one group; returns the replies."""
        if not self.step:
            self.session.receive_data(octets)
            return self.pump()
        out = b""
        for start in range(0, len(octets), self.step):
            self.session.receive_data(octets[start : start + self.step])
            out += self.pump()
        return out


def codes(replies: bytes) -> list[str]:
    """ "250", "250 2.1.0" ... of each reply (the last line of a multi-line one)."""
    out = []
    for line in replies.decode("utf-8").splitlines():
        if line[3:4] == "-":
            continue
        words = line.split(" ")
        enhanced = words[1] if len(words) > 1 and words[1].count(".") == 2 and words[1][0] in "245" else ""
        out.append(f"{words[0]} {enhanced}".strip())
    return out


def dialog(
    script: Iterable[tuple[bytes, list[str]]],
    settings: ServerSettings = SETTINGS,
    decide: Decide = accept_all,
    *,
    mechanisms: tuple[str, ...] = (),
    bytewise: bool = True,
) -> Driver:
    """Play a script of (client group, expected codes) whole and octet by octet; returns the whole one."""
    script = list(script)
    first: Driver | None = None
    for step in (0, 1) if bytewise else (0,):
        driver = Driver(settings, decide, step=step, mechanisms=mechanisms)
        greeting = driver.pump()
        assert codes(greeting) == ["220"], greeting
        for group, expected in script:
            got = driver.say(group)
            assert codes(got) == expected, (step, group, got)
        first = first or driver
    assert first is not None
    return first
