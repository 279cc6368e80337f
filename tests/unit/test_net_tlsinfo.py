"""What is known of a TLS connection, why there is none, and what of it reaches the log."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from mta.net.certcheck import server_end_point
from mta.net.noise import Throttle, quieten
from mta.net.proxyproto import ProxyHeader, ProxyTls
from mta.net.tls import (
    ServerTls,
    channel_bindings,
    client_context,
    failure_class,
    failure_text,
    served_certificate,
)
from mta.net.tlsinfo import told_tls
from mta.session import TlsInfo
from tests.peers.certificates import Authority, authority
from tests.peers.handshake import Handshake
from tests.peers.lines import Lines


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@pytest.mark.parametrize(
    ("told", "version", "cipher", "bits"),
    [
        (ProxyTls("TLSv1.3", "TLS_AES_256_GCM_SHA384"), "TLSv1.3", "TLS_AES_256_GCM_SHA384", 256),
        (ProxyTls("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"), "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", 128),
        (ProxyTls("TLSv1.2", "NEW"), "TLSv1.2", "NEW", 0),
        (ProxyTls("\u00fcber", ""), "TLS", "unknown", 0),  # a label of metrics must be one of a few
    ],
)
def test_what_a_proxy_tells(told: ProxyTls, version: str, cipher: str, bits: int) -> None:
    found = told_tls(ProxyHeader(2, "192.0.2.1", 5, authority="mx.example.org", tls=told))
    assert found == TlsInfo(version, cipher, bits, sni="mx.example.org")
    assert told_tls(ProxyHeader(2, "192.0.2.1", 5)) is None


def test_bindings_of_tls_1_2_are_the_same_on_both_sides(ca: Authority) -> None:
    made = Handshake(ServerTls([ca.issue("one", "one.example.org")]), version=ssl.TLSVersion.TLSv1_2)
    theirs = made.client.getpeercert(binary_form=True)
    assert theirs is not None
    bindings = channel_bindings(made.server, served_certificate(made.server))
    assert bindings["tls-unique"] == made.client.get_channel_binding("tls-unique")
    assert bindings["tls-server-end-point"] == hashlib.sha256(theirs).digest()


def test_tls_unique_is_not_offered_with_tls_1_3(ca: Authority) -> None:
    made = Handshake(ServerTls([ca.issue("one", "one.example.org")]), version=ssl.TLSVersion.TLSv1_3)
    bindings = channel_bindings(made.server, served_certificate(made.server))
    assert "tls-unique" not in bindings
    assert "tls-server-end-point" in bindings


def test_tls_unique_is_not_offered_in_a_resumed_session(ca: Authority) -> None:
    """Without the extended master secret, who sits in the middle can make it the same on both sides."""
    served = ServerTls([ca.issue("one", "one.example.org")])
    context = client_context("encrypt")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = Handshake(served, context=context)
    resumed = Handshake(served, context=context, session=first.client.session)
    assert resumed.client.session_reused
    for side, ssl_object in (("server", resumed.server), ("client", resumed.client)):
        bindings = channel_bindings(ssl_object, served_certificate(resumed.server))
        assert list(bindings) == ["tls-server-end-point"], side


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (hashes.SHA1(), "sha256"),
        (hashes.SHA256(), "sha256"),
        (hashes.SHA384(), "sha384"),
        (hashes.SHA512(), "sha512"),
        (None, None),
    ],
)
def test_the_hash_of_the_end_point_binding(
    signature: hashes.HashAlgorithm | None, expected: str | None, tmp_path: Path
) -> None:
    der = self_signed(tmp_path, signature)
    if expected is None:
        assert server_end_point(der) == b""
    else:
        assert server_end_point(der) == hashlib.new(expected, der).digest()


@pytest.mark.parametrize("version", [3, 39])
def test_a_certificate_that_only_openssl_reads_has_no_end_point_binding(version: int) -> None:
    """Servers of the world show such ones, and where nothing is verified mail goes to them."""
    blob = trustme.CA().issue_cert("mx.test").cert_chain_pems[0].bytes()
    der = x509.load_pem_x509_certificate(blob).public_bytes(serialization.Encoding.DER)
    third = bytes.fromhex("a003020102")  # version: the number of the third
    assert der.count(third) == 1
    odd = der.replace(third, third[:-1] + bytes((version,)))
    with pytest.raises(x509.InvalidVersion):
        x509.load_der_x509_certificate(odd)
    assert server_end_point(odd) == b""
    assert server_end_point(b"\x30\x03\x02\x01\x05") == b""


def self_signed(folder: Path, signature: hashes.HashAlgorithm | None) -> bytes:
    """A certificate signed with the hash; by openssl, for `cryptography` makes none with SHA-1 any more."""
    key = folder / "key.pem"
    kind = "-newkey rsa:2048" if signature else "-newkey ed25519"
    digest = f"-{signature.name}" if signature else ""
    status = os.system(
        f"openssl req -x509 {kind} {digest} -nodes -subj /CN=x -keyout {key} -out {folder}/x.pem 2>/dev/null"
    )
    assert status == 0
    pem = x509.load_pem_x509_certificate((folder / "x.pem").read_bytes())
    return pem.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, "closed"),
        (ConnectionResetError(104, "reset"), "closed"),
        (ssl.SSLEOFError(8, "EOF occurred"), "closed"),
        (TimeoutError(), "timeout"),
        (ConnectionAbortedError("SSL handshake is taking longer than 30 seconds: aborting"), "timeout"),
        (ConnectionAbortedError(103, "aborted"), "closed"),
        (ssl.SSLError(1, "odd"), "protocol"),
        (ValueError("bug"), "other"),
    ],
)
def test_classes_of_failures(error: BaseException | None, expected: str) -> None:
    assert failure_class(error) == expected
    assert 0 < len(failure_text(error)) <= 200
    assert failure_text(error).isprintable()


@pytest.mark.parametrize("octets", [b"EHLO client.example.org\r\n", b"GET / HTTP/1.0\r\n\r\n"])
def test_clear_text_is_told_from_broken_tls(ca: Authority, octets: bytes) -> None:
    server = ServerTls([ca.issue("one", "one.example.org")])
    with pytest.raises(ssl.SSLError) as caught:
        Handshake(server, tamper=lambda _: octets)
    assert failure_class(caught.value) == "not_tls"


def test_a_client_that_refuses_our_certificate(ca: Authority) -> None:
    server = ServerTls([ca.issue("one", "one.example.org")])
    context = client_context("verify", ca_file=Authority(ca.folder, trustme.CA()).file)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(outgoing, incoming, server_hostname="one.example.org")
    other = server.context.wrap_bio(incoming, outgoing, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        other.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError):
        client.do_handshake()
    with pytest.raises(ssl.SSLError) as caught:
        other.do_handshake()
    assert failure_class(caught.value) == "refused_by_client"


def test_a_server_name_that_is_no_ascii_makes_no_traceback(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    passed_on: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", passed_on.append)
    counts: Counter[str] = Counter()
    loop = asyncio.new_event_loop()
    quieten(loop, counts, Lines())
    loop.close()
    server = ServerTls([ca.issue("one", "one.example.org")])
    with pytest.raises(ssl.SSLError):
        Handshake(server, "xx.example.org", tamper=lambda d: d.replace(b"xx.example", b"\xff\xfe.example"))
    assert counts == {"tls_bad_server_name": 1}
    assert passed_on == []
    sys.unraisablehook(SimpleNamespace(exc_value=ValueError("ours"), object=None))
    assert len(passed_on) == 1


def test_noise_is_counted_and_bugs_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    counts: Counter[str] = Counter()
    log = Lines()
    loop = asyncio.new_event_loop()
    quieten(loop, counts, log)
    bug = KeyError("a bug of ours")
    for error in (ConnectionResetError(), BrokenPipeError(), TimeoutError(), ssl.SSLError(1, "x"), bug, None):
        loop.call_exception_handler({"message": "it happened", "exception": error})
    loop.close()
    assert counts == {"connection_error": 3, "tls_protocol": 1}
    assert log.events == ["unexpected error"] * 2
    assert "KeyError: 'a bug of ours'" in str(log.lines[0][1]["traceback"])
    assert log.lines[1][1]["message"] == "it happened"


def test_a_flood_of_lines_is_kept_back_and_summed_up() -> None:
    now = [0.0]
    passed = Lines()
    log = Throttle(passed, per_second=2, clock=lambda: now[0])
    for number in range(7):
        log("refused", number=number)
    now[0] = 1.5
    log("refused", number=7)
    assert passed.lines == [
        ("refused", {"number": 0}),
        ("refused", {"number": 1}),
        ("log lines kept back", {"count": 5}),
        ("refused", {"number": 7}),
    ]
