"""Signing: we and dkimpy verify each other's signatures; keys, names and fields that are refused."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from pathlib import Path

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mta.authn.dkimkeys import (
    KeyFileError,
    PrivateKey,
    SigningKey,
    check_selector,
    load_key,
    make_key,
    parse_key,
    public_octets,
    read_key,
    write_key,
)
from mta.authn.dkimsign import COLUMNS, OVERSIGNED, SigningError, sign, sign_message
from mta.authn.results import Result
from mta.folders import opened_folder
from sieve_ext.message import Message
from tests.unit.dkim_kit import BODY, ED25519, HEAD, MESSAGE, NOW, RSA, dns_with, record, results


def signed(message: bytes, *keys: SigningKey) -> bytes:
    return sign(Message(message), keys or (RSA,), now=NOW) + message


def names(fields: bytes) -> list[bytes]:
    return b"".join(fields.split()).partition(b";h=")[2].partition(b";")[0].split(b":")


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        HEAD + b"\r\n",
        HEAD + b"\r\nno line end",
        b"From: a@example.org\r\n\r\n",
        b"From: a@example.org\r\nFrom: b@example.org\r\n\r\nx\r\n",
        b"from : a@example.org\r\nList-Id: x\r\nSender: s@example.org\r\n\r\nx\r\n",
        "From: Jos\u00e9 <jos\u00e9@example.org>\r\nSubject: \u20ac\r\n\r\n\u00fc\r\n".encode(),
    ],
)
def test_we_verify_what_we_sign(message: bytes) -> None:
    found = results(signed(message, RSA, ED25519), dns_with(RSA, ED25519))
    assert [(one.result, one.reason) for one in found] == [(Result.PASS, "")] * 2


@pytest.mark.parametrize("body", [BODY, b"", b"\r\n", b"a\tb  c \r\n\r\n"])
def test_dkimpy_verifies_what_we_sign(body: bytes) -> None:
    message = signed(HEAD + b"\r\n" + body)
    assert dkim.verify(message, dnsfunc=lambda name, timeout=5: record(RSA).encode())
    assert not dkim.verify(message + b"x\r\n", dnsfunc=lambda name, timeout=5: record(RSA).encode())


def test_we_verify_what_dkimpy_signs() -> None:
    pem = RSA.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    field = dkim.sign(MESSAGE, b"rsa", b"example.org", pem, include_headers=[b"from", b"to", b"subject"])
    assert results(field + MESSAGE, dns_with(RSA), now=4_000_000_000)[0].passed


@pytest.mark.parametrize("name", [name for name in OVERSIGNED if name != "from"])
def test_nobody_can_add_an_oversigned_field(name: str) -> None:
    message = signed(MESSAGE)
    (one,) = results(f"{name}: added\r\n".encode() + message, dns_with(RSA))
    assert one.result is Result.FAIL


@pytest.mark.parametrize("name", ["Received", "Return-Path", "List-Id", "X-Spam", "Authentication-Results"])
def test_others_may_add_theirs(name: str) -> None:
    assert results(f"{name}: added\r\n".encode() + signed(MESSAGE), dns_with(RSA))[0].passed


def test_the_form_of_the_field() -> None:
    fields = sign(Message(MESSAGE), [RSA, ED25519], now=NOW + 0.9, lifetime=60)
    assert fields.count(b"DKIM-Signature:") == 2
    assert fields.endswith(b"\r\n")
    lines = fields.split(b"\r\n")
    assert max(map(len, lines)) <= COLUMNS
    assert all(line.startswith((b"\t", b"DKIM-Signature: v=1; ")) for line in lines[:-1])
    assert f"t={NOW}; x={NOW + 60};".encode() in fields
    listed = names(fields)
    assert listed.count(b"from") == 2
    assert listed.count(b"cc") == 1
    assert b"received" not in listed
    assert b"sender" not in listed


def test_repeated_fields_are_all_signed() -> None:
    message = b"List-Id: a\r\nList-Id: b\r\nTo: x@example.net\r\n" + MESSAGE
    listed = names(sign(Message(message), [RSA], now=NOW))
    assert (listed.count(b"list-id"), listed.count(b"to")) == (2, 3)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"To: a@example.net\r\n\r\nx", "no From"),
        (b"", "no From"),
        (b" From: folded\r\n\r\nx", "no From"),
        (b"From: a@example.org\r\n" + b"To: b@example.net\r\n" * 300 + b"\r\n", "more than 200"),
    ],
)
def test_what_cannot_be_signed(message: bytes, text: str) -> None:
    with pytest.raises(SigningError, match=text):
        sign(Message(message), [RSA], now=NOW)


def test_a_cut_header_is_not_signed() -> None:
    head = b"From: a@example.org\r\nX: " + b"x" * 100
    with pytest.raises(SigningError, match="too long"):
        sign(Message(head, 5000, lambda: iter((head, b"\r\n\r\n"))), [RSA], now=NOW)


def test_a_large_message_is_signed_in_a_thread() -> None:
    message = HEAD + b"\r\n" + b"x" * 70 * 10_000
    fields = asyncio.run(sign_message(Message(message), [ED25519], now=NOW))
    assert fields == sign(Message(message), [ED25519], now=NOW)
    assert results(fields + message, dns_with(ED25519))[0].passed


def put_key(path: Path, key: PrivateKey) -> None:
    with opened_folder(path.parent) as folder:
        write_key(folder, path, key)


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_key_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key.pem"
    key = make_key(kind, 1024)
    old = os.umask(0)
    try:
        put_key(path, key)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_octets(read_key(path)) == public_octets(key)
    assert [each.name for each in tmp_path.iterdir()] == ["key.pem"]
    with pytest.raises(KeyFileError, match="exists"):
        put_key(path, key)
    assert public_octets(read_key(path)) == public_octets(key)


def test_a_key_is_read_again_only_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    put_key(path, make_key("ed25519"))
    first = load_key(path, "example.org", "a")
    assert load_key(path, "example.org", "b").key is first.key
    path.unlink()
    with pytest.raises(KeyFileError, match="No such file"):
        load_key(path, "example.org", "a")
    put_key(path, make_key("ed25519"))
    assert public_octets(load_key(path, "example.org", "a").key) != public_octets(first.key)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 0644"):
        load_key(path, "example.org", "a")


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o666, 0o601])
def test_keys_that_others_can_use_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    put_key(path, make_key("ed25519"))
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}"):
        read_key(path)
    path.chmod(0o640)  # for a server that has the group
    read_key(path)


def test_no_plain_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    with pytest.raises(KeyFileError, match="not a plain file"):
        read_key(fifo)
    with pytest.raises(KeyFileError, match="directory"):
        read_key(tmp_path)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
        (
            ED25519.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
            "pass phrase",
        ),
        (
            ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "neither an RSA nor an Ed25519 key",
        ),
        (base64.b64encode(b"x" * 64), "no private key"),
    ],
)
def test_what_is_no_key(octets: bytes, text: str) -> None:
    with pytest.raises(KeyFileError, match=text):
        parse_key(octets, "key.pem")


@pytest.mark.parametrize("selector", ["", "a b", "a..b", "-a", "x" * 64, "a;b", "\u00fc", "a/b"])
def test_no_selectors(selector: str) -> None:
    with pytest.raises(ValueError, match="cannot be a selector"):
        check_selector(selector)


def test_selectors() -> None:
    assert check_selector("20261127-RSA") == "20261127-rsa"
    assert check_selector("a.b") == "a.b"
    assert check_selector("2026") == "2026"
