"""SCRAM and SASLprep: the vectors of the RFCs, and each step bent out of shape."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.reply import Reply
from mta.smtp.auth import (
    CREDENTIALS_INVALID,
    MALFORMED_RESPONSE,
    OTHER_IDENTITY,
    TEMPORARY_FAILURE,
    AuthenticationProtocolError,
    Challenge,
    Credentials,
    Failure,
    Login,
    Result,
    Step,
)
from mta.smtp.authclient import ScramClient
from mta.smtp.saslprep import saslprep
from mta.smtp.scram import (
    MAX_NONCE,
    ScramKeys,
    ScramRecord,
    ScramServer,
    decode_name,
    encode_name,
)

# RFC 5802 section 5 and RFC 7677 section 3: hash, client nonce, server's part, salt, the four messages.
VECTORS = {
    "SCRAM-SHA-1": (
        "fyko+d2lbbFgONRv9qkxdawL",
        "3rfcNHYJY1ZVvWVs7j",
        "QSXCR+Q6sek8bf92",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SCRAM-SHA-256": (
        "rOprNGfwEbeRWgbNEkqO",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}
HASH = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
LOGIN = Login("user", "SCRAM")
SPENT = Failure(replace(MALFORMED_RESPONSE, cause="a response after the last one"))
BINDINGS = {"tls-exporter": b"exported", "tls-server-end-point": b"certificate"}


class Keeper:
    """One user, `user` with password `pencil`."""

    def __init__(self, result: Result = LOGIN, *, later: bool = False, answer: Failure | None = None) -> None:
        self.result = result
        self.later = later
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    def scram_record(
        self, user: str, mechanism: str
    ) -> ScramRecord | Failure | Awaitable[ScramRecord | Failure]:
        self.asked.append((user, mechanism))
        salt = b64decode(VECTORS[mechanism][2])
        keys = ScramKeys.derive(HASH[mechanism], "pencil", iterations=4096, salt=salt)
        record = self.answer or ScramRecord(keys, self.result)
        return self._wait(record) if self.later else record

    async def _wait(self, record: ScramRecord | Failure) -> ScramRecord | Failure:
        await asyncio.sleep(0)
        return record


def server(
    mechanism: str = "SCRAM-SHA-1",
    keeper: Keeper | None = None,
    bindings: Mapping[str, bytes] | None = None,
    plus_offered: bool = False,
) -> ScramServer:
    nonce = VECTORS[mechanism.removesuffix("-PLUS")][1]
    return ScramServer(
        mechanism, keeper or Keeper(), bindings or {}, plus_offered=plus_offered, make_nonce=lambda: nonce
    )


def now(step: Step | Awaitable[Step]) -> Step:
    if isinstance(step, (Challenge, Login, Failure)):
        return step

    async def wait() -> Step:
        return await step

    return asyncio.run(wait())


@pytest.mark.parametrize("mechanism", VECTORS)
@pytest.mark.parametrize("later", [False, True])
def test_server_reproduces_the_rfc(mechanism: str, later: bool) -> None:
    _, _, _, first, server_first, final, proof = VECTORS[mechanism]
    keeper = Keeper(later=later)
    exchange = server(mechanism, keeper)
    assert now(exchange.step(first)) == Challenge(server_first)
    assert now(exchange.step(final)) == Challenge(proof)
    assert now(exchange.step(b"")) == LOGIN
    assert keeper.asked == [("user", mechanism)]


@pytest.mark.parametrize("mechanism", VECTORS)
def test_client_reproduces_the_rfc(mechanism: str) -> None:
    nonce, _, _, first, server_first, final, proof = VECTORS[mechanism]
    client = ScramClient(mechanism, Credentials("user", "pencil"), "", b"", lambda: nonce)
    assert client.initial() == first
    assert client.respond(server_first) == final
    assert not client.complete
    assert client.respond(proof) == b""
    assert client.complete


@pytest.mark.parametrize("mechanism", VECTORS)
def test_a_wrong_password_is_refused(mechanism: str) -> None:
    client = ScramClient(mechanism, Credentials("user", "pencils"), "", b"")
    exchange = server(mechanism)
    challenge = now(exchange.step(client.initial()))
    assert isinstance(challenge, Challenge)
    wrong = Failure(replace(CREDENTIALS_INVALID, cause="wrong password"))
    assert now(exchange.step(client.respond(challenge.data))) == wrong
    assert now(exchange.step(b"")) == SPENT


def test_a_right_proof_of_a_user_that_may_not_log_in_gets_the_keepers_failure() -> None:
    disabled = Failure(replace(CREDENTIALS_INVALID, cause="disabled"))
    _, _, _, first, _, final, _ = VECTORS["SCRAM-SHA-1"]
    exchange = server(keeper=Keeper(disabled))
    now(exchange.step(first))
    assert now(exchange.step(final)) == disabled
    assert now(exchange.step(b"")) == SPENT


@pytest.mark.parametrize("later", [False, True])
def test_a_keeper_that_cannot_tell_ends_the_exchange(later: bool) -> None:
    exchange = server(keeper=Keeper(later=later, answer=Failure(TEMPORARY_FAILURE)))
    assert now(exchange.step(VECTORS["SCRAM-SHA-1"][3])) == Failure(TEMPORARY_FAILURE)


def test_no_initial_response_gets_an_empty_challenge() -> None:
    exchange = server()
    assert now(exchange.step(None)) == Challenge(b"")
    assert isinstance(now(exchange.step(VECTORS["SCRAM-SHA-1"][3])), Challenge)


NOT_ALLOWED = "U+0007 is not allowed in a user name or password"
NOT_OFFERED = "a channel binding that is not offered"


@pytest.mark.parametrize(
    ("mechanism", "first", "expected", "cause"),
    [
        ("SCRAM-SHA-1", b"", MALFORMED_RESPONSE, "client-first-message is too short"),
        ("SCRAM-SHA-1", b"n,,", MALFORMED_RESPONSE, "client-first-message is too short"),
        ("SCRAM-SHA-1", b"n,,n=user", MALFORMED_RESPONSE, "client-first-message is too short"),
        ("SCRAM-SHA-1", b"n,,r=abc,n=user", MALFORMED_RESPONSE, "expected attribute n"),
        ("SCRAM-SHA-1", b"n,,n=,r=abc", MALFORMED_RESPONSE, "not a saslname"),
        ("SCRAM-SHA-1", b"n,,n=us=er,r=abc", MALFORMED_RESPONSE, "not a saslname"),
        ("SCRAM-SHA-1", b"n,,n=us=2c,r=abc", MALFORMED_RESPONSE, "not a saslname"),
        ("SCRAM-SHA-1", b"n,,n=user,r=", MALFORMED_RESPONSE, "bad nonce"),
        ("SCRAM-SHA-1", b"n,,n=user,r=a b", MALFORMED_RESPONSE, "bad nonce"),
        ("SCRAM-SHA-1", b"n,,n=user,r=" + b"a" * (MAX_NONCE + 1), MALFORMED_RESPONSE, "bad nonce"),
        ("SCRAM-SHA-1", b"n,,n=user,r=\xc3\xa9", MALFORMED_RESPONSE, "bad nonce"),
        ("SCRAM-SHA-1", b"n,,n=user\xff,r=abc", MALFORMED_RESPONSE, "the response is not UTF-8"),
        ("SCRAM-SHA-1", b"n,,n=us\x07er,r=abc", MALFORMED_RESPONSE, NOT_ALLOWED),
        ("SCRAM-SHA-1", b"n,,m=ext,n=user,r=abc", MALFORMED_RESPONSE, "expected attribute n"),
        ("SCRAM-SHA-1", b"x,,n=user,r=abc", MALFORMED_RESPONSE, "bad gs2-cbind-flag"),
        ("SCRAM-SHA-1", b",,n=user,r=abc", MALFORMED_RESPONSE, "bad gs2-cbind-flag"),
        ("SCRAM-SHA-1", b"p=tls-exporter,,n=user,r=abc", MALFORMED_RESPONSE, "channel binding without -PLUS"),
        ("SCRAM-SHA-1", b"n,user,n=user,r=abc", MALFORMED_RESPONSE, "expected attribute a"),
        ("SCRAM-SHA-1", b"n,a=,n=user,r=abc", MALFORMED_RESPONSE, "not a saslname"),
        ("SCRAM-SHA-1", b"n,a=other,n=user,r=abc", CREDENTIALS_INVALID, OTHER_IDENTITY),
        # -PLUS was offered: a downgrade
        ("SCRAM-SHA-1", b"y,,n=user,r=abc", CREDENTIALS_INVALID, "the client saw no -PLUS in the offer"),
        ("SCRAM-SHA-1-PLUS", b"n,,n=user,r=abc", MALFORMED_RESPONSE, "-PLUS without channel binding"),
        ("SCRAM-SHA-1-PLUS", b"y,,n=user,r=abc", MALFORMED_RESPONSE, "-PLUS without channel binding"),
        # a type that we lack
        ("SCRAM-SHA-1-PLUS", b"p=tls-unique,,n=user,r=abc", CREDENTIALS_INVALID, NOT_OFFERED),
    ],
)
def test_bad_first_messages(mechanism: str, first: bytes, expected: Reply, cause: str) -> None:
    keeper = Keeper()
    exchange = server(mechanism, keeper, BINDINGS, plus_offered=True)
    assert now(exchange.step(first)) == Failure(replace(expected, cause=cause))
    assert keeper.asked == []


def test_the_authorisation_identity_may_repeat_the_user() -> None:
    keeper = Keeper()
    assert isinstance(now(server(keeper=keeper).step(b"n,a=USER,n=user,r=abc")), Challenge)


def test_y_is_fine_where_plus_was_not_offered() -> None:
    assert isinstance(now(server().step(b"y,,n=user,r=abc")), Challenge)


FINAL = VECTORS["SCRAM-SHA-1"][5]
OTHER_CHANNEL = "the channel binding does not match"


@pytest.mark.parametrize(
    ("final", "expected", "cause"),
    [
        (b"", MALFORMED_RESPONSE, "client-final-message is too short"),
        (FINAL.split(b",p=")[0], MALFORMED_RESPONSE, "client-final-message is too short"),
        (FINAL[:-1], MALFORMED_RESPONSE, "not base64"),  # cut short
        (FINAL.replace(b"p=v0X8", b"p=v0X8v0X8"), MALFORMED_RESPONSE, "the proof has a wrong length"),
        (FINAL.replace(b"c=biws,", b""), MALFORMED_RESPONSE, "client-final-message is too short"),
        (FINAL.replace(b"c=biws", b"c=bi!s"), MALFORMED_RESPONSE, "not base64"),
        (FINAL + b",x=1", MALFORMED_RESPONSE, "not base64"),  # the proof is the last
        (FINAL.replace(b"p=v0X8", b"p=v0X9"), CREDENTIALS_INVALID, "wrong password"),
        (FINAL.replace(b"c=biws", b"c=eSws"), CREDENTIALS_INVALID, OTHER_CHANNEL),  # another GS2 header: y,,
        (FINAL.replace(b"7j,p", b"7k,p"), CREDENTIALS_INVALID, "another nonce"),
        (b"\xff", MALFORMED_RESPONSE, "the response is not UTF-8"),
    ],
)
def test_bad_final_messages(final: bytes, expected: Reply, cause: str) -> None:
    exchange = server()
    now(exchange.step(VECTORS["SCRAM-SHA-1"][3]))
    assert now(exchange.step(final)) == Failure(replace(expected, cause=cause))


@pytest.mark.parametrize("proof", [FINAL, FINAL.replace(b"p=v0X8", b"p=v0X9")])
def test_the_keepers_reason_stands_whatever_the_proof_is(proof: bytes) -> None:
    """Keys of unknown users are invented, so no proof is right; the log still says that there is none."""
    unknown = Failure(replace(CREDENTIALS_INVALID, cause="unknown user"))
    exchange = server(keeper=Keeper(unknown))
    now(exchange.step(VECTORS["SCRAM-SHA-1"][3]))
    assert now(exchange.step(proof)) == unknown


def test_something_after_the_proof_of_the_server_is_malformed() -> None:
    exchange = server()
    now(exchange.step(VECTORS["SCRAM-SHA-1"][3]))
    now(exchange.step(FINAL))
    assert now(exchange.step(b"x")) == SPENT


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
@pytest.mark.parametrize("binding", BINDINGS)
def test_channel_binding_joins_both_ends(mechanism: str, binding: str) -> None:
    client = ScramClient(mechanism, Credentials("user", "pencil"), binding, BINDINGS[binding])
    exchange = server(mechanism, bindings=BINDINGS, plus_offered=True)
    challenge = now(exchange.step(client.initial()))
    assert isinstance(challenge, Challenge)
    proof = now(exchange.step(client.respond(challenge.data)))
    assert isinstance(proof, Challenge)
    assert client.respond(proof.data) == b""
    assert client.complete
    assert now(exchange.step(b"")) == replace(LOGIN, mechanism=mechanism)


def test_channel_binding_finds_the_man_in_the_middle() -> None:
    client = ScramClient("SCRAM-SHA-256-PLUS", Credentials("user", "pencil"), "tls-exporter", b"his channel")
    exchange = server("SCRAM-SHA-256-PLUS", bindings=BINDINGS, plus_offered=True)
    challenge = now(exchange.step(client.initial()))
    assert isinstance(challenge, Challenge)
    refused = Failure(replace(CREDENTIALS_INVALID, cause=OTHER_CHANNEL))
    assert now(exchange.step(client.respond(challenge.data))) == refused


SERVER_FIRST = VECTORS["SCRAM-SHA-1"][4]


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=fyko+d2lbbFgONRv9qkxdawL3r,s=QSXCR+Q6sek8bf92",
        SERVER_FIRST.replace(b"r=f", b"r=g"),  # not our nonce
        b"r=fyko+d2lbbFgONRv9qkxdawL,s=QSXCR+Q6sek8bf92,i=4096",  # nothing of its own
        SERVER_FIRST.replace(b"i=4096", b"i=4095"),
        SERVER_FIRST.replace(b"i=4096", b"i=0"),
        SERVER_FIRST.replace(b"i=4096", b"i=-4096"),
        SERVER_FIRST.replace(b"i=4096", b"i=99999999999"),
        SERVER_FIRST.replace(b"i=4096", b"i=4000000"),
        SERVER_FIRST.replace(b"QSX", b"Q X"),
        b"m=x," + SERVER_FIRST,
        b"e=other-error",
        b"\xff",
    ],
)
def test_client_refuses_bad_first_messages_of_the_server(challenge: bytes) -> None:
    nonce = VECTORS["SCRAM-SHA-1"][0]
    client = ScramClient("SCRAM-SHA-1", Credentials("user", "pencil"), "", b"", lambda: nonce)
    client.initial()
    with pytest.raises(AuthenticationProtocolError):
        client.respond(challenge)
    assert not client.complete


@pytest.mark.parametrize(
    "proof", [b"", b"v=", b"v=rmF9pqV8S7suAoZWja4dJRkFsKR=", b"v=AAAA", b"e=invalid-proof"]
)
def test_client_does_not_believe_a_server_without_the_keys(proof: bytes) -> None:
    nonce = VECTORS["SCRAM-SHA-1"][0]
    client = ScramClient("SCRAM-SHA-1", Credentials("user", "pencil"), "", b"", lambda: nonce)
    client.initial()
    client.respond(SERVER_FIRST)
    with pytest.raises(AuthenticationProtocolError):
        client.respond(proof)
    assert not client.complete
    with pytest.raises(AuthenticationProtocolError):
        client.respond(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")


@given(st.text(min_size=1, max_size=20))
def test_names_survive_their_encoding(name: str) -> None:
    assert "," not in encode_name(name)
    assert decode_name(encode_name(name)) == name


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_no_octets_make_the_server_raise(octets: bytes) -> None:
    exchange = server()
    step = now(exchange.step(octets))
    assert isinstance(step, (Challenge, Failure))
    if isinstance(step, Challenge):
        assert isinstance(now(exchange.step(octets)), Failure)


def test_keys_survive_their_text() -> None:
    keys = ScramKeys.derive("sha256", "secret", iterations=4096)
    assert ScramKeys.parse("sha256", keys.format()) == keys
    assert keys.matches("secret")
    assert not keys.matches("Secret")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4096,c2FsdA==,aaaa",
        "0,c2FsdA==,aaaa,aaaa",
        "x,c2FsdA==,aaaa,aaaa",
        "9999999,c2FsdA==,aaaa,aaaa",
        "4096,,aaaa,aaaa",
        "4096,c2FsdA==,a!aa,aaaa",
        "4096,c2FsdA==," + b64encode(bytes(20)).decode() + "," + b64encode(bytes(20)).decode(),
    ],
)
def test_bad_keys_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SCRAM"):
        ScramKeys.parse("sha256", text)


# RFC 4013 section 3, and more of each rule.
@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("pa\u0308sswort", "p\u00e4sswort"),
        ("\U0001f600", "\U0001f600"),
        ("", ""),
        ("\u00ad", ""),
        ("\u0627\u0628", "\u0627\u0628"),
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize(
    "text", ["\u0007", "\u0627\u0031", "a\u0627", "\ufffd", "\ue000", "\u200e", "\x7f", "\n"]
)
def test_saslprep_forbids(text: str) -> None:
    with pytest.raises(ValueError, match=r"U\+|mixed"):
        saslprep(text)


def test_saslprep_for_stored_strings_forbids_unassigned() -> None:
    with pytest.raises(ValueError, match=r"not assigned"):
        saslprep("\U0001f600", allow_unassigned=False)
