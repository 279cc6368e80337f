"""Hash schemes against published vectors; what is refused and why; threads and memory of verifications."""

from __future__ import annotations

import asyncio
import threading

import argon2
import pytest

from mta.accounts import libcrypt, passwords
from mta.accounts.passwords import DECOY, HashingError, hash_password, parse, scram_password, verify
from mta.accounts.verifier import MAX_REMEMBERED, BusyError, PasswordVerifier

# (password, stored): SHA-crypt with the salts of its specification, computed by OpenSSL,
# bcrypt from the tests of crypt_blowfish, the others
# computed by `doveadm pw`.
VECTORS = [
    (
        "Hello world!",
        "{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJu"
        "esI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    ("Hello world!", "{SHA256-CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    ("Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
    ("U*U", "{BLF-CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ("U*U", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ("secret", "{CRYPT}$y$j9T$abcdefgh$IUWJt2doU4Kf6E/JP1UkAT3S5O3Q7SSA8SJirXIlEu9"),
    ("secret", "{PBKDF2}$1$DUmzomlLqGv3HZqh$5000$93887bf53a981490b9a5a9bb7c52c215acfdc9c9"),
    ("secret", "{SSHA}MeK9FmCZljxSm1/uNz6yLmvGGhStqy+D"),
    ("secret", "{SSHA256}Q47l4hUatSb5TPSPbQy3To1yk0Qllsu11PJ2wsVqBim6Lybl"),
    (
        "secret",
        "{SSHA512}240JzIfqmOHqAP8sczwDIZBv4QqHxCDurCNqFoUAX67pX2w5jcBHYQXM3ydxNcd42eR2qXCVXukflrpk8PwOwRMBB3Y=",
    ),
    ("secret", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
    ("secret", "{sha1.hex}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4"),
    ("secret", "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols="),
    ("secret", "{SHA256.b64}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols="),
    ("secret", "{SHA256.HEX}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"),
    ("secret", "{SHA256}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"),
    (
        "secret",
        "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
    ),
    (
        "secret",
        "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$v/+1bqtYkUeqRg/fimeqGA$YzxeIuVOGsmFnAlBgTPrbwbW8uTUpufaz6snbFb8tmE",
    ),
    (
        "secret",
        "$argon2id$v=19$m=65536,t=3,p=1$eWIyHVS5sjTjSqk9Fq0aGQ$Lv3wImWK2swVt/8MLVcvuBmjKIFMpiLSGQDF2FG7Txs",
    ),
    (
        "pencil",
        "{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=",
    ),
    (
        "pencil",
        "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    ),
    ("secret", "{PLAIN}secret"),
    ("se cret", "{CLEARTEXT}se cret"),
    ("secret", "{plain.b64}c2VjcmV0"),
]


@pytest.mark.parametrize(("password", "stored"), VECTORS)
def test_schemes(password: str, stored: str) -> None:
    parsed = parse(stored)
    assert verify(parsed, password)
    assert not verify(parsed, password + "x")
    assert not verify(parsed, password.swapcase())
    assert not verify(parsed, "")
    assert parsed.text not in repr(parsed)
    assert parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ("", "without {SCHEME}"),
        ("secret", "without {SCHEME}"),
        ("{PLAIN", "without }"),
        ("{PLAIN}", "empty password"),
        ("{PLAN}secret", "unknown password scheme {PLAN}; known are ARGON2ID"),
        ("{PLAIN.rot13}secret", "unknown password scheme"),
        ("{PLAIN.b64}secret!", "not base64"),
        ("{PLAIN.hex}xy", "not hexadecimal"),
        ("{MD5-CRYPT}$1$MHOo8iNL$YsZbw36IQ0b.4f2t87wLz/", "MD5-CRYPT is too weak"),
        ("{CRAM-MD5}cd3b", "too weak"),
        ("$1$MHOo8iNL$YsZbw36IQ0b.4f2t87wLz/", "not a hash of bcrypt"),
        ("{CRYPT}mvRCcD3ajNmf2", "begins with"),
        ("{BLF-CRYPT}$6$x$y", "begins with $2"),
        ("{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "20 octets and a salt"),
        ("{SHA256}abcd", "32 octets"),
        ("{SHA256.hex}abcd", "32 octets"),
        ("{SHA256}!!!!", "not base64"),
        ("{PBKDF2}$1$salt$5000", "PBKDF2 hash is"),
        ("{PBKDF2}$1$salt$99999999$93887bf53a981490b9a5a9bb7c52c215acfdc9c9", "rounds"),
        ("{PBKDF2}$2$salt$5000$93887bf53a981490b9a5a9bb7c52c215acfdc9c9", "PBKDF2 hash is"),
        (
            "{ARGON2ID}$argon2i$v=19$m=32768,t=4,p=1$v/+1bqtYkUeqRg/fimeqGA$YzxeIuVOGsmFnAlBgTPrbw",
            "not a hash",
        ),
        (
            "{ARGON2ID}$argon2id$v=19$m=99999999,t=4,p=1$v/+1bqtYkUeqRg/fimeqGA$YzxeIuVOGsmFnAlBgTPrbw",
            "KiB of memory",
        ),
        ("{ARGON2ID}nonsense", "not a hash of ARGON2ID"),
        ("{ARGON2ID.b64}nonsense", "no .b64 form"),
        ("{SCRAM-SHA-1}4096,a,b", "SCRAM keys are"),
    ],
)
def test_what_is_refused_says_why(stored: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("$", r"\$").replace("{", r"\{")) as raised:
        parse(stored)
    assert "mvRCcD3ajNmf2" not in str(raised.value)


def test_a_new_hash() -> None:
    stored = hash_password("correct horse")
    assert str(stored).startswith("{ARGON2ID}$argon2id$")
    assert verify(stored, "correct horse")
    assert stored.cost == DECOY.cost  # unknown users cost what new users cost
    assert stored.text != hash_password("correct horse").text


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_new_scram_keys(mechanism: str) -> None:
    stored = scram_password(mechanism, "correct horse")
    assert verify(stored, "correct horse")
    assert not verify(stored, "correct house")
    assert not verify(stored, "\x07")


def test_both_forms_of_a_password_are_right() -> None:
    typed, prepared = "pa\u0308sswo\u00adrd", "p\u00e4ssword"
    assert verify(parse("{PLAIN}" + typed), typed)
    assert verify(parse("{PLAIN}" + prepared), typed)
    assert not verify(parse("{PLAIN}" + typed), prepared)
    assert verify(hash_password(typed), prepared)
    assert verify(hash_password("bell\x07"), "bell\x07")  # SASLprep forbids it, PLAIN need not


def test_equal_costs_are_equal_words() -> None:
    assert parse("$6$aaaa$x").cost == parse("{SHA512-CRYPT}$6$bbbb$y").cost
    assert parse("$6$rounds=9000$aaaa$x").cost != parse("$6$aaaa$x").cost
    assert parse("$2y$05$" + "C" * 53).cost != parse("$2y$06$" + "C" * 53).cost
    assert DECOY.is_slow
    assert not parse("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=").is_slow


def test_crypt_limits() -> None:
    assert libcrypt.crypt("a\0b", "$5$rounds=1000$salt$") is None
    assert libcrypt.crypt("x" * (libcrypt.MAX_PASSWORD + 1), "$5$rounds=1000$salt$") is None
    assert libcrypt.crypt("x" * libcrypt.MAX_PASSWORD, "$5$rounds=1000$salt$") is not None
    assert libcrypt.crypt("x", "$99$salt$") is None
    assert not libcrypt.verify("x", "$5$rounds=1000$salt$")


def test_a_system_without_crypt_refuses_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcrypt, "_knows", lambda prefix: False)
    with pytest.raises(libcrypt.CryptUnavailableError, match=r"does not know \$6\$"):
        parse("$6$salt$hash")


def test_a_hash_that_cannot_be_computed_is_not_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise argon2.exceptions.VerificationError("Memory allocation error")

    monkeypatch.setattr(argon2.low_level, "verify_secret", fail)
    with pytest.raises(HashingError, match="Memory"):
        verify(DECOY, "secret")


# --------------------------------------------------------------------------------------------- verifier


def test_verifications_run_beside_the_loop() -> None:
    async def run() -> None:
        verifier = PasswordVerifier()
        try:
            stored = hash_password("secret")
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0.001)

            counting = asyncio.create_task(count())
            right, wrong = verifier.verify(stored, "secret"), verifier.verify(stored, "wrong")
            assert list(await asyncio.gather(right, wrong)) == [True, False]
            counting.cancel()
            assert turns > 5
        finally:
            verifier.close()

    asyncio.run(run())


def test_too_many_at_once_are_told_to_come_back() -> None:
    async def run() -> None:
        verifier = PasswordVerifier(threads=1, max_waiting=1)
        gate = threading.Event()
        try:
            first = asyncio.create_task(verifier.run(gate.wait))
            second = asyncio.create_task(verifier.run(gate.wait))
            await asyncio.sleep(0)
            with pytest.raises(BusyError):
                await verifier.run(gate.wait)
            second.cancel()  # its client has gone away before a thread took it
            await asyncio.sleep(0)
            gate.set()
            assert await first
            assert await verifier.run(gate.wait)
        finally:
            gate.set()
            verifier.close()

    asyncio.run(run())


def test_right_passwords_are_remembered_for_a_while() -> None:
    now = 0.0
    verifier = PasswordVerifier(remember_seconds=10, clock=lambda: now)
    stored, other = parse("{PLAIN}secret"), parse("{PLAIN}Secret")
    assert not verifier.remembers(stored, "secret")
    verifier.remember(stored, "secret")
    assert verifier.remembers(stored, "secret")
    assert not verifier.remembers(stored, "secret2")
    assert not verifier.remembers(other, "secret")  # the password was changed
    now = 10.0
    assert not verifier.remembers(stored, "secret")
    for number in range(MAX_REMEMBERED + 1):
        verifier.remember(stored, str(number))
    assert not verifier.remembers(stored, "0")
    assert verifier.remembers(stored, str(MAX_REMEMBERED))
    verifier.close()
    assert not verifier.remembers(stored, str(MAX_REMEMBERED))


def test_memory_can_be_switched_off() -> None:
    verifier = PasswordVerifier(remember_seconds=0)
    verifier.remember(DECOY, "secret")
    assert not verifier.remembers(DECOY, "secret")
    verifier.close()


def test_every_scheme_is_tried_here() -> None:
    assert {parse(stored).scheme for _, stored in VECTORS} >= set(passwords.SCHEMES) - {"CLEAR"}
