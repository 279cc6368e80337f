"""Messages larger than 100 MiB pass through without growing memory, by DATA and by BDAT."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.peers.site import ALICE, Site, site
from tests.peers.store import RawClient

pytestmark = pytest.mark.scenario

BLOCK = (b"0123456789abcdef" * 4 + b"\r\n") * 1000
BLOCKS = 1700
"""107 MiB of them."""
GROWTH = 16 * 1024
"""KiB of resident memory that a process may have more than before, buffers of sockets and pieces in all."""


def peaks(server: Site) -> dict[str, int]:
    """The most memory that each process has had resident, in KiB."""
    found = {}
    for name, pid in server.workers().items():
        status = Path(f"/proc/{pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak is not None
        found[name] = int(peak[1])
    return found


def send(server: Site, name: str, blocks: int, *, chunking: bool) -> str:
    head = f"Subject: {name}\r\n\r\n".encode()
    client = RawClient(socket.create_connection(("127.0.0.1", server.smtp), timeout=60))
    with client:
        assert client.reply().startswith("220 ")
        client.ask("EHLO client.example.org")
        client.ask("MAIL FROM:<you@example.org>", f"RCPT TO:<{ALICE}>")
        if chunking:
            client.send(b"BDAT %d LAST\r\n" % (len(head) + blocks * len(BLOCK)))
        else:
            assert client.ask("DATA")[0].startswith("354 ")
        client.send(head)
        for _ in range(blocks):
            client.send(BLOCK)
        if not chunking:
            client.send(b".\r\n")
        return client.reply()


def test_large_messages(tmp_path: Path) -> None:
    more = '[message]\nmax_size = "150MiB"\n[delivery]\ndeadline = "2m"\n'
    with site(tmp_path, workers=1, more=more) as server:
        for chunking in (False, True):
            assert send(server, "small", 20, chunking=chunking).startswith("250 2.0.0")
        before = peaks(server)
        for name, chunking in (("by DATA", False), ("by BDAT", True)):
            assert send(server, name, BLOCKS, chunking=chunking).startswith("250 2.0.0"), name
            inbox = tmp_path / "mail" / "example.test" / "alice" / "new"
            (path,) = [path for path in inbox.iterdir() if path.stat().st_size > 100 * 2**20]
            with path.open("rb") as file:
                stored = file.read(2048)
            assert f"Subject: {name}".encode() in stored
            path.unlink()
        after = peaks(server)
        assert before.keys() == after.keys()
        assert all(after[name] - before[name] < GROWTH for name in before), (before, after)
        assert send(server, "too large", BLOCKS * 3 // 2, chunking=False).startswith("552 5.3.4")
