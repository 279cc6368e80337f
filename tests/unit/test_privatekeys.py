"""Private keys: read without delay, and refused when they are damaged."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mta import config
from mta.authn.dkimkeys import KeyFileError, parse_key
from mta.net.certcheck import load
from mta.net.certificates import CertificateError, CertificateFiles
from mta.privatekeys import DamagedKey, read_private_key


def numbers(key: RSAPrivateKey) -> list[int]:
    """As a file has them (RFC 8017 appendix A.1.2)."""
    own = key.private_numbers()
    public = own.public_numbers
    return [0, public.n, public.e, own.d, own.p, own.q, own.dmp1, own.dmq1, own.iqmp]


def pkcs1(numbers: list[int]) -> bytes:
    """A private RSA key in PEM, whatever its numbers are."""
    content = b"".join(der(2, number.to_bytes(number.bit_length() // 8 + 1)) for number in numbers)
    text = base64.encodebytes(der(0x30, content))
    return b"-----BEGIN RSA PRIVATE KEY-----\n" + text + b"-----END RSA PRIVATE KEY-----\n"


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag,)) + (octets if size < 128 else bytes((0x80 + len(octets),)) + octets) + content


def test_a_damaged_key_is_refused() -> None:
    whole = numbers(generate_private_key(65537, 1024))
    read_private_key(pkcs1(whole))
    for place in range(1, len(whole)):
        for change in (1, 2, 1 << 40):
            damaged = pkcs1([*whole[:place], whole[place] ^ change, *whole[place + 1 :]])
            with pytest.raises(ValueError):  # noqa: PT011 - some are no keys for OpenSSL either
                read_private_key(damaged)
            with pytest.raises(KeyFileError, match=r"key\.pem"):
                parse_key(damaged, "key.pem")


def test_what_is_said_of_a_damaged_key(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("mx.example.org", key_type=trustme.KeyType.RSA)
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    whole = numbers(key)
    damaged = pkcs1([*whole[:3], whole[3] ^ 4, *whole[4:]])
    with pytest.raises(DamagedKey):
        read_private_key(damaged)
    with pytest.raises(KeyFileError, match="damaged"):
        parse_key(damaged, "key.pem")
    (tmp_path / "x.pem").write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    (tmp_path / "x.key").write_bytes(damaged)
    (tmp_path / "x.key").chmod(0o600)
    with pytest.raises(CertificateError, match="damaged"):
        load(CertificateFiles("x", str(tmp_path / "x.pem"), str(tmp_path / "x.key")), datetime.now(UTC))
    path = tmp_path / "tamis.toml"
    path.write_text(
        'identity.hostname = "mx.example.org"\n[certificates.x]\nchain = "x.pem"\nkey = "x.key"\n'
    )
    found = [str(one) for one in config.examine(str(path)).errors]
    assert any("damaged: its numbers do not belong together" in one for one in found), found


def test_a_key_is_read_without_delay() -> None:
    """Sessions wait meanwhile: OpenSSL's proof that its factors are prime took 0.2 s."""
    key = generate_private_key(65537, 3072)
    octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    began = time.thread_time()
    for _ in range(10):
        read_private_key(octets)
    assert time.thread_time() - began < 0.3
