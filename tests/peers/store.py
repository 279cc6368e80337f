"""The embedded mail store in a thread, and a raw LMTP client, for tests that talk to it over sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import uvloop

from mta.address import Address, parse_address
from mta.store.mailboxes import MailboxInfo, mailbox_path
from mta.store.quota import Quota
from mta.store.server import StoreServer, bind
from mta.store.settings import StoreSettings

NO_QUOTA = Quota()


@dataclass(frozen=True)
class FixedMailboxes:
    """A fixed set of mailboxes, by `Address.key`."""

    by_key: dict[str, MailboxInfo]

    def find(self, address: Address) -> MailboxInfo | None:
        """The mailbox of exactly this address."""
        return self.by_key.get(address.key)


def mailboxes(root: Path, **users: Quota | None) -> FixedMailboxes:
    """Mailboxes of users @example.test by name: their quota, None for a disabled one."""
    table = {}
    for name, quota in users.items():
        address = parse_address(f"{name}@example.test")
        table[address.key] = MailboxInfo(
            mailbox_path(root, address), quota or NO_QUOTA, disabled=quota is None
        )
    return FixedMailboxes(table)


@dataclass
class Running:
    """A store that runs."""

    port: int
    root: Path
    server: StoreServer
    loop: asyncio.AbstractEventLoop

    def box(self, user: str) -> Path:
        """The Maildir of a user."""
        return self.root / "example.test" / user

    def messages(self, user: str) -> list[bytes]:
        """The messages in `new/` of a user, oldest first."""
        new = self.box(user) / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.exists() else []

    def left_over(self) -> list[Path]:
        """Files in any `tmp/`."""
        return list(self.root.glob("**/tmp/*"))

    def connect(self) -> RawClient:
        """A raw connection; the caller closes it."""
        return RawClient(socket.create_connection(("127.0.0.1", self.port), timeout=10))

    def drain(self, seconds: float) -> None:
        """Stop the store; returns when it has stopped."""
        asyncio.run_coroutine_threadsafe(self.server.drain(seconds), self.loop).result(30)


@contextmanager
def running(
    root: Path, boxes: FixedMailboxes, *, listen: tuple[str, ...] = ("127.0.0.1:0",), **changes: object
) -> Iterator[Running]:
    """Run a store with these mailboxes; `changes` are settings that differ from the default."""
    settings = replace(
        StoreSettings(root=str(root), users_file="", hostname="store.example.test"),
        **changes,  # type: ignore[arg-type]
    )
    sockets = bind(listen)
    address = sockets[0].getsockname()
    started: list[Running] = []
    ready = threading.Event()
    stops: list[asyncio.Event] = []

    async def serve() -> None:
        stop = asyncio.Event()
        stops.append(stop)
        server = StoreServer(settings, sockets, boxes)
        await server.start()
        port = address[1] if isinstance(address, tuple) else 0
        started.append(Running(port, root, server, asyncio.get_running_loop()))
        ready.set()
        await stop.wait()
        await server.drain(1)

    def main() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=main)
    thread.start()
    try:
        assert ready.wait(10)
        yield started[0]
    finally:
        for store, stop in zip(started, stops, strict=True):
            store.loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()


class RawClient:
    """A client that sends octets and reads replies, one string each, lines joined by "|"."""

    def __init__(self, connection: socket.socket) -> None:
        """Talk over `connection`."""
        self.connection = connection
        self._file = connection.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.connection.close()

    def send(self, data: bytes) -> None:
        """Send octets."""
        self.connection.sendall(data)

    def reply(self) -> str:
        """Read one reply; "" when the connection is closed."""
        lines = []
        while True:
            line = self._file.readline().decode().removesuffix("\r\n")
            lines.append(line)
            if line[3:4] != "-":
                return "|".join(lines)

    def ask(self, *commands: str) -> list[str]:
        """Send commands in one write and read as many replies."""
        self.send("".join(f"{command}\r\n" for command in commands).encode())
        return [self.reply() for _ in commands]

    def hello(self) -> None:
        """Read the greeting and send LHLO."""
        assert self.reply().startswith("220 ")
        assert self.ask("LHLO client.example.org")[0].startswith("250-")
