"""PLAIN, LOGIN and EXTERNAL of both sides, the client's OAUTHBEARER and XOAUTH2, and its choice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp.auth import (
    CREDENTIALS_INVALID,
    MALFORMED_RESPONSE,
    OTHER_IDENTITY,
    AuthenticationProtocolError,
    Challenge,
    ClientExchange,
    Credentials,
    Failure,
    Login,
    NoMechanismError,
    Result,
    ServerExchange,
    Step,
)
from mta.smtp.authclient import client_mechanism
from mta.smtp.authserver import (
    MAX_NAME,
    MAX_PASSWORD,
    ExternalServer,
    LoginServer,
    PlainServer,
)


class Keeper:
    """Knows tim with password tanstaaftanstaaf (RFC 4616)."""

    def __init__(self, *, later: bool = False, answer: Result | None = None) -> None:
        self.later = later
        self.answer = answer
        self.asked: list[tuple[str, str, str]] = []

    def check_password(self, user: str, password: str, mechanism: str) -> Result | Awaitable[Result]:
        return self._check(
            user, password, mechanism, user.lower() == "tim" and password == "tanstaaftanstaaf"
        )

    def check_identity(self, user: str, mechanism: str) -> Result | Awaitable[Result]:
        return self._check(user, "", mechanism, user == "tim")

    def _check(self, user: str, secret: str, mechanism: str, right: bool) -> Result | Awaitable[Result]:
        self.asked.append((user, secret, mechanism))
        result = self.answer or (Login(user, mechanism) if right else Failure(CREDENTIALS_INVALID))
        return self._wait(result) if self.later else result

    async def _wait(self, result: Result) -> Result:
        await asyncio.sleep(0)
        return result


def now(step: Step | Awaitable[Step]) -> Step:
    if isinstance(step, (Challenge, Login, Failure)):
        return step

    async def wait() -> Step:
        return await step

    return asyncio.run(wait())


later = pytest.mark.parametrize("later", [False, True])
REFUSED = Failure(CREDENTIALS_INVALID)
OTHER = Failure(replace(CREDENTIALS_INVALID, cause=OTHER_IDENTITY))


def malformed(cause: str) -> Failure:
    """501 for the client, and what is wrong for the log."""
    return Failure(replace(MALFORMED_RESPONSE, cause=cause))


@later
def test_plain_of_the_rfc(later: bool) -> None:
    exchange = PlainServer(Keeper(later=later))
    assert now(exchange.step(b"\0tim\0tanstaaftanstaaf")) == Login("tim", "PLAIN")


def test_plain_without_initial_response() -> None:
    exchange = PlainServer(Keeper())
    assert now(exchange.step(None)) == Challenge(b"")
    assert now(exchange.step(b"\0tim\0tanstaaftanstaaf")) == Login("tim", "PLAIN")


@later
def test_plain_with_another_authorisation_identity_costs_the_same_and_fails(later: bool) -> None:
    # RFC 4616's second example: Ursel acts as Kurt, which nobody may here.
    keeper = Keeper(later=later)
    assert now(PlainServer(keeper).step(b"Ursel\0tim\0tanstaaftanstaaf")) == OTHER
    assert keeper.asked == [("tim", "tanstaaftanstaaf", "PLAIN")]


def test_plain_may_repeat_the_user_as_authorisation_identity() -> None:
    assert now(PlainServer(Keeper()).step(b"TIM\0tim\0tanstaaftanstaaf")) == Login("tim", "PLAIN")


def test_plain_prepares_names_but_not_passwords() -> None:
    keeper = Keeper()
    now(PlainServer(keeper).step("\0ti\u00adm\0p\u00adw".encode()))
    assert keeper.asked == [("tim", "p\u00adw", "PLAIN")]


@pytest.mark.parametrize(
    ("response", "cause"),
    [
        (b"", "not two NULs in the response"),
        (b"\0", "not two NULs in the response"),
        (b"\0\0", "the user name is empty"),
        (b"tim", "not two NULs in the response"),
        (b"tim\0pw", "not two NULs in the response"),
        (b"\0tim\0", "the password is empty"),
        (b"\0\0pw", "the user name is empty"),
        (b"\0tim\0pw\0", "not two NULs in the response"),
        (b"\0tim\0pw\0x", "not two NULs in the response"),
        (b"\0\xff\0pw", "the user name is not UTF-8"),
        (b"\0tim\0p\xe4ss", "the password is not UTF-8"),  # Latin-1, as old programs send it
        (b"\0t\x07m\0pw", "U+0007 is not allowed in a user name or password"),
        (b"\xff\0tim\0pw", "the user name is not UTF-8"),
        (b"\0\xc2\xad\0pw", "the user name is empty"),  # nothing is left of a soft hyphen
        (b"\0" + b"t" * (MAX_NAME + 1) + b"\0pw", "the user name has more than 320 octets"),
        (b"\0tim\0" + b"p" * (MAX_PASSWORD + 1), "the password has more than 1024 octets"),
    ],
)
def test_malformed_plain(response: bytes, cause: str) -> None:
    keeper = Keeper()
    assert now(PlainServer(keeper).step(response)) == malformed(cause)
    assert keeper.asked == []


@later
def test_login(later: bool) -> None:
    exchange = LoginServer(Keeper(later=later))
    assert now(exchange.step(None)) == Challenge(b"Username:")
    assert now(exchange.step(b"tim")) == Challenge(b"Password:")
    assert now(exchange.step(b"tanstaaftanstaaf")) == Login("tim", "LOGIN")


def test_login_with_the_name_as_initial_response() -> None:
    exchange = LoginServer(Keeper())
    assert now(exchange.step(b"tim")) == Challenge(b"Password:")
    assert now(exchange.step(b"wrong")) == REFUSED


@pytest.mark.parametrize(
    ("responses", "cause"),
    [
        ([b""], "the user name is empty"),
        ([b"\xff"], "the user name is not UTF-8"),
        ([b"t\0m"], "U+0000 is not allowed in a user name or password"),
        ([b"tim", b""], "the password is empty"),
        ([b"tim", b"\xff"], "the password is not UTF-8"),
        ([b"tim", b"a\0b"], "the password has a NUL"),
    ],
)
def test_malformed_login(responses: list[bytes], cause: str) -> None:
    keeper = Keeper()
    exchange = LoginServer(keeper)
    steps = [now(exchange.step(response)) for response in responses]
    assert steps[-1] == malformed(cause)
    assert keeper.asked == []


@later
@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        ([b""], Login("tim", "EXTERNAL")),
        ([None, b""], Login("tim", "EXTERNAL")),
        ([b"Tim"], Login("tim", "EXTERNAL")),
        ([b"kurt"], OTHER),
        ([b"\xff"], malformed("the user name is not UTF-8")),
        ([b"a\0b"], malformed("U+0000 is not allowed in a user name or password")),
    ],
)
def test_external(responses: list[bytes | None], expected: Step, later: bool) -> None:
    exchange = ExternalServer(Keeper(later=later), "tim")
    assert [now(exchange.step(response)) for response in responses][-1] == expected


@settings(max_examples=150)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=40)), min_size=1, max_size=3), st.integers(0, 2))
def test_no_octets_make_a_server_raise(responses: list[bytes | None], which: int) -> None:
    keeper = Keeper()
    exchanges: list[ServerExchange] = [
        PlainServer(keeper),
        LoginServer(keeper),
        ExternalServer(keeper, "tim"),
    ]
    exchange = exchanges[which]
    for response in responses:
        if not isinstance(now(exchange.step(response)), Challenge):
            break
    exchange.cancel()


# ------------------------------------------------------------------------------------------ the client

SCRAM = ["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]
ALL = ["PLAIN", "LOGIN", *SCRAM, "OAUTHBEARER", "XOAUTH2", "EXTERNAL"]
ALL_NAMES = tuple(name for name in ALL if name != "EXTERNAL")
PASSWORD = Credentials("tim", password="tanstaaftanstaaf")
BEARER_TOKEN = Credentials("user@example.com", token="vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
BINDING = {"tls-exporter": b"x"}


@pytest.mark.parametrize(
    ("offered", "credentials", "bindings", "encrypted", "name"),
    [
        (ALL, PASSWORD, BINDING, True, "SCRAM-SHA-256-PLUS"),
        (ALL, PASSWORD, {}, True, "SCRAM-SHA-256"),
        (ALL, PASSWORD, {"tls-server-end-point": b"x"}, True, "SCRAM-SHA-256"),
        (
            ALL,
            replace(PASSWORD, mechanisms=ALL_NAMES),
            {"tls-server-end-point": b"x"},
            True,
            "SCRAM-SHA-256-PLUS",
        ),
        (ALL, PASSWORD, {}, False, "SCRAM-SHA-256"),
        (["plain", "login", "scram-sha-1"], PASSWORD, {}, True, "SCRAM-SHA-1"),
        (["SCRAM-SHA-256", "SCRAM-SHA-1-PLUS"], PASSWORD, BINDING, True, "SCRAM-SHA-1-PLUS"),
        (["LOGIN", "PLAIN"], PASSWORD, {}, True, "PLAIN"),
        (["LOGIN"], PASSWORD, {}, True, "LOGIN"),
        (ALL, BEARER_TOKEN, {}, True, "OAUTHBEARER"),
        (["XOAUTH2", "PLAIN"], BEARER_TOKEN, {}, True, "XOAUTH2"),
        (ALL, Credentials("", mechanisms=("EXTERNAL",)), {}, True, "EXTERNAL"),
        (ALL, Credentials("tim", password="x", mechanisms=("LOGIN",)), {}, True, "LOGIN"),
    ],
)
def test_the_strongest_mechanism_that_fits(
    offered: list[str], credentials: Credentials, bindings: dict[str, bytes], encrypted: bool, name: str
) -> None:
    assert client_mechanism(offered, credentials, bindings, encrypted=encrypted).name == name


@pytest.mark.parametrize(
    ("offered", "credentials", "encrypted", "message"),
    [
        (["PLAIN", "LOGIN"], PASSWORD, False, "without TLS"),
        (["OAUTHBEARER"], BEARER_TOKEN, False, "without TLS"),
        (["CRAM-MD5"], PASSWORD, True, "the server offers CRAM-MD5"),
        ([], PASSWORD, True, "no mechanism"),
        (["SCRAM-SHA-256-PLUS"], PASSWORD, True, "these credentials fit SCRAM-SHA-256-PLUS"),
        (["EXTERNAL"], PASSWORD, True, "offers EXTERNAL"),
        (ALL, Credentials("tim"), True, "these credentials fit none"),
    ],
)
def test_no_mechanism_fits(
    offered: list[str], credentials: Credentials, encrypted: bool, message: str
) -> None:
    with pytest.raises(NoMechanismError, match=message):
        client_mechanism(offered, credentials, {}, encrypted=encrypted)


@pytest.mark.parametrize(
    ("offered", "allowed", "bindings", "flag"),
    [
        ([*SCRAM], ("SCRAM-SHA-256-PLUS",), BINDING, b"p=tls-exporter,,"),
        (["SCRAM-SHA-256"], ("SCRAM-SHA-256",), BINDING, b"y,,"),  # could, but saw no offer
        ([*SCRAM], ("SCRAM-SHA-256",), BINDING, b"n,,"),  # saw it, but may not
        ([*SCRAM], ("SCRAM-SHA-256",), {}, b"n,,"),
    ],
)
def test_what_the_client_says_about_channel_binding(
    offered: list[str], allowed: tuple[str, ...], bindings: dict[str, bytes], flag: bytes
) -> None:
    credentials = Credentials("tim", "pw", mechanisms=allowed)
    initial = client_mechanism(offered, credentials, bindings, encrypted=True).initial()
    assert initial is not None
    assert initial.startswith(flag + b"n=tim,r=")


def converse(client: ClientExchange, server: ServerExchange) -> Step:
    step = now(server.step(client.initial()))
    for _ in range(4):
        if not isinstance(step, Challenge):
            return step
        step = now(server.step(client.respond(step.data)))
    raise AssertionError("the exchange does not end")


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "EXTERNAL"])
def test_client_and_server_agree(name: str) -> None:
    keeper = Keeper()
    servers: dict[str, ServerExchange] = {
        "PLAIN": PlainServer(keeper),
        "LOGIN": LoginServer(keeper),
        "EXTERNAL": ExternalServer(keeper, "tim"),
    }
    credentials = Credentials("tim", PASSWORD.password, mechanisms=(name,))
    client = client_mechanism([name], credentials, {}, encrypted=True)
    assert converse(client, servers[name]) == Login("tim", name)
    assert client.complete


@pytest.mark.parametrize("name", ["PLAIN", "EXTERNAL", "OAUTHBEARER", "XOAUTH2"])
def test_a_server_that_ignores_the_initial_response_is_told_again_once(name: str) -> None:
    credentials = Credentials("tim", "pw", "token", (name,))
    client = client_mechanism([name], credentials, {}, encrypted=True)
    other = client_mechanism([name], credentials, {}, encrypted=True)
    assert not client.complete
    assert client.respond(b"") == other.initial()
    assert client.complete


@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("OAUTHBEARER", b"n,a=user@example.com,\x01auth=Bearer TOKEN\x01\x01"),  # RFC 7628 section 4.1
        ("XOAUTH2", b"user=user@example.com\x01auth=Bearer TOKEN\x01\x01"),
    ],
)
def test_a_token_is_shown(name: str, octets: bytes) -> None:
    client = client_mechanism([name], BEARER_TOKEN, {}, encrypted=True)
    assert client.initial() == octets.replace(b"TOKEN", BEARER_TOKEN.token.encode())
    assert client.complete


def test_a_refused_token_is_consented_to() -> None:
    for name, consent in (("OAUTHBEARER", b"\x01"), ("XOAUTH2", b"")):
        client = client_mechanism([name], BEARER_TOKEN, {}, encrypted=True)
        client.initial()
        assert client.respond(b'{"status":"401"}') == consent


def test_client_servers_that_ask_too_much() -> None:
    plain = client_mechanism(["PLAIN"], PASSWORD, {}, encrypted=True)
    plain.initial()
    with pytest.raises(AuthenticationProtocolError):
        plain.respond(b"")
    login = client_mechanism(["LOGIN"], PASSWORD, {}, encrypted=True)
    assert login.initial() is None
    assert [login.respond(b"any"), login.respond(b"any")] == [b"tim", b"tanstaaftanstaaf"]
    with pytest.raises(AuthenticationProtocolError):
        login.respond(b"any")


def test_secrets_are_not_shown() -> None:
    assert "tanstaaf" not in repr(PASSWORD)
    assert "vF9dft" not in repr(BEARER_TOKEN)
