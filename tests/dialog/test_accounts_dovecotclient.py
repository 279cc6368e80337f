"""The Dovecot back end against a server that can be made to misbehave, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from mta import config
from mta.accounts.authenticator import AuthSettings, SessionAuthenticator
from mta.accounts.dovecotbackend import PASSWORD_EXPIRED, DovecotBackend
from mta.accounts.dovecotclient import MAX_REQUESTS, DovecotClient, UnavailableError, Where
from mta.accounts.limiter import FailureLimiter, LimiterSettings
from mta.reply import Reply
from mta.session import Session, TlsInfo
from mta.smtp.auth import CANCELLED, RESPONSE_TOO_LONG, Challenge, Failure, Login, ServerExchange, Step
from mta.startup.backends import backends
from mta.startup.claims import site_of
from mta.startup.world import World
from tests.peers.failures import CountedFailures

HELLO = (
    b"MECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tXOAUTH2\nMECH\tEXTERNAL\n"
    b"MECH\tSCRAM-SHA-1-PLUS\tchannel-binding\nMECH\tANONYMOUS\tanonymous\n"
    b"SPID\t7\nCUID\t1\nCOOKIE\tx\nDONE\n"
)


class Dovecot:
    """Answers each line by a function from its fields to lines."""

    def __init__(
        self, answer: Callable[[list[str]], str | None], hello: bytes = b"VERSION\t1\t2\n" + HELLO
    ) -> None:
        self.answer = answer
        self.hello = hello
        self.lines: list[str] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(self.hello)
        with contextlib.suppress(ConnectionError):
            while line := (await reader.readline()).decode().rstrip("\n"):
                self.lines.append(line)
                reply = self.answer(line.split("\t"))
                if reply is not None:
                    writer.write(reply.encode() + b"\n")
        writer.close()

    def drop(self) -> None:
        """End all connections."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


def session(**more: object) -> Session:
    facts: dict[str, object] = {"client_port": 4711, "server_address": "192.0.2.25", "server_port": 587}
    facts |= {"tls": TlsInfo("TLSv1.3", "x", 256, sni="mx.example.org"), **more}
    return Session("session-1", "submission", "submission", "192.0.2.1", **facts)  # type: ignore[arg-type]


async def finish(step: Step | Awaitable[Step]) -> Step:
    return step if isinstance(step, (Challenge, Login, Failure)) else await step


Body = Callable[[DovecotClient, DovecotBackend, Dovecot], Awaitable[None]]


async def until(probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not probe():  # noqa: ASYNC110 - whatever it is, it has no event
            await asyncio.sleep(0.01)


def run(
    tmp_path: Path,
    dovecot: Dovecot,
    body: Body,
    *,
    connect_timeout: float = 20.0,
    request_timeout: float = 20.0,
) -> list[tuple[bool, str]]:
    """Run `body` with a connected client; what was reported about the connection."""
    changes: list[tuple[bool, str]] = []

    async def main() -> None:
        path = str(tmp_path / "auth")
        server = await asyncio.start_unix_server(dovecot.serve, path)
        client = DovecotClient(
            path,
            on_change=lambda up, why: changes.append((up, why)),
            connect_timeout=connect_timeout,
            request_timeout=request_timeout,
            jitter=lambda: 0.0,
        )
        backend = DovecotBackend(client)
        try:
            await client.start()
            await body(client, backend, dovecot)
        finally:
            await backend.close()
            server.close()
            dovecot.drop()
            await server.wait_closed()

    uvloop.run(main())
    return changes


def begin(
    backend: DovecotBackend, mechanism: str = "PLAIN", on: Session | None = None, user: str = ""
) -> ServerExchange:
    exchange = backend.begin(mechanism, on or session(), {}, user, False)
    assert not isinstance(exchange, Reply)
    return exchange


def with_answer(answer: str | None) -> Dovecot:
    return Dovecot(lambda fields: answer.replace("ID", fields[1]) if answer and fields[0] == "AUTH" else None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("OK\tID\tuser=Alice@example.org", Login("alice@example.org", "PLAIN")),
        (
            "OK\tID\tuser=alice\taddresses=Sales@example.org,@shop.example,\tfoo=bar",
            Login("alice", "PLAIN", ("sales@example.org", "@shop.example")),
        ),
        ("OK\tID\tuser=alice\tnologin", 535),
        ("OK\tID\tuser=alice\tnologin=Y\treason=maintenance", 535),
        ("OK\tID\tuser=alice\tproxy\thost=192.0.2.7", 535),
        ("OK\tID", 454),  # whoever that is
        ("OK\tID\tuser=alice\taddresses=nonsense", 454),
        ("FAIL\tID\tuser=alice", 535),
        ("FAIL\tID\tuser=alice\ttemp", 454),
        ("FAIL\tID\tcode=temp_fail", 454),
        ("FAIL\tID\tuser=alice\tauthz", 535),
        ("FAIL\tID\tuser=alice\tcode=user_disabled\treason=gone", 535),
        ("FAIL\tID\tuser=alice\tuser_disabled", 535),
        ("FAIL\tID\tuser=alice\tcode=pass_expired", PASSWORD_EXPIRED.text),
        ("FAIL\tID\tcode=brand_new", 535),
        ("CONT\tID\tAAE=", Challenge(b"\0\1")),
        ("not a line of the protocol", 454),
        ("CONT\tID\t!!!!", 454),
    ],
)
def test_answers(tmp_path: Path, answer: str, expected: object) -> None:
    dovecot = with_answer(answer)

    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        step = await finish(begin(backend).step(b"\0alice\0secret"))
        if isinstance(expected, (Login, Challenge)):
            assert step == expected
        else:
            assert isinstance(step, Failure)
            assert step.reply.cause
            assert expected in (step.reply.code, step.reply.text)

    # What is no answer is waited for until the end.
    run(tmp_path, dovecot, body, request_timeout=0.3 if expected == 454 else 20.0)


def test_what_dovecot_is_told(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        await finish(begin(backend).step(b"\0a\0b"))
        certified = TlsInfo("TLSv1.3", "x", 256, peer_subject="alice", peer_names=("alice@example.org",))
        await finish(begin(backend, "EXTERNAL", session(tls=certified), "alice@example.org").step(b""))
        local = Session("session-2", "lmtp", "lmtp", "unix")
        trusting = DovecotBackend(
            client, service="submission", penalty=False, is_secured=lambda session: True
        )
        await finish(begin(trusting, "LOGIN", local).step(None))
        await finish(begin(backend, "LOGIN", local).step(None))

    dovecot = with_answer("FAIL\tID")
    run(tmp_path, dovecot, body)
    where = "rip=192.0.2.1\trport=4711\tlip=192.0.2.25\tlport=587"
    assert dovecot.lines[0] == "VERSION\t1\t2"
    assert dovecot.lines[1].startswith("CPID\t")
    assert dovecot.lines[2:] == [
        f"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tsession=session-1\tsecured=tls\tlocal_name=mx.example.org\t{where}\tresp=AGEAYg==",
        f"AUTH\t2\tEXTERNAL\tservice=smtp\tnologin\tsession=session-1\tsecured=tls\tvalid-client-cert\t"
        f"cert_username=alice@example.org\t{where}\tresp=",
        "AUTH\t3\tLOGIN\tservice=submission\tnologin\tsession=session-2\tsecured\tno-penalty",
        "AUTH\t4\tLOGIN\tservice=smtp\tnologin\tsession=session-2",
    ]


def test_a_conversation(tmp_path: Path) -> None:
    def answer(fields: list[str]) -> str | None:
        match fields[0]:
            case "AUTH":
                return f"CONT\t{fields[1]}\tVXNlcm5hbWU6"
            case "CONT" if b64decode(fields[2]) == b"alice":
                return f"CONT\t{fields[1]}\tUGFzc3dvcmQ6"
            case "CONT":
                return f"OK\t{fields[1]}\tuser=alice"
        return None

    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        exchange = begin(backend, "LOGIN")
        assert await finish(exchange.step(None)) == Challenge(b"Username:")
        assert await finish(exchange.step(b"alice")) == Challenge(b"Password:")
        assert await finish(exchange.step(b"secret")) == Login("alice", "LOGIN")
        exchange.cancel()  # too late to matter
        other = begin(backend, "LOGIN")
        assert await finish(other.step(None)) == Challenge(b"Username:")
        other.cancel()
        assert await finish(other.step(b"alice")) == Failure(CANCELLED)
        await until(lambda: dovecot.lines[-1] == "CANCEL\t2")

    run(tmp_path, Dovecot(answer), body)


def test_many_at_once_are_told_apart(tmp_path: Path) -> None:
    waiting: list[str] = []

    def answer(fields: list[str]) -> str | None:
        if fields[0] == "AUTH":
            name = b64decode(fields[-1].removeprefix("resp=")).split(b"\0")[1].decode()
            waiting.append(f"OK\t{fields[1]}\tuser={name}")
            if len(waiting) == 200:
                return "\n".join(reversed(waiting))
        return None

    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        steps = [finish(begin(backend).step(b"\0u%d\0x" % number)) for number in range(200)]
        logins = await asyncio.gather(*steps)
        assert logins == [Login(f"u{number}", "PLAIN") for number in range(200)]

    run(tmp_path, Dovecot(answer), body)


@pytest.mark.parametrize("stays", [True, False])
def test_no_answer_in_time_is_454_and_cancelled(tmp_path: Path, stays: bool) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        exchange = begin(backend)
        task = asyncio.ensure_future(finish(exchange.step(b"\0a\0b")))
        await asyncio.sleep(0)
        if not stays:
            exchange.cancel()
        step = await task
        assert isinstance(step, Failure)
        assert step.reply.code == 454
        assert "no answer in 0.1 s" in step.reply.cause
        await until(lambda: dovecot.lines[-1] == "CANCEL\t1")

    run(tmp_path, with_answer(None), body, request_timeout=0.1)


def test_a_session_that_goes_away_cancels_its_request(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        task = asyncio.ensure_future(finish(begin(backend).step(b"\0a\0b")))
        await until(lambda: dovecot.lines[-1].startswith("AUTH\t1"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: dovecot.lines[-1] == "CANCEL\t1")

    run(tmp_path, with_answer(None), body)


@pytest.mark.parametrize(
    ("answer", "kind", "last"), [("FAIL\t1\tuser=a", Failure, "AUTH"), ("CONT\t1\tAAE=", Challenge, "CANCEL")]
)
def test_the_answer_is_left_to_come_when_the_client_has_gone(
    tmp_path: Path, answer: str, kind: type, last: str
) -> None:
    """A wrong password counts although the guesser does not wait; what would go on ends then."""

    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        exchange = begin(backend)
        task = asyncio.ensure_future(finish(exchange.step(b"\0a\0b")))
        await until(lambda: dovecot.lines[-1].startswith("AUTH\t1"))
        exchange.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        dovecot.writers[0].write(answer.encode() + b"\n")
        assert isinstance(await task, kind)
        await until(lambda: dovecot.lines[-1].startswith(last))
        assert client.connection is not None
        assert client.connection.requests == {}

    run(tmp_path, with_answer(None), body)


def test_what_asks_for_no_check_ends_at_once_when_the_client_has_gone(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        async with asyncio.timeout(60):  # a tenth of what Dovecot is given
            greeted = begin(backend, "LOGIN")
            task = asyncio.ensure_future(finish(greeted.step(None)))
            await until(lambda: dovecot.lines[-1].startswith("AUTH\t1"))
            greeted.cancel()
            assert await task == Failure(CANCELLED)
            await until(lambda: dovecot.lines[-1] == "CANCEL\t1")

            unsent = begin(backend)
            step = unsent.step(b"\0a\0b")
            unsent.cancel()
            assert await finish(step) == Failure(CANCELLED)

            client.connection = None
            client._up.clear()
            waiting = begin(backend)
            task = asyncio.ensure_future(finish(waiting.step(b"\0a\0b")))
            await asyncio.sleep(0.05)
            assert not task.done()
            waiting.cancel()
            assert await task == Failure(CANCELLED)
        assert len(dovecot.lines) == 4  # of no password did it hear

    run(tmp_path, with_answer(None), body, connect_timeout=600.0, request_timeout=600.0)


def test_a_restart_of_dovecot(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        task = asyncio.ensure_future(finish(begin(backend).step(b"\0a\0b")))
        exchange = begin(backend, "LOGIN")
        await until(lambda: dovecot.lines[-1].startswith("AUTH"))
        dovecot.drop()
        step = await task
        assert isinstance(step, Failure)
        assert (step.reply.code, step.reply.enhanced) == (454, "4.7.0")
        assert "PLAIN" in backend.mechanisms()  # the offer outlives the connection
        dovecot.answer = lambda fields: f"OK\t{fields[1]}\tuser=alice" if fields[0] == "AUTH" else None
        # The next login waits for the new connection; the old exchange does not go on there.
        assert await finish(begin(backend).step(b"\0a\0b")) == Login("alice", "PLAIN")
        assert await finish(exchange.step(b"")) == Login("alice", "LOGIN")

    changes = run(tmp_path, with_answer(None), body)
    assert [up for up, _ in changes] == [True, False, True]


def test_an_exchange_does_not_cross_connections(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        exchange = begin(backend, "LOGIN")
        assert isinstance(await finish(exchange.step(None)), Challenge)
        before = client.connection
        dovecot.drop()
        await until(lambda: client.connection not in (None, before))
        step = await finish(exchange.step(b"alice"))
        assert isinstance(step, Failure)
        assert step.reply.code == 454

    run(tmp_path, with_answer("CONT\tID\t"), body)


@pytest.mark.parametrize("hello", [b"* OK IMAP ready\r\n", b"VERSION\t2\t0\n", b""])
def test_a_server_of_another_kind_is_left_alone(tmp_path: Path, hello: bytes) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        assert backend.mechanisms() == ("PLAIN", "LOGIN")  # until it is known
        step = await finish(begin(backend).step(b"\0a\0b"))
        assert isinstance(step, Failure)
        assert step.reply.code == 454

    changes = run(tmp_path, Dovecot(lambda fields: None, hello), body, connect_timeout=0.5)
    assert len(changes) == 1  # said once, tried often
    assert not changes[0][0]


def test_the_check_of_the_set_up_finds_it(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        text = f'[auth]\nbackend = "dovecot"\ndovecot_socket = "unix:{client.where}"\n'
        settings = config.parse(text, str(tmp_path / "tamis.toml"))
        found = await backends(site_of(settings), World(None, seconds=20.0))
        assert [(one.subject, one.found) for one in found] == [("auth", "ready for logins")]

    run(tmp_path, with_answer(None), body)


def test_nobody_there(tmp_path: Path) -> None:
    changes: list[tuple[bool, str]] = []

    async def main() -> None:
        client = DovecotClient(
            str(tmp_path / "none"), on_change=lambda up, why: changes.append((up, why)), connect_timeout=0.1
        )
        await client.start()
        with pytest.raises(
            UnavailableError, match=r"no connection to /.*/none \(No such file or directory\)"
        ):
            await client.request().start("PLAIN", [], b"")
        await client.close()
        await client.close()

    uvloop.run(main())
    assert len(changes) == 1
    assert "No such file" in changes[0][1]


def test_a_closed_socket_is_known_at_once_and_asked_again(tmp_path: Path) -> None:
    """A worker is not kept from its start; what Dovecot offers is learnt when it comes."""
    path, changes = tmp_path / "auth", []
    dovecot = with_answer(None)

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as gone:  # its file stays: connections are refused
            gone.bind(str(path))
        client = DovecotClient(
            str(path), on_change=lambda up, _: changes.append(up), connect_timeout=600.0, jitter=lambda: 0.0
        )
        backend = DovecotBackend(client)
        async with asyncio.timeout(60):  # a tenth of what it would wait for a silent one
            await client.start()
        assert changes == [False]
        assert backend.mechanisms() == ("PLAIN", "LOGIN")
        path.unlink()
        server = await asyncio.start_unix_server(dovecot.serve, path)
        await until(lambda: client.connection is not None)
        assert "XOAUTH2" in backend.mechanisms()
        assert changes == [False, True]
        await backend.close()
        server.close()
        dovecot.drop()
        await server.wait_closed()

    uvloop.run(main())


def test_what_is_offered(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        assert sorted(backend.mechanisms()) == ["EXTERNAL", "LOGIN", "PLAIN", "XOAUTH2"]
        limiter = FailureLimiter(LimiterSettings(), CountedFailures())
        authenticator = SessionAuthenticator(backend, limiter, AuthSettings())
        assert authenticator.mechanisms(session(), frozenset({"tls-exporter"})) == (
            "PLAIN",
            "LOGIN",
            "XOAUTH2",
        )
        assert authenticator.mechanisms(session(tls=None), frozenset()) == ()

    run(tmp_path, with_answer(None), body)


def test_too_long_and_too_many(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        assert await finish(begin(backend).step(bytes(12300))) == Failure(RESPONSE_TOO_LONG)
        exchange = begin(backend, "LOGIN")
        assert isinstance(await finish(exchange.step(None)), Challenge)
        assert await finish(exchange.step(bytes(12300))) == Failure(RESPONSE_TOO_LONG)
        connection = client.connection
        assert connection is not None
        assert connection.requests == {}
        for _ in range(MAX_REQUESTS):
            connection.add(client.request())
        step = await finish(begin(backend).step(b"\0a\0b"))
        assert isinstance(step, Failure)
        assert step.reply.code == 454

    run(tmp_path, with_answer("CONT\tID\t"), body)


def test_a_new_connection_takes_over_and_the_old_one_ends_with_its_exchanges() -> None:
    async def main() -> None:
        dovecot = Dovecot(lambda fields: f"CONT\t{fields[1]}\t" if fields[0] == "AUTH" else None)
        server = await asyncio.start_server(dovecot.serve, "127.0.0.1", 0)
        where: Where = server.sockets[0].getsockname()
        client = DovecotClient(where, on_change=lambda up, why: None, max_age=0.1)
        backend = DovecotBackend(client)
        await client.start()
        old = client.connection
        assert old is not None
        exchange = begin(backend, "LOGIN")
        assert isinstance(await finish(exchange.step(None)), Challenge)
        await until(lambda: client.connection not in (None, old))
        assert not old.closed.done()
        exchange.cancel()
        async with asyncio.timeout(30):
            await old.closed
        await asyncio.sleep(0.5)
        await until(lambda: len(client._open) <= 2)
        await backend.close()
        server.close()
        dovecot.drop()
        await server.wait_closed()

    uvloop.run(main())


def test_request_numbers_wrap_and_skip_those_in_use(tmp_path: Path) -> None:
    async def body(client: DovecotClient, backend: DovecotBackend, dovecot: Dovecot) -> None:
        connection = client.connection
        assert connection is not None
        assert connection.add(client.request()) == 1
        connection._last_number = 0xFFFFFFFE
        assert [connection.add(client.request()) for _ in range(2)] == [0xFFFFFFFF, 2]

    run(tmp_path, with_answer(None), body)


def test_over_tcp() -> None:
    async def main() -> None:
        dovecot = with_answer("OK\tID\tuser=alice")
        server = await asyncio.start_server(dovecot.serve, "127.0.0.1", 0)
        where: Where = server.sockets[0].getsockname()
        client = DovecotClient(where, on_change=lambda up, why: None)
        backend = DovecotBackend(client)
        await client.start()
        assert await finish(begin(backend).step(b"\0a\0b")) == Login("alice", "PLAIN")
        await backend.close()
        server.close()
        dovecot.drop()
        await server.wait_closed()

    uvloop.run(main())
