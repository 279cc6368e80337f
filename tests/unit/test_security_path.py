"""DANE-TA(2) with keys on Edwards curves and names with "_": as OpenSSL does, and what must be refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from mta.delivery.security import path
from mta.net.tlsfailure import FailureType
from tests.unit.test_security_dane import NAME, oracle, record, verdict

NOW = datetime.now(UTC)
ED = ed25519.Ed25519PrivateKey.generate


def EC() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


KINDS: dict[str, Callable[[], Any]] = {"ed25519": ED, "ed448": ed448.Ed448PrivateKey.generate, "p256": EC}


class Made:
    """A certificate and its key."""

    def __init__(
        self,
        subject: str,
        by: Made | None,
        key: Any,
        *,
        ca: bool = True,
        length: int | None = None,
        names: tuple[str, ...] = (),
        days: int = 9,
        digest: Any = None,
        more: tuple[x509.ExtensionType, ...] = (),
        critical: bool = False,
    ) -> None:
        self.subject, self.key = subject, key
        signer = self if by is None else by
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(signer.subject))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=20))
            .not_valid_after(NOW + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, length if ca else None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False
            )
        for one in more:
            builder = builder.add_extension(one, critical=critical)
        edwards = isinstance(signer.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        self.certificate = builder.sign(signer.key, None if edwards else digest or hashes.SHA256())

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["2 0 1", "2 1 1", "2 0 0", "2 1 0"])
@pytest.mark.parametrize("fault", ["none", "wrong name", "expired", "stranger"])
def test_like_openssl(tmp_path: Path, kind: str, case: str, fault: str) -> None:
    usage, selector, matching = map(int, case.split())
    root = Made("root", None, KINDS[kind]())
    middle = Made("middle", root, EC())
    leaf = Made("leaf", middle, KINDS[kind](), ca=False, names=(NAME,), days=-1 if fault == "expired" else 9)
    chain = [leaf.der, middle.der, root.der]
    anchor = Made("root", None, KINDS[kind]()) if fault == "stranger" else root
    records = [record(usage, selector, matching, anchor.der)]
    name = "other.good.test" if fault == "wrong name" else NAME
    pem = leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key: Any = SimpleNamespace(private_key_pem=SimpleNamespace(bytes=lambda: pem))
    ours = verdict(chain, records, name)
    assert (ours is None) == (fault == "none"), ours
    if kind != "ed448":  # the oracle's client offers no signatures of that kind by itself
        assert oracle(tmp_path, key, chain, records, name) == (ours is None)


def test_names_with_an_underscore() -> None:
    root = Made("root", None, EC())
    name = "mx_1.good.test"
    leaf = Made("leaf", root, EC(), ca=False, names=(name,))
    records = [record(2, 0, 1, root.der)]
    assert verdict([leaf.der, root.der], records, name) is None
    assert verdict([leaf.der, root.der], records, "mx_2.good.test") is FailureType.CERTIFICATE_HOST_MISMATCH
    wild = Made("leaf", root, EC(), ca=False, names=("*.good.test",))
    assert verdict([wild.der, root.der], records, name) is None


def usage(sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(True, False, False, False, False, sign, False, False, False)


LIMITS = x509.NameConstraints([x509.DNSName("good.test")], None)
POLICY = x509.PolicyConstraints(0, None)


@pytest.mark.parametrize(
    ("middle", "good"),
    [
        ({}, True),
        ({"more": (usage(True),)}, True),
        ({"ca": False}, False),
        ({"more": (usage(False),)}, False),
        ({"more": (LIMITS,)}, False),
        ({"more": (POLICY,), "critical": True}, False),
        ({"days": -1}, False),
    ],
)
def test_what_an_authority_has_to_be(middle: dict[str, Any], good: bool) -> None:
    root = Made("root", None, ED())
    between = Made("middle", root, ED(), **middle)
    leaf = Made("leaf", between, ED(), ca=False, names=(NAME,))
    found = verdict([leaf.der, between.der, root.der], [record(2, 0, 1, root.der)], NAME)
    assert (found is None) is good


@pytest.mark.parametrize(("length", "good"), [(0, False), (1, True), (None, True)])
def test_length_of_the_path(length: int | None, good: bool) -> None:
    root = Made("root", None, ED(), length=length)
    middle = Made("middle", root, ED())
    leaf = Made("leaf", middle, ED(), ca=False, names=(NAME,))
    found = verdict([leaf.der, middle.der, root.der], [record(2, 0, 1, root.der)], NAME)
    assert (found is None) is good


def test_weak_keys_and_digests_stay_refused() -> None:
    root = Made("root", None, rsa.generate_private_key(65537, 2048))
    records = [record(2, 0, 1, root.der)]
    name = "mx_1.good.test"
    weak = Made("leaf", root, rsa.generate_private_key(65537, 1024), ca=False, names=(name,))
    assert verdict([weak.der, root.der], records, name) is FailureType.CERTIFICATE_NOT_TRUSTED
    forged = Made("leaf", Made("root", None, ED()), ED(), ca=False, names=(name,))
    assert verdict([forged.der, root.der], records, name) is FailureType.CERTIFICATE_NOT_TRUSTED


def test_a_labyrinth_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Authorities of one name and key that have all signed each other."""
    key = ED()
    anchor, first = Made("root", None, ED()), Made("A", None, key)
    maze = [Made("A", first, key) for _ in range(10)]
    leaf = Made("leaf", first, ED(), ca=False, names=(NAME,))
    asked: list[int] = []
    real = path._has_signed

    def counted(issuer: x509.Certificate, child: x509.Certificate) -> bool:
        asked.append(1)
        return real(issuer, child)

    monkeypatch.setattr(path, "_has_signed", counted)
    chain = [leaf.der, *(one.der for one in maze), anchor.der]
    assert verdict(chain, [record(2, 0, 1, anchor.der)], NAME) is FailureType.CERTIFICATE_NOT_TRUSTED
    assert 0 < len(asked) <= path.MAX_CHECKS
