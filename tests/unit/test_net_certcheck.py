"""Certificates as files: what is refused, and why."""

from __future__ import annotations

import base64
import dataclasses
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mta.net.certcheck import certificate_names, load, subject_and_names
from mta.net.certificates import MAX_FILE, CertificateError, CertificateFiles, covers, server_name
from tests.peers.certificates import PAST, Authority, authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def reason(files: CertificateFiles, now: datetime = NOW) -> str:
    with pytest.raises(CertificateError) as caught:
        load(files, now)
    return str(caught.value)


def test_names_are_those_of_the_certificate_unless_configured(ca: Authority) -> None:
    files = ca.issue("one", "mail.Example.org", "*.example.net", "bücher.example", "192.0.2.1")
    loaded = load(files, NOW)
    assert loaded.names == ("mail.example.org", "*.example.net", "xn--bcher-kva.example")
    assert loaded.name == "one"
    chosen = dataclasses.replace(files, names=("Bücher.Example", "a.example.net."))
    assert load(chosen, NOW).names == ("xn--bcher-kva.example", "a.example.net")


def test_a_chain_with_an_intermediate_authority(tmp_path: Path) -> None:
    child = Authority(tmp_path, trustme.CA().create_child_ca())
    files = child.issue("one", "mail.example.org")
    loaded = load(files, NOW)
    assert loaded.pem.count(b"BEGIN CERTIFICATE") == 2
    leaf, issuer = Path(files.chain).read_text().split("-----END CERTIFICATE-----\n")[:2]
    end = "-----END CERTIFICATE-----\n"
    Path(files.chain).write_text(issuer + end + leaf + end)
    assert "not the key of the certificate" in reason(files)
    other = Authority(tmp_path, trustme.CA().create_child_ca()).ca.cert_pem.bytes().decode()
    Path(files.chain).write_text(leaf + end + other)
    assert "chain out of order" in reason(files)
    Path(files.chain).write_text(leaf + end + (issuer + end) * 10)
    assert "at most 10" in reason(files)


def test_a_certificate_whose_key_the_library_does_not_know(ca: Authority) -> None:
    files = ca.issue("one", "mail.example.org")
    certificate = x509.load_pem_x509_certificate(Path(files.chain).read_bytes())
    known = bytes.fromhex("06082a8648ce3d030107")  # prime256v1
    der = certificate.public_bytes(Encoding.DER)
    assert der.count(known) == 1
    strange = base64.encodebytes(der.replace(known, known[:-1] + b"\x63")).decode()
    Path(files.chain).write_text(f"-----BEGIN CERTIFICATE-----\n{strange}-----END CERTIFICATE-----\n")
    assert reason(files).startswith(f"{files.chain}: a certificate that cannot be read (Curve ")


def test_an_issuer_of_the_same_name_with_another_key_is_found_out(tmp_path: Path) -> None:
    real, false = (trustme.CA(organization_name="o", organization_unit_name="u") for _ in range(2))
    files = Authority(tmp_path, real).issue("one", "mail.example.org")
    with open(files.chain, "ab") as file:
        file.write(false.cert_pem.bytes())
    assert "is not signed by" in reason(files)
    ok = Authority(tmp_path, real).issue("two", "mail.example.org")
    with open(ok.chain, "ab") as file:
        file.write(real.cert_pem.bytes())
    assert load(ok, NOW).names == ("mail.example.org",)


def test_validity(ca: Authority) -> None:
    files = ca.issue("one", "mail.example.org", not_after=NOW + timedelta(days=1))
    assert load(files, NOW).not_after == NOW + timedelta(days=1)
    assert "expired on 2026-01-02" in reason(files, NOW + timedelta(days=1))
    assert "not valid before" in reason(files, datetime(1990, 1, 1, tzinfo=UTC))
    old = ca.issue("two", "mail.example.org", not_after=PAST)
    assert "expired on 2020-01-01" in reason(old)


def test_configured_names_must_be_covered(ca: Authority) -> None:
    files = ca.issue("one", "mail.example.org", "*.example.net")
    bad = dataclasses.replace(files, names=("mail.example.org", "mail.example.com", "a.b.example.net"))
    assert "is not for mail.example.com, a.b.example.net; it is for mail.example.org" in reason(bad)
    literal = dataclasses.replace(files, names=("[192.0.2.1]",))
    assert "is an address" in reason(literal)
    nonsense = dataclasses.replace(files, names=("not a name",))
    assert "is no server name" in reason(nonsense)


def test_files_that_are_none(ca: Authority, tmp_path: Path) -> None:
    good = ca.issue("one", "mail.example.org")
    other = ca.issue("two", "mail.example.org")
    assert "not the key of the certificate" in reason(dataclasses.replace(good, key=other.key))
    assert "No such file" in reason(dataclasses.replace(good, chain=str(tmp_path / "missing")))
    assert "No such file" in reason(dataclasses.replace(good, key=str(tmp_path / "missing")))
    assert "no certificates in PEM form" in reason(dataclasses.replace(good, chain=good.key))
    assert "no private key in PEM form" in reason(dataclasses.replace(good, key=good.chain))
    big = tmp_path / "big"
    big.write_bytes(b"x" * (MAX_FILE + 1))
    assert "larger than" in reason(dataclasses.replace(good, chain=str(big)))
    assert "Is a directory" in reason(dataclasses.replace(good, key=str(tmp_path)))


def test_a_key_with_a_pass_phrase_is_refused_and_asks_nobody(ca: Authority) -> None:
    files = ca.issue("one", "mail.example.org")
    status = os.system(f"openssl pkey -in {files.key} -aes256 -passout pass:x -out {files.key}.enc")
    assert status == 0
    assert "has a pass phrase" in reason(dataclasses.replace(files, key=files.key + ".enc"))


def test_chain_and_key_may_be_one_file(ca: Authority) -> None:
    files = ca.issue("one", "mail.example.org")
    both = Path(files.chain)
    both.write_bytes(Path(files.key).read_bytes() + both.read_bytes())
    assert load(CertificateFiles("one", str(both), str(both)), NOW).names == ("mail.example.org",)


@pytest.mark.parametrize(
    ("covered", "name", "expected"),
    [
        ("mail.example.org", "mail.example.org", True),
        ("mail.example.org", "smtp.example.org", False),
        ("*.example.org", "mail.example.org", True),
        ("*.example.org", "a.mail.example.org", False),
        ("*.example.org", "example.org", False),
        ("*.example.org", "*.example.org", True),
        ("*.org", "*.example.org", False),
    ],
)
def test_coverage(covered: str, name: str, expected: bool) -> None:
    assert covers([covered], name) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail.Example.ORG.", "mail.example.org"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
    ],
)
def test_server_names_are_compared_in_a_labels(text: str, expected: str) -> None:
    assert server_name(text) == expected


def test_the_names_of_a_client_certificate(ca: Authority) -> None:
    from cryptography import x509

    client = ca.ca.issue_cert("alice@example.org", "client.example.org", common_name="Alice")
    der = x509.load_pem_x509_certificate(client.cert_chain_pems[0].bytes())
    from cryptography.hazmat.primitives.serialization import Encoding

    subject, names = subject_and_names(der.public_bytes(Encoding.DER))
    assert subject == "Alice"
    assert set(names) == {"alice@example.org", "client.example.org"}
    assert certificate_names(der) == ("client.example.org",)
