"""TLS contexts, without a network: handshakes in memory between `ServerTls` and clients of every kind."""

from __future__ import annotations

import hashlib
import os
import ssl
from pathlib import Path

import pytest
import trustme

from mta.net import tls as module
from mta.net.certificates import CertificateError
from mta.net.tls import (
    ServerTls,
    TlsSettings,
    client_context,
    failure_class,
    failure_text,
    served_certificate,
    tls_info,
)
from mta.policy.external.policyservers import request_of
from mta.policy.milter.macros import Moment, values
from mta.policy.sieve.facts import Facts
from mta.session import Session
from tests.peers.certificates import Authority, authority
from tests.peers.handshake import Handshake, client_with_certificate


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        (None, "default.example.org"),
        ("default.example.org", "default.example.org"),
        ("unknown.example.com", "default.example.org"),
        ("mail.example.net", "mail.example.net"),
        ("MAIL.example.NET", "mail.example.net"),
        ("other.example.net", "*.example.net"),
        ("a.b.example.net", "default.example.org"),
        ("example.net", "default.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("configured.example.net", "wide"),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_asked_for_selects_the_certificate(
    ca: Authority, asked: str | None, served: str, version: ssl.TLSVersion
) -> None:
    server = ServerTls(
        [
            ca.issue("default", "default.example.org"),
            ca.issue("wild", "*.example.net"),
            ca.issue("exact", "mail.example.net"),
            ca.issue("idn", "bücher.example"),
            ca.issue("wide", "*.example.net", "wide", names=("configured.example.net",)),
        ]
    )
    made = Handshake(server, asked, version=version)
    assert served in made.names
    assert served_certificate(made.server) == made.client.getpeercert(binary_form=True)
    sent = (asked or "").lower()
    assert tls_info(made.server).sni == ("xn--bcher-kva.example" if sent == "bücher.example" else sent)


def test_the_certificate_for_a_name_can_be_asked_for(ca: Authority) -> None:
    server = ServerTls([ca.issue("one", "one.example.org"), ca.issue("two", "*.example.net")])
    assert server.names == ("one.example.org", "*.example.net")
    assert server.certificate_for("a.example.net").name == "two"
    assert server.certificate_for("").name == "one"
    assert set(server.expiry) == {"one", "two"}
    assert not server.warnings
    os.chmod(ca.folder / "two.key", 0o644)
    assert "two.key: everybody" in server.warnings[0]


def test_no_certificate_is_no_server() -> None:
    with pytest.raises(CertificateError, match="no certificate"):
        ServerTls([])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (TlsSettings(minimum_version="TLSv1.1"), "unknown TLS version"),
        (TlsSettings(ciphers="NONSENSE"), "(?i)no cipher"),
        (TlsSettings(require_client_certificate=True), "no authority"),
        (TlsSettings(client_ca_file="/nonexistent/ca.pem"), "No such file"),
    ],
)
def test_impossible_settings_are_refused(ca: Authority, settings: TlsSettings, reason: str) -> None:
    with pytest.raises(CertificateError, match=reason):
        ServerTls([ca.issue("one", "one.example.org")], settings)


def test_protocol_settings(ca: Authority) -> None:
    server = ServerTls([ca.issue("one", "one.example.org")])
    context = server.context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.num_tickets == 0
    old = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert old == set(module.CIPHERS.split(":"))
    assert Handshake(server).server.compression() is None
    only13 = ServerTls([ca.issue("one", "one.example.org")], TlsSettings(minimum_version="TLSv1.3"))
    with pytest.raises(ssl.SSLError) as caught:
        Handshake(only13, version=ssl.TLSVersion.TLSv1_2)
    assert failure_class(caught.value) == "version"


def test_a_client_with_weak_ciphers_only_is_refused(ca: Authority) -> None:
    context = client_context("encrypt")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    with pytest.raises(ssl.SSLError) as caught:
        Handshake(ServerTls([ca.issue("one", "one.example.org", ec=False)]), context=context)
    assert failure_class(caught.value) == "cipher"


def test_tls_1_3_is_not_resumed(ca: Authority) -> None:
    made = Handshake(ServerTls([ca.issue("one", "one.example.org")]), version=ssl.TLSVersion.TLSv1_3)
    made.server.write(b"220 ready\r\n")
    session = made.client.session
    assert session is None or not session.has_ticket


def test_what_is_known_of_a_session(ca: Authority) -> None:
    info = tls_info(Handshake(ServerTls([ca.issue("one", "one.example.org")]), "one.example.org").server)
    assert info.version == "TLSv1.3"
    assert info.cipher.startswith("TLS_")
    assert info.bits >= 128
    assert (info.peer_subject, info.peer_names, info.peer_fingerprint) == ("", (), "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("asked", [None, "two.example.org"])
def test_client_certificates(ca: Authority, version: ssl.TLSVersion, asked: str | None) -> None:
    certificates = [ca.issue("one", "one.example.org"), ca.issue("two", "two.example.org")]
    server = ServerTls(certificates, TlsSettings(client_ca_file=ca.file))
    assert server.client_ca
    context = client_with_certificate(ca, "alice@example.org", "pc.example.org", common_name="Alice")
    context.minimum_version = context.maximum_version = version
    made = Handshake(server, asked, context=context)
    info = tls_info(made.server)
    der = made.server.getpeercert(binary_form=True)
    assert der is not None
    assert info.peer_subject == "Alice"
    assert set(info.peer_names) == {"alice@example.org", "pc.example.org"}
    assert info.peer_fingerprint == hashlib.sha256(der).hexdigest()
    assert info.peer_issuer.startswith("trustme")
    assert len(info.peer_key_fingerprint) == 64
    assert info.peer_key_fingerprint != info.peer_fingerprint
    session = Session("s", "smtp", "smtp", "192.0.2.1", tls=info)
    assert values(Moment(session, "mx.test"))["cert_issuer"] == info.peer_issuer
    told = request_of(Facts("connect", session, "mx.test"))
    assert (told.ccert_issuer, told.ccert_pubkey_fingerprint) == (
        info.peer_issuer, info.peer_key_fingerprint,
    )  # fmt: skip
    # A client without one is let in,
    assert tls_info(Handshake(server, asked, version=version).server).peer_fingerprint == ""
    # unless it is required,
    strict = ServerTls(certificates, TlsSettings(client_ca_file=ca.file, require_client_certificate=True))
    with pytest.raises(ssl.SSLError) as caught:
        Handshake(strict, asked, version=version)
    assert failure_class(caught.value) == "client_certificate"
    # and one of a stranger never is.
    stranger = client_with_certificate(Authority(ca.folder, trustme.CA()), "alice@example.org")
    stranger.minimum_version = stranger.maximum_version = version
    with pytest.raises(ssl.SSLError) as caught:
        Handshake(server, asked, context=stranger)
    assert failure_class(caught.value) == "client_certificate"


def test_clients_are_not_asked_for_certificates_by_default(ca: Authority) -> None:
    server = ServerTls([ca.issue("one", "one.example.org")])
    assert not server.client_ca
    made = Handshake(server, context=client_with_certificate(ca, "alice@example.org"))
    assert tls_info(made.server).peer_fingerprint == ""


def test_levels_of_clients(ca: Authority) -> None:
    server = ServerTls([ca.issue("one", "one.example.org")])
    stranger = Authority(ca.folder, trustme.CA())
    verify = client_context("verify", ca_file=ca.file)
    assert Handshake(server, "one.example.org", context=verify).client.version() == "TLSv1.3"
    for level in ("may", "encrypt"):
        context = client_context(level)
        assert Handshake(server, "two.example.org", context=context).client.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        Handshake(server, "two.example.org", context=verify)
    assert "mismatch" in failure_text(caught.value)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        Handshake(server, "one.example.org", context=client_context("verify", ca_file=stranger.file))
    assert failure_text(caught.value) == "unable to get local issuer certificate"
    assert client_context("verify").verify_mode == ssl.CERT_REQUIRED
    assert client_context("may", minimum=ssl.TLSVersion.TLSv1_3).minimum_version == ssl.TLSVersion.TLSv1_3


def test_a_wrong_file_of_authorities_is_told(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="No such file"):
        client_context("verify", ca_file=str(tmp_path / "missing"))
    (tmp_path / "bad").write_text("nonsense")
    with pytest.raises(CertificateError, match="bad: "):
        client_context("verify", ca_file=str(tmp_path / "bad"))
