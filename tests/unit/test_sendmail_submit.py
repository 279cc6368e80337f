"""What `sendmail` says to a server: more recipients than a transaction may have, and what fails then."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mta import config
from mta.address import parse_address
from mta.sendmail_message import Outgoing
from mta.sendmail_submit import Result, Wishes, submit
from mta.sendmail_wait import Patience

ROOM = 2
"""Recipients that the server takes in a transaction."""


class Server(socketserver.ThreadingTCPServer):
    """Takes two recipients in a transaction; `refuses` tells what it says to RCPT and to the message."""

    daemon_threads = True

    def __init__(self, refuses: Callable[[str, int], str]) -> None:
        super().__init__(("127.0.0.1", 0), Dialog)
        self.refuses = refuses
        self.taken: list[list[str]] = []
        self.sessions = 0


class Dialog(socketserver.StreamRequestHandler):
    """One session; a refusal that is empty means to hang up."""

    server: Server

    def handle(self) -> None:
        self.server.sessions += 1
        session = self.server.sessions
        recipients: list[str] = []
        self.say("220 here")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"RCPT":
                address = line[9:-3].decode()
                if refusal := self.server.refuses(address, session):
                    self.say(refusal)
                elif len(recipients) == ROOM:
                    self.say("452 4.5.3 too many recipients")
                else:
                    recipients.append(address)
                    self.say("250 2.1.5 ok")
            elif verb == b"DATA":
                self.say("354 go on")
                while self.rfile.readline() != b".\r\n":
                    pass
                refusal = self.server.refuses("", session)
                if refusal == "hang up":
                    return
                if not refusal:
                    self.server.taken.append(recipients)
                self.say(refusal or f"250 2.0.0 number {session}")
            elif verb == b"QUIT":
                return
            else:
                self.say("250 ok")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def serving(refuses: Callable[[str, int], str] = lambda _address, _session: "") -> Iterator[Server]:
    with Server(refuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def sent(server: Server, *names: str) -> Result:
    recipients = tuple(parse_address(f"{name}@example.org") for name in names)
    message = Outgoing(b"Subject: x\r\n\r\nx\r\n", recipients, has_8bit=False, utf8_header=False)
    where = config.Inet("127.0.0.1", server.server_address[1])
    return submit(
        where, False, "mx.example.org", parse_address("a@example.org"), message, Wishes(), Patience(0)
    )


def names(server: Server) -> list[list[str]]:
    return [[address.partition("@")[0] for address in some] for some in server.taken]


def test_more_recipients_than_a_transaction_may_have() -> None:
    with serving() as server:
        result = sent(server, "a", "b", "c", "d", "e")
    assert (result.status, result.problems) == (0, ())
    assert names(server) == [["a", "b"], ["c", "d"], ["e"]]
    assert result.answer == "2.0.0 number 1\n2.0.0 number 2\n2.0.0 number 3"


def test_who_does_not_exist_takes_no_room() -> None:
    with serving(lambda address, _: "550 5.1.1 nobody" if address[:1] == "x" else "") as server:
        result = sent(server, "x1", "a", "x2", "b", "x3", "c")
    assert names(server) == [["a", "b"], ["c"]]
    assert result.status == 67
    assert [problem.partition("@")[0] for problem in result.problems] == ["x1", "x2", "x3"]


def test_nobody_gets_it_while_one_is_refused_for_now() -> None:
    with serving(lambda address, _: "450 4.2.0 later" if address[:1] == "e" else "") as server:
        result = sent(server, "a", "b", "c", "d", "e")
    assert (result.status, names(server)) == (75, [])
    assert result.problems == ("e@example.org: 450 4.2.0 later",)


def test_a_server_without_room_for_one() -> None:
    with serving(lambda address, _: "452 4.5.3 too many" if address else "") as server:
        result = sent(server, "a", "b")
    assert (result.status, names(server)) == (75, [])


@pytest.mark.parametrize("how", ["451 4.3.0 later", "hang up"])
def test_the_first_is_refused_for_now(how: str) -> None:
    with serving(lambda address, session: how if not address and session == 1 else "") as server:
        result = sent(server, "a", "b", "c")
    assert (result.status, names(server)) == (75, [])


@pytest.mark.parametrize("how", ["451 4.3.0 later", "hang up"])
def test_a_later_one_is_refused_for_now(how: str) -> None:
    """75 would have the caller send it to all again."""
    with serving(lambda address, session: how if not address and session == 2 else "") as server:
        result = sent(server, "a", "b", "c", "d", "e")
    assert (result.status, names(server)) == (69, [["a", "b"], ["e"]])
    assert result.problems[-1] == "other recipients have the message: do not send it to all of them again"
