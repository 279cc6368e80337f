"""DANE against `openssl s_client -dane_*`, and what the oracle cannot tell."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.rdata
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from dns.rdata import GenericRdata
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st

from mta.delivery.security.dane import MAX_PATHS, check_chain
from mta.delivery.security.der import DerError, public_key_info
from mta.delivery.security.requirement import Tlsa
from mta.delivery.security.tlsa import is_usable, matches, read_tlsa, usable
from mta.net.tlsfailure import FailureType, PeerRefused

NAME = "mx.good.test"
PAST = datetime(2021, 1, 1, tzinfo=UTC)


def der(pem: trustme.Blob) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.bytes().decode())


@dataclass
class Pki:
    root: trustme.CA
    middle: trustme.CA
    other: trustme.CA

    def leaf(self, *names: str, expired: bool = False, by: trustme.CA | None = None) -> trustme.LeafCert:
        issuer = by or self.middle
        return issuer.issue_cert(*names, not_after=PAST if expired else None)

    def chain(self, leaf: trustme.LeafCert, *more: trustme.CA) -> list[bytes]:
        return [der(leaf.cert_chain_pems[0]), *(der(ca.cert_pem) for ca in more)]


@pytest.fixture(scope="module")
def pki() -> Pki:
    root = trustme.CA()
    return Pki(root, root.create_child_ca(), trustme.CA())


def record(usage: int, selector: int, matching: int, certificate: bytes) -> Tlsa:
    data = certificate if selector == 0 else public_key_info(certificate)
    if matching:
        data = (hashlib.sha256 if matching == 1 else hashlib.sha512)(data).digest()
    return Tlsa(usage, selector, matching, data)


def verdict(chain: list[bytes], records: list[Tlsa], *names: str) -> FailureType | None:
    try:
        check_chain(chain, usable(records), names)
    except PeerRefused as refused:
        return refused.failure
    return None


def oracle(folder: Path, leaf: trustme.LeafCert, chain: list[bytes], records: list[Tlsa], name: str) -> bool:
    """What OpenSSL thinks of a server that sends the chain."""
    pem = folder / "chain.pem"
    pem.write_bytes(leaf.private_key_pem.bytes() + "".join(map(ssl.DER_cert_to_PEM_cert, chain)).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                try:
                    with context.wrap_socket(peer, server_side=True) as encrypted:
                        encrypted.recv(1)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-dane_tlsa_domain", name]
        command += ["-dane_ee_no_namechecks", "-verify_return_error", "-brief"]
        for one in records:
            command += ["-dane_tlsa_rrdata", str(one)]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        thread.join(30)
    return "Verification: OK" in run.stdout + run.stderr


CASES: dict[str, tuple[str, bool]] = {
    "3 1 1": ("leaf", True),
    "3 0 1": ("leaf", True),
    "3 1 2": ("leaf", True),
    "3 0 2": ("leaf", True),
    "3 0 0": ("leaf", True),
    "3 1 0": ("leaf", True),
    "3 1 1 of another": ("stranger", False),
    "3 1 1 of the issuer": ("middle", False),
    "2 1 1": ("middle", True),
    "2 0 1": ("middle", True),
    "2 0 2": ("middle", True),
    "2 0 0": ("middle", True),
    "2 1 0": ("middle", True),
    "2 1 1 of the root that is sent": ("root", True),
    "2 0 1 of another": ("stranger", False),
    "2 0 1 of the leaf": ("leaf", False),
    "2 1 1 of the leaf": ("leaf", False),
}
"""Records: usage, selector, matching type and of what; and whether a good chain satisfies them."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fault", ["none", "wrong name", "expired"])
def test_like_openssl(pki: Pki, tmp_path: Path, case: str, fault: str) -> None:
    what, good = CASES[case]
    usage, selector, matching = map(int, case.split()[:3])
    leaf = pki.leaf(NAME, expired=fault == "expired")
    chain = pki.chain(leaf, pki.middle, pki.root)
    of = {
        "leaf": chain[0],
        "middle": chain[1],
        "root": chain[2],
        "stranger": der(pki.leaf(NAME).cert_chain_pems[0]),
    }
    records = [record(usage, selector, matching, of[what])]
    name = "other.good.test" if fault == "wrong name" else NAME
    expected = good and (usage == 3 or fault == "none")
    failure = verdict(chain, records, name)
    assert (failure is None) is expected
    if good and not expected:
        types = {
            "wrong name": FailureType.CERTIFICATE_HOST_MISMATCH,
            "expired": FailureType.CERTIFICATE_EXPIRED,
        }
        assert failure is types[fault]
    assert shutil.which("openssl"), "openssl is the oracle"
    assert oracle(tmp_path, leaf, chain, records, name) is expected


@pytest.mark.parametrize(
    ("matching", "selector", "sent", "expected"),
    [
        (0, 0, False, True),
        (0, 1, False, True),
        (1, 0, False, False),
        (1, 1, False, False),
        (1, 0, True, True),
    ],
    ids=str,
)
def test_authority_that_is_not_sent(
    pki: Pki, tmp_path: Path, matching: int, selector: int, sent: bool, expected: bool
) -> None:
    # 2 0 0 and 2 1 0 hold the authority whole; a digest needs it in the chain (RFC 7672 section 3.1.2).
    leaf = pki.leaf(NAME)
    chain = pki.chain(leaf, pki.middle, *([pki.root] if sent else []))
    records = [record(2, selector, matching, der(pki.root.cert_pem))]
    assert (verdict(chain, records, NAME) is None) is expected
    assert oracle(tmp_path, leaf, chain, records, NAME) is expected


def test_leaf_that_a_bare_key_signed(pki: Pki, tmp_path: Path) -> None:
    leaf = pki.other.issue_cert(NAME)
    chain = pki.chain(leaf)
    records = [record(2, 1, 0, der(pki.other.cert_pem))]
    assert verdict(chain, records, NAME) is None
    assert oracle(tmp_path, leaf, chain, records, NAME)
    wrong = [record(2, 1, 0, der(pki.root.cert_pem))]
    assert verdict(chain, wrong, NAME) is not None
    assert not oracle(tmp_path, leaf, chain, wrong, NAME)


def test_chain_with_a_gap(pki: Pki, tmp_path: Path) -> None:
    leaf = pki.leaf(NAME)
    chain = pki.chain(leaf, pki.root)
    records = [record(2, 0, 1, der(pki.root.cert_pem))]
    assert verdict(chain, records, NAME) is FailureType.CERTIFICATE_NOT_TRUSTED
    assert not oracle(tmp_path, leaf, chain, records, NAME)


def test_stranger_between(pki: Pki) -> None:
    # The authority is sent along, but has signed nothing here.
    leaf = pki.other.issue_cert(NAME)
    chain = pki.chain(leaf, pki.root)
    assert verdict(chain, [record(2, 0, 1, chain[1])], NAME) is FailureType.CERTIFICATE_NOT_TRUSTED


def test_one_record_of_several_is_enough(pki: Pki) -> None:
    # Roll-over: old and new key are published at once.
    leaf, following = pki.leaf(NAME), pki.leaf(NAME)
    chain = pki.chain(leaf, pki.middle)
    records = [record(3, 1, 1, pki.chain(following)[0]), record(3, 1, 1, chain[0])]
    assert verdict(chain, records, NAME) is None
    assert verdict(chain, [records[0], record(2, 1, 1, chain[1])], NAME) is None
    assert verdict(chain, records[:1], NAME) is FailureType.VALIDATION_FAILURE


def test_any_reference_name_does(pki: Pki) -> None:
    leaf = pki.leaf("good.test", "*.hosting.test")
    chain = pki.chain(leaf, pki.middle)
    records = [record(2, 1, 1, chain[1])]
    assert verdict(chain, records, "mx.elsewhere.test", "good.test") is None
    assert verdict(chain, records, "a.hosting.test") is None
    for name in ("a.b.hosting.test", "hosting.test", "xgood.test"):
        assert verdict(chain, records, name) is FailureType.CERTIFICATE_HOST_MISMATCH, name


def test_common_name_is_no_name(pki: Pki) -> None:
    leaf = pki.middle.issue_cert("other.test", common_name=NAME)
    chain = pki.chain(leaf, pki.middle)
    assert verdict(chain, [record(2, 1, 1, chain[1])], NAME) is FailureType.CERTIFICATE_HOST_MISMATCH


SHA256, SHA512 = b"\1" * 32, b"\2" * 64


@pytest.mark.parametrize(
    ("rdata", "fit"),
    [
        (Tlsa(3, 1, 1, SHA256), True),
        (Tlsa(3, 1, 2, SHA512), True),
        (Tlsa(2, 0, 1, SHA256), True),
        (Tlsa(0, 1, 1, SHA256), False),
        (Tlsa(1, 1, 1, SHA256), False),
        (Tlsa(4, 1, 1, SHA256), False),
        (Tlsa(255, 1, 1, SHA256), False),
        (Tlsa(3, 2, 1, SHA256), False),
        (Tlsa(3, 1, 3, SHA256), False),
        (Tlsa(3, 1, 1, SHA512), False),
        (Tlsa(3, 1, 2, SHA256), False),
        (Tlsa(3, 1, 1, b""), False),
        (Tlsa(3, 0, 0, b"no certificate"), False),
        (Tlsa(2, 1, 0, b"\x30\x80"), False),
    ],
    ids=lambda value: str(value)[:12],
)
def test_usable(rdata: Tlsa, fit: bool) -> None:
    assert is_usable(rdata) is fit
    assert usable([rdata]) == ((rdata,) if fit else ())


def test_digest_agility() -> None:
    weak, strong = Tlsa(3, 1, 1, SHA256), Tlsa(3, 1, 2, SHA512)
    assert usable([weak, strong]) == (strong,)
    # For each usage and selector by itself.
    assert usable([weak, Tlsa(3, 0, 2, SHA512)]) == (weak, Tlsa(3, 0, 2, SHA512))
    assert usable([weak, Tlsa(2, 1, 2, SHA512)]) == (weak, Tlsa(2, 1, 2, SHA512))
    # A broken strong one takes nothing away.
    assert usable([weak, Tlsa(3, 1, 2, b"short")]) == (weak,)


def test_digest_agility_keeps_full_data(pki: Pki) -> None:
    chain = pki.chain(pki.leaf(NAME))
    full = record(3, 0, 0, chain[0])
    assert usable([full, Tlsa(3, 0, 2, SHA512)]) == (full, Tlsa(3, 0, 2, SHA512))
    assert verdict(chain, [full, Tlsa(3, 0, 2, SHA512)], NAME) is None


def test_weak_digest_that_matches_does_not_count(pki: Pki) -> None:
    chain = pki.chain(pki.leaf(NAME))
    assert verdict(chain, [record(3, 1, 1, chain[0]), Tlsa(3, 1, 2, SHA512)], NAME) is not None


def test_public_key_is_that_of_the_library(pki: Pki) -> None:
    for certificate in pki.chain(pki.leaf(NAME), pki.middle, pki.root):
        key = x509.load_der_x509_certificate(certificate).public_key()
        expected = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert public_key_info(certificate) == expected


def test_records_of_an_answer() -> None:
    texts = ("3 1 1 " + "ab" * 32, "2 0 1 " + "cd" * 32, "3 1 1 " + "ab" * 32)
    answer = [dns.rdata.from_text("IN", "TLSA", text) for text in texts]
    assert [str(one) for one in read_tlsa(answer)] == [texts[0], texts[1]]
    raw = [
        GenericRdata(RdataClass.IN, RdataType.TLSA, bytes.fromhex(octets)) for octets in ("030101ab", "03")
    ]
    assert read_tlsa(raw) == [Tlsa(3, 1, 1, b"\xab")]


def test_issuer_that_cannot_be_read_is_no_match() -> None:
    spoilt = GOOD.replace(b"Testing CA", b"\xff\xfesting CA")
    assert spoilt != GOOD
    bare = record(2, 1, 0, AUTHORITY)
    assert verdict([GOOD], [bare], NAME) is None
    assert verdict([spoilt], [bare], NAME) is FailureType.VALIDATION_FAILURE


def test_validity_is_of_today(pki: Pki) -> None:
    chain = pki.chain(pki.leaf(NAME), pki.middle)
    records = [record(2, 1, 1, chain[1])]
    later = datetime.now(UTC) + timedelta(days=365 * 2000)
    with pytest.raises(PeerRefused):
        check_chain(chain, records, [NAME], later)


@given(st.binary(max_size=200), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_anything_is_read(octets: bytes, usage: int, selector: int, matching: int) -> None:
    one = Tlsa(usage, selector, matching, octets)
    is_usable(one)
    assert not matches(Tlsa(3, 1, 1, SHA256), octets)
    try:
        public_key_info(octets)
    except DerError:
        pass
    else:
        assert octets[0] == 0x30
    with pytest.raises(PeerRefused):
        check_chain([octets], usable([Tlsa(2, 1, 1, SHA256)]), [NAME])


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.data())
def test_broken_certificates(data: st.DataObject) -> None:
    good = GOOD
    position = data.draw(st.integers(0, len(good) - 1))
    broken = good[:position] + bytes([data.draw(st.integers(0, 255))]) + good[position + 1 :]
    try:
        check_chain([broken, AUTHORITY], [record(2, 0, 1, AUTHORITY)], [NAME])
    except PeerRefused:
        return
    assert broken == good


_CA = trustme.CA()
GOOD = der(_CA.issue_cert(NAME).cert_chain_pems[0])
AUTHORITY = der(_CA.cert_pem)


def public_key(curve: ec.EllipticCurve) -> bytes:
    key = ec.generate_private_key(curve).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_authorities_without_number_do_not_stop_the_event_loop(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever signs a zone chooses how many keys are in it, and what chain its server sends."""
    searches = 0
    builder = verification.PolicyBuilder

    def counted() -> verification.PolicyBuilder:
        nonlocal searches
        searches += 1
        return builder()

    monkeypatch.setattr(verification, "PolicyBuilder", counted)
    chain = pki.chain(pki.leaf(NAME), pki.middle)
    wrong = [Tlsa(2, 1, 0, public_key(ec.SECP256R1())) for _ in range(64)]
    with pytest.raises(PeerRefused, match="too many authorities"):
        check_chain(chain, wrong, [NAME, "good.test"])
    assert searches == MAX_PATHS
    right = Tlsa(2, 1, 0, public_key_info(der(pki.root.cert_pem)))
    assert check_chain(chain, [*wrong[:3], right], [NAME, "good.test"]) == str(right)


def test_authorities_that_have_signed_nothing_of_a_chain_cost_nothing(pki: Pki) -> None:
    chain = pki.chain(pki.leaf(NAME), pki.middle)
    others = [Tlsa(2, 0, 0, der(trustme.CA(organization_name=f"o{n}").cert_pem)) for n in range(12)]
    right = Tlsa(2, 0, 0, der(pki.root.cert_pem))
    assert check_chain(chain, [*others, right], [NAME]) == str(right)
