"""The MTA-STS policy over real HTTPS on loopback: certificate verified, redirects not followed."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mta.startup.mtasts import policy_text
from mta.startup.result import Outcome
from tests.peers.certificates import Authority, authority
from tests.unit.startup_kit import HOST, good_dns, look, site

GOOD = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + policy_text(HOST)


@contextmanager
def web(folder: Path, ca: Authority, name: str, answer: str) -> Iterator[int]:
    """A web server of one request."""
    files = ca.issue("web", name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)

    def serve() -> None:
        client, _ = listener.accept()
        client.settimeout(20)
        with client:
            try:
                with context.wrap_socket(client, server_side=True) as session:
                    assert session.recv(4096).startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
                    session.sendall(answer.encode())
            except OSError:
                return  # a client that does not trust us goes away

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(25)
        listener.close()


@pytest.mark.parametrize(
    ("name", "answer", "outcome", "found"),
    [
        ("mta-sts.good.test", GOOD, Outcome.OK, "mode enforce, mx mx.good.test"),
        ("mta-sts.good.test", "HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", Outcome.WRONG, "status 301"),
        (
            "mta-sts.good.test",
            "220 mx.good.test ESMTP\r\n",
            Outcome.WRONG,
            "no HTTP: '220 mx.good.test ESMTP'",
        ),
        (
            "mta-sts.good.test",
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
            f"{len(policy_text(HOST)):x}\r\n{policy_text(HOST)}\r\n0\r\n\r\n",
            Outcome.OK,
            "mode enforce, mx mx.good.test",
        ),
        ("www.good.test", GOOD, Outcome.WRONG, "Hostname mismatch"),
    ],
)
def test_policy_is_fetched(name: str, answer: str, outcome: Outcome, found: str, tmp_path: Path) -> None:
    ca = authority(tmp_path)
    assert ca.file
    dns = good_dns()
    dns.add("mta-sts.good.test", "A", "127.0.0.1")
    with web(tmp_path, ca, name, answer) as port:
        where = site(tmp_path, '[checks]\ntls_ca = "ca.pem"\n')
        (result,) = look("mta_sts", where, dns, https_port=port)
    assert result.outcome is outcome, result
    assert found in result.found
