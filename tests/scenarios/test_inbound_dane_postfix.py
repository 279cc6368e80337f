"""Postfix sends to us with DANE or not at all (`smtp_tls_security_level = dane-only`)."""

from __future__ import annotations

import re
import smtplib
import socket
import time
from pathlib import Path

import pytest

from tests.peers.checkedsite import ADDRESS, BOSS, HOST, CheckedSite, running_site
from tests.peers.dnsworld import system_resolver
from tests.peers.needs import needs
from tests.peers.postfix import Postfix, running_postfix

pytestmark = pytest.mark.scenario

RESOLVER = "127.0.53.2"
SETTINGS = """\
default_transport = smtp
relayhost = [{host}]:{port}
smtpd_recipient_restrictions = permit_mynetworks, reject
smtp_dns_support_level = dnssec
smtp_host_lookup = dns
smtp_tls_security_level = dane-only
smtp_tls_loglevel = 1
"""
SERVICES = """\
smtp unix - - n - - smtp
tlsproxy unix - - n - 0 tlsproxy
scache unix - - n - 1 scache
"""
WORLD = """tlsa = "off"
[[listener]]
name = "world"
addresses = ["{address}:{port}"]
"""
PATIENCE = 60.0
LINE = re.compile(r"postfix/smtp\[.*status=(\w+) \((.*)\)")


def test_postfix_verifies_us(tmp_path: Path) -> None:
    status, text, log, site = send(tmp_path, right=True)
    assert status == "sent", text
    assert text.startswith("250 2.0.0"), text
    assert f"Verified TLS connection established to {HOST}[{ADDRESS}]" in log
    stored = [path for path in (site.folder / "state").rglob("*") if path.parent.name == "new"]
    assert [b"by postfix" in path.read_bytes() for path in stored] == [True]


def test_postfix_does_not_trust_another_certificate(tmp_path: Path) -> None:
    """The same server, and the same names: but a key that no TLSA record matches."""
    status, text, log, site = send(tmp_path, right=False)
    assert status == "deferred", text
    assert "Verified TLS" not in log
    assert "not verified" in text.lower() or "not trusted" in text.lower(), text
    assert not [path for path in (site.folder / "state").rglob("*") if path.parent.name == "new"]


def send(folder: Path, *, right: bool) -> tuple[str, str, str, CheckedSite]:
    """One message through Postfix to a server of ours: its status and why, Postfix's log."""
    needs("postfix", "nsd", "unbound", root=True)
    with running_site(folder) as site:
        port = site.ports["smtp"]
        if not right:
            site.ca.issue("main", HOST)
        site.configure(WORLD.format(address=ADDRESS, port=port))
        settings = SETTINGS.format(host=HOST, port=port)
        with (
            site.serving(),
            system_resolver(site.world, RESOLVER) as resolv,
            running_postfix((folder / "main.pem").read_bytes() + (folder / "main.key").read_bytes(),
                            settings, SERVICES, resolv=resolv) as postfix,
        ):  # fmt: skip
            wait_for(ADDRESS, port, site)
            with smtplib.SMTP("127.0.0.1", postfix.port) as client:
                client.sendmail("a@relay.test", [BOSS], "Subject: by postfix\r\n\r\nhello\r\n")
            status, text = tried(postfix)
            return status, text, postfix.log(), site


def wait_for(address: str, port: int, site: CheckedSite) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            socket.create_connection((address, port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(site.log)


def tried(postfix: Postfix) -> tuple[str, str]:
    """What became of the message."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = LINE.search(postfix.log())
        if found:
            return found[1], found[2]
        time.sleep(0.05)
    raise AssertionError(postfix.log())
