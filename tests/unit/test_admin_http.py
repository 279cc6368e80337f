"""The HTTP responder: its grammar as a table, its bounds over a socket pair; and the status page."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from mta.admin.http import MAX_CONNECTIONS, HttpServer, Response, parse_request_line, render
from mta.admin.report import duration
from mta.configured import configured_path, control_socket


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET /metrics HTTP/1.1", ("GET", "/metrics")),
        (b"HEAD /ready HTTP/1.0", ("HEAD", "/ready")),
        (b"GET /metrics?name[]=up HTTP/1.1", ("GET", "/metrics")),
        (b"POST / HTTP/1.1", ("POST", "/")),
        (b"GET /metrics HTTP/2.0", 505),
        (b"GET /metrics SMTP/1.1", 400),
        (b"GET  /metrics HTTP/1.1", 400),
        (b"GET metrics HTTP/1.1", 400),
        (b"GET http://x/ HTTP/1.1", 400),
        (b"G3T /metrics HTTP/1.1", 400),
        (b"GET /metrics", 400),
        (b"EHLO client", 400),
        ("GET /é HTTP/1.1".encode(), 400),
        (b"", 400),
    ],
)
def test_request_line(line: bytes, expected: Any) -> None:
    match parse_request_line(line):
        case Response() as refusal:
            assert refusal.status == expected
        case found:
            assert found == expected


def test_response_has_its_length_with_and_without_body() -> None:
    with_body = render(Response(200, b"four"), True)
    assert with_body.endswith(b"\r\n\r\nfour")
    assert b"Content-Length: 4\r\n" in with_body
    without = render(Response(200, b"four"), False)
    assert without.endswith(b"Connection: close\r\n\r\n")
    assert b"Content-Length: 4\r\n" in without
    assert b"Allow: GET, HEAD\r\n" in render(Response(405, b""), True)


async def exchange(server: HttpServer, request: bytes) -> bytes:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs, limit=8192)
    serving = asyncio.create_task(server.connection(reader, writer))
    client_reader, client_writer = await asyncio.open_connection(sock=ours)
    client_writer.write(request)
    client_writer.write_eof()
    answer = await client_reader.read()
    await serving
    client_writer.close()
    return answer


async def numbers() -> bytes:
    return b"tamis_up 1\n"


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, b"tamis_up 1\n"),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, b""),
        (b"GET /health HTTP/1.1\r\n\r\n", 200, b"ok\n"),
        (b"GET /ready HTTP/1.1\r\n\r\n", 503, b"not ready\n"),
        (b"GET / HTTP/1.1\r\n\r\n", 404, b"there are /metrics, /health and /ready\n"),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", 405, b"only GET and HEAD\n"),
        (b"GET /" + b"a" * 20_000, 431, b"a request has at most 8192 bytes\n"),
    ],
)
def test_pages(request_: bytes, status: int, body: bytes) -> None:
    answer = asyncio.run(exchange(HttpServer(numbers, lambda: ""), request_))
    head, _, found = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert found == body


def test_what_is_said_while_mail_is_taken() -> None:
    server = HttpServer(numbers, lambda: "ready, but")
    answer = asyncio.run(exchange(server, b"GET /ready HTTP/1.1\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nready, but\n")


def test_client_that_leaves_in_the_middle_is_forgotten() -> None:
    assert asyncio.run(exchange(HttpServer(numbers, lambda: "ready"), b"GET /metr")) == b""


def test_too_many_connections_are_closed() -> None:
    async def scenario() -> None:
        server = HttpServer(numbers, lambda: "ready")
        waiting = []
        for _ in range(MAX_CONNECTIONS):
            ours, theirs = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=theirs)
            waiting.append((ours, asyncio.create_task(server.connection(reader, writer))))
        await asyncio.sleep(0)
        assert await exchange(server, b"") == b""
        assert len(server._connections) == MAX_CONNECTIONS
        await server.close()
        for sock, task in waiting:
            assert task.cancelled()
            sock.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (864_000, "10 d 0 h"),
    ],
)
def test_duration_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "/run/tamis/control"),
        ('[control]\nsocket = "ctl"', "{folder}/ctl"),
        ('[control]\nsocket = "/x/y"\n[process]\nruntime_directory = "/z"', "/x/y"),
        ('[process]\nruntime_directory = "run"', "{folder}/run/control"),
        ("[process]\nruntime_directory = 5\n[control]\nsocket = []", "/run/tamis/control"),
        ("control = 5", "/run/tamis/control"),
        ("this is no TOML", "/run/tamis/control"),
        ('[process] # who\nruntime_directory = "run"\n[policy]\n[policy]\n', "{folder}/run/control"),
        ('[policy]\nx = \n[process]\nruntime_directory = "run"', "{folder}/run/control"),
        ('[process]\nruntime_directory = \n[control]\nsocket = "ctl"\n', "{folder}/ctl"),
        ("[process\nx", "/run/tamis/control"),
        ('\ufeff[process]\nruntime_directory = "run"', "{folder}/run/control"),
        ('[process]\nruntime_directory = "run"\n[policy]\nx = ' + "[" * 9000, "{folder}/run/control"),
        ('[process]\nruntime_directory = "run"\n[policy]\nx = ' + "9" * 5000, "{folder}/run/control"),
    ],
)
def test_control_socket_is_found_in_a_half_edited_configuration(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "tamis.toml"
    path.write_text(text)
    assert control_socket(str(path)) == expected.format(folder=tmp_path)


def test_path_of_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing.toml")
    with pytest.raises(FileNotFoundError):
        control_socket(missing)
    assert configured_path(missing, ("auth", "users_file", ""), default="users") == str(tmp_path / "users")
