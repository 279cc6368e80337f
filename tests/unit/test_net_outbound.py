"""The time of a connection to a next hop, whose end may come in the same moment as its words."""

from __future__ import annotations

import asyncio

import uvloop

from mta.net.outbound import OutboundConnection
from mta.smtp.client import ClientSession
from mta.smtp.opening import ClientSettings
from tests.dialog.world import SHORT


class Wire(asyncio.Transport):
    """A transport that takes everything."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def write(self, data: object) -> None:
        return

    def abort(self) -> None:
        return


def test_what_comes_in_the_moment_of_the_deadline_is_heard() -> None:
    """uvloop gives no timer for a time that has come."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        connection = OutboundConnection(ClientSession(ClientSettings()), "peer", SHORT, loop)
        connection.connection_made(Wire())
        opening = asyncio.create_task(connection.wait_open(loop.time()))
        await asyncio.sleep(0)
        connection.data_received(b"220-one\r\n")
        connection.data_received(b"220-two\r\n")
        connection.connection_lost(None)
        await opening
        assert connection.session.failure is not None
        assert connection.session.failure.enhanced == "4.4.2"

    uvloop.run(main())
