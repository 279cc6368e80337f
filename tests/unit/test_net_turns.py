"""A client that sends much at once is served in turns, so that others wait for a part of it only."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mta.net.connection import AT_ONCE, READ_AHEAD, Connection, Timeouts
from mta.net.connections import Connections
from mta.net.dialogue import Dialogue, Receiver
from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp.state import CLOSED, DATA, READY, State


class Script:
    """A session in which every octet of the client is an event."""

    takes_leave = is_waiting = False

    def __init__(self, message: object | None) -> None:
        self.message = message
        self.state: State = DATA if message else READY
        self.buffered = 0
        self.handled = 0

    @property
    def more(self) -> bool:
        return self.buffered > 0

    def receive_data(self, data: bytes) -> None:
        self.buffered += 1 if self.message else len(data)

    def next_event(self) -> ev.Reset | None:
        if not self.buffered:
            return None
        self.buffered -= 1
        return ev.Reset()

    def handle(self, event: object) -> None:
        self.handled += 1

    def data_to_send(self) -> bytes:
        return b""

    def answer(self, reply: Reply | None = None) -> None:
        raise AssertionError("nothing waits")

    def close(self) -> None:
        self.state = CLOSED

    def lost(self, error: Exception | None) -> None:
        self.close()


class Pipe(asyncio.Transport):
    """What the connection reads from, or does not."""

    def __init__(self) -> None:
        super().__init__({"sslcontext": object()})  # nobody looks at the socket
        self.reading = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


async def opened(message: object | None = None) -> tuple[Connection, Script, Pipe]:
    script, pipe = Script(message), Pipe()

    def create(connection: Connection, transport: asyncio.Transport) -> tuple[Dialogue, Receiver]:
        return cast(Dialogue, script), cast(Receiver, script)

    connection = Connection(Connections(asyncio.get_running_loop(), Timeouts), create, None)
    connection.connection_made(pipe)
    return connection, script, pipe


def run(main: Any) -> None:
    asyncio.run(main())


@pytest.mark.parametrize("turns", [1, 2, 4])
def test_commands_are_handled_a_hundred_a_turn(turns: int) -> None:
    async def main() -> None:
        connection, script, pipe = await opened()
        connection.data_received(b"\n" * (AT_ONCE * turns + 1))
        for turn in range(1, turns + 1):
            assert (script.handled, pipe.reading) == (AT_ONCE * turn, False)
            await asyncio.sleep(0)
        assert (script.handled, pipe.reading) == (AT_ONCE * turns + 1, True)

    run(main)


def test_a_large_piece_of_a_message_ends_the_turn() -> None:
    async def main() -> None:
        connection, script, pipe = await opened(object())
        connection.data_received(b"x" * READ_AHEAD)
        assert (script.handled, pipe.reading) == (1, True)
        connection.data_received(b"x" * (READ_AHEAD + 1))
        assert (script.handled, pipe.reading) == (2, False)
        await asyncio.sleep(0)
        assert pipe.reading

    run(main)


def test_a_client_that_has_gone_has_no_more_turns() -> None:
    async def main() -> None:
        connection, script, pipe = await opened()
        connection.data_received(b"\n" * (2 * AT_ONCE))
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert (script.handled, pipe.reading) == (AT_ONCE, False)

    run(main)
