"""The client side of the control socket, for the command line: plain blocking sockets, one request each."""

from __future__ import annotations

import socket

import msgspec

from mta.admin.control import Answer, Request

CONNECT_TIMEOUT = 5.0
"""Seconds to reach the supervisor, which answers at once when it lives."""

ANSWER_TIMEOUT = 240.0
"""Seconds for an answer: a reload waits for the checks of the set-up, a minute at most, for its processes,
35 s, and for the reload before it."""

PROMPT_TIMEOUT = 15.0
"""Seconds for an answer that waits for nobody longer than a moment: of the others `status` takes longest, 4 s
while workers hang."""

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer; metrics of a large node are some hundred kB."""


class NotRunning(OSError):
    """Nobody listens at the control socket."""


class Unreachable(OSError):
    """The socket is there but does not answer as a control socket does, or not to us."""


def ask(path: str, request: Request) -> Answer:
    """Send one request and return its answer. Raises `NotRunning` or `Unreachable`."""
    timeout = ANSWER_TIMEOUT if request.command in ("reload", "queue") else PROMPT_TIMEOUT
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(CONNECT_TIMEOUT)
        try:
            sock.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(
                f"no Tamis answers at {path}: it does not run, or with another configuration"
            ) from None
        except OSError as problem:
            raise Unreachable(f"cannot reach {path}: {problem.strerror or problem}") from problem
        sock.settimeout(timeout)
        try:
            sock.sendall(msgspec.json.encode(request) + b"\n")
            line = _line(sock)
        except TimeoutError as problem:
            why = "the server hangs, or its process is stopped"
            if request.command == "reload":
                why = f"{why}, or it is still at it: `tamis status` tells how it ends"
            raise Unreachable(f"no answer from {path} within {timeout:g} s: {why}") from problem
        except OSError as problem:
            raise Unreachable(f"no answer from {path}: {problem.strerror or problem}") from problem
    try:
        return msgspec.json.decode(line, type=Answer)
    except msgspec.MsgspecError as problem:
        raise Unreachable(f"unreadable answer from {path}: {problem}") from problem


def _line(sock: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError("the connection was closed")
        received += data
        if len(received) > MAX_ANSWER:
            raise ConnectionResetError("the answer is too long")
    return bytes(received)
