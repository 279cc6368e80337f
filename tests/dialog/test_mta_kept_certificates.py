"""Certificates of a real server whose workers come and go while their files change."""

from __future__ import annotations

import os
import signal
import smtplib
import ssl
from pathlib import Path

from tests.peers.certificates import authority
from tests.peers.running import Tamis, alive, tamis, until

END = "-----END CERTIFICATE-----\n"


def test_a_worker_that_replaces_another_serves_the_same_certificate(tmp_path: Path) -> None:
    """The files have another one by then, which nobody takes before a reload."""
    ca = authority(tmp_path)

    def issue() -> bytes:
        text = Path(ca.issue("main", "mail.example.org").chain).read_text()
        return ssl.PEM_cert_to_DER_cert(text[: text.index(END) + len(END)])

    with tamis(tmp_path) as server:
        del server.options["daemon"]
        old = issue()
        rest = f'[certificates.main]\nchain = "{tmp_path}/main.pem"\nkey = "{tmp_path}/main.key"\n'
        server.configure(workers=1, rest=rest + '[tls]\npoll_interval = "0s"\n[queue]\nenabled = false\n')
        server.start()
        assert served(server.port) == old
        new = issue()
        replace_worker(server)
        assert served(server.port) == old
        assert "certificate refused, keeping the old one" in server.log()
        assert server.run("reload").returncode == 0
        assert served(server.port) == new
        replace_worker(server)
        assert served(server.port) == new
        assert server.log().count("certificate refused") == 1
        kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
        assert not any(b"PRIVATE KEY" in path.read_bytes() for path in kept)


def test_a_worker_that_replaces_another_trusts_the_same_clients(tmp_path: Path) -> None:
    """The file of their authorities is wrong by then, which is told once."""
    ca = authority(tmp_path)
    ca.issue("main", "mail.example.org")
    clients = tmp_path / "clients.pem"
    right = Path(ca.file).read_bytes()
    clients.write_bytes(right)
    with tamis(tmp_path) as server:
        del server.options["daemon"]
        rest = f'[certificates.main]\nchain = "{tmp_path}/main.pem"\nkey = "{tmp_path}/main.key"\n'
        server.configure(workers=1, rest=rest + '[tls]\npoll_interval = "1s"\n[queue]\nenabled = false\n')
        text = server.path.read_text().replace("[process]", 'client_ca = "clients.pem"\n[process]')
        server.path.write_text(text)
        server.start()
        certificate = served(server.port)
        for wrong in (b"\xff", b""):
            clients.write_bytes(wrong)
            replace_worker(server)
            assert served(server.port) == certificate
        assert server.run("reload").returncode == 78
        clients.unlink()
        replace_worker(server)
        assert served(server.port) == certificate
        clients.write_bytes(right + right)
        until(lambda: "certificates renewed" in server.log(), "what was mended is taken")
        assert "worker fault" not in server.log()


def replace_worker(server: Tamis) -> None:
    (victim,) = server.workers().values()
    os.kill(victim, signal.SIGKILL)
    until(lambda: not alive(victim) and set(server.workers().values()) - {victim}, "another one is ready")


def served(port: int) -> bytes | None:
    """The certificate that a client is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.getpeercert(binary_form=True)
