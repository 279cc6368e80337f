"""Behind HAProxy, which names clients by the PROXY protocol, and nginx, which logs them in and names them."""

from __future__ import annotations

import http.server
import re
import smtplib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.peers.needs import needs, program
from tests.peers.ports import free_port
from tests.peers.running import until
from tests.peers.site import ALICE, BOB, HOSTNAME, PASSWORD, Site, site

pytestmark = pytest.mark.scenario

CLIENT = "127.0.0.5"
"""Where clients come from; balancers come from 127.0.0.1."""
LISTENERS = """
[[listener]]
name = "balanced"
addresses = ["127.0.0.1:{smtp}"]
proxy_protocol_from = ["127.0.0.1"]
[[listener]]
name = "balanced-secure"
protocol = "submission"
tls = "implicit"
addresses = ["127.0.0.1:{secure}"]
proxy_protocol_from = ["127.0.0.1"]
[[listener]]
name = "balanced-clear"
protocol = "submission"
tls = "starttls"
addresses = ["127.0.0.1:{clear}"]
proxy_protocol_from = ["127.0.0.1"]
[[listener]]
name = "balanced-ended"
protocol = "submission"
tls = "none"
addresses = ["127.0.0.1:{believed}"]
proxy_protocol_from = ["127.0.0.1"]
proxy_protocol_tls = true
[[listener]]
name = "for-nginx"
protocol = "submission"
tls = "starttls"
addresses = ["127.0.0.1:{nginx}"]
xclient_from = ["127.0.0.1"]
"""
HAPROXY = """
global
    stats socket {folder}/stats
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen one
    bind 127.0.0.1:{front[one]}
    option smtpchk EHLO balancer.example.org
    server mx 127.0.0.1:{back[smtp]} send-proxy check inter 200
listen two
    bind 127.0.0.1:{front[two]}
    option smtpchk EHLO balancer.example.org
    unique-id-format %{{+X}}o%ci%cp%Ts
    server mx 127.0.0.1:{back[smtp]} send-proxy-v2 proxy-v2-options crc32c,unique-id check inter 200
listen secure
    bind 127.0.0.1:{front[secure]}
    server mx 127.0.0.1:{back[secure]} send-proxy-v2 check check-ssl verify none inter 200
listen ended
    bind 127.0.0.1:{front[ended]} ssl crt {folder}/both.pem
    server mx 127.0.0.1:{back[clear]} send-proxy-v2 proxy-v2-options ssl,ssl-cipher,authority,crc32c
listen believed
    bind 127.0.0.1:{front[believed]} ssl crt {folder}/both.pem
    server mx 127.0.0.1:{back[believed]} send-proxy-v2 proxy-v2-options ssl,ssl-cipher,authority,crc32c
listen bare
    bind 127.0.0.1:{front[bare]}
    server mx 127.0.0.1:{back[believed]} send-proxy-v2 proxy-v2-options ssl
"""
NGINX = """
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log info;
events {{ worker_connections 64; }}
mail {{
    server_name nginx.example.org;
    auth_http 127.0.0.1:{auth}/;
    ssl_certificate {folder}/main.pem;
    ssl_certificate_key {folder}/main.key;
    server {{
        listen 127.0.0.1:{front};
        protocol smtp;
        smtp_auth plain;
        starttls only;
        xclient on;
    }}
}}
"""


class Ports(dict[str, int]):
    """Free ones, by name."""

    def __missing__(self, name: str) -> int:
        return self.setdefault(name, free_port())


@pytest.fixture(scope="module")
def back() -> Ports:
    return Ports()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, back: Ports) -> Iterator[Site]:
    listeners = LISTENERS.format(
        **{name: back[name] for name in ("smtp", "secure", "clear", "believed", "nginx")}
    )
    with site(tmp_path_factory.mktemp("balanced"), more=listeners) as running:
        yield running


@contextmanager
def peer(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end of the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def status(path: Path) -> dict[str, str]:
    """What HAProxy holds of its servers."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return {}
        sock.sendall(b"show stat\n")
        lines = b"".join(iter(lambda: sock.recv(65536), b"")).decode().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    return {row[0]: f"{row[17]} {row[36]}" for row in rows if len(row) > 36 and row[1] == "mx"}


@pytest.fixture(scope="module")
def haproxy(server: Site, back: Ports) -> Iterator[Ports]:
    """The ports before HAProxy, once it has found the server in good health."""
    needs("haproxy")
    folder, front = server.directory, Ports()
    (folder / "both.pem").write_bytes((folder / "main.pem").read_bytes() + (folder / "main.key").read_bytes())
    text = HAPROXY.format(folder=folder, front=front, back=back)
    (folder / "haproxy.cfg").write_text(text)
    with peer(program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")):
        healthy = {"one": "UP L7OK", "two": "UP L7OK", "secure": "UP L6OK"}
        healthy |= dict.fromkeys(("ended", "believed", "bare"), "no check ")
        until(lambda: status(folder / "stats") == healthy, lambda: str(status(folder / "stats")))
        yield front


def deliver(server: Site, client: smtplib.SMTP, sender: str, to: str) -> str:
    """Send a message and return its Received field."""
    token = uuid4().hex
    with client:
        client.sendmail(sender, [to], f"From: {sender}\r\nSubject: {token}\r\n\r\nhello\r\n")
    (message,) = until(lambda: server.messages(to, token), "the message came")
    return message.decode().partition("Received:")[2].partition(" for ")[0]


@pytest.mark.parametrize("version", ["one", "two"])
def test_the_client_is_the_one_that_haproxy_names(server: Site, haproxy: Ports, version: str) -> None:
    client = smtplib.SMTP("127.0.0.1", haproxy[version], "c.example.org", 30, (CLIENT, 0))
    assert f"[{CLIENT}]" in deliver(server, client, "a@example.org", ALICE)


def test_tls_that_passes_through_haproxy_is_ours(server: Site, haproxy: Ports) -> None:
    client = smtplib.SMTP_SSL(
        "localhost", haproxy["secure"], "c.example.org", timeout=30, source_address=(CLIENT, 0),
        context=server.trust(),
    )  # fmt: skip
    client.login(ALICE, PASSWORD)
    received = deliver(server, client, ALICE, BOB)
    assert f"[{CLIENT}]" in received
    assert "with ESMTPSA" in received


def test_tls_that_ends_at_haproxy_is_none_to_us(server: Site, haproxy: Ports) -> None:
    with smtplib.SMTP_SSL("localhost", haproxy["ended"], context=server.trust(), timeout=30) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN")[0] == 538


def test_tls_that_ends_at_haproxy_is_the_client_s_where_it_is_believed(server: Site, haproxy: Ports) -> None:
    client = smtplib.SMTP_SSL(
        "localhost", haproxy["believed"], "c.example.org", timeout=30, source_address=(CLIENT, 0),
        context=server.trust(),
    )  # fmt: skip
    client.ehlo()
    assert not client.has_extn("starttls")
    assert "-PLUS" not in client.esmtp_features["auth"]  # it has another connection than we
    assert "EXTERNAL" not in client.esmtp_features["auth"]
    client.login(ALICE, PASSWORD)
    received = deliver(server, client, ALICE, BOB)
    assert f"[{CLIENT}]" in received
    assert re.search(r"\(using TLSv1\.3 with cipher TLS_\w+ \((128/128|256/256) bits\)\)", received)
    assert "with ESMTPSA" in received
    # Without TLS before HAProxy there is none.
    with smtplib.SMTP("127.0.0.1", haproxy["bare"], "c.example.org", 30, (CLIENT, 0)) as clear:
        clear.ehlo()
        assert not clear.has_extn("auth")
        assert clear.docmd("AUTH", "PLAIN")[0] == 502


class Auth(http.server.BaseHTTPRequestHandler):
    """Answers nginx's `auth_http`: one password is right, and the server is ours."""

    port = 0

    def do_GET(self) -> None:
        """One question."""
        right = self.headers["Auth-Pass"].replace("%20", " ") == PASSWORD
        self.send_response(200)
        self.send_header("Auth-Status", "OK" if right else "wrong")
        if right:
            self.send_header("Auth-Server", "127.0.0.1")
            self.send_header("Auth-Port", str(self.port))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def nginx(server: Site, back: Ports) -> Iterator[int]:
    """The port before nginx."""
    needs("nginx", "libnginx-mod-mail")
    folder, front = server.directory, free_port()
    asked = type("Asked", (Auth,), {"port": back["nginx"]})
    with ExitStack() as stack:
        web = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), asked))
        threading.Thread(target=web.serve_forever, daemon=True).start()
        stack.callback(web.shutdown)
        (folder / "nginx.conf").write_text(
            NGINX.format(folder=folder, auth=web.server_address[1], front=front)
        )
        stack.enter_context(peer(program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")))
        yield front


def _connected(port: int) -> smtplib.SMTP | None:
    try:
        return smtplib.SMTP("127.0.0.1", port, "c.example.org", 30, (CLIENT, 0))
    except OSError:
        return None


def test_who_has_logged_in_at_nginx_is_our_user(server: Site, nginx: int) -> None:
    client = until(lambda: _connected(nginx), "nginx greets")
    context = ssl.create_default_context(cafile=server.ca_file)
    client._host = HOSTNAME  # type: ignore[attr-defined]
    client.starttls(context=context)
    client.login(ALICE, PASSWORD)
    received = deliver(server, client, ALICE, BOB)
    assert f"[{CLIENT}]" in received
    assert "with ESMTPA " in received
    other = _connected(nginx)
    assert other is not None
    with other:
        other._host = HOSTNAME  # type: ignore[attr-defined]
        other.starttls(context=context)
        other.login(ALICE, PASSWORD)
        assert other.mail(BOB)[0] == 553
