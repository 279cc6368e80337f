"""SMTP servers on loopback whose STARTTLS goes right, or wrong in one way; each connection has a thread.

with SmtpTls(context, mode="stripped") as server:
    connect to server.port
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from types import TracebackType
from typing import Literal

Mode = Literal["good", "stripped", "refused", "injected", "garbage", "closed", "silent"]
PATIENCE = 30.0
"""Seconds that a thread waits for its client."""


class SmtpTls:
    """One server; `mode` is what is wrong with it, `offered` what it offers over TLS."""

    def __init__(
        self,
        context: ssl.SSLContext,
        mode: Mode = "good",
        offered: tuple[str, ...] = (),
        host: str = "127.0.0.1",
    ) -> None:
        self.context = context
        self.mode = mode
        self.host = host
        self.offered = offered
        self.sni: list[str | None] = []
        self.clear: list[bytes] = []
        """Commands that came in the clear, other than EHLO, STARTTLS and QUIT."""
        self.messages: list[bytes] = []
        """What came by DATA over TLS."""
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self._lock = threading.Lock()
        self._ending = False
        context.sni_callback = lambda _object, name, _context: self.sni.append(name)

    def __enter__(self) -> SmtpTls:
        self._listening = socket.create_server((self.host, 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads.append(threading.Thread(target=self._accept))
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # ends the accept
        self._threads[0].join(PATIENCE)
        with self._lock:
            self._ending = True
            for peer in self._peers:
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._talk, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _talk(self, peer: socket.socket) -> None:
        peer.settimeout(PATIENCE)
        with peer:
            try:
                self._keep(peer)
                if not self._session(peer, encrypted=False):
                    return
                with self.context.wrap_socket(
                    peer, server_side=True, do_handshake_on_connect=False
                ) as over_tls:
                    self._keep(over_tls)
                    over_tls.do_handshake()
                    self._session(over_tls, encrypted=True)
            except (OSError, ValueError):
                return

    def _keep(self, peer: socket.socket) -> None:
        with self._lock:
            if self._ending:
                raise OSError("the server ends")
            self._peers.append(peer)

    def _session(self, peer: socket.socket, *, encrypted: bool) -> bool:
        """Speak SMTP; True when the handshake is due."""
        if not encrypted:
            peer.sendall(b"220 sink.test ready\r\n")
        with peer.makefile("rb", buffering=0) as lines:
            while line := lines.readline():
                verb = line.strip().upper().split(b" ")[0]
                if verb == b"EHLO":
                    offers = self.offered if encrypted else () if self.mode == "stripped" else ("STARTTLS",)
                    words = ["sink.test", *offers]
                    reply = "".join(f"250-{one}\r\n" for one in words[:-1]) + f"250 {words[-1]}\r\n"
                    peer.sendall(reply.encode())
                elif verb == b"STARTTLS" and self.mode != "refused":
                    return self._begin_tls(peer)
                elif verb == b"STARTTLS":
                    peer.sendall(b"454 4.7.0 not now\r\n")
                elif verb == b"DATA" and encrypted:
                    peer.sendall(b"354 go ahead\r\n")
                    message = b""
                    while (part := lines.readline()) not in (b".\r\n", b""):
                        message += part
                    self.messages.append(message)
                    peer.sendall(b"250 2.0.0 saved\r\n")
                elif verb == b"QUIT":
                    peer.sendall(b"221 bye\r\n")
                    return False
                else:
                    if not encrypted:
                        self.clear.append(line)
                    peer.sendall(b"250 ok\r\n")
        return False

    def _begin_tls(self, peer: socket.socket) -> bool:
        if self.mode == "good":
            peer.sendall(b"220 go\r\n")
            return True
        peer.sendall(b"220 go\r\n250 injected\r\n" if self.mode == "injected" else b"220 go\r\n")
        if self.mode == "closed":
            return False
        peer.recv(1)
        if self.mode == "garbage":
            peer.sendall(b"this is no TLS" * 20)
        while peer.recv(4096):
            pass
        return False
