"""Tables on servers: each protocol up, slow, dead and lying, against servers that do what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote

import pytest

from mta.config.notation import Inet
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from mta.tables.dns import DnsTable
from mta.tables.dovecot import DictTable, UserdbTable
from mta.tables.memcache import MemcacheTable
from mta.tables.peer import Peer, connector
from mta.tables.socketmap import SocketmapTable
from mta.tables.table import Table, TableUnavailable
from mta.tables.tcp import TcpTable
from mta.tables.template import parse
from mta.tables.web import HttpTable, parse_url
from mta.tables.wrap import Guarded
from tests.peers.answering import answering

CONTENT = {"a@x": "box 1", "empty": "", "ü@x": "ü%"}
Read = Callable[[asyncio.StreamReader], Coroutine[Any, Any, Any]]


async def netstring(reader: asyncio.StreamReader) -> str:
    size = int((await reader.readuntil(b":"))[:-1])
    text = (await reader.readexactly(size + 1))[:-1].decode()
    assert text.startswith("vip ")
    return text[4:]


def as_netstring(key: str) -> bytes:
    answer = (f"OK {CONTENT[key]}" if key in CONTENT else "NOTFOUND ").encode()
    if key == "broken":
        answer = b"TEMP no disk"
    return b"%d:%s," % (len(answer), answer)


async def line(reader: asyncio.StreamReader) -> str:
    verb, _, key = (await reader.readuntil(b"\n"))[:-1].decode().partition(" ")
    assert verb == "get"
    return unquote(key)


def as_tcp(key: str) -> bytes:
    if key == "broken":
        return b"400 no%20disk\n"
    if key not in CONTENT:
        return b"500 not there\n"
    return b"200 " + CONTENT[key].replace("%", "%25").replace(" ", "%20").encode() + b"\n"


async def memcache(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n"))[4:-2].decode()


def as_memcache(key: str) -> bytes:
    if key == "broken":
        return b"SERVER_ERROR no memory\r\n"
    if key not in CONTENT:
        return b"END\r\n"
    value = CONTENT[key].encode()
    return b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (key.encode(), len(value), value)


async def http(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert "\r\nHost: 127.0.0.1:" in head
    return unquote(head.split()[1].removeprefix("/users/"))


def as_http(key: str) -> bytes:
    if key == "broken":
        return b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n"
    if key not in CONTENT:
        return b"HTTP/1.1 404 no\r\nContent-Length: 2\r\n\r\nno"
    if key == "empty":
        return b"HTTP/1.1 204 nothing\r\n\r\n"
    body = CONTENT[key].encode() + b"\nmore\n"
    if key == "a@x":
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (
            body[:3], len(body) - 3, body[3:],
        )  # fmt: skip
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def dovecot(reader: asyncio.StreamReader) -> str:
    while not (line := (await reader.readuntil(b"\n"))[:-1].decode()).startswith(("USER\t1\t", "Lshared/")):
        assert line in ("VERSION\t1\t1", "H3\t2\t0\t\tfiles")
    return line.removeprefix("USER\t1\t").removeprefix("Lshared/").split("\t")[0]


def as_userdb(key: str) -> bytes:
    if key == "broken":
        return b"FAIL\t1\treason=no disk\n"
    if key not in CONTENT:
        return b"NOTFOUND\t1\n"
    return b"VERSION\t1\t2\nSPID\t5\nUSER\t1\t%s\tuid=5\tbox=%s\n" % (key.encode(), CONTENT[key].encode())


def as_dict(key: str) -> bytes:
    if key == "broken":
        return b"Fno disk\n"
    if key not in CONTENT:
        return b"*1\n+1\tN\t0\t0\t0\t0\n"
    return b"O%s\n" % CONTENT[key].encode()


def made(kind: str, port: int, connections: int = 4) -> Table:
    if kind in ("userdb", "dict"):
        connect = connector(Inet("127.0.0.1", port))
        if kind == "dict":
            return DictTable(connect, connections, parse("shared/{key}"), "files")
        return UserdbTable(connect, connections, parse("{key}"), "box")
    peer = Peer(connector(Inet("127.0.0.1", port)), connections)
    match kind:
        case "socketmap":
            return SocketmapTable(peer, "vip", parse("{key}"))
        case "tcp":
            return TcpTable(peer, parse("{key}"))
        case "memcache":
            return MemcacheTable(peer, parse("{key}"))
    return HttpTable(peer, parse_url(f"http://127.0.0.1:{port}/users/{{key}}"))


KINDS: dict[str, tuple[Read, Callable[[str], bytes]]] = {
    "socketmap": (netstring, as_netstring),
    "tcp": (line, as_tcp),
    "memcache": (memcache, as_memcache),
    "http": (http, as_http),
    "userdb": (dovecot, as_userdb),
    "dict": (dovecot, as_dict),
}


async def ask(table: Table, key: str) -> str | None:
    found = table.get(key)
    return found if isinstance(found, str) or found is None else await found


@pytest.mark.parametrize("kind", KINDS)
def test_up_and_one_connection_for_all(kind: str) -> None:
    async def main() -> None:
        async with answering(*KINDS[kind]) as server:
            table = made(kind, server.port)
            for key, value in CONTENT.items():
                assert await ask(table, key) == value, key
            assert await ask(table, "nobody@x") is None
            assert server.connections == 1
            server.cut()  # it starts again between two questions
            assert await ask(table, "a@x") == "box 1"
            assert server.connections == 2
            with pytest.raises(TableUnavailable):
                await ask(table, "broken")
            assert await ask(table, "a@x") == "box 1"
            await table.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behaviour", ["slow", "dies", "lies"])
def test_slow_dead_and_lying(kind: str, behaviour: str) -> None:
    async def main() -> None:
        async with answering(*KINDS[kind]) as server:
            loop = asyncio.get_running_loop()
            told: list[tuple[str, bool, str]] = []
            table = Guarded("t", made(kind, server.port), 0.1, loop.time, lambda *what: told.append(what))
            assert await ask(table, "a@x") == "box 1"
            server.behaviour = behaviour
            for _ in range(3):
                with pytest.raises(TableUnavailable, match="table t: "):
                    await ask(table, "a@x")
            assert [(name, there) for name, there, _ in told] == [("t", False)]
            asked = len(server.asked)
            with pytest.raises(TableUnavailable, match="just failed 3 times"):
                await ask(table, "a@x")
            assert len(server.asked) == asked  # it rests

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_there(kind: str) -> None:
    async def main() -> None:
        async with answering(*KINDS[kind]) as server:
            port = server.port
        with pytest.raises(TableUnavailable, match="no connection"):
            await ask(made(kind, port), "a@x")

    asyncio.run(main())


def test_no_answer_goes_to_another_question() -> None:
    async def main() -> None:
        async with answering(line, as_tcp) as server:
            table = made("tcp", server.port, connections=1)
            server.behaviour = "slow"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await ask(table, "a@x")
            server.behaviour = "up"
            assert await ask(table, "nobody") is None
            assert server.connections == 2
            await table.close()

    asyncio.run(main())


def test_more_questions_than_connections_wait() -> None:
    async def main() -> None:
        async with answering(line, as_tcp) as server:
            table = made("tcp", server.port, connections=2)
            answers = await asyncio.gather(*(ask(table, "a@x") for _ in range(20)))
            assert answers == ["box 1"] * 20
            await table.close()
            assert server.connections == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("socketmap", b"3:OK ,"), ("socketmap", b"9999999:OK"), ("socketmap", b"5:WHAT?,"),
        ("socketmap", b"4:OK x;"),
        ("socketmap", b"70000:OK"), ("tcp", b"300 x\n"), ("tcp", b"200 %ff\n"), ("tcp", b"x" * 200_000),
        ("memcache", b"VALUE other 0 1\r\nx\r\nEND\r\n"), ("memcache", b"VALUE a@x 0 -1\r\n"),
        ("memcache", b"VALUE a@x 0 99999999\r\n"), ("memcache", b"VALUE a@x 0 1\r\nxyz\r\nEND\r\n"),
        ("userdb", b"VERSION\t2\t0\nUSER\t1\ta@x\n"), ("userdb", b"USER\t2\ta@x\n"),
        ("userdb", b"NOTFOUND\n"),
        ("userdb", b"SPID\t1\n" * 50), ("userdb", b"USER\t1\ta@x\tbox=\xff\n"), ("userdb", b"FAIL\t1\n"),
        ("dict", b"*1\n*2\n"), ("dict", b"+1\n"), ("dict", b"\n"), ("dict", b"F\n"), ("dict", b"W\n"),
        ("dict", b"O" + b"x" * 70_000 + b"\n"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), ("http", b"HTTP/1.1 200 OK\r\nx\r\n\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ("http", b"HTTP/1.1 301 x\r\nContent-Length: 0\r\n\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"),
    ],
)  # fmt: skip
def test_lies_of_all_kinds(kind: str, answer: bytes) -> None:
    async def main() -> None:
        async with answering(KINDS[kind][0], lambda key: answer) as server:
            if answer == b"3:OK ,":
                table = made(kind, server.port)
                assert await ask(table, "a@x") == ""
                await table.close()
                return
            with pytest.raises(TableUnavailable):
                async with asyncio.timeout(10):
                    await ask(made(kind, server.port), "a@x")

    asyncio.run(main())


def test_keys_that_cannot_be_asked_for_are_not_there() -> None:
    async def main() -> None:
        async with answering(memcache, as_memcache) as server:
            table = made("memcache", server.port)
            for key in ("", "a b", "a\r\nset x", "x" * 251):
                assert await ask(table, key) is None
            assert not server.asked

    asyncio.run(main())


def test_a_body_up_to_the_end_of_the_connection() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await http(reader)
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nvalue")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        table = made("http", server.sockets[0].getsockname()[1])
        assert await ask(table, "a") == "value"
        assert await ask(table, "a") == "value"
        server.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "url", ["ftp://x/{key}", "http:///{key}", "http://u@x/{key}", "http://{key}.x/", "http://x/ü"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_url(url)


def test_dns() -> None:
    async def main() -> None:
        dns = FakeResolver()
        dns.text("x.list.test", "b", "a")
        dns.add("7.2.0.192.list.test", "A", "127.0.0.2", "127.0.0.4")
        dns.fail("away.list.test")
        dns.fail("false.list.test", status=Status.BOGUS)
        texts = DnsTable(dns, parse("{domain}.list.test"), "TXT", 0.1)
        assert await texts.get("a@x") == "a, b"
        assert await texts.get("a@y") is None
        assert await texts.get("no domain") is None
        for key in ("a@away", "a@false"):
            with pytest.raises(TableUnavailable, match=key[2:]):
                await texts.get(key)
        assert (
            await DnsTable(dns, parse("{reversed}.list.test"), "A", 0.1).get("192.0.2.7")
            == "127.0.0.2, 127.0.0.4"
        )
        dns.delay = 1
        with pytest.raises(TableUnavailable, match="in time"):
            await texts.get("a@x")

    asyncio.run(main())


def test_a_connection_is_used_for_so_long() -> None:
    async def main() -> None:
        async with answering(line, as_tcp) as server:
            peer = Peer(connector(Inet("127.0.0.1", server.port)), 1, 0.2)
            table = TcpTable(peer, parse("{key}"))
            assert [await ask(table, "a@x") for _ in range(3)] == ["box 1"] * 3
            assert server.connections == 1
            await asyncio.sleep(0.3)
            assert await ask(table, "a@x") == "box 1"
            assert server.connections == 2
            await table.close()

    asyncio.run(main())


def test_a_dictionary_in_whatever_version_dovecot_speaks() -> None:
    """Dovecot hangs up on another major version than its own, and may be replaced by a newer one."""

    async def main() -> None:
        speaks, heard = "H3", list[str]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                hello = (await reader.readuntil(b"\n")).decode()
                heard.append(hello[:2])
                assert hello in ("H3\t2\t0\t\tfiles\n", "H4\t0\t0\t\tfiles\n")
                while hello[:2] == speaks and await reader.readline():
                    writer.write(b"Ovalue\n")
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        table = made("dict", server.sockets[0].getsockname()[1], connections=1)
        for speaks, expected in (("H3", ["H3"]), ("H4", ["H3", "H4"]), ("H4", ["H4"]), ("H5", ["H4", "H3"])):
            heard.clear()
            if speaks == "H5":
                with pytest.raises(TableUnavailable):
                    await ask(table, "a")
            else:
                assert [await ask(table, "a") for _ in range(2)] == ["value"] * 2
            assert heard == expected
            await table.close()
        server.close()

    asyncio.run(main())
